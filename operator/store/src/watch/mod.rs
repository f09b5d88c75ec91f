//! One stream on which the store says which files are there, so that nobody has to poll.
//!
//! A client sends the keys that it waits for. The store answers each key at once, `present` with its size or missing, and again
//! whenever that changes, until the client no longer waits for it. To send a key again asks again. A client sends all its keys
//! when it connects and once a minute: a change that the store did not see costs a minute, such as one that another process has
//! made on the same volume.
//!
//! It is a WebSocket on the same listeners as everything else, opened with a link of the verb `watch`.
//!
//! # Layout
//! - this file: the messages
//! - `server`: the store's end
//! - `client`: the operator's end; `wishes`: what it waits for and what it was told

mod client;
pub(crate) mod server;
mod wishes;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::answers::Problem;

pub use client::{FileWatch, WatchTimes};
pub use wishes::{FileEvent, FileEvents, FileWatchHandle};

/// The largest message that the store reads.
pub const MESSAGE_LIMIT: usize = 256 << 10;
/// Keys in one message of our client. The longest key has some 220 bytes.
const KEYS_PER_MESSAGE: usize = 500;
/// How long the other end may take to accept one message.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// What the client says. Both lists hold keys as text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchRequest {
    /// Answer these now, and whenever they change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub watch: Vec<String>,
    /// Say nothing more of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unwatch: Vec<String>,
}

/// What the store says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchAnswer {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileState>,
    /// Why the store closes the stream after this message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// Whether one file is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileState {
    pub key: String,
    /// Its size; none if it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}
