//! What is said and heard on one connection, until it ends.

use std::time::Duration;

use framewright_crds::protocol::{Command, OperatorMessage, SILENCE_SECONDS, WorkerMessage};
use futures::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{self, Message};
use tracing::{info, warn};

use super::error::StreamError;
use super::{Socket, StreamEvent};

pub(super) const SEND_DEADLINE: Duration = Duration::from_secs(20);
pub(super) const SILENCE: Duration = Duration::from_secs(SILENCE_SECONDS);
/// Messages that may wait to be sent; a connection on which more wait is as good as dead.
const WAITING_MESSAGES: usize = 256;

/// Carries messages until the connection ends; says why it did.
pub(super) async fn converse(
    mut socket: Socket,
    events: &mpsc::Sender<StreamEvent>,
    was_configured: &mut bool,
) -> StreamError {
    let (line, mut to_say) = mpsc::channel(WAITING_MESSAGES);
    if events.send(StreamEvent::Open(line)).await.is_err() {
        return StreamError::Ended;
    }
    let ending = exchange(&mut socket, &mut to_say, events, was_configured).await;
    let _ = timeout(Duration::from_secs(1), socket.close(None)).await;
    if events.send(StreamEvent::Closed).await.is_err() {
        return StreamError::Ended;
    }
    ending
}

async fn exchange(
    socket: &mut Socket,
    to_say: &mut mpsc::Receiver<WorkerMessage>,
    events: &mpsc::Sender<StreamEvent>,
    was_configured: &mut bool,
) -> StreamError {
    let mut last_heard = tokio::time::Instant::now();
    loop {
        let step = tokio::select! {
            message = to_say.recv() => match message {
                Some(message) => say(socket, &message).await,
                None => Err(StreamError::Left),
            },
            heard = socket.next() => {
                last_heard = tokio::time::Instant::now();
                hear(socket, heard, events, was_configured).await
            }
            () = tokio::time::sleep_until(last_heard + SILENCE) => Err(StreamError::Silent),
        };
        if let Err(error) = step {
            return error;
        }
    }
}

async fn say(socket: &mut Socket, message: &WorkerMessage) -> Result<(), StreamError> {
    let text =
        serde_json::to_string(message).map_err(|source| StreamError::NoMessage { source })?;
    send(socket, Message::text(text)).await
}

async fn send(socket: &mut Socket, message: Message) -> Result<(), StreamError> {
    match timeout(SEND_DEADLINE, socket.send(message)).await {
        Ok(sent) => sent.map_err(broken),
        Err(_) => Err(StreamError::Stuck),
    }
}

async fn hear(
    socket: &mut Socket,
    heard: Option<Result<Message, tungstenite::Error>>,
    events: &mpsc::Sender<StreamEvent>,
    was_configured: &mut bool,
) -> Result<(), StreamError> {
    let message = match heard {
        Some(message) => message.map_err(broken)?,
        None => {
            return Err(StreamError::Closed {
                reason: String::new(),
            });
        }
    };
    let text = match message {
        Message::Text(text) => text,
        // The answer is queued by the library; it leaves with the next flush.
        Message::Ping(_) => {
            return match timeout(SEND_DEADLINE, socket.flush()).await {
                Ok(flushed) => flushed.map_err(broken),
                Err(_) => Err(StreamError::Stuck),
            };
        }
        Message::Pong(_) | Message::Binary(_) | Message::Frame(_) => return Ok(()),
        Message::Close(frame) => {
            let reason = frame.map_or_else(String::new, |frame| frame.reason.to_string());
            return Err(StreamError::Closed { reason });
        }
    };
    let message: OperatorMessage = match serde_json::from_str(&text) {
        Ok(message) => message,
        // It may be of a later version.
        Err(error) => {
            warn!(%error, "a command cannot be read, and is ignored");
            return Ok(());
        }
    };
    match &message.command {
        Command::Refused { message } => {
            return Err(StreamError::Refused {
                message: message.clone(),
            });
        }
        Command::Configure { .. } if !*was_configured => {
            *was_configured = true;
            info!(epoch = message.epoch, "connected to the operator");
        }
        Command::Configure { .. }
        | Command::Run(_)
        | Command::Proceed { .. }
        | Command::Cancel { .. }
        | Command::Upload { .. }
        | Command::Ack { .. }
        | Command::Unknown => {}
    }
    events
        .send(StreamEvent::Received(Box::new(message)))
        .await
        .map_err(|_| StreamError::Ended)
}

fn broken(source: tungstenite::Error) -> StreamError {
    StreamError::Broken {
        source: Box::new(source),
    }
}
