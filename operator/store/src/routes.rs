//! From a request to its answer: the grant says what is allowed, the method must agree, and one of the other modules does it.

use framewright_crds::error_chain::error_chain;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Router, body::Body};
use jiff::Timestamp;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::answers::{Deleted, Owners};
use super::backend::Backend;
use super::download::{self, Wanted};
use super::error::Refusal;
use super::health::Metrics;
use super::record::server::Records;
use super::record::{self, RECORDS_PATH, RecordGrant, RecordVerb};
use super::slots::Slots;
use super::upload::{self, Expected};
use super::watch::server as file_watch;
use crate::grants::{self, ARTIFACTS_PATH, Grant, SigningKeys, Verb};

/// How long the volume may take to find, delete or list. Transfers have deadlines of their own.
const ANSWER: Duration = Duration::from_secs(60);

/// What every request needs.
#[derive(Debug)]
pub(crate) struct Store {
    pub backend: Backend,
    /// None without keys for them.
    pub records: Option<Records>,
    pub keys: watch::Receiver<SigningKeys>,
    pub upload_slots: Slots,
    pub download_slots: Slots,
    pub upload_idle: Duration,
    pub watch_streams: Arc<Semaphore>,
    pub watch_idle: Duration,
    pub max_watched: usize,
    /// Streams end when this is cancelled; requests have their grace.
    pub stopping: CancellationToken,
    pub metrics: Metrics,
}

/// One handler for every path, since the signature covers the path too.
pub(crate) fn router(store: Arc<Store>) -> Router {
    Router::new().fallback(answer).with_state(store)
}

async fn answer(State(store): State<Arc<Store>>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let now = Timestamp::now();
    if parts.uri.path().starts_with(RECORDS_PATH) {
        let (verb, result) = answer_record(&store, &parts, now, body).await;
        return finish(&store, verb, result, parts.uri.path());
    }
    let (verb, result) = match granted(&store, &parts, now) {
        Ok(grant) => {
            let name = grant.verb.name();
            (name, act(&store, grant, &mut parts, body).await)
        }
        Err(refusal) => {
            upload::drain(&mut body.into_data_stream()).await;
            ("none", Err(refusal))
        }
    };
    finish(&store, verb, result, parts.uri.path())
}

async fn answer_record(
    store: &Store,
    parts: &Parts,
    now: Timestamp,
    body: Body,
) -> (&'static str, Result<Response, Refusal>) {
    match granted_record(store, parts, now) {
        Ok((records, grant)) => {
            let name = grant.verb.name();
            (name, records.act(grant.verb, body).await)
        }
        Err(refusal) => {
            upload::drain(&mut body.into_data_stream()).await;
            ("none", Err(refusal))
        }
    }
}

fn finish(
    store: &Store,
    verb: &'static str,
    result: Result<Response, Refusal>,
    path: &str,
) -> Response {
    let response = match result {
        Ok(response) => response,
        Err(refusal) => {
            // The query is a secret; the path is none.
            log(&refusal, path);
            refusal.into_response()
        }
    };
    store.metrics.count(verb, response.status());
    response
}

fn granted_record<'a>(
    store: &'a Store,
    parts: &Parts,
    now: Timestamp,
) -> Result<(&'a Records, RecordGrant), Refusal> {
    let records = store.records.as_ref().ok_or(Refusal::NoRecords)?;
    let target = parts
        .uri
        .path_and_query()
        .map_or("", |target| target.as_str());
    let grant = record::verify(target, &records.keys.borrow(), now).map_err(Refusal::Grant)?;
    let is_allowed = match grant.verb {
        RecordVerb::Append { .. } => parts.method == Method::PUT,
        RecordVerb::Read { .. } | RecordVerb::List { .. } => parts.method == Method::GET,
    };
    if is_allowed {
        return Ok((records, grant));
    }
    Err(refused_method(grant.verb.name(), &parts.method))
}

fn refused_method(verb: &'static str, method: &Method) -> Refusal {
    Refusal::Method {
        verb,
        method: method.as_str().chars().take(20).collect(),
    }
}

fn granted(store: &Store, parts: &Parts, now: Timestamp) -> Result<Grant, Refusal> {
    if !parts.uri.path().starts_with(ARTIFACTS_PATH) {
        return Err(Refusal::NoSuchPath);
    }
    let target = parts
        .uri
        .path_and_query()
        .map_or("", |target| target.as_str());
    let grant = grants::verify(target, &store.keys.borrow(), now).map_err(Refusal::Grant)?;
    let is_allowed = match grant.verb {
        Verb::Get { .. } => parts.method == Method::GET || parts.method == Method::HEAD,
        Verb::Put { .. } => parts.method == Method::PUT,
        Verb::Stat { .. } => parts.method == Method::HEAD,
        Verb::Delete { .. } => parts.method == Method::DELETE,
        Verb::List | Verb::Watch => parts.method == Method::GET,
    };
    if !is_allowed {
        return Err(refused_method(grant.verb.name(), &parts.method));
    }
    Ok(grant)
}

async fn act(
    store: &Arc<Store>,
    grant: Grant,
    parts: &mut Parts,
    body: Body,
) -> Result<Response, Refusal> {
    let Grant { verb, expires: _ } = grant;
    match verb {
        Verb::Get {
            key,
            file_name,
            media_type,
        } => {
            let wanted = Wanted {
                key,
                file_name,
                media_type,
            };
            in_time(download::send(
                store,
                &wanted,
                &parts.method,
                &parts.headers,
            ))
            .await
        }
        Verb::Put {
            key,
            bytes,
            media_type,
        } => {
            let expected = Expected {
                key,
                bytes,
                media_type,
            };
            let uploads = store.metrics.uploads.clone();
            uploads.inc();
            let received =
                upload::receive(Arc::clone(store), expected, parts.headers.clone(), body).await;
            uploads.dec();
            let received = received?;
            store.metrics.received_bytes.inc_by(received.stored.bytes);
            let status = if received.is_new {
                StatusCode::CREATED
            } else {
                StatusCode::OK
            };
            Ok((status, Json(received.stored)).into_response())
        }
        Verb::Stat { key } => in_time(download::stat(store, &key)).await,
        Verb::Delete { owner, role } => {
            let artifacts =
                in_time(async { Ok(store.backend.delete(&owner, role).await?) }).await?;
            if artifacts > 0 {
                let role = role.map(tracing::field::display);
                info!(%owner, role, artifacts, "artifacts deleted");
            }
            Ok(Json(Deleted { artifacts }).into_response())
        }
        Verb::List => {
            let owners = in_time(async { Ok(store.backend.owners().await?) }).await?;
            Ok(Json(Owners { owners }).into_response())
        }
        Verb::Watch => file_watch::open(store, parts).await,
    }
}

/// Waits for the volume, and not for ever.
pub(crate) async fn in_time<T>(
    work: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    timeout(ANSWER, work)
        .await
        .unwrap_or(Err(Refusal::Deadline {
            seconds: ANSWER.as_secs(),
        }))
}

fn log(refusal: &Refusal, path: &str) {
    match refusal {
        Refusal::NoRoom { .. } | Refusal::Full { .. } => warn!(path, "{refusal}"),
        Refusal::Backend { source } => {
            error!(path, causes = %error_chain(source), "the volume failed")
        }
        Refusal::Deadline { .. } => error!(path, "{refusal}"),
        Refusal::Busy
        | Refusal::Stalled { .. }
        | Refusal::Crawls { .. }
        | Refusal::TooSlow { .. }
        | Refusal::Broken { .. }
        | Refusal::Digest { .. }
        | Refusal::TooLarge { .. }
        | Refusal::TooSmall { .. }
        | Refusal::RecordExists { .. }
        | Refusal::RecordTooLarge { .. }
        | Refusal::MediaType { .. } => info!(path, "{refusal}"),
        Refusal::NoSuchPath
        | Refusal::Grant(_)
        | Refusal::Method { .. }
        | Refusal::NoWebSocket { .. }
        | Refusal::NotFound { .. }
        | Refusal::NoRecord { .. }
        | Refusal::NoRecords
        | Refusal::Range { .. } => debug!(path, "{refusal}"),
    }
}
