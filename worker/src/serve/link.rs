//! Keeps one stream to the operator open for ever: dials, listens, speaks, and dials again.
//!
//! # Guarantees
//! Every wait has a deadline. Messages of one connection never leave on another: each has its own [`Line`], which ends with it.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use framewright_crds::wire::{MESSAGE_LIMIT, Order, ToOperator, ToWorker};
use futures::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream};
use tracing::{info, warn};

use super::backoff::{Backoff, random};
use super::trust::{Trust, TrustError};
use crate::sentence::sentence;

const DIAL_DEADLINE: Duration = Duration::from_secs(10);
const SEND_DEADLINE: Duration = Duration::from_secs(20);
/// The operator pings every five seconds.
const SILENCE: Duration = Duration::from_secs(20);
const REDIAL: Backoff = Backoff {
    first: Duration::from_millis(200),
    most: Duration::from_secs(5),
};
/// Between a refusal and the next try: 10 to 60 seconds.
const REFUSED: Backoff = Backoff {
    first: Duration::from_secs(20),
    most: Duration::from_secs(60),
};
/// Messages that may wait to be sent; a connection on which more wait is as good as dead.
const WAITING_MESSAGES: usize = 256;
/// The same trouble is logged again after this long.
const LOG_AGAIN: Duration = Duration::from_secs(60);

/// Where the operator is and how to prove oneself.
#[derive(Clone, Debug)]
pub(super) struct Dialer {
    /// `wss://host:port/v1/link`.
    pub(super) operator: String,
    /// The file with the projected token; read at each dial, since it is replaced before it ends.
    pub(super) token_file: PathBuf,
    /// Whose certificates count.
    pub(super) trust: Trust,
}

/// The way to speak on one connection. Dropping it closes the connection.
pub(super) type Line = mpsc::Sender<ToOperator>;

/// What happens to the link.
#[derive(Debug)]
pub(super) enum LinkEvent {
    /// A connection is open.
    Open(Line),
    /// The operator spoke.
    Heard(Box<ToWorker>),
    /// The connection is gone.
    Closed,
}

#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("cannot read the token file {}", path.display())]
    Token {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the token in {} is no HTTP header value", path.display())]
    TokenText { path: PathBuf },
    #[error("no TLS without the operator's certificate authority")]
    Trust {
        #[source]
        source: TrustError,
    },
    #[error("{operator} does not answer within {} s", DIAL_DEADLINE.as_secs())]
    DialDeadline { operator: String },
    #[error("{operator} refuses the worker: HTTP {status} {said}")]
    Status {
        operator: String,
        status: u16,
        said: String,
    },
    #[error("cannot dial {operator}")]
    Dial {
        operator: String,
        #[source]
        source: Box<tungstenite::Error>,
    },
    #[error("the operator was silent for {} s", SILENCE.as_secs())]
    Silent,
    #[error("the operator took no message for {} s", SEND_DEADLINE.as_secs())]
    Stuck,
    #[error("the connection broke")]
    Broken {
        #[source]
        source: Box<tungstenite::Error>,
    },
    #[error("the operator closed the connection{}", if reason.is_empty() { String::new() } else { format!(": {reason}") })]
    Closed { reason: String },
    #[error(
        "the operator sent what is no message of protocol {}",
        framewright_crds::wire::PROTOCOL
    )]
    NoMessage {
        #[source]
        source: serde_json::Error,
    },
    #[error("the operator refuses the worker: {message}")]
    Refused { message: String },
    #[error("the stream was left, as its operator does not lead any more")]
    Left,
    #[error("the worker ends")]
    Ended,
}

type Stream = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Keeps the link until nobody takes its events any more.
pub(super) async fn keep(dialer: Dialer, events: mpsc::Sender<LinkEvent>) {
    let mut failures: u32 = 0;
    let mut complaint = Complaint::default();
    loop {
        let mut was_welcomed = false;
        let error = match dialer.dial().await {
            Ok(stream) => converse(stream, &events, &mut was_welcomed).await,
            Err(error) => error,
        };
        if matches!(error, LinkError::Ended) || events.is_closed() {
            return;
        }
        failures = if was_welcomed { 1 } else { failures + 1 };
        complaint.log(&sentence(&error), was_welcomed);
        let backoff = if matches!(error, LinkError::Refused { .. }) {
            REFUSED
        } else {
            REDIAL
        };
        tokio::time::sleep(backoff.wait(failures, random())).await;
    }
}

impl Dialer {
    async fn dial(&self) -> Result<Stream, LinkError> {
        let operator = || self.operator.clone();
        let dial = |source| LinkError::Dial {
            operator: operator(),
            source: Box::new(source),
        };
        let mut request = self.operator.as_str().into_client_request().map_err(dial)?;
        let token = self.authorization()?;
        request.headers_mut().insert(header::AUTHORIZATION, token);
        let tls = self
            .trust
            .tls()
            .map_err(|source| LinkError::Trust { source })?;
        let limits = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_LIMIT))
            .max_frame_size(Some(MESSAGE_LIMIT));
        let connector = Connector::Rustls(Arc::new(tls));
        let dialling = tokio_tungstenite::connect_async_tls_with_config(
            request,
            Some(limits),
            true,
            Some(connector),
        );
        match timeout(DIAL_DEADLINE, dialling).await {
            Ok(Ok((stream, _))) => Ok(stream),
            Ok(Err(tungstenite::Error::Http(response))) => Err(LinkError::Status {
                operator: operator(),
                status: response.status().as_u16(),
                said: said(response.body().as_deref()),
            }),
            Ok(Err(source)) => Err(dial(source)),
            Err(_) => Err(LinkError::DialDeadline {
                operator: operator(),
            }),
        }
    }

    fn authorization(&self) -> Result<HeaderValue, LinkError> {
        let path = || self.token_file.clone();
        let token = fs::read_to_string(&self.token_file).map_err(|source| LinkError::Token {
            path: path(),
            source,
        })?;
        let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim()))
            .map_err(|_| LinkError::TokenText { path: path() })?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// What an answer's body says, short and in one line.
fn said(body: Option<&[u8]>) -> String {
    let text = String::from_utf8_lossy(body.unwrap_or_default());
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    line.trim().chars().take(200).collect()
}

/// Carries messages until the connection ends; says why it did.
async fn converse(
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

/// Says each trouble once, and again when it lasts.
#[derive(Debug, Default)]
struct Complaint {
    last: Option<(String, Instant)>,
}

impl Complaint {
    fn log(&mut self, trouble: &str, is_new: bool) {
        let is_known = self
            .last
            .as_ref()
            .is_some_and(|(last, at)| last == trouble && at.elapsed() < LOG_AGAIN);
        if is_known && !is_new {
            return;
        }
        warn!("no stream to the operator, tries again: {trouble}");
        self.last = Some((trouble.to_owned(), Instant::now()));
    }
}
