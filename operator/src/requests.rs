//! Makes the engine's requests to the API server, each once: retries are the engine's. None begins outside the term that it is of, and
//! none but the making of a pod is waited for once another replica may lead.

use std::fmt::Debug;
use std::time::Duration;

use framewright_core::engine::interface::{Answer, Request};
use framewright_core::names::ObjectName;
use framewright_core::pools::eviction_protection;
use framewright_crds::names::LABEL_POOL;
use framewright_crds::{AIJob, ModelPool};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::object::HasStatus;
use kube::core::{PartialObjectMeta, Status};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::context::Context;
use crate::leadership::{Leadership, MARGIN};

/// How long a write may take that another leader must not meet.
pub const LIMIT: Duration = MARGIN;

/// Why a write was not made, or is not known to have been.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the API server does not take it")]
    Refused(#[source] Box<kube::Error>),
    #[error("the API server did not answer in {} s", .0.as_secs())]
    Late(Duration),
    #[error("this replica no longer leads")]
    NotLeading,
}

impl Error {
    /// Whether the object is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(Status::is_not_found)
    }

    /// What the API server has against it.
    #[must_use]
    pub fn status(&self) -> Option<&Status> {
        let Error::Refused(error) = self else {
            return None;
        };
        if let kube::Error::Api(status) = error.as_ref() {
            return Some(status);
        }
        None
    }
}

/// Makes a write if this replica leads. A write that is not answered in time may still have been applied.
///
/// # Errors
/// [`Error`]
pub async fn write<T>(
    leadership: &Leadership,
    limit: Duration,
    writing: impl Future<Output = kube::Result<T>>,
) -> Result<T, Error> {
    leadership.epoch().ok_or(Error::NotLeading)?;
    in_time(limit, writing).await
}

/// What a read or write comes to in `limit`.
///
/// # Errors
/// [`Error`]
pub async fn in_time<T>(
    limit: Duration,
    asking: impl Future<Output = kube::Result<T>>,
) -> Result<T, Error> {
    match tokio::time::timeout(limit, asking).await {
        Ok(answer) => answer.map_err(|error| Error::Refused(Box::new(error))),
        Err(_) => Err(Error::Late(limit)),
    }
}

/// How long the API server may take to make a pod: admission webhooks have up to 30 s. One that is made late does no harm, its name
/// is taken then.
const MAKE_LIMIT: Duration = Duration::from_secs(35);

/// How long the API server may take to list the pods of a pool.
const LIST_LIMIT: Duration = Duration::from_secs(20);

/// How a request ended.
pub struct Answered {
    pub answer: Answer,
    /// The API server has too much to do.
    pub is_throttled: bool,
}

/// Makes a request, if this replica still leads in that epoch.
pub async fn make(context: &Context, epoch: u64, request: Request) -> Answered {
    let limit = limit(&request);
    make_within(limit, context, epoch, request).await
}

/// How long the API server may take to answer a request.
pub(crate) fn limit(request: &Request) -> Duration {
    match request {
        Request::CreatePod(_) => MAKE_LIMIT,
        Request::ListPods(_) => LIST_LIMIT,
        Request::ReadJob(_)
        | Request::ReadPool(_)
        | Request::WriteJob(_)
        | Request::WritePool(_)
        | Request::WriteOutcome { .. }
        | Request::DeleteJob { .. }
        | Request::ReadJobMetadata(_)
        | Request::ReadPodMetadata { .. }
        | Request::DeletePod(_)
        | Request::ProtectPod { .. } => LIMIT,
    }
}

/// Makes a request, if this replica still leads in that epoch, and gives it up after `limit`.
pub(crate) async fn make_within(
    limit: Duration,
    context: &Context,
    epoch: u64,
    request: Request,
) -> Answered {
    if context.leadership.epoch() != Some(epoch) {
        return Answered {
            answer: Answer::Unanswered {
                error: Error::NotLeading.to_string(),
            },
            is_throttled: false,
        };
    }
    let is_of_pod = matches!(request, Request::CreatePod(_) | Request::DeletePod(_));
    match in_time(limit, send(context, request)).await {
        Ok(answer) => Answered {
            answer,
            is_throttled: false,
        },
        Err(error) => {
            let code = error.status().map(|status| status.code);
            Answered {
                answer: failed(&error, is_of_pod),
                is_throttled: code.is_some_and(|code| code == 429 || code >= 500),
            }
        }
    }
}

async fn send(context: &Context, request: Request) -> kube::Result<Answer> {
    let client = &context.client;
    let jobs = |name: &ObjectName| Api::<AIJob>::namespaced(client.clone(), &name.namespace);
    let pools = |name: &ObjectName| Api::<ModelPool>::namespaced(client.clone(), &name.namespace);
    let pods = |namespace: &str| Api::<Pod>::namespaced(client.clone(), namespace);
    Ok(match request {
        Request::ReadJob(name) => Answer::Job(Box::new(jobs(&name).get(&name.name).await?)),
        Request::ReadPool(name) => Answer::Pool(Box::new(pools(&name).get(&name.name).await?)),
        Request::ReadJobMetadata(name) => metadata(jobs(&name).get_metadata(&name.name).await?),
        Request::WriteJob(job) => Answer::Job(Box::new(write_status(client, *job).await?)),
        Request::WritePool(pool) => Answer::Pool(Box::new(write_status(client, *pool).await?)),
        // Nothing is paid for, so there is nowhere to record it.
        Request::WriteOutcome { .. } => Answer::Done,
        Request::DeleteJob { name, uid, version } => {
            let only_this = Preconditions {
                uid: Some(uid),
                resource_version: Some(version),
            };
            let params = DeleteParams {
                preconditions: Some(only_this),
                ..DeleteParams::background()
            };
            jobs(&name).delete(&name.name, &params).await?;
            tracing::info!(job = %name, "job deleted, ttlSecondsAfterFinished has passed");
            Answer::Done
        }
        Request::ListPods(pool) => {
            let params = ListParams::default().labels(&format!("{LABEL_POOL}={}", pool.name));
            Answer::Pods(pods(&pool.namespace).list(&params).await?.items)
        }
        Request::ReadPodMetadata { namespace, name } => {
            metadata(pods(&namespace).get_metadata(&name).await?)
        }
        Request::CreatePod(pod) => {
            let namespace = pod.namespace().unwrap_or_default();
            let made = pods(&namespace)
                .create(&PostParams::default(), &pod)
                .await?;
            tracing::info!(pod = %pod.name_any(), "worker pod created");
            Answer::Metadata(Box::new(made.metadata))
        }
        Request::DeletePod(worker) => {
            let only_this = Preconditions {
                uid: Some(worker.uid),
                resource_version: None,
            };
            let params = DeleteParams {
                preconditions: Some(only_this),
                ..DeleteParams::default()
            };
            pods(&worker.namespace)
                .delete(&worker.name, &params)
                .await?;
            tracing::info!(pod = %worker.name, "worker pod deleted");
            Answer::Done
        }
        Request::ProtectPod {
            worker,
            is_protected,
        } => {
            let patch = Patch::Merge(eviction_protection::patch(&worker.uid, is_protected));
            let pods = pods(&worker.namespace);
            pods.patch_metadata(&worker.name, &PatchParams::default(), &patch)
                .await?;
            Answer::Done
        }
    })
}

fn metadata<K: Resource>(object: PartialObjectMeta<K>) -> Answer {
    Answer::Metadata(Box::new(object.metadata))
}

/// Writes the status of `wanted`, on top of the version that it has. The API server takes the spec from its own object, so it is not sent.
async fn write_status<K>(client: &kube::Client, wanted: K) -> kube::Result<K>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + HasStatus<Status: Serialize>
        + Clone
        + Debug
        + DeserializeOwned,
{
    let namespace = wanted.namespace().unwrap_or_default();
    let body = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {
            "namespace": namespace,
            "name": wanted.meta().name,
            "uid": wanted.meta().uid,
            "resourceVersion": wanted.meta().resource_version,
        },
        "status": wanted.status(),
    });
    let body = serde_json::to_vec(&body).map_err(kube::Error::SerdeError)?;
    let request = kube::core::Request::new(K::url_path(&(), Some(&namespace)))
        .replace_subresource("status", &wanted.name_any(), &PostParams::default(), body)
        .map_err(kube::Error::BuildRequest)?;
    client.request(request).await
}

/// What an error says about the request. 500 is what an admission webhook that does not answer comes to, when a pod is made or deleted.
fn failed(error: &Error, is_of_pod: bool) -> Answer {
    let Some(status) = error.status() else {
        return Answer::Unanswered {
            error: crate::chain(error).to_string(),
        };
    };
    let refused = || Answer::Refused {
        code: status.code,
        message: status.message.clone(),
    };
    match status.code {
        404 => Answer::Gone,
        409 if status.is_already_exists() => Answer::Exists,
        409 => Answer::Conflict,
        500 if is_of_pod => refused(),
        400 | 401 | 403 | 422 => refused(),
        _ => Answer::Unanswered {
            error: crate::chain(error).to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    #[tokio::test]
    async fn no_write_begins_outside_a_term() {
        let mut is_begun = false;
        let leadership = Leadership::for_test(None);
        let written = write(&leadership, LIMIT, async {
            is_begun = true;
            Ok(())
        });
        assert!(matches!(written.await, Err(Error::NotLeading)));
        assert!(!is_begun);
        let leadership = Leadership::for_test(Some(7));
        assert!(write(&leadership, LIMIT, ready(Ok(()))).await.is_ok());
    }

    #[tokio::test]
    async fn a_write_that_hangs_is_given_up() {
        let leadership = Leadership::for_test(Some(7));
        let limit = Duration::from_millis(1);
        let written = write::<()>(&leadership, limit, pending()).await;
        assert!(matches!(written, Err(Error::Late(late)) if late == limit));
    }

    use kube::core::Status;

    fn answer(code: u16, reason: &str, is_of_pod: bool) -> Answer {
        let status = Status::failure("its words", reason).with_code(code);
        let error = kube::Error::Api(status.boxed());
        failed(&Error::Refused(Box::new(error)), is_of_pod)
    }

    #[test]
    fn only_what_the_api_server_says_for_good_is_taken_for_an_answer() {
        assert!(matches!(answer(404, "NotFound", false), Answer::Gone));
        assert!(matches!(answer(409, "Conflict", false), Answer::Conflict));
        assert!(matches!(answer(409, "AlreadyExists", true), Answer::Exists));
        assert!(matches!(
            answer(403, "Forbidden", true),
            Answer::Refused { code: 403, .. }
        ));
        assert!(matches!(
            answer(500, "InternalError", true),
            Answer::Refused { code: 500, .. }
        ));
        for code in [429, 500, 502, 503, 504] {
            assert!(
                matches!(answer(code, "", false), Answer::Unanswered { .. }),
                "{code}"
            );
        }
    }
}
