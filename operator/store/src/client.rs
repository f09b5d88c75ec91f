//! The operator's side of the store: is an artifact there, whose artifacts are there, delete those of one owner.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::{Method, StatusCode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::{ClientConfig, RootCertStore};
use serde::de::DeserializeOwned;
use tokio_tungstenite::Connector;

use super::answers::{Deleted, OwnerUse, Owners, Problem};
use super::key::{ArtifactKey, Owner};
use crate::grants::{self, Grant, SigningKeys, Verb};

/// How long the store may take to answer.
const DEADLINE: Duration = Duration::from_secs(15);
/// Listing walks over everything.
const LIST_DEADLINE: Duration = Duration::from_secs(90);
/// How long the client's own grants live: enough for one request and for clocks that differ.
const GRANT: SignedDuration = SignedDuration::from_secs(300);

/// Asks one store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StoreClient {
    http: reqwest::Client,
    base: String,
    keys: SigningKeys,
    tls: Arc<ClientConfig>,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("the store's certificate authority is no certificate in PEM")]
    Authority { source: pem::Error },
    #[error("the store's certificate authority cannot be trusted")]
    Trust { source: rustls::Error },
    #[error("cannot make an HTTP client for the store")]
    Http { source: reqwest::Error },
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It may be there again in a moment.
    #[error("the store at {base} cannot be reached to {operation}")]
    Away {
        operation: &'static str,
        base: String,
        source: reqwest::Error,
    },
    /// It is there and cannot just now: full, busy or in trouble with its volume.
    #[error("the store cannot {operation} now: {} {}", problem.reason, problem.message)]
    Unable {
        operation: &'static str,
        problem: Problem,
    },
    /// Asking again in the same way changes nothing.
    #[error("the store refuses to {operation}: {status} {} {}", problem.reason, problem.message)]
    Refused {
        operation: &'static str,
        status: StatusCode,
        problem: Problem,
    },
}

impl StoreClient {
    /// `base` is the store's URL up to `/v1`, `authority` the PEM that its certificate is checked against, and nothing else is
    /// trusted.
    ///
    /// # Errors
    /// `ClientError` when `authority` holds no usable certificate.
    pub fn new(
        base: &str,
        authority: &[u8],
        keys: SigningKeys,
    ) -> Result<StoreClient, ClientError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authority) {
            let certificate = certificate.map_err(|source| ClientError::Authority { source })?;
            roots
                .add(certificate)
                .map_err(|source| ClientError::Trust { source })?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|source| ClientError::Trust { source })?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls.clone())
            .no_proxy()
            .connect_timeout(Duration::from_secs(5))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|source| ClientError::Http { source })?;
        Ok(StoreClient {
            http,
            base: base.to_owned(),
            keys,
            tls: Arc::new(tls),
        })
    }

    /// The size of an artifact in bytes; `None` when it is not there.
    ///
    /// # Errors
    /// `StoreError`, after 15 seconds at the latest.
    pub async fn stat(&self, key: &ArtifactKey) -> Result<Option<u64>, StoreError> {
        let operation = "look for an artifact";
        let verb = Verb::Stat { key: key.clone() };
        let response = self.ask(operation, Method::HEAD, verb, DEADLINE).await?;
        let status = response.status();
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let length = response
            .headers()
            .get(reqwest::header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse().ok());
        match length {
            Some(length) if status.is_success() => Ok(Some(length)),
            Some(_) | None => Err(unanswered(operation, status, &[])),
        }
    }

    /// Deletes all that an owner has; how many artifacts that were. To repeat it is harmless.
    ///
    /// # Errors
    /// `StoreError`, after 15 seconds at the latest; some may be deleted then.
    pub async fn delete(&self, owner: &Owner) -> Result<u64, StoreError> {
        let verb = Verb::Delete {
            owner: owner.clone(),
        };
        let operation = "delete an owner's artifacts";
        let deleted: Deleted = self.read(operation, Method::DELETE, verb, DEADLINE).await?;
        Ok(deleted.artifacts)
    }

    /// Every owner that has anything, in order.
    ///
    /// # Errors
    /// `StoreError`, after 90 seconds at the latest.
    pub async fn owners(&self) -> Result<Vec<OwnerUse>, StoreError> {
        let operation = "list the owners";
        let owners: Owners = self
            .read(operation, Method::GET, Verb::List, LIST_DEADLINE)
            .await?;
        Ok(owners.owners)
    }

    async fn read<Answer: DeserializeOwned>(
        &self,
        operation: &'static str,
        method: Method,
        verb: Verb,
        deadline: Duration,
    ) -> Result<Answer, StoreError> {
        let response = self.ask(operation, method, verb, deadline).await?;
        let status = response.status();
        let body = response.bytes().await.map_err(|source| StoreError::Away {
            operation,
            base: self.base.clone(),
            source: source.without_url(),
        })?;
        if !status.is_success() {
            return Err(unanswered(operation, status, &body));
        }
        serde_json::from_slice(&body).map_err(|_| unanswered(operation, status, &body))
    }

    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Where a watch stream is opened, and how the store is recognised. The address is a secret.
    pub(crate) fn watch_address(&self) -> (String, Connector) {
        let link = self.link(Verb::Watch);
        // https becomes wss, http becomes ws.
        let address = match link.strip_prefix("http") {
            Some(rest) => format!("ws{rest}"),
            None => link,
        };
        (address, Connector::Rustls(Arc::clone(&self.tls)))
    }

    fn link(&self, verb: Verb) -> String {
        let expires = Timestamp::now()
            .saturating_add(GRANT)
            .unwrap_or(Timestamp::MAX);
        grants::sign(&self.base, &Grant { verb, expires }, &self.keys)
    }

    async fn ask(
        &self,
        operation: &'static str,
        method: Method,
        verb: Verb,
        deadline: Duration,
    ) -> Result<reqwest::Response, StoreError> {
        self.http
            .request(method, self.link(verb))
            .timeout(deadline)
            .send()
            .await
            // A link is a secret; errors are logged.
            .map_err(|source| StoreError::Away {
                operation,
                base: self.base.clone(),
                source: source.without_url(),
            })
    }
}

pub(crate) fn unanswered(operation: &'static str, status: StatusCode, body: &[u8]) -> StoreError {
    let problem = serde_json::from_slice(body).unwrap_or_else(|_| Problem {
        reason: "NoReason".to_owned(),
        message: format!("the answer was {status} without a reason"),
    });
    if status.is_server_error() {
        StoreError::Unable { operation, problem }
    } else {
        StoreError::Refused {
            operation,
            status,
            problem,
        }
    }
}
