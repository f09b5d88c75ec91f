//! Bytes between the worker and the store: down into a file, verified by digest and size while they stream, and up from one.
//!
//! Links carry signatures, so no error and no log line here holds one.

mod error;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use framewright_crds::protocol::OutputFile;
use futures::{StreamExt, TryStreamExt};
use reqwest::{Client, ClientBuilder, Response, header, redirect};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::io::ReaderStream;

use crate::agent::trust::Trust;
pub use error::{Remedy, StoreError, is_full};
use error::{unreachable, writing};

const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// How long nothing may move.
const IDLE: Duration = Duration::from_secs(30);
/// From the last byte sent to the answer: the store verifies and makes the file durable.
const ANSWER: Duration = Duration::from_secs(120);
/// Refusals are short; more is not read.
const PROBLEM_LIMIT: usize = 16 << 10;
/// Pieces that wait to be written.
const WAITING_PIECES: usize = 16;

/// The store, as a worker sees it.
#[derive(Clone, Debug)]
pub struct Store {
    trust: Trust,
    /// How long nothing may move, on the way down or up.
    idle: Duration,
    /// How long the answer to a whole upload may take.
    answer: Duration,
}

/// The refusals that the store words itself.
#[derive(Deserialize)]
struct Problem {
    message: String,
}

impl Store {
    /// A store whose certificate `trust` vouches for.
    #[must_use]
    pub fn new(trust: Trust) -> Store {
        Store {
            trust,
            idle: IDLE,
            answer: ANSWER,
        }
    }

    /// Gets what has this digest and size into the file at `path`, which is replaced, and removed again on failure.
    ///
    /// # Errors
    /// See [`StoreError::remedy`].
    pub async fn get(
        &self,
        url: &str,
        sha256: &str,
        bytes: u64,
        path: &Path,
    ) -> Result<(), StoreError> {
        let got = self.receive(url, sha256, bytes, path).await;
        if got.is_err() {
            let _ = tokio::fs::remove_file(path).await;
        }
        got
    }

    async fn receive(
        &self,
        url: &str,
        sha256: &str,
        bytes: u64,
        path: &Path,
    ) -> Result<(), StoreError> {
        // A file that is there may have its size already, as a reservation.
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|source| writing(path, source))?;
        let client = self.client(|client| client.read_timeout(self.idle))?;
        let request = client.get(url).send();
        let mut body = accepted(request.await.map_err(unreachable)?)
            .await?
            .bytes_stream();
        let (pieces, mut coming) = mpsc::channel::<Bytes>(WAITING_PIECES);
        let writing_thread = tokio::task::spawn_blocking(move || {
            while let Some(piece) = coming.blocking_recv() {
                file.write_all(&piece)?;
            }
            io::Result::Ok(())
        });
        let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
        let mut found = 0;
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(unreachable)?;
            found += piece.len() as u64;
            if found > bytes {
                break;
            }
            digest.update(&piece);
            if pieces.send(piece).await.is_err() {
                break;
            }
        }
        drop(pieces);
        writing_thread
            .await
            .map_err(io::Error::other)
            .flatten()
            .map_err(|source| writing(path, source))?;
        if found != bytes {
            return Err(StoreError::Size {
                found,
                expected: bytes,
            });
        }
        let digest = hex::encode(digest.finish());
        if digest != sha256 {
            return Err(StoreError::Digest {
                found: digest,
                expected: sha256.to_owned(),
            });
        }
        Ok(())
    }

    /// Sends the file at `path`, which is this output.
    ///
    /// # Errors
    /// See [`StoreError::remedy`].
    pub async fn put(&self, url: &str, output: &OutputFile, path: &Path) -> Result<(), StoreError> {
        let file = tokio::fs::File::open(path)
            .await
            .map_err(|source| StoreError::Read {
                path: path.into(),
                source,
            })?;
        let sent = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&sent);
        let body = ReaderStream::with_capacity(file, 256 << 10).inspect_ok(move |piece| {
            counter.fetch_add(piece.len() as u64, Ordering::Relaxed);
        });
        // No read timeout, which would run from the first byte sent: [`Store::stall`] looks whether bytes go out.
        let request = self
            .client(|client| client)?
            .put(url)
            .header(header::CONTENT_TYPE, &output.media_type)
            .header(header::CONTENT_LENGTH, output.bytes)
            .body(reqwest::Body::wrap_stream(body))
            .send();
        let all = u64::try_from(output.bytes).unwrap_or(0);
        let answered = tokio::select! {
            answered = request => answered.map_err(unreachable)?,
            error = self.stall(&sent, all) => return Err(error),
        };
        accepted(answered).await.map(|_| ())
    }

    /// Made anew for each transfer, so that a replaced certificate authority counts from the next one on.
    fn client(
        &self,
        limits: impl FnOnce(ClientBuilder) -> ClientBuilder,
    ) -> Result<Client, StoreError> {
        let tls = self
            .trust
            .tls()
            .map_err(|source| StoreError::Trust { source })?;
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            .no_proxy()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_DEADLINE);
        limits(client).build().map_err(|source| StoreError::Client {
            source: source.without_url(),
        })
    }

    /// Returns when an upload does not move any more.
    async fn stall(&self, sent: &AtomicU64, all: u64) -> StoreError {
        let mut last = 0;
        loop {
            let is_sent = last >= all;
            let deadline = if is_sent { self.answer } else { self.idle };
            tokio::time::sleep(deadline).await;
            let now = sent.load(Ordering::Relaxed);
            match (now == last, is_sent) {
                (true, true) => return StoreError::NoAnswer(deadline),
                (true, false) => return StoreError::Stalled(deadline),
                (false, _) => last = now,
            }
        }
    }
}

/// The answer if it is a good one, otherwise what it says.
async fn accepted(answer: Response) -> Result<Response, StoreError> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let mut body = Vec::new();
    let mut pieces = answer.bytes_stream();
    while let Ok(Some(Ok(piece))) = timeout(IDLE, pieces.next()).await {
        body.extend_from_slice(&piece);
        if body.len() > PROBLEM_LIMIT {
            break;
        }
    }
    let message = serde_json::from_slice::<Problem>(&body)
        .map_or_else(|_| "no reason given".to_owned(), |problem| problem.message);
    let message = message.chars().take(300).collect();
    Err(StoreError::Refused { status, message })
}
