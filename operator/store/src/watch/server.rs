//! The store's end of a watch stream.
//!
//! A change in the store says only which key has changed; the volume then says whether the file is there. So the last answer about
//! a key is never older than its last change, in whatever order changes and questions come.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::request::Parts;
use axum::response::Response;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::broadcast::{self, error::RecvError, error::TryRecvError};
use tokio::time::{Duration, Instant, sleep_until, timeout};
use tracing::{info, warn};

use super::{FileState, MESSAGE_LIMIT, SEND_TIMEOUT, WatchAnswer, WatchRequest};
use crate::answers::Problem;
use crate::error::Refusal;
use crate::key::ArtifactKey;
use crate::routes::Store;

/// Streams at the same time: each replica of the operator has one.
pub(crate) const STREAMS_MAX: usize = 16;
/// Keys that are looked up between two looks at what has changed.
const KEYS_AT_ONCE: usize = 64;
/// Questions to the volume at the same time, for one stream.
const LOOKUPS_AT_ONCE: usize = 16;
/// How long the volume may take for so many keys.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(20);

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the client closed it")]
    Closed,
    #[error("the store stops")]
    Stopping,
    #[error("the signing keys have changed")]
    KeysChanged,
    #[error("more files have changed than it could follow")]
    Lagged,
    #[error("the client said nothing for {seconds} s")]
    Silent { seconds: u64 },
    #[error("the client took no message for {} s", SEND_TIMEOUT.as_secs())]
    Stuck,
    #[error("the connection broke")]
    Broken { source: axum::Error },
    #[error("a message of the client was not understood")]
    NotUnderstood { source: serde_json::Error },
    #[error("the volume failed")]
    Volume { refusal: Refusal },
}

/// Answers the request that opens a stream.
pub(crate) async fn open(store: &Arc<Store>, parts: &mut Parts) -> Result<Response, Refusal> {
    let upgrade = WebSocketUpgrade::from_request_parts(parts, &())
        .await
        .map_err(|rejection| Refusal::NoWebSocket {
            what: rejection.to_string(),
        })?;
    let place = Arc::clone(&store.watch_streams)
        .try_acquire_owned()
        .map_err(|_| Refusal::Busy)?;
    let store = Arc::clone(store);
    Ok(upgrade
        .max_message_size(MESSAGE_LIMIT)
        .max_frame_size(MESSAGE_LIMIT)
        .on_upgrade(async move |mut socket| {
            let open = store.metrics.watch_streams.clone();
            open.inc();
            let mut watched = Watched::new(&store);
            let end = watched.serve(&mut socket).await;
            watched.say_goodbye(&mut socket, &end).await;
            open.dec();
            drop(place);
            info!(
                watched = watched.keys.len(),
                why = %framewright_crds::error_chain::error_chain(&end),
                "a watch stream ended"
            );
        }))
}

/// What one stream follows.
struct Watched<'a> {
    store: &'a Store,
    keys: HashSet<ArtifactKey>,
    /// Keys of the client's last message that are not answered yet.
    unanswered: VecDeque<ArtifactKey>,
    changes: broadcast::Receiver<ArtifactKey>,
    is_over_limit: bool,
}

/// What a stream does next.
enum Next {
    Changed(Result<ArtifactKey, RecvError>),
    Answer,
    Message(Option<Result<Message, axum::Error>>),
    Ends(End),
}

impl Watched<'_> {
    fn new(store: &Store) -> Watched<'_> {
        Watched {
            store,
            keys: HashSet::new(),
            unanswered: VecDeque::new(),
            changes: store.backend.changes(),
            is_over_limit: false,
        }
    }

    /// Answers until the stream ends.
    async fn serve(&mut self, socket: &mut WebSocket) -> End {
        let mut signing_keys = self.store.keys.clone();
        signing_keys.mark_unchanged();
        let silence = self.store.watch_idle;
        let mut heard_at = Instant::now();
        loop {
            let has_unanswered = !self.unanswered.is_empty();
            let next = tokio::select! {
                biased;
                () = self.store.stopping.cancelled() => Next::Ends(End::Stopping),
                _ = signing_keys.changed() => Next::Ends(End::KeysChanged),
                changed = self.changes.recv() => Next::Changed(changed),
                () = std::future::ready(()), if has_unanswered => Next::Answer,
                message = socket.recv() => Next::Message(message),
                () = sleep_until(heard_at + silence) => Next::Ends(End::Silent { seconds: silence.as_secs() }),
            };
            let done = match next {
                Next::Ends(end) => return end,
                Next::Changed(Ok(key)) => self.tell_changes(socket, key).await,
                Next::Changed(Err(RecvError::Lagged(_) | RecvError::Closed)) => Err(End::Lagged),
                Next::Answer => self.answer_some(socket).await,
                Next::Message(message) => {
                    heard_at = Instant::now();
                    self.take(socket, message).await
                }
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    async fn take(
        &mut self,
        socket: &mut WebSocket,
        message: Option<Result<Message, axum::Error>>,
    ) -> Result<(), End> {
        let text = match message {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Binary(_))) => return Ok(()),
            Some(Ok(Message::Close(_))) | None => return Err(End::Closed),
            Some(Err(source)) => return Err(End::Broken { source }),
        };
        let WatchRequest { watch, unwatch } =
            serde_json::from_str(&text).map_err(|source| End::NotUnderstood { source })?;
        for key in unwatch {
            if let Ok(key) = ArtifactKey::parse(&key) {
                self.keys.remove(&key);
            }
        }
        let mut impossible = Vec::new();
        for text in watch {
            match ArtifactKey::parse(&text) {
                Ok(key) => self.watch(key),
                Err(_) => impossible.push(FileState {
                    key: text,
                    bytes: None,
                }),
            }
        }
        if impossible.is_empty() {
            return Ok(());
        }
        send(socket, impossible).await
    }

    /// A key over the limit is answered whenever the client sends it, and not followed in between.
    fn watch(&mut self, key: ArtifactKey) {
        let limit = self.store.max_watched;
        if self.keys.len() < limit || self.keys.contains(&key) {
            self.keys.insert(key.clone());
        } else if !std::mem::replace(&mut self.is_over_limit, true) {
            warn!(
                limit,
                "a client watches more files than --max-watched; it learns of the others once a minute"
            );
        }
        self.unanswered.push_back(key);
    }

    async fn answer_some(&mut self, socket: &mut WebSocket) -> Result<(), End> {
        let count = self.unanswered.len().min(KEYS_AT_ONCE);
        let keys = self.unanswered.drain(..count).collect();
        self.tell(socket, keys).await
    }

    /// Takes the changes that wait together.
    async fn tell_changes(
        &mut self,
        socket: &mut WebSocket,
        first: ArtifactKey,
    ) -> Result<(), End> {
        let mut keys = vec![first];
        while keys.len() < KEYS_AT_ONCE {
            match self.changes.try_recv() {
                Ok(key) => keys.push(key),
                Err(TryRecvError::Lagged(_)) => return Err(End::Lagged),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        keys.retain(|key| self.keys.contains(key));
        if keys.is_empty() {
            return Ok(());
        }
        self.tell(socket, keys).await
    }

    async fn tell(&self, socket: &mut WebSocket, keys: Vec<ArtifactKey>) -> Result<(), End> {
        let lookups = stream::iter(keys)
            .map(async |key| {
                let bytes = self.store.backend.size(&key).await?;
                Ok::<_, Refusal>(FileState {
                    key: key.to_string(),
                    bytes,
                })
            })
            .buffered(LOOKUPS_AT_ONCE)
            .try_collect();
        let files = timeout(LOOKUP_TIMEOUT, lookups)
            .await
            .unwrap_or(Err(Refusal::Deadline {
                seconds: LOOKUP_TIMEOUT.as_secs(),
            }));
        match files {
            Ok(files) => send(socket, files).await,
            Err(refusal) => Err(End::Volume { refusal }),
        }
    }

    /// Says why the stream ends, if the client can hear it.
    async fn say_goodbye(&self, socket: &mut WebSocket, end: &End) {
        let problem = match end {
            End::Volume { refusal } => Some(refusal.problem()),
            End::NotUnderstood { source } => Some(Problem {
                reason: "NotUnderstood".to_owned(),
                message: format!("the store does not understand a message: {source}"),
            }),
            End::Stopping | End::KeysChanged | End::Lagged => None,
            End::Closed | End::Silent { .. } | End::Stuck | End::Broken { .. } => return,
        };
        let parting = async {
            if let Some(problem) = problem {
                let answer = WatchAnswer {
                    files: Vec::new(),
                    problem: Some(problem),
                };
                let _ = socket.send(text(&answer)).await;
            }
            // Fails where the client is gone already.
            let _ = socket.send(Message::Close(None)).await;
        };
        let _ = timeout(SEND_TIMEOUT, parting).await;
    }
}

async fn send(socket: &mut WebSocket, files: Vec<FileState>) -> Result<(), End> {
    let answer = WatchAnswer {
        files,
        problem: None,
    };
    match timeout(SEND_TIMEOUT, socket.send(text(&answer))).await {
        Ok(sent) => sent.map_err(|source| End::Broken { source }),
        Err(_) => Err(End::Stuck),
    }
}

fn text(answer: &WatchAnswer) -> Message {
    // Strings and numbers always become JSON.
    Message::Text(serde_json::to_string(answer).unwrap_or_default().into())
}
