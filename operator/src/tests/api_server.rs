//! An API server that notes what it is asked and answers as a test says. It is a service behind kube's own client: methods, paths, bodies
//! and errors are those of HTTP.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::stream;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

/// How long a test waits for something that is to happen.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);
/// How long a test waits for something that is not to happen.
pub(super) const MOMENT: Duration = Duration::from_millis(100);

/// What the API server was asked.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) body: Value,
}

impl Asked {
    /// Method and path.
    pub(super) fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// What it answers.
pub(super) enum Reply {
    Json(u16, Value),
    Text(u16, &'static str),
    /// The connection breaks in the middle of the answer.
    Breaks,
    /// Nothing ever comes.
    Silence,
    /// The answer, once the semaphore has a permit for it.
    Held(Arc<Semaphore>, Box<Reply>),
}

type Replies = Arc<dyn Fn(&Asked) -> Reply + Send + Sync>;

/// An API server.
#[derive(Clone)]
pub(super) struct ApiServer {
    asked: Arc<Mutex<Vec<Asked>>>,
    replies: Replies,
}

impl ApiServer {
    pub(super) fn new(replies: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> ApiServer {
        ApiServer {
            asked: Arc::default(),
            replies: Arc::new(replies),
        }
    }

    /// The API server as a service.
    pub(super) fn router(&self) -> Router {
        let server = self.clone();
        Router::new().fallback(move |request: Request| async move { server.answer(request).await })
    }

    /// A client of it, without a network.
    pub(super) fn client(&self) -> Client {
        Client::new(self.router(), "default")
    }

    /// All that it was asked so far.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("nobody panics with it").clone()
    }

    /// Methods and paths of all that it was asked so far.
    pub(super) fn lines(&self) -> Vec<String> {
        self.asked().iter().map(Asked::line).collect()
    }

    /// How often it was asked something that begins so.
    pub(super) fn count(&self, start: &str) -> usize {
        let lines = self.lines();
        lines.iter().filter(|line| line.starts_with(start)).count()
    }

    /// Waits until it was asked so often for something that begins so.
    pub(super) async fn until(&self, start: &str, count: usize) {
        let what = format!("{count} times {start}");
        until(&what, || self.count(start) >= count).await;
    }

    async fn answer(&self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, 1 << 20).await.expect("a short body");
        let asked = Asked {
            method: parts.method,
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            body: serde_json::from_slice(&body).unwrap_or_default(),
        };
        self.asked
            .lock()
            .expect("nobody panics with it")
            .push(asked.clone());
        let mut reply = (self.replies)(&asked);
        loop {
            return match reply {
                Reply::Json(code, body) => (status(code), axum::Json(body)).into_response(),
                Reply::Text(code, text) => (status(code), text).into_response(),
                Reply::Breaks => {
                    let parts = [Ok("{\"kind\":"), Err(std::io::Error::other("reset"))];
                    Body::from_stream(stream::iter(parts)).into_response()
                }
                Reply::Silence => std::future::pending().await,
                Reply::Held(gate, then) => {
                    gate.acquire().await.expect("it stays open").forget();
                    reply = *then;
                    continue;
                }
            };
        }
    }
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).expect("a status code")
}

/// What the API server says when it does not do something.
pub(super) fn failure(code: u16, reason: &str) -> Reply {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "code": code, "reason": reason, "message": "its words",
    });
    Reply::Json(code, body)
}

/// Waits for something that is to happen.
pub(super) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < DEADLINE, "it does not happen: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
