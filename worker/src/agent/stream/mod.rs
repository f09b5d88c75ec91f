//! Keeps one stream to the operator open: dials, sends and receives, and dials again.
//!
//! # Guarantees
//! Every wait has a deadline. Messages of one connection never leave on another: each has its own [`Line`], which ends with it.
//!
//! *Layout*: `conversation` is one connection, `error` why it ended.

mod conversation;
mod error;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use framewright_crds::protocol::{MESSAGE_LIMIT, OperatorMessage, WorkerMessage};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream};

use super::backoff::{Backoff, random};
use super::trust::Trust;
use crate::error_chain::error_chain;
use conversation::converse;
use error::{ErrorLog, StreamError};

const DIAL_DEADLINE: Duration = Duration::from_secs(10);
const REDIAL: Backoff = Backoff {
    first: Duration::from_millis(200),
    most: Duration::from_secs(5),
};
/// Between a refusal and the next try: 10 to 60 seconds.
const REFUSED: Backoff = Backoff {
    first: Duration::from_secs(20),
    most: Duration::from_secs(60),
};

/// A stream that was open for so long is dialled again at once when it breaks.
const STEADY: Duration = Duration::from_secs(1);

/// Where the operator is and how to prove oneself.
#[derive(Clone, Debug)]
pub(super) struct Dialer {
    /// `wss://host:port/v1/stream`.
    pub(super) operator: String,
    /// The file with the projected token; read at each dial, since it is replaced before it ends.
    pub(super) token_file: PathBuf,
    /// Whose certificates count.
    pub(super) trust: Trust,
}

/// The way to speak on one connection. Dropping it closes the connection.
pub(super) type Line = mpsc::Sender<WorkerMessage>;

/// What happens to the stream.
#[derive(Debug)]
pub(super) enum StreamEvent {
    /// A connection is open.
    Open(Line),
    /// A message of the operator has come.
    Received(Box<OperatorMessage>),
    /// The connection is gone.
    Closed,
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Keeps the stream until nobody takes its events any more.
pub(super) async fn keep(dialer: Dialer, events: mpsc::Sender<StreamEvent>) {
    let mut failures: u32 = 0;
    let mut error_log = ErrorLog::default();
    loop {
        let mut was_configured = false;
        let dialled = Instant::now();
        let error = match dialer.dial().await {
            Ok(socket) => converse(socket, &events, &mut was_configured).await,
            Err(error) => error,
        };
        if matches!(error, StreamError::Ended) || events.is_closed() {
            return;
        }
        // A Configure that the worker could not take, from a former leader for example, is no success.
        let was_steady = was_configured && dialled.elapsed() >= STEADY;
        failures = if was_steady { 1 } else { failures + 1 };
        error_log.log(&error_chain(&error), was_configured);
        let backoff = if matches!(error, StreamError::Refused { .. }) {
            REFUSED
        } else {
            REDIAL
        };
        tokio::time::sleep(backoff.wait(failures, random())).await;
    }
}

impl Dialer {
    async fn dial(&self) -> Result<Socket, StreamError> {
        let operator = || self.operator.clone();
        let dial = |source| StreamError::Dial {
            operator: operator(),
            source: Box::new(source),
        };
        let mut request = self.operator.as_str().into_client_request().map_err(dial)?;
        let token = self.authorization()?;
        request.headers_mut().insert(header::AUTHORIZATION, token);
        let tls = self
            .trust
            .tls()
            .map_err(|source| StreamError::Trust { source })?;
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
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(tungstenite::Error::Http(response))) => Err(StreamError::Status {
                operator: operator(),
                status: response.status().as_u16(),
                said: said(response.body().as_deref()),
            }),
            Ok(Err(source)) => Err(dial(source)),
            Err(_) => Err(StreamError::DialDeadline {
                operator: operator(),
            }),
        }
    }

    fn authorization(&self) -> Result<HeaderValue, StreamError> {
        let path = || self.token_file.clone();
        let token = fs::read_to_string(&self.token_file).map_err(|source| StreamError::Token {
            path: path(),
            source,
        })?;
        let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim()))
            .map_err(|_| StreamError::TokenText { path: path() })?;
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
