//! Why there is no stream, or no longer one, and how often that is logged.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use framewright_crds::protocol::PROTOCOLS;
use tokio_tungstenite::tungstenite;
use tracing::warn;

use super::DIAL_DEADLINE;
use super::conversation::{SEND_DEADLINE, SILENCE};
use crate::agent::trust::TrustError;

/// The same error is logged again after this long.
const LOG_AGAIN: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
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
        "the operator sent something that is not a message of protocol {} to {}",
        PROTOCOLS[0],
        PROTOCOLS[1]
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

/// Logs each error once, and again when it lasts.
#[derive(Debug, Default)]
pub(super) struct ErrorLog {
    last: Option<(String, Instant)>,
}

impl ErrorLog {
    pub(super) fn log(&mut self, error: &str, is_new: bool) {
        let is_known = self
            .last
            .as_ref()
            .is_some_and(|(last, at)| last == error && at.elapsed() < LOG_AGAIN);
        if is_known && !is_new {
            return;
        }
        warn!("no stream to the operator, tries again: {error}");
        self.last = Some((error.to_owned(), Instant::now()));
    }
}
