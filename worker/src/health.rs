//! Answers whether the worker lives, whether it is connected, and what it has counted. Plain HTTP, no secrets.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use framewright_crds::names::{HEALTH_PATH, READY_PATH};
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;

use crate::metrics::Metrics;

/// Connections that may wait to be taken.
const WAITING: i32 = 64;

/// What the answers are made of.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Connected and welcomed.
    pub is_ready: Arc<AtomicBool>,
    /// The counters.
    pub metrics: Metrics,
}

/// A listener for IPv6 that takes IPv4, too, and for IPv4 alone where there is no IPv6.
///
/// # Errors
/// The system's own, such as a port that is in use.
pub fn listen(port: u16) -> io::Result<TcpListener> {
    let both = || {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
        // A setting of the machine decides otherwise.
        socket.set_only_v6(false)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
        socket.listen(WAITING)?;
        io::Result::Ok(std::net::TcpListener::from(socket))
    };
    let listener =
        both().or_else(|_| std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Serves `/healthz`, `/readyz` and `/metrics` until the process ends.
///
/// # Errors
/// The listener fails.
pub async fn serve(listener: TcpListener, health: Health) -> io::Result<()> {
    let routes = Router::new()
        .route(HEALTH_PATH, get(|| async { "ok\n" }))
        .route(READY_PATH, get(ready))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_families_get_in() {
        let listener = listen(0).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let connect = |address: std::net::IpAddr| std::net::TcpStream::connect((address, port));
        connect(Ipv4Addr::LOCALHOST.into()).expect("IPv4");
        if std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
            connect(Ipv6Addr::LOCALHOST.into()).expect("IPv6");
        }
    }
}
