//! Kubernetes Events: what is published beside an object's status. One task publishes them, one after the other.

use std::time::Duration;

use framewright_core::kubernetes_events::{self, KubernetesEvent, Publish, Recorder};
use framewright_core::names::ObjectName;
use framewright_crds::names::OwnerKind;
use framewright_crds::{AIJob, ModelPool};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use tokio::sync::mpsc;

const PUBLISH_LIMIT: Duration = Duration::from_secs(5);
/// Events that may wait. More are dropped: an Event is a courtesy, the status says the same.
const WAITING: usize = 1024;

/// Where Events are put.
#[derive(Clone, Debug)]
pub struct Publisher(mpsc::Sender<(KubernetesEvent, ObjectReference)>);

/// Makes a publisher, and the task that publishes for ever.
pub fn publisher(
    client: Client,
    instance: &str,
) -> (Publisher, impl Future<Output = ()> + Send + use<>) {
    let (sender, mut waiting) = mpsc::channel(WAITING);
    let mut recorder = Recorder::new("framewright-operator", instance);
    let publishing = async move {
        while let Some((event, about)) = waiting.recv().await {
            publish(&client, &mut recorder, &event, &about).await;
        }
    };
    (Publisher(sender), publishing)
}

impl Publisher {
    /// Has an Event published. Never waits.
    pub fn publish(
        &self,
        kind: OwnerKind,
        name: ObjectName,
        uid: String,
        version: String,
        event: KubernetesEvent,
    ) {
        let (api_version, kind) = match kind {
            OwnerKind::AIJobs => (AIJob::api_version(&()), AIJob::kind(&())),
            OwnerKind::ModelPools => (ModelPool::api_version(&()), ModelPool::kind(&())),
        };
        let KubernetesEvent {
            reason, message, ..
        } = &event;
        tracing::info!(%kind, object = %name, reason, message, "event");
        let about = ObjectReference {
            api_version: Some(api_version.into_owned()),
            kind: Some(kind.into_owned()),
            namespace: Some(name.namespace),
            name: Some(name.name),
            uid: Some(uid),
            resource_version: Some(version),
            field_path: None,
        };
        if self.0.try_send((event, about)).is_err() {
            tracing::warn!("an Event is dropped, since too many wait");
        }
    }
}

async fn publish(
    client: &Client,
    recorder: &mut Recorder,
    event: &KubernetesEvent,
    about: &ObjectReference,
) {
    match tokio::time::timeout(PUBLISH_LIMIT, send(client, recorder, event, about)).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => tracing::warn!(error = %crate::chain(&error), "cannot publish an event"),
        Err(_) => tracing::debug!("publishing an event took too long"),
    }
    recorder.forget(event, about);
}

async fn send(
    client: &Client,
    recorder: &mut Recorder,
    event: &KubernetesEvent,
    about: &ObjectReference,
) -> kube::Result<()> {
    let api: Api<k8s_openapi::api::events::v1::Event> =
        Api::namespaced(client.clone(), kubernetes_events::namespace(about));
    let mut publish = recorder.publish(event, about, Timestamp::now());
    if let Publish::Count { name, patch } = &publish {
        let patch = Patch::Merge(patch);
        match api.patch(name, &PatchParams::default(), &patch).await {
            Ok(_) => return Ok(()),
            // Somebody has deleted the first one.
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => return Err(error),
        }
        recorder.forget(event, about);
        publish = recorder.publish(event, about, Timestamp::now());
    }
    if let Publish::Create(event) = &publish {
        api.create(&PostParams::default(), event).await?;
    }
    Ok(())
}
