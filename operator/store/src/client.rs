//! The operator's side of the store: is an artifact there, whose artifacts are there, delete those of one owner or of one role.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use framewright_crds::names::ArtifactRole;
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
    connection: Connection,
    keys: SigningKeys,
}

/// How a store is reached and recognised, whatever the link.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    http: reqwest::Client,
    base: String,
    tls: Arc<ClientConfig>,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("the store's certificate authority is no certificate in PEM")]
    Authority { source: pem::Error },
    #[error("the store's certificate authority cannot be trusted")]
    Trust { source: rustls::Error },
    #[error("cannot create an HTTP client for the store")]
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
        Ok(StoreClient {
            connection: Connection::new(base, authority)?,
            keys,
        })
    }

    /// The size of an artifact in bytes; `None` when it is not there.
    ///
    /// # Errors
    /// `StoreError`, after 15 seconds at the latest.
    pub async fn stat(&self, key: &ArtifactKey) -> Result<Option<u64>, StoreError> {
        let operation = "look for an artifact";
        let link = self.link(Verb::Stat { key: key.clone() });
        let response = self
            .connection
            .ask(operation, Method::HEAD, link, Vec::new())
            .await?;
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
        self.delete_some(owner, None).await
    }

    /// Deletes all that an owner has in one role, such as its checkpoints; how many artifacts that were.
    ///
    /// # Errors
    /// `StoreError`, after 15 seconds at the latest; some may be deleted then.
    pub async fn delete_role(&self, owner: &Owner, role: ArtifactRole) -> Result<u64, StoreError> {
        self.delete_some(owner, Some(role)).await
    }

    async fn delete_some(
        &self,
        owner: &Owner,
        role: Option<ArtifactRole>,
    ) -> Result<u64, StoreError> {
        let operation = "delete an owner's artifacts";
        let link = self.link(Verb::Delete {
            owner: owner.clone(),
            role,
        });
        let answer = self
            .connection
            .ask(operation, Method::DELETE, link, Vec::new())
            .await?;
        let deleted: Deleted = self.connection.read(operation, answer).await?;
        Ok(deleted.artifacts)
    }

    /// Every owner that has anything, in order.
    ///
    /// # Errors
    /// `StoreError`, after 90 seconds at the latest.
    pub async fn owners(&self) -> Result<Vec<OwnerUse>, StoreError> {
        let operation = "list the owners";
        let request = self
            .connection
            .http
            .get(self.link(Verb::List))
            .timeout(LIST_DEADLINE);
        let answer = self.connection.send(operation, request).await?;
        let owners: Owners = self.connection.read(operation, answer).await?;
        Ok(owners.owners)
    }

    pub(crate) fn base(&self) -> &str {
        self.connection.base()
    }

    /// Where a watch stream is opened, and how the store is recognised. The address is a secret.
    pub(crate) fn watch_address(&self) -> (String, Connector) {
        let link = self.link(Verb::Watch);
        // https becomes wss, http becomes ws.
        let address = match link.strip_prefix("http") {
            Some(rest) => format!("ws{rest}"),
            None => link,
        };
        (address, Connector::Rustls(Arc::clone(&self.connection.tls)))
    }

    fn link(&self, verb: Verb) -> String {
        let expires = grant_end();
        grants::sign(self.base(), &Grant { verb, expires }, &self.keys)
    }
}

impl Connection {
    pub(crate) fn new(base: &str, authority: &[u8]) -> Result<Connection, ClientError> {
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
        Ok(Connection {
            http,
            base: base.to_owned(),
            tls: Arc::new(tls),
        })
    }

    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    pub(crate) async fn ask(
        &self,
        operation: &'static str,
        method: Method,
        link: String,
        content: Vec<u8>,
    ) -> Result<reqwest::Response, StoreError> {
        let request = self.http.request(method, link).timeout(DEADLINE);
        let request = if content.is_empty() {
            request
        } else {
            request.body(content)
        };
        self.send(operation, request).await
    }

    async fn send(
        &self,
        operation: &'static str,
        request: reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, StoreError> {
        let sent = request.send().await;
        sent.map_err(|source| self.away(operation, source))
    }

    /// The body of a good answer, as JSON.
    pub(crate) async fn read<Answer: DeserializeOwned>(
        &self,
        operation: &'static str,
        response: reqwest::Response,
    ) -> Result<Answer, StoreError> {
        let status = response.status();
        let body = self.body(operation, response).await?;
        serde_json::from_slice(&body).map_err(|_| unanswered(operation, status, &body))
    }

    /// The body of a good answer.
    pub(crate) async fn body(
        &self,
        operation: &'static str,
        response: reqwest::Response,
    ) -> Result<Bytes, StoreError> {
        let status = response.status();
        let body = response.bytes().await;
        let body = body.map_err(|source| self.away(operation, source))?;
        if status.is_success() {
            Ok(body)
        } else {
            Err(unanswered(operation, status, &body))
        }
    }

    fn away(&self, operation: &'static str, source: reqwest::Error) -> StoreError {
        StoreError::Away {
            operation,
            base: self.base.clone(),
            // A link is a secret; errors are logged.
            source: source.without_url(),
        }
    }
}

/// When a grant that is used at once ends.
pub(crate) fn grant_end() -> Timestamp {
    Timestamp::now()
        .saturating_add(GRANT)
        .unwrap_or(Timestamp::MAX)
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
