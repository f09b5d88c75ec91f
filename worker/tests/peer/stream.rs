//! The operator's end of a worker's stream.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::HeaderMap;
use axum::response::Response;
use framewright_crds::protocol::{Command, OperatorMessage, WorkerMessage};
use tokio::sync::mpsc;

use super::{Shared, within};

/// One worker's stream.
pub(crate) struct Stream {
    heard: mpsc::Receiver<WorkerMessage>,
    say: mpsc::Sender<Message>,
    pub(crate) token: String,
}

impl Stream {
    /// What the worker says next.
    pub(crate) async fn hear(&mut self) -> WorkerMessage {
        self.try_hear().await.expect("the stream is open")
    }

    /// The same, or nothing when the worker has closed the stream.
    pub(crate) async fn try_hear(&mut self) -> Option<WorkerMessage> {
        within(self.heard.recv()).await
    }

    /// Skips messages until one is as wanted.
    pub(crate) async fn hear_until<T>(
        &mut self,
        mut wanted: impl FnMut(WorkerMessage) -> Option<T>,
    ) -> T {
        loop {
            if let Some(found) = wanted(self.hear().await) {
                return found;
            }
        }
    }

    /// Sends this as the leader of epoch 1.
    pub(crate) async fn send(&self, command: Command) {
        self.send_in_epoch(1, command).await;
    }

    pub(crate) async fn send_in_epoch(&self, epoch: u64, command: Command) {
        let text = serde_json::to_string(&OperatorMessage { epoch, command }).unwrap();
        self.send_text(text).await;
    }

    /// Sends what no [`Command`] says.
    pub(crate) async fn send_text(&self, text: String) {
        let _ = self.say.send(Message::text(text)).await;
    }
}

pub(super) async fn open(
    State(shared): State<Shared>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let authorization = headers.get("authorization").unwrap().to_str().unwrap();
    let token = authorization.strip_prefix("Bearer ").unwrap().to_owned();
    upgrade.on_upgrade(move |socket| converse(socket, token, shared))
}

async fn converse(mut socket: WebSocket, token: String, shared: Shared) {
    let Shared { store, streams } = shared;
    let mut pings = tokio::time::interval(Duration::from_secs(5));
    let (say, mut to_say) = mpsc::channel(64);
    let (hearing, heard) = mpsc::channel(64);
    if streams.send(Stream { heard, say, token }).await.is_err() {
        return;
    }
    loop {
        tokio::select! {
            _ = pings.tick() => if !store.is_silent.load(Ordering::Relaxed) {
                let _ = socket.send(Message::Ping(Bytes::new())).await;
            },
            message = to_say.recv() => match message {
                Some(message) => if socket.send(message).await.is_err() { return },
                // The test has dropped its end: the connection breaks.
                None => return,
            },
            message = socket.recv() => match message {
                Some(Ok(Message::Text(text))) => {
                    let said = serde_json::from_str(&text).expect("a message");
                    if hearing.send(said).await.is_err() { return }
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
        }
    }
}
