//! Makes, drains, deletes and protects a pool's pods, and tells its workers which models to hold.

use std::collections::BTreeSet;
use std::time::Duration;

use framewright_crds::names::OwnerKind;
use framewright_crds::wire::FileSource;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};

use super::plan::{Plan, models, protection};
use super::seen::Observed;
use super::template::{Template, quantities};
use crate::context::Context;
use crate::links::{Links, Place};
use crate::names::{PoolName, WorkerRef};
use crate::stream::fleet::Fleet;
use crate::writes;

/// How long a grant for weights lives; a worker asks for new ones when it needs them longer.
const GRANT_LIFE: SignedDuration = SignedDuration::from_hours(6);

/// How long the API server may take to make a pod: admission webhooks have up to 30 s. One that is made late does no harm, its name
/// is taken then.
const MAKE_LIMIT: Duration = Duration::from_secs(35);

/// What could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot make pod {name}")]
    Create { name: String, source: writes::Error },
    #[error("cannot delete pod {name}")]
    Delete { name: String, source: writes::Error },
}

/// Does what the plan says. Everything here may be repeated.
///
/// # Errors
/// [`Error`] when the API server fails; a pod that it refuses for good is remembered for the pool's condition instead.
pub async fn act(
    context: &Context,
    template: &Template,
    seen: &Observed,
    plan: &Plan,
) -> Result<(), Error> {
    let Plan {
        create,
        drain,
        delete,
        protection,
        status: _,
        look_again: _,
    } = plan;
    let name = PoolName {
        namespace: seen.namespace.clone(),
        name: seen.name.clone(),
    };
    let drained: BTreeSet<String> = drain.iter().map(|worker| worker.uid.clone()).collect();
    context.fleet.drain(&name, &drained);
    welcome(&context.fleet, &context.links, seen, &name);
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &seen.namespace);
    for worker in delete {
        remove(context, &pods, worker).await?;
    }
    for worker in &protection.protect {
        protect(context, &pods, worker, true).await;
    }
    for worker in &protection.unprotect {
        protect(context, &pods, worker, false).await;
    }
    for name in create {
        if !make(context, &pods, &template.named(name), name, seen).await? {
            break;
        }
    }
    let waits = seen
        .refused
        .as_ref()
        .is_some_and(|refusal| refusal.holds_back(seen.generation, seen.now));
    if create.is_empty() && !waits {
        context.refusals.clear(&seen.uid);
    }
    context.wake.scheduler.notify_one();
    Ok(())
}

/// Whether the pod is there now.
async fn make(
    context: &Context,
    pods: &Api<Pod>,
    pod: &Pod,
    name: &str,
    seen: &Observed,
) -> Result<bool, Error> {
    let params = PostParams::default();
    let making = pods.create(&params, pod);
    let error = match writes::write(&context.leadership, MAKE_LIMIT, making).await {
        Ok(_) => {
            tracing::info!(pod = %name, "worker pod made");
            context.refusals.clear(&seen.uid);
            return Ok(true);
        }
        Err(error) => error,
    };
    match error.status() {
        // The cache did not show it yet.
        Some(status) if status.is_already_exists() => Ok(true),
        // 500 is what an admission webhook that does not answer comes to.
        Some(status) if matches!(status.code, 400 | 403 | 422 | 500) => {
            let message = quantities::wrong(&seen.spec).unwrap_or_else(|| status.message.clone());
            tracing::warn!(pod = %name, %message, "worker pod refused");
            context
                .refusals
                .add(&seen.uid, &message, seen.generation, seen.now);
            Ok(false)
        }
        _ => Err(Error::Create {
            name: name.to_owned(),
            source: error,
        }),
    }
}

async fn remove(context: &Context, pods: &Api<Pod>, worker: &WorkerRef) -> Result<(), Error> {
    let only_this = Preconditions {
        uid: Some(worker.uid.clone()),
        resource_version: None,
    };
    let params = DeleteParams {
        preconditions: Some(only_this),
        ..DeleteParams::default()
    };
    let deleting = pods.delete(&worker.name, &params);
    let error = match writes::write(&context.leadership, writes::LIMIT, deleting).await {
        Ok(_) => {
            tracing::info!(pod = %worker.name, "worker pod deleted");
            return Ok(());
        }
        Err(error) => error,
    };
    match error.status() {
        // Gone, or another one of that name: neither is ours to delete.
        Some(status) if status.is_not_found() || status.is_conflict() => Ok(()),
        _ => Err(Error::Delete {
            name: worker.name.clone(),
            source: error,
        }),
    }
}

/// Asks node autoscalers to leave the pod alone, or no longer. A worker works without, and the next look tries again.
async fn protect(context: &Context, pods: &Api<Pod>, worker: &WorkerRef, is_protected: bool) {
    let patch = Patch::Merge(protection::patch(&worker.uid, is_protected));
    let params = PatchParams::default();
    let patching = pods.patch_metadata(&worker.name, &params, &patch);
    let error = match writes::write(&context.leadership, writes::LIMIT, patching).await {
        Ok(_) => {
            tracing::debug!(pod = %worker.name, is_protected, "worker pod told to autoscalers");
            return;
        }
        Err(error) => error,
    };
    match error.status() {
        // Gone, or another one of that name: its UID cannot be changed.
        Some(status) if status.is_not_found() || status.is_conflict() || status.is_invalid() => {}
        _ => {
            tracing::warn!(pod = %worker.name, is_protected, error = %crate::chain(&error), "cannot annotate a worker pod for autoscalers")
        }
    }
}

/// Tells each connected worker the models, once for each change.
pub fn welcome(fleet: &Fleet, links: &Links, seen: &Observed, name: &PoolName) {
    let expires = seen.now.checked_add(GRANT_LIFE).unwrap_or(seen.now);
    let place = Place {
        namespace: &seen.namespace,
        kind: OwnerKind::ModelPools,
        uid: &seen.uid,
    };
    // The key is the order without its signatures, which differ each time.
    let key = serde_json::to_string(&models::orders(seen, &|_| FileSource::Url(String::new())))
        .unwrap_or_default();
    let sign = |sha256: &str| {
        let url = links.worker_get(&place, sha256, expires);
        url.map_or(FileSource::AwaitingUpload, FileSource::Url)
    };
    for uid in fleet.of_pool(name) {
        fleet.welcome(&uid, models::orders(seen, &sign), &key);
    }
}
