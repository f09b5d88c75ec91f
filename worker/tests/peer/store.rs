//! The store: artifacts by digest, and faults.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::body::Bytes;
use axum::extract::{Path as UrlPath, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use framewright_crds::names::bare;

use super::{Shared, digest};

/// Artifacts by digest, and faults.
#[derive(Default)]
pub(crate) struct Store {
    artifacts: Mutex<HashMap<String, Vec<u8>>>,
    pub(crate) is_down: AtomicBool,
    /// Links of a lower number have expired.
    pub(crate) oldest_link: AtomicUsize,
    pub(crate) refused: AtomicUsize,
    /// The operator pings nobody.
    pub(crate) is_silent: AtomicBool,
}

impl Store {
    /// Gives these bytes to whoever asks for that digest.
    pub(crate) fn lie(&self, digest: &str, content: &[u8]) {
        let mut artifacts = self.artifacts.lock().unwrap();
        artifacts.insert(bare(digest).to_owned(), content.to_vec());
    }

    /// Keeps this and gives its digest.
    pub(crate) fn put(&self, content: &[u8]) -> String {
        let digest = digest(content);
        let mut artifacts = self.artifacts.lock().unwrap();
        artifacts.insert(digest.clone(), content.to_vec());
        digest
    }

    pub(crate) fn get(&self, digest: &str) -> Option<Vec<u8>> {
        self.artifacts.lock().unwrap().get(bare(digest)).cloned()
    }

    fn refusal(&self, query: &HashMap<String, String>) -> Option<Response> {
        let problem = |status: StatusCode, message: &str| {
            self.refused.fetch_add(1, Ordering::Relaxed);
            let body = serde_json::json!({"reason": "Test", "message": message});
            Some((status, axum::Json(body)).into_response())
        };
        let link: usize = query["link"].parse().unwrap();
        if link < self.oldest_link.load(Ordering::Relaxed) {
            return problem(StatusCode::FORBIDDEN, "the link ended");
        }
        if self.is_down.load(Ordering::Relaxed) {
            return problem(StatusCode::INSUFFICIENT_STORAGE, "the volume is full");
        }
        None
    }
}

pub(super) async fn download(
    State(shared): State<Shared>,
    UrlPath(digest): UrlPath<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    if let Some(refusal) = shared.store.refusal(&query) {
        return refusal;
    }
    match shared.store.get(&digest) {
        Some(content) => content.into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

pub(super) async fn upload(
    State(shared): State<Shared>,
    UrlPath(wanted): UrlPath<String>,
    Query(query): Query<HashMap<String, String>>,
    content: Bytes,
) -> Response {
    if let Some(refusal) = shared.store.refusal(&query) {
        return refusal;
    }
    if digest(&content) != wanted {
        return StatusCode::UNPROCESSABLE_ENTITY.into_response();
    }
    shared.store.put(&content);
    StatusCode::CREATED.into_response()
}
