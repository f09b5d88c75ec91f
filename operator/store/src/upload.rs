//! Takes the bytes of one artifact: exactly those that the grant names, or none.
//!
//! Flow: a slot, then room on the volume, then bytes into an upload that nobody sees, hashed on the way, then size and digest
//! compared, then made visible.
//! Guarantees: what is visible is complete, verified and synced to disk. Whatever ends an upload early leaves nothing visible.
//! Assumptions: the volume has one store at a time, which clears at its start what a killed one left.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::http::{HeaderMap, header};
use futures::StreamExt;
use object_store::{MultipartUpload, PutPayload};
use ring::digest;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{info, warn};

use super::answers::Stored;
use super::backend::{self, Backend, BackendError};
use super::error::Refusal;
use super::key::ArtifactKey;
use super::pace::{Pace, SLOWEST};
use super::routes::Store;
use super::volume::Room;

/// How long the rest of a refused body is read and thrown away, because a sender that is cut off rarely sees the answer.
const DRAIN: Duration = Duration::from_secs(10);

/// What the grant allows.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub key: ArtifactKey,
    pub bytes: u64,
    pub media_type: String,
}

/// How an upload ended well.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub stored: Stored,
    pub is_new: bool,
}

/// Runs to its end even when the sender goes away, so that an upload is always either completed or aborted.
pub(crate) async fn receive(
    store: Arc<Store>,
    expected: Expected,
    headers: HeaderMap,
    body: Body,
) -> Result<Received, Refusal> {
    let receiving = tokio::spawn(async move {
        let mut body = body.into_data_stream();
        let result = receive_here(&store, &expected, &headers, &mut body).await;
        if result.as_ref().is_err_and(may_still_send) {
            drain(&mut body).await;
        }
        result
    });
    match receiving.await {
        Ok(result) => result,
        Err(stopped) => Err(Refusal::Backend {
            source: BackendError::Volume {
                operation: "finish an upload",
                source: std::io::Error::other(stopped),
            },
        }),
    }
}

/// Whether the sender of a refused body is at it.
fn may_still_send(refusal: &Refusal) -> bool {
    !matches!(
        refusal,
        Refusal::Broken { .. }
            | Refusal::Stalled { .. }
            | Refusal::Crawls { .. }
            | Refusal::TooSlow { .. }
    )
}

/// Reads on for a moment and throws away what comes.
pub(crate) async fn drain(body: &mut BodyDataStream) {
    let rest = async { while let Some(Ok(_)) = body.next().await {} };
    // Whoever still sends after that is cut off.
    let _ = timeout(DRAIN, rest).await;
}

async fn receive_here(
    store: &Store,
    expected: &Expected,
    headers: &HeaderMap,
    body: &mut BodyDataStream,
) -> Result<Received, Refusal> {
    check_headers(expected, headers)?;
    let Some(_slot) = store.upload_slots.take(&expected.key).await else {
        return Err(Refusal::Busy);
    };
    let began = Instant::now();
    let is_there = store.backend.size(&expected.key).await? == Some(expected.bytes);
    let mut sink = if is_there {
        Sink::Known
    } else {
        Sink::New {
            room: store.backend.promise(expected.bytes).await?,
            upload: store.backend.begin(&expected.key).await?,
            part: Vec::new(),
            part_bytes: store.backend.part_bytes(),
        }
    };
    let clock = Clock::new(store.upload_idle, expected.bytes, began);
    let outcome = match copy(expected, body, &mut sink, &clock).await {
        Ok(()) => sink.finish(&store.backend, &expected.key, &clock).await,
        Err(refusal) => Err(refusal),
    };
    if let Err(refusal) = outcome {
        sink.abort(&store.backend, &expected.key).await;
        return Err(refusal);
    }
    let settled = async { Ok(store.backend.settle(&expected.key).await?) };
    clock.bound(settled).await?;
    let Expected { key, bytes, .. } = expected;
    let milliseconds = began.elapsed().as_millis();
    info!(artifact = %key, bytes, milliseconds, is_new = !is_there, "artifact received");
    Ok(Received {
        stored: Stored {
            sha256: key.sha256().to_owned(),
            bytes: *bytes,
        },
        is_new: !is_there,
    })
}

/// What can be refused before a byte is read.
fn check_headers(expected: &Expected, headers: &HeaderMap) -> Result<(), Refusal> {
    let Expected {
        key: _,
        bytes: granted,
        media_type,
    } = expected;
    let granted = *granted;
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    if let Some(sent) = text(header::CONTENT_TYPE).filter(|sent| sent != media_type) {
        return Err(Refusal::MediaType {
            granted: media_type.clone(),
            sent: sent.to_owned(),
        });
    }
    match text(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok()) {
        Some(sent) if sent > granted => Err(Refusal::TooLarge { granted, sent }),
        Some(sent) if sent < granted => Err(Refusal::TooSmall { granted, sent }),
        Some(_) | None => Ok(()),
    }
}

/// Copies and hashes; succeeds when size and digest are those of the grant.
async fn copy(
    expected: &Expected,
    body: &mut BodyDataStream,
    sink: &mut Sink,
    clock: &Clock,
) -> Result<(), Refusal> {
    let granted = expected.bytes;
    let mut received: u64 = 0;
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut pace = Pace::new(clock.idle);
    loop {
        let waits_since = Instant::now();
        let Some(chunk) = clock.next(body).await? else {
            break;
        };
        let Ok(chunk) = chunk else {
            return Err(Refusal::Broken { granted, received });
        };
        received += chunk.len() as u64;
        if received > granted {
            return Err(Refusal::TooLarge {
                granted,
                sent: received,
            });
        }
        if !pace.is_kept(waits_since.elapsed(), chunk.len() as u64) && received < granted {
            return Err(Refusal::Crawls {
                seconds: clock.idle.as_secs(),
            });
        }
        hash.update(&chunk);
        clock.bound(sink.write(&chunk)).await?;
    }
    if received < granted {
        return Err(Refusal::TooSmall {
            granted,
            sent: received,
        });
    }
    let digest = hex::encode(hash.finish());
    if digest != expected.key.sha256() {
        return Err(Refusal::Digest {
            granted: expected.key.sha256().to_owned(),
            received: digest,
        });
    }
    Ok(())
}

/// Where the bytes go.
enum Sink {
    /// Nowhere: the artifact is there. They are still hashed, so that the answer is true for what was sent.
    Known,
    New {
        room: Option<Room>,
        upload: Box<dyn MultipartUpload>,
        part: Vec<u8>,
        part_bytes: usize,
    },
}

impl Sink {
    async fn write(&mut self, chunk: &Bytes) -> Result<(), Refusal> {
        let Sink::New {
            room,
            upload,
            part,
            part_bytes,
        } = self
        else {
            return Ok(());
        };
        part.extend_from_slice(chunk);
        if part.len() >= *part_bytes {
            put(upload, std::mem::take(part), room).await?;
            part.reserve(*part_bytes);
        }
        Ok(())
    }

    /// Makes the artifact visible.
    async fn finish(
        &mut self,
        backend: &Backend,
        key: &ArtifactKey,
        clock: &Clock,
    ) -> Result<(), Refusal> {
        let Sink::New {
            room, upload, part, ..
        } = self
        else {
            return Ok(());
        };
        clock
            .bound(async {
                if !part.is_empty() {
                    put(upload, std::mem::take(part), room).await?;
                }
                Ok(backend.complete(key, upload).await?)
            })
            .await
    }

    async fn abort(&mut self, backend: &Backend, key: &ArtifactKey) {
        let Sink::New { upload, .. } = self else {
            return;
        };
        let aborting = async {
            // An upload whose completion failed is no longer known to itself, and its file may be what fills the volume.
            match upload.abort().await {
                Ok(()) => Ok(()),
                Err(_) => backend.discard(key).await,
            }
        };
        match timeout(DRAIN, aborting).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(
                error = &error as &dyn std::error::Error,
                "cannot clear a broken upload; the sweep will"
            ),
            Err(_) => warn!("cannot clear a broken upload in time; the sweep will"),
        }
    }
}

async fn put(
    upload: &mut Box<dyn MultipartUpload>,
    part: Vec<u8>,
    room: &mut Option<Room>,
) -> Result<(), BackendError> {
    let length = part.len() as u64;
    upload
        .put_part(PutPayload::from(part))
        .await
        .map_err(|source| backend::failed("write to the volume", source))?;
    if let Some(room) = room {
        room.written(length);
    }
    Ok(())
}

/// The two deadlines of an upload: between two pieces, and over all. [`Pace`] looks at what is in between.
struct Clock {
    idle: Duration,
    allowed: Duration,
    end: Instant,
}

impl Clock {
    fn new(idle: Duration, bytes: u64, began: Instant) -> Clock {
        let allowed = 2 * idle + Duration::from_secs(bytes / SLOWEST);
        Clock {
            idle,
            allowed,
            end: began + allowed,
        }
    }

    async fn next(
        &self,
        body: &mut BodyDataStream,
    ) -> Result<Option<Result<Bytes, axum::Error>>, Refusal> {
        let next = timeout(self.idle, body.next());
        match timeout_at(self.end, next).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(_)) => Err(Refusal::Stalled {
                seconds: self.idle.as_secs(),
            }),
            Err(_) => Err(self.too_slow()),
        }
    }

    async fn bound<T>(&self, work: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
        match timeout_at(self.end, work).await {
            Ok(result) => result,
            Err(_) => Err(self.too_slow()),
        }
    }

    fn too_slow(&self) -> Refusal {
        Refusal::TooSlow {
            seconds: self.allowed.as_secs(),
        }
    }
}
