//! The connection to a cluster, and the errors of its API server as sentences for people.

use std::error::Error as StdError;
use std::fmt;
use std::path::PathBuf;

use framewright_crds::{AIJob, ModelPool};
use k8s_openapi::api::core::v1::Pod;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};

use crate::kubeconfig::{self, Connect};
use crate::proxy;

/// Which cluster to connect to. A value of `None` means kubectl's default.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// The namespace of jobs and pools; by default the context's.
    pub namespace: Option<String>,
    /// The kubeconfig file; by default those in `$KUBECONFIG`, else `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig; by default the current one.
    pub context: Option<String>,
    /// The namespace that Framewright is installed in; by default the one in which its store is found.
    pub system_namespace: Option<String>,
}

/// A connection to an API server, and the default namespaces.
pub struct Cluster {
    client: Client,
    /// The namespace that [`Connection`] names, else the context's.
    pub namespace: String,
    /// The namespace that [`Connection`] names.
    pub asked_namespace: Option<String>,
    /// The system namespace that [`Connection`] names.
    pub system_namespace: Option<String>,
    /// A line for the user, if no kubeconfig was found.
    pub notice: Option<String>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig is missing or cannot be used.
    #[error("cannot use the kubeconfig")]
    Kubeconfig(#[from] kubeconfig::Error),
    /// The proxy cannot be used.
    #[error("cannot use the proxy that is set for the API server")]
    Proxy(#[from] proxy::Error),
    /// The kubeconfig describes a connection that cannot be set up.
    #[error("cannot set up a connection as the kubeconfig describes it")]
    Client(#[source] Reason),
}

impl Cluster {
    /// Reads the kubeconfig and sets up a client. It sends nothing yet.
    ///
    /// # Errors
    /// If the kubeconfig cannot be used.
    pub fn connect(connection: Connection) -> Result<Cluster, ConnectError> {
        let Connection {
            namespace: asked_namespace,
            kubeconfig,
            context,
            system_namespace,
        } = connection;
        let variable = |name: &str| std::env::var(name).ok();
        let merged = kubeconfig::read(
            kubeconfig.as_deref(),
            std::env::var_os("KUBECONFIG"),
            std::env::home_dir(),
        )?;
        let Connect {
            mut config,
            proxy_url,
            notice,
        } = merged.connect(context.as_deref(), &variable)?;
        proxy::set(&mut config, proxy_url.as_deref(), &variable)?;
        let namespace = asked_namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let client =
            Client::try_from(config).map_err(|error| ConnectError::Client(Reason(error)))?;
        Ok(Cluster {
            client,
            namespace,
            asked_namespace,
            system_namespace,
            notice,
        })
    }

    /// The AIJobs of a namespace.
    #[must_use]
    pub fn jobs(&self, namespace: &str) -> Api<AIJob> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Objects of one kind as plain values, with fields that our own types do not have.
    pub(crate) fn objects(&self, namespace: &str, kind: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, kind)
    }

    /// The AIJobs of all namespaces.
    #[must_use]
    pub fn all_jobs(&self) -> Api<AIJob> {
        Api::all(self.client.clone())
    }

    pub(crate) fn pools(&self, namespace: &str) -> Api<ModelPool> {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub(crate) fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub(crate) fn all_pods(&self) -> Api<Pod> {
        Api::all(self.client.clone())
    }
}

/// A request that the API server did not fulfil.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing}")]
pub struct ApiError {
    /// What was tried; completes "cannot …".
    pub doing: String,
    /// What the API server or the client says.
    #[source]
    pub reason: Reason,
}

impl ApiError {
    /// For `map_err`. `doing` completes "cannot …".
    pub fn when(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> ApiError {
        let doing = doing.into();
        move |error| ApiError {
            doing,
            reason: Reason(error),
        }
    }

    /// The HTTP status, if the API server answered with one.
    pub(crate) fn code(&self) -> Option<u16> {
        if let kube::Error::Api(status) = &self.reason.0 {
            return Some(status.code);
        }
        None
    }

    /// Whether a retry cannot help.
    pub(crate) fn is_final(&self) -> bool {
        match self.code() {
            Some(code) => (400..500).contains(&code) && code != 408 && code != 410 && code != 429,
            None => matches!(self.reason.0, kube::Error::SerdeError(_)),
        }
    }
}

/// An error of kube's client as one sentence. It has no source, because the sentence contains the source's message.
#[derive(Debug)]
pub struct Reason(pub kube::Error);

impl StdError for Reason {}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let kube::Error::Api(status) = &self.0 {
            let causes = status.details.iter().flat_map(|details| &details.causes);
            let causes: Vec<String> = causes.map(|c| said(&c.field, &c.message)).collect();
            if status.code == 422 && !causes.is_empty() {
                return out.write_str(&causes.join("; "));
            }
            return out.write_str(&answered(status.code, &status.message));
        }
        if let kube::Error::SerdeError(error) = &self.0 {
            return write!(
                out,
                "this plugin cannot read the answer ({error}); use the plugin of the version that is installed in the cluster"
            );
        }
        if is_of_proxy(&self.0) {
            return write!(
                out,
                "cannot connect through the proxy ({}); check HTTPS_PROXY, NO_PROXY and proxy-url in the kubeconfig",
                innermost(&self.0)
            );
        }
        write!(
            out,
            "cannot reach the API server ({}); check the connection with `kubectl cluster-info`",
            innermost(&self.0)
        )
    }
}

fn answered(code: u16, message: &str) -> String {
    let is_unknown_kind = code == 404
        && (message.contains("could not find the requested resource")
            || message.contains("page not found"));
    match code {
        _ if is_unknown_kind => "this cluster has neither AIJobs nor ModelPools; install Framewright's chart in it, or choose another cluster with --context".to_owned(),
        401 => format!("{message}: the cluster does not accept these credentials; log in again, or choose another --context"),
        // The API server leaves the rest empty where it tells nobody what is missing.
        403 => format!("{}; ask an administrator of the cluster for this permission", message.trim_end_matches([':', ' '])),
        _ => message.to_owned(),
    }
}

/// One thing that is wrong with an object. What the API server puts between field and sentence is left out where it says nothing:
/// it writes `<nil>` for no field, and "object" or nothing for a value.
fn said(field: &str, message: &str) -> String {
    let sentence = ["Invalid value: \"object\": ", "Invalid value: \"\": "]
        .iter()
        .find_map(|prefix| message.strip_prefix(prefix))
        .unwrap_or(message);
    // A check of the schema says the field in its sentence.
    let by_schema = format!(": {field} in body ");
    match sentence.strip_prefix("Invalid value: ") {
        _ if field.is_empty() || field == "<nil>" || sentence.starts_with(field) => {
            sentence.to_owned()
        }
        Some(value) if value.contains(&by_schema) => {
            let (value, rule) = value.split_once(&by_schema).unwrap_or((value, ""));
            format!("{field} {rule}, and is {value}")
        }
        Some(_) | None => format!("{field}: {sentence}"),
    }
}

/// Whether the proxy could not be reached or refused. The client's error has no public type.
fn is_of_proxy(error: &dyn StdError) -> bool {
    let errors = std::iter::successors(Some(error), |error| (*error).source());
    errors
        .map(ToString::to_string)
        .any(|text| text.starts_with("tunnel error: ") || text.contains("SOCKS error: "))
}

fn innermost(error: &dyn StdError) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_without_framewright_is_told_from_a_job_that_is_gone() {
        assert!(answered(404, "404 page not found").contains("install Framewright"));
        assert!(
            answered(404, "the server could not find the requested resource")
                .contains("install Framewright")
        );
        assert_eq!(
            answered(404, "aijobs.framewright.dev \"x\" not found"),
            "aijobs.framewright.dev \"x\" not found"
        );
    }

    #[test]
    fn what_is_wrong_with_an_object_is_said_without_the_api_servers_nothings() {
        for (field, message, expected) in [
            (
                "<nil>",
                "Invalid value: \"\": spec.steps[0].upscale.scale in body must be of type integer: \"number\"",
                "spec.steps[0].upscale.scale in body must be of type integer: \"number\"",
            ),
            (
                "spec.steps[0]",
                "Invalid value: \"object\": step a must set exactly one pipeline; available: upscale",
                "spec.steps[0]: step a must set exactly one pipeline; available: upscale",
            ),
            (
                "spec.steps[0].upscale.scale",
                "Invalid value: 9: spec.steps[0].upscale.scale in body should be less than or equal to 4",
                "spec.steps[0].upscale.scale should be less than or equal to 4, and is 9",
            ),
            (
                "metadata.name",
                "Required value",
                "metadata.name: Required value",
            ),
        ] {
            assert_eq!(said(field, message), expected);
        }
    }

    #[test]
    fn a_missing_permission_says_whom_to_ask() {
        assert!(answered(403, "user x cannot list pods").contains("administrator"));
    }
}
