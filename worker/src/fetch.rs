//! Bytes between the worker and the store: down into a file, verified by digest and size while they stream, and up from one.
//!
//! Links carry signatures, so no error and no log line here holds one.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use framewright_crds::wire::OutputFile;
use futures::{StreamExt, TryStreamExt};
use reqwest::{Client, Response, StatusCode, header, redirect};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::io::ReaderStream;

use crate::serve::trust::{Trust, TrustError};

const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// Nothing came for so long.
const IDLE_DEADLINE: Duration = Duration::from_secs(30);
/// From the last byte sent to the answer: the store verifies and makes the file durable.
const ANSWER_DEADLINE: Duration = Duration::from_secs(120);
/// Refusals are short; more is not read.
const PROBLEM_LIMIT: usize = 16 << 10;
/// Pieces that wait to be written.
const WAITING_PIECES: usize = 16;

/// The store, as a worker sees it.
#[derive(Clone, Debug)]
pub struct Store {
    trust: Trust,
}

/// Why bytes did not go through.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("no TLS without the store's certificate authority")]
    Trust {
        #[source]
        source: TrustError,
    },
    #[error("no client for the store can be made")]
    Client {
        #[source]
        source: reqwest::Error,
    },
    #[error("the store cannot be reached")]
    Unreachable {
        #[source]
        source: reqwest::Error,
    },
    #[error("the store took nothing for {} s", IDLE_DEADLINE.as_secs())]
    Stalled,
    #[error("the store did not answer within {} s", ANSWER_DEADLINE.as_secs())]
    NoAnswer,
    #[error("the store says {status}: {message}")]
    Refused { status: StatusCode, message: String },
    #[error("the store gave {found} bytes, {expected} were named")]
    Size { found: u64, expected: u64 },
    #[error("the store gave bytes with SHA-256 {found}, {expected} was named")]
    Digest { found: String, expected: String },
    #[error("no space is left for {}", path.display())]
    Full { path: PathBuf },
    #[error("cannot write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// What to do after a [`StoreError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Ask for a new grant, then try again.
    Renew,
    /// Try again later.
    Wait,
    /// The worker's own disk is full.
    MakeRoom,
    /// Trying again is useless.
    GiveUp,
}

impl StoreError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            StoreError::Refused { status, .. } => match *status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Remedy::Renew,
                // Not there yet or not there any more: the operator knows, time will tell.
                StatusCode::NOT_FOUND
                | StatusCode::REQUEST_TIMEOUT
                | StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_REQUEST => Remedy::Wait,
                status if status.is_server_error() => Remedy::Wait,
                _ => Remedy::GiveUp,
            },
            StoreError::Trust { .. }
            | StoreError::Client { .. }
            | StoreError::Unreachable { .. }
            | StoreError::Stalled
            | StoreError::NoAnswer
            | StoreError::Size { .. }
            | StoreError::Digest { .. } => Remedy::Wait,
            StoreError::Full { .. } => Remedy::MakeRoom,
            StoreError::Write { .. } | StoreError::Read { .. } => Remedy::GiveUp,
        }
    }
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
        Store { trust }
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
        let file = File::create(path).map_err(|source| writing(path, source))?;
        let got = self.get_into(url, sha256, bytes, path, file).await;
        if got.is_err() {
            let _ = tokio::fs::remove_file(path).await;
        }
        got.map(drop)
    }

    /// Gets what has this digest and size into `to`, which is at `path`, and gives that back. It was verified while it came.
    ///
    /// # Errors
    /// See [`StoreError::remedy`].
    pub async fn get_into<W: Write + Send + 'static>(
        &self,
        url: &str,
        sha256: &str,
        bytes: u64,
        path: &Path,
        to: W,
    ) -> Result<W, StoreError> {
        let request = self.client(IDLE_DEADLINE)?.get(url).send();
        let mut body = accepted(request.await.map_err(unreachable)?)
            .await?
            .bytes_stream();
        let (pieces, mut coming) = mpsc::channel::<Bytes>(WAITING_PIECES);
        let writing_thread = tokio::task::spawn_blocking({
            let path = path.to_path_buf();
            move || {
                let mut to = to;
                while let Some(piece) = coming.blocking_recv() {
                    to.write_all(&piece)
                        .map_err(|source| writing(&path, source))?;
                }
                to.flush().map_err(|source| writing(&path, source))?;
                Ok::<W, StoreError>(to)
            }
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
        let written = writing_thread.await.map_err(|_| StoreError::Stalled)??;
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
        Ok(written)
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
        let request = self
            .client(ANSWER_DEADLINE)?
            .put(url)
            .header(header::CONTENT_TYPE, &output.media_type)
            .header(header::CONTENT_LENGTH, output.bytes)
            .body(reqwest::Body::wrap_stream(body))
            .send();
        let all = u64::try_from(output.bytes).unwrap_or(0);
        let answered = tokio::select! {
            answered = request => answered.map_err(unreachable)?,
            error = stall(&sent, all) => return Err(error),
        };
        accepted(answered).await.map(|_| ())
    }

    /// Made anew for each transfer, so that a replaced certificate authority counts from the next one on.
    fn client(&self, silence: Duration) -> Result<Client, StoreError> {
        let tls = self
            .trust
            .tls()
            .map_err(|source| StoreError::Trust { source })?;
        Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            .no_proxy()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_DEADLINE)
            .read_timeout(silence)
            .build()
            .map_err(|source| StoreError::Client {
                source: source.without_url(),
            })
    }
}

/// Returns when an upload does not move any more.
async fn stall(sent: &AtomicU64, all: u64) -> StoreError {
    let mut last = 0;
    loop {
        let deadline = if last < all {
            IDLE_DEADLINE
        } else {
            ANSWER_DEADLINE
        };
        tokio::time::sleep(deadline).await;
        let now = sent.load(Ordering::Relaxed);
        if now == last {
            return if last < all {
                StoreError::Stalled
            } else {
                StoreError::NoAnswer
            };
        }
        last = now;
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
    while let Ok(Some(Ok(piece))) = timeout(IDLE_DEADLINE, pieces.next()).await {
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

fn unreachable(source: reqwest::Error) -> StoreError {
    StoreError::Unreachable {
        source: source.without_url(),
    }
}

fn writing(path: &Path, source: io::Error) -> StoreError {
    let path = path.into();
    if is_full(&source) {
        StoreError::Full { path }
    } else {
        StoreError::Write { path, source }
    }
}

/// Whether a disk or a quota is full.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16) -> Remedy {
        let status = StatusCode::from_u16(status).expect("a status");
        let message = String::new();
        StoreError::Refused { status, message }.remedy()
    }

    #[test]
    fn an_ended_grant_is_renewed_and_a_full_store_waited_for() {
        assert_eq!(refused(403), Remedy::Renew);
        assert_eq!(refused(507), Remedy::Wait);
        assert_eq!(refused(503), Remedy::Wait);
        assert_eq!(refused(404), Remedy::Wait);
        assert_eq!(refused(413), Remedy::GiveUp);
        assert_eq!(refused(415), Remedy::GiveUp);
    }
}
