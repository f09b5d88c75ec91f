//! Whether the store lives, whether it can serve, and what it has done so far.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use framewright_crds::names::{HEALTH_PATH, READY_PATH};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use tokio::time::timeout;

use super::routes::Store;

/// How long the volume may take to say that it is there.
const PROBE: Duration = Duration::from_secs(5);
const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is counted.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    pub received_bytes: Counter,
    pub sent_bytes: Counter,
    pub uploads: Gauge,
    pub watch_streams: Gauge,
    pub leftovers: Counter,
    free_bytes: Gauge<u64, AtomicU64>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Request {
    verb: &'static str,
    code: u16,
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        let mut registry = Registry::with_prefix("framewright_store");
        let metrics = Metrics {
            requests: Family::default(),
            received_bytes: Counter::default(),
            sent_bytes: Counter::default(),
            uploads: Gauge::default(),
            watch_streams: Gauge::default(),
            leftovers: Counter::default(),
            free_bytes: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register(
            "requests",
            "Responses by the method of the link and by status; the verb none counts refused links",
            metrics.requests.clone(),
        );
        registry.register_with_unit(
            "received",
            "Verified bytes of completed uploads",
            Unit::Bytes,
            metrics.received_bytes.clone(),
        );
        registry.register_with_unit(
            "sent",
            "Bytes of artifacts sent",
            Unit::Bytes,
            metrics.sent_bytes.clone(),
        );
        registry.register(
            "uploads_running",
            "Uploads that run or wait for their turn",
            metrics.uploads.clone(),
        );
        registry.register(
            "watch_streams",
            "Open streams on which the store reports which files are there",
            metrics.watch_streams.clone(),
        );
        registry.register(
            "leftovers_removed",
            "Files of interrupted uploads that the store has removed",
            metrics.leftovers.clone(),
        );
        registry.register_with_unit(
            "free",
            "Free space on the volume",
            Unit::Bytes,
            metrics.free_bytes.clone(),
        );
        Metrics {
            registry,
            ..metrics
        }
    }

    pub(crate) fn count(&self, verb: &'static str, status: StatusCode) {
        let code = status.as_u16();
        self.requests.get_or_create(&Request { verb, code }).inc();
    }
}

/// The three paths that need no link.
pub(crate) fn router(store: Arc<Store>) -> Router {
    Router::new()
        .route(HEALTH_PATH, get(|| std::future::ready("ok\n")))
        .route(READY_PATH, get(ready))
        .route("/metrics", get(metrics))
        .with_state(store)
}

async fn ready(State(store): State<Arc<Store>>) -> Response {
    let trouble = match timeout(PROBE, store.backend.probe()).await {
        Ok(Ok(())) => return "ok\n".into_response(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!(
            "the volume did not answer within {} seconds",
            PROBE.as_secs()
        ),
    };
    (StatusCode::SERVICE_UNAVAILABLE, format!("{trouble}\n")).into_response()
}

async fn metrics(State(store): State<Arc<Store>>) -> Response {
    if let Ok(Ok(Some(free))) = timeout(PROBE, store.backend.free_bytes()).await {
        store.metrics.free_bytes.set(free);
    }
    let mut text = String::new();
    match encode(&mut text, &store.metrics.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, TEXT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
