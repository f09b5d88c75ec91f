//! One HTTP request to the store through the API server's port-forward. Each request chooses a pod and opens a connection of its own.

use std::time::Duration;

use framewright_crds::names::{STORE_LOCAL_PORT, STORE_SELECTOR};
use http_body_util::BodyExt as _;
use http_body_util::combinators::BoxBody;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::ListParams;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::cluster::{ApiError, Cluster};
use crate::transfers::link::BadLink;

/// The namespace that the documentation installs Framewright in.
const SYSTEM_NAMESPACE: &str = "framewright-system";
/// The timeout for finding a pod and forwarding its port.
const CONNECT: Duration = Duration::from_secs(30);
/// How long to wait for the reason of a broken stream.
const REASON: Duration = Duration::from_secs(1);
/// The maximum that is read of an error response.
const REFUSAL_LIMIT: usize = 64 << 10;

pub(crate) type Body = BoxBody<Bytes, std::io::Error>;

/// The store of a cluster.
pub struct Store<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
}

/// Why a request to the store failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server does not say which pods there are.
    #[error("cannot find the store's pod")]
    Find(#[source] ApiError),
    /// The user has no permission for the port-forward.
    #[error(
        "you have no permission to connect to the store: you need get and list on pods, and get and create on pods/portforward, in namespace {namespace}; ask an administrator for the Role framewright-store-portforward (chart value storeAccess.subjects)"
    )]
    Forbidden { namespace: String },
    /// There is no store.
    #[error(
        "namespace {namespace} has no pod of Framewright's store; set --system-namespace to the namespace in which Framewright is installed"
    )]
    NoPod { namespace: String },
    /// No pod of the store is ready.
    #[error(
        "the store's pod {pod} in namespace {namespace} is not ready; see `kubectl describe pod -n {namespace} {pod}`"
    )]
    NotReady { namespace: String, pod: String },
    /// The API server does not forward the port.
    #[error("cannot forward a port to the store's pod")]
    Forward(#[source] ApiError),
    /// The kubelet does not forward the port.
    #[error("the port-forward to the store's pod failed: {0}")]
    Port(String),
    /// The port-forward took too long.
    #[error("no port-forward to the store within {} s", CONNECT.as_secs())]
    Slow,
    /// The status has a link that is not one.
    #[error(transparent)]
    Link(#[from] BadLink),
    /// The link is not a valid request target.
    #[error("the link in the status is not a valid URL")]
    Request(#[source] hyper::http::Error),
    /// The connection broke.
    #[error("the connection to the store broke")]
    Http(#[source] hyper::Error),
    /// The store answered with an error.
    #[error("the store refused: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// One word for programs, such as Expired.
        reason: String,
        /// One sentence for people.
        message: String,
    },
    /// The transfer made no progress.
    #[error("no data was transferred for {seconds} s")]
    Stalled { seconds: u64 },
    /// The local file cannot be read.
    #[error("cannot read {path}")]
    ReadFile {
        path: std::path::PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The local file cannot be written.
    #[error("cannot write {path}")]
    WriteFile {
        path: std::path::PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The response does not match the request.
    #[error("the store's answer does not fit the request: {0}")]
    Unexpected(String),
}

/// The body of an error response.
#[derive(Deserialize)]
struct Problem {
    reason: String,
    message: String,
}

impl Store<'_> {
    /// Sends the request and returns the response as soon as its head is there. A status other than success is an error.
    pub(crate) async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, Error> {
        let forwarding = async {
            let (namespace, pod) = self.pod().await?;
            let pods = self.cluster.pods(&namespace);
            pods.portforward(&pod, &[STORE_LOCAL_PORT])
                .await
                .map_err(ApiError::when(format!(
                    "forward a port to pod {pod} in namespace {namespace}"
                )))
                .map_err(|source| forbidden_or(source, &namespace, Error::Forward))
        };
        let mut forwarder = timeout(CONNECT, forwarding)
            .await
            .map_err(|_| Error::Slow)??;
        let (Some(stream), Some(port_error)) = (
            forwarder.take_stream(STORE_LOCAL_PORT),
            forwarder.take_error(STORE_LOCAL_PORT),
        ) else {
            return Err(Error::Port("it gave no stream".to_owned()));
        };
        match exchange(stream, request).await {
            Err(Error::Http(error)) => Err(match timeout(REASON, port_error).await {
                Ok(Some(reason)) => Error::Port(reason.trim().to_owned()),
                Ok(None) | Err(_) => Error::Http(error),
            }),
            result => result,
        }
    }

    /// Namespace and name of a pod that is ready.
    async fn pod(&self) -> Result<(String, String), Error> {
        let asked = self.cluster.system_namespace.as_deref();
        let namespace = asked.unwrap_or(SYSTEM_NAMESPACE);
        let params = ListParams::default().labels(STORE_SELECTOR);
        let here = self.cluster.pods(namespace).list(&params).await;
        let mut found = here
            .map_err(ApiError::when(format!(
                "list pods in namespace {namespace}"
            )))
            .map_err(|source| forbidden_or(source, namespace, Error::Find))?
            .items;
        if found.is_empty() && asked.is_none() {
            // A user who may not list all pods gets the error that says to name the namespace.
            if let Ok(everywhere) = self.cluster.all_pods().list(&params).await {
                found = everywhere.items;
            }
        }
        choose(&found).ok_or_else(|| match found.first() {
            Some(pod) => Error::NotReady {
                namespace: pod.namespace().unwrap_or_default(),
                pod: pod.name_any(),
            },
            None => Error::NoPod {
                namespace: namespace.to_owned(),
            },
        })
    }
}

fn forbidden_or(source: ApiError, namespace: &str, other: impl FnOnce(ApiError) -> Error) -> Error {
    if source.code() == Some(403) {
        return Error::Forbidden {
            namespace: namespace.to_owned(),
        };
    }
    other(source)
}

/// A pod that is ready and not ending.
fn choose(pods: &[Pod]) -> Option<(String, String)> {
    let is_ready = |pod: &&Pod| {
        let conditions = pod
            .status
            .as_ref()
            .and_then(|status| status.conditions.as_ref());
        pod.metadata.deletion_timestamp.is_none()
            && conditions
                .into_iter()
                .flatten()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    let pod = pods.iter().find(is_ready)?;
    Some((pod.namespace()?, pod.name_any()))
}

/// One request on a stream of its own. The connection stays open while the response's body is read.
async fn exchange<Stream>(
    stream: Stream,
    request: Request<Body>,
) -> Result<Response<Incoming>, Error>
where
    Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(Error::Http)?;
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(Error::Http)?;
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status();
    let body = http_body_util::Limited::new(response.into_body(), REFUSAL_LIMIT);
    let body = timeout(CONNECT, body.collect()).await;
    let bytes = match body {
        Ok(Ok(body)) => body.to_bytes(),
        // The status alone says enough.
        Ok(Err(_)) | Err(_) => Bytes::new(),
    };
    let problem = serde_json::from_slice(&bytes).unwrap_or_else(|_| Problem {
        reason: String::new(),
        message: status.to_string(),
    });
    let Problem { reason, message } = problem;
    Err(Error::Refused {
        status: status.as_u16(),
        reason,
        message,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_that_ends_or_is_not_ready_is_not_chosen() {
        let ending = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        let pods = [
            pod("old", &ending, "True"),
            pod("starting", &json!({}), "False"),
            pod("ready", &json!({}), "True"),
        ];
        assert_eq!(
            choose(&pods),
            Some(("framewright-system".into(), "ready".into()))
        );
        assert_eq!(choose(&pods[..2]), None);
    }

    fn pod(name: &str, more: &serde_json::Value, ready: &str) -> Pod {
        let mut metadata = json!({"name": name, "namespace": "framewright-system"});
        if let (Some(metadata), Some(more)) = (metadata.as_object_mut(), more.as_object()) {
            metadata.extend(more.clone());
        }
        let conditions = json!([{"type": "Ready", "status": ready}]);
        serde_json::from_value(json!({"metadata": metadata, "status": {"conditions": conditions}}))
            .expect("is a pod")
    }
}
