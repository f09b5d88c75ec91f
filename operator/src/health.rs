//! Tells the kubelet that the operator is alive and ready, and Prometheus how it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use framewright_crds::names::{HEALTH_PATH, HEALTH_PORT, READY_PATH};

use crate::metrics::Metrics;
use framewright_store::listen::everywhere;

#[derive(Clone)]
struct Shown {
    is_ready: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
}

/// Serves `/healthz`, `/readyz` (the caches have been filled) and `/metrics` until the process ends.
///
/// # Errors
/// The listener's own.
pub async fn serve(is_ready: Arc<AtomicBool>, metrics: Arc<Metrics>) -> std::io::Result<()> {
    let router = Router::new()
        .route(HEALTH_PATH, get(|| async { "ok" }))
        .route(READY_PATH, get(ready))
        .route("/metrics", get(show))
        .with_state(Shown { is_ready, metrics });
    let listener = tokio::net::TcpListener::from_std(everywhere(HEALTH_PORT)?)?;
    axum::serve(listener, router).await
}

async fn ready(State(shown): State<Shown>) -> (StatusCode, &'static str) {
    if shown.is_ready.load(Ordering::Acquire) {
        (StatusCode::OK, "ready")
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "the caches are being filled",
        )
    }
}

async fn show(State(shown): State<Shown>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], shown.metrics.text())
}
