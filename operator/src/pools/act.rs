//! Makes, drains, deletes and protects a pool's pods, and tells its workers which models to hold.

use std::collections::BTreeSet;
use std::time::Duration;

use framewright_crds::names::{LABEL_POOL, OwnerKind};
use framewright_crds::wire::FileSource;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Status;

use crate::context::Context;
use crate::links::Links;
use crate::stream::fleet::Fleet;
use crate::writes;
use framewright_core::links::Place;
use framewright_core::names::{PoolName, WorkerRef};
use framewright_core::pools::failures::{Outcome, Request};
use framewright_core::pools::plan::pods::another_name;
use framewright_core::pools::plan::{Plan, models, protection};
use framewright_core::pools::seen::Observed;
use framewright_core::pools::template::{Template, quantities};

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

impl Error {
    /// What the pool's condition is to say of it; nothing of a request that was not sent since another replica leads.
    #[must_use]
    fn outcome(&self) -> Option<Outcome> {
        let (Error::Create { source, .. } | Error::Delete { source, .. }) = self;
        if matches!(source, writes::Error::NotLeading) {
            return None;
        }
        let refused = source.status().filter(|status| refuses(status));
        if let (Error::Delete { name, .. }, Some(status)) = (self, refused) {
            return Some(Outcome::Refused(format!(
                "the API server refuses to delete pod {name}: {}",
                status.message
            )));
        }
        Some(Outcome::Failed(crate::chain(self).to_string()))
    }
}

/// Does what the plan says. Everything here may be repeated.
///
/// # Errors
/// [`Error`] when a request fails; the rest is done all the same. A pod that the API server refuses to make or to delete is no error. The
/// pool's condition says all of it.
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
    let is_its_pod = |uid: &String| seen.pods.iter().any(|pod| pod.worker.uid == *uid);
    // One whose pod was taken from the pool, by its label, is still connected.
    let taken = context.fleet.of_pool(&name).into_iter();
    let taken = taken.filter(|uid| !is_its_pod(uid));
    let drained: BTreeSet<String> = drain
        .iter()
        .map(|worker| worker.uid.clone())
        .chain(taken)
        .collect();
    context.fleet.drain(&name, &drained);
    welcome(&context.fleet, &context.links, seen, &name);
    let pods: Api<Pod> = Api::namespaced(context.pods_client.clone(), &seen.namespace);
    let deleted = delete_pods(context, &pods, seen, delete).await;
    for worker in &protection.protect {
        protect(context, &pods, worker, true).await;
    }
    for worker in &protection.unprotect {
        protect(context, &pods, worker, false).await;
    }
    let made = make_pods(context, &pods, template, seen, create).await;
    context.wake.scheduler.notify_one();
    deleted.and(made)
}

/// The first one that is not answered ends it: the next one would wait as long.
async fn delete_pods(
    context: &Context,
    pods: &Api<Pod>,
    seen: &Observed,
    delete: &[WorkerRef],
) -> Result<(), Error> {
    let mut outcome = Some(Outcome::Answered);
    for worker in delete {
        context.deleted.forget(&seen.uid, &worker.uid);
        let Err(error) = remove(context, pods, worker).await else {
            continue;
        };
        outcome = error.outcome();
        tracing::warn!(error = %crate::chain(&error), "worker pod not deleted");
        if !matches!(outcome, Some(Outcome::Refused(_))) {
            note(context, seen, Request::Delete, outcome);
            return Err(error);
        }
    }
    note(context, seen, Request::Delete, outcome);
    Ok(())
}

async fn make_pods(
    context: &Context,
    pods: &Api<Pod>,
    template: &Template,
    seen: &Observed,
    create: &[String],
) -> Result<(), Error> {
    let mut names = create.to_vec();
    let mut next = 0;
    while let Some(name) = names.get(next) {
        match make(context, pods, &template.named(name), name, seen).await {
            Ok(Made::Yes) => {}
            Ok(Made::Refused) => break,
            Ok(Made::NameTaken) => names.extend(another_name(seen, &names)),
            Err(error) => {
                note(context, seen, Request::Create, error.outcome());
                return Err(error);
            }
        }
        next += 1;
    }
    note(context, seen, Request::Create, Some(Outcome::Answered));
    if create.is_empty() {
        note(context, seen, Request::List, Some(Outcome::Answered));
        if seen.pods_wait_until().is_none() {
            context.refusals.clear(&seen.uid);
        }
    }
    Ok(())
}

fn note(context: &Context, seen: &Observed, request: Request, outcome: Option<Outcome>) {
    if let Some(outcome) = outcome {
        context.failures.note(&seen.uid, request, outcome);
    }
}

/// What became of a pod that was to be made.
enum Made {
    Yes,
    Refused,
    /// By a pod that is not the pool's: one of an earlier pool, or one whose label was removed.
    NameTaken,
}

async fn make(
    context: &Context,
    pods: &Api<Pod>,
    pod: &Pod,
    name: &str,
    seen: &Observed,
) -> Result<Made, Error> {
    let params = PostParams::default();
    let making = pods.create(&params, pod);
    let error = match writes::write(&context.leadership, MAKE_LIMIT, making).await {
        Ok(made) => {
            tracing::info!(pod = %name, "worker pod made");
            context.refusals.clear(&seen.uid);
            let uid = made.uid().unwrap_or_default();
            context.deleted.made(&seen.uid, &uid, name);
            return Ok(Made::Yes);
        }
        Err(error) => error,
    };
    match error.status() {
        Some(status) if status.is_already_exists() => {
            let reading = writes::in_time(writes::LIMIT, pods.get_metadata_opt(name));
            let there = reading.await.map_err(|source| Error::Create {
                name: name.to_owned(),
                source,
            })?;
            // One of its own was made a moment ago, by a request that came late.
            if there.is_none_or(|there| is_own(&there.metadata, &seen.name, &seen.uid)) {
                return Ok(Made::Yes);
            }
            tracing::info!(pod = %name, "the name is taken by a pod that is not the pool's; the next one is tried");
            Ok(Made::NameTaken)
        }
        Some(status) if refuses(status) => {
            let message = quantities::wrong(&seen.spec).unwrap_or_else(|| status.message.clone());
            tracing::warn!(pod = %name, %message, "worker pod refused");
            context
                .refusals
                .add(&seen.uid, &message, seen.generation, seen.now);
            Ok(Made::Refused)
        }
        _ => Err(Error::Create {
            name: name.to_owned(),
            source: error,
        }),
    }
}

/// Whether the API server, or an admission webhook, will say the same again. 500 is what a webhook that does not answer comes to.
fn refuses(status: &Status) -> bool {
    matches!(status.code, 400 | 403 | 422 | 500)
}

/// Whether a pod is shown as this pool's.
fn is_own(pod: &ObjectMeta, pool: &str, pool_uid: &str) -> bool {
    let label = pod
        .labels
        .as_ref()
        .and_then(|labels| labels.get(LABEL_POOL));
    let mut owners = pod.owner_references.iter().flatten();
    label.is_some_and(|label| label == pool) && owners.any(|owner| owner.uid == pool_uid)
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_without_the_pools_label_or_of_an_earlier_pool_is_a_stranger() {
        let pod = |label: Option<&str>, owner: &str| {
            let pod = json!({
                "labels": label.map(|name| json!({LABEL_POOL: name})),
                "ownerReferences": [{"apiVersion": "v", "kind": "k", "name": "p", "uid": owner}],
            });
            let pod = serde_json::from_value(pod).expect("is metadata");
            is_own(&pod, "p", "u")
        };
        assert!(pod(Some("p"), "u"));
        assert!(!pod(None, "u"));
        assert!(!pod(Some("p"), "earlier"));
    }

    #[test]
    fn a_refused_delete_is_told_at_once_and_any_other_failure_after_some_more() {
        let refused = |code: u16| {
            let status = Status::failure("not on Fridays", "Forbidden").with_code(code);
            let source = kube::Error::Api(status.boxed());
            writes::Error::Refused(Box::new(source))
        };
        let name = || "p-r2-0".to_owned();
        let delete = |source| Error::Delete {
            name: name(),
            source,
        };
        let create = |source| Error::Create {
            name: name(),
            source,
        };
        let told = "the API server refuses to delete pod p-r2-0: not on Fridays";
        let told = Some(Outcome::Refused(told.to_owned()));
        assert_eq!(delete(refused(403)).outcome(), told);
        for error in [delete(refused(503)), create(refused(503))] {
            let Some(Outcome::Failed(said)) = error.outcome() else {
                panic!("it is not told");
            };
            assert!(
                said.contains("pod p-r2-0") && said.contains("not on Fridays"),
                "{said}"
            );
        }
        let late = create(writes::Error::Late(MAKE_LIMIT)).outcome();
        let late_words = "cannot make pod p-r2-0: the API server did not answer in 35 s";
        assert_eq!(late, Some(Outcome::Failed(late_words.to_owned())));
        assert_eq!(delete(writes::Error::NotLeading).outcome(), None);
    }
}
