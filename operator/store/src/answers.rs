//! What the store's answers look like on the wire, for the store and for its clients.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The body of every answer that is not 2xx, 304 or to a HEAD.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// One word for programs, such as `DigestMismatch`.
    pub reason: String,
    /// A sentence for people, with the way out.
    pub message: String,
}

/// The body after an upload: 201 when it is new, 200 when it was there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// 64 hexadecimal characters.
    pub sha256: String,
    pub bytes: u64,
}

/// The body after a delete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// How many artifacts are gone.
    pub artifacts: u64,
}

/// The body of a list of records: their names, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    pub names: Vec<String>,
}

/// The body of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owners {
    pub owners: Vec<OwnerUse>,
}

/// What one owner keeps in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerUse {
    /// `namespace/kind/uid`.
    pub owner: String,
    pub artifacts: u64,
    pub bytes: u64,
    /// When the last of them came.
    pub newest: Timestamp,
}
