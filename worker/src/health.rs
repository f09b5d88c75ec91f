//! Answers whether the worker lives, whether it is connected, and what it has counted. Plain HTTP, no secrets.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::metrics::Metrics;

/// What the answers are made of.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Connected and welcomed.
    pub is_ready: Arc<AtomicBool>,
    /// The counters.
    pub metrics: Metrics,
}

/// Serves `/healthz`, `/ready` and `/metrics` until the process ends.
///
/// # Errors
/// The listener fails.
pub async fn serve(listener: TcpListener, health: Health) -> io::Result<()> {
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(health);
    axum::serve(listener, routes).await
}

async fn ready(State(health): State<Health>) -> impl IntoResponse {
    if health.is_ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "connected to the operator\n")
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "not connected to an operator\n",
        )
    }
}

async fn metrics(State(health): State<Health>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], health.metrics.text())
}
