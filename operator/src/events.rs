//! Kubernetes Events: what people are told beside an object's status.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use framewright_core::events::{self, News, Publish};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::error_boundary::InvalidObject;
use kube::runtime::events::{Event, EventType};
use kube::{Api, Resource, ResourceExt};

use crate::context::{Context, Guarded};

const PUBLISH_LIMIT: Duration = Duration::from_secs(5);

/// An object that cannot be read gets an event of its own, and stops nobody else.
pub async fn tell_invalid<K: Resource<DynamicType = ()>>(
    context: &Context,
    object: &Guarded<K>,
    invalid: &InvalidObject,
) {
    tracing::warn!(name = %object.name_any(), namespace = ?object.namespace(), error = %invalid.error, "cannot read the object");
    let event = Event {
        type_: EventType::Warning,
        reason: "Unreadable".to_owned(),
        note: Some(format!(
            "this operator cannot read the object: {}",
            invalid.error
        )),
        action: "Reconcile".to_owned(),
        secondary: None,
    };
    publish(context, event, &object.object_ref(&())).await;
}

/// Publishes Events. One of a job or a pool is a courtesy: the status says the same.
pub struct Recorder(Mutex<events::Recorder>);

impl Recorder {
    #[must_use]
    pub fn new(controller: &str, instance: &str) -> Recorder {
        Recorder(Mutex::new(events::Recorder::new(controller, instance)))
    }

    fn lock(&self) -> MutexGuard<'_, events::Recorder> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Publishes one Event.
pub async fn publish(context: &Context, event: Event, about: &ObjectReference) {
    let news = News {
        is_warning: matches!(event.type_, EventType::Warning),
        reason: event.reason,
        message: event.note.unwrap_or_default(),
        action: event.action,
    };
    match tokio::time::timeout(PUBLISH_LIMIT, send(context, &news, about)).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => tracing::warn!(error = %crate::chain(&error), "cannot publish an event"),
        Err(_) => tracing::debug!("publishing an event took too long"),
    }
    context.recorder.lock().forget(&news, about);
}

async fn send(context: &Context, news: &News, about: &ObjectReference) -> kube::Result<()> {
    let api: Api<k8s_openapi::api::events::v1::Event> =
        Api::namespaced(context.client.clone(), events::namespace(about));
    let next = || context.recorder.lock().publish(news, about, context.now());
    let mut publish = next();
    if let Publish::Count { name, patch } = &publish {
        let patch = Patch::Merge(patch);
        match api.patch(name, &PatchParams::default(), &patch).await {
            Ok(_) => return Ok(()),
            // Somebody has deleted the first one.
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => return Err(error),
        }
        context.recorder.lock().forget(news, about);
        publish = next();
    }
    if let Publish::Create(event) = &publish {
        api.create(&PostParams::default(), event).await?;
    }
    Ok(())
}
