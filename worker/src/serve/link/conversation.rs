//! What is said and heard on one connection, until it ends?

use std::time::Duration;

use framewright_crds::wire::{Order, SILENCE_SECONDS, ToOperator, ToWorker};
use futures::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{self, Message};
use tracing::info;

use super::error::LinkError;
use super::{LinkEvent, Stream};

pub(super) const SEND_DEADLINE: Duration = Duration::from_secs(20);
pub(super) const SILENCE: Duration = Duration::from_secs(SILENCE_SECONDS);
/// Messages that may wait to be sent; a connection on which more wait is as good as dead.
const WAITING_MESSAGES: usize = 256;

/// Carries messages until the connection ends; says why it did.
pub(super) async fn converse(
    mut stream: Stream,
    events: &mpsc::Sender<LinkEvent>,
    was_welcomed: &mut bool,
) -> LinkError {
    let (line, mut to_say) = mpsc::channel(WAITING_MESSAGES);
    if events.send(LinkEvent::Open(line)).await.is_err() {
        return LinkError::Ended;
    }
    let ending = exchange(&mut stream, &mut to_say, events, was_welcomed).await;
    let _ = timeout(Duration::from_secs(1), stream.close(None)).await;
    if events.send(LinkEvent::Closed).await.is_err() {
        return LinkError::Ended;
    }
    ending
}

async fn exchange(
    stream: &mut Stream,
    to_say: &mut mpsc::Receiver<ToOperator>,
    events: &mpsc::Sender<LinkEvent>,
    was_welcomed: &mut bool,
) -> LinkError {
    let mut last_heard = tokio::time::Instant::now();
    loop {
        let step = tokio::select! {
            message = to_say.recv() => match message {
                Some(message) => say(stream, &message).await,
                None => Err(LinkError::Left),
            },
            heard = stream.next() => {
                last_heard = tokio::time::Instant::now();
                hear(stream, heard, events, was_welcomed).await
            }
            () = tokio::time::sleep_until(last_heard + SILENCE) => Err(LinkError::Silent),
        };
        if let Err(error) = step {
            return error;
        }
    }
}

async fn say(stream: &mut Stream, message: &ToOperator) -> Result<(), LinkError> {
    let text = serde_json::to_string(message).map_err(|source| LinkError::NoMessage { source })?;
    send(stream, Message::text(text)).await
}

async fn send(stream: &mut Stream, message: Message) -> Result<(), LinkError> {
    match timeout(SEND_DEADLINE, stream.send(message)).await {
        Ok(sent) => sent.map_err(broken),
        Err(_) => Err(LinkError::Stuck),
    }
}

async fn hear(
    stream: &mut Stream,
    heard: Option<Result<Message, tungstenite::Error>>,
    events: &mpsc::Sender<LinkEvent>,
    was_welcomed: &mut bool,
) -> Result<(), LinkError> {
    let message = match heard {
        Some(message) => message.map_err(broken)?,
        None => {
            return Err(LinkError::Closed {
                reason: String::new(),
            });
        }
    };
    let text = match message {
        Message::Text(text) => text,
        // The answer is queued by the library; it leaves with the next flush.
        Message::Ping(_) => {
            return match timeout(SEND_DEADLINE, stream.flush()).await {
                Ok(flushed) => flushed.map_err(broken),
                Err(_) => Err(LinkError::Stuck),
            };
        }
        Message::Pong(_) | Message::Binary(_) | Message::Frame(_) => return Ok(()),
        Message::Close(frame) => {
            let reason = frame.map_or_else(String::new, |frame| frame.reason.to_string());
            return Err(LinkError::Closed { reason });
        }
    };
    let order: ToWorker =
        serde_json::from_str(&text).map_err(|source| LinkError::NoMessage { source })?;
    match &order.order {
        Order::Refused { message } => {
            return Err(LinkError::Refused {
                message: message.clone(),
            });
        }
        Order::Welcome { .. } if !*was_welcomed => {
            *was_welcomed = true;
            info!(epoch = order.epoch, "connected to the operator");
        }
        Order::Welcome { .. }
        | Order::Run(_)
        | Order::Cancel { .. }
        | Order::Upload { .. }
        | Order::Settled { .. } => {}
    }
    events
        .send(LinkEvent::Heard(Box::new(order)))
        .await
        .map_err(|_| LinkError::Ended)
}

fn broken(source: tungstenite::Error) -> LinkError {
    LinkError::Broken {
        source: Box::new(source),
    }
}
