//! Records: files that belong to no Kubernetes object and are never replaced, such as receipts and the segments of a ledger.
//!
//! A record is named `owner/folder/name`, as in `ledger/receipts/1f2e`. Its name is given once: to append the same bytes again is
//! harmless, and other bytes are refused. Nothing deletes a record: no object owns it, and the garbage collector sees artifacts
//! alone, which lie elsewhere on the volume. Links to records are signed with keys of their own, so whoever signs links to
//! artifacts cannot read or write them, and the other way round.
//!
//! # Layout
//! - this file: what a record is called
//! - `grant`: what a signed link to one says
//! - `server`: the store's end; it answers only if the store has keys for records
//! - `client`: appends, reads and lists

mod client;
mod grant;
pub(crate) mod server;

use std::fmt;

pub use client::RecordClient;
pub use grant::{RECORDS_PATH, RecordGrant, RecordVerb, sign, verify};

/// The largest record.
pub const RECORD_BYTES_MAX: u64 = 8 << 20;
/// Names in one answer to a list.
pub const NAMES_MAX: usize = 1000;

/// Where records of one kind lie: `owner/folder`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordFolder {
    owner: String,
    folder: String,
}

/// One record: `owner/folder/name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordKey {
    folder: RecordFolder,
    name: String,
}

/// A text that cannot be part of a record's key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRecordKey {
    #[error("owner {0:?} is not 1 to 63 of a-z, 0-9 and '-'")]
    Owner(String),
    #[error("folder {0:?} is not 1 to 63 of a-z, 0-9 and '-'")]
    Folder(String),
    #[error(
        "name {0:?} is not 1 to 128 of a-z, 0-9, '-', '_' and '.', with a letter or digit first"
    )]
    Name(String),
    #[error("{0:?} is not owner/folder/name")]
    Shape(String),
}

impl RecordFolder {
    /// # Errors
    /// `BadRecordKey` that names the part that is wrong.
    pub fn new(owner: &str, folder: &str) -> Result<RecordFolder, BadRecordKey> {
        if !crate::key::is_label(owner) {
            return Err(BadRecordKey::Owner(crate::key::shortened(owner)));
        }
        if !crate::key::is_label(folder) {
            return Err(BadRecordKey::Folder(crate::key::shortened(folder)));
        }
        Ok(RecordFolder {
            owner: owner.to_owned(),
            folder: folder.to_owned(),
        })
    }

    /// Reads `owner/folder`.
    ///
    /// # Errors
    /// `BadRecordKey` that names the part that is wrong.
    pub fn parse(text: &str) -> Result<RecordFolder, BadRecordKey> {
        match text.split_once('/') {
            Some((owner, folder)) => RecordFolder::new(owner, folder),
            None => Err(BadRecordKey::Shape(crate::key::shortened(text))),
        }
    }
}

impl RecordKey {
    /// # Errors
    /// `BadRecordKey::Name`.
    pub fn new(folder: RecordFolder, name: &str) -> Result<RecordKey, BadRecordKey> {
        if !is_name(name) {
            return Err(BadRecordKey::Name(crate::key::shortened(name)));
        }
        Ok(RecordKey {
            folder,
            name: name.to_owned(),
        })
    }

    /// Reads `owner/folder/name`.
    ///
    /// # Errors
    /// `BadRecordKey` that names the part that is wrong.
    pub fn parse(text: &str) -> Result<RecordKey, BadRecordKey> {
        match text.rsplit_once('/') {
            Some((folder, name)) => RecordKey::new(RecordFolder::parse(folder)?, name),
            None => Err(BadRecordKey::Shape(crate::key::shortened(text))),
        }
    }

    #[must_use]
    pub fn folder(&self) -> &RecordFolder {
        &self.folder
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for RecordFolder {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RecordFolder { owner, folder } = self;
        write!(out, "{owner}/{folder}")
    }
}

impl fmt::Display for RecordKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RecordKey { folder, name } = self;
        write!(out, "{folder}/{name}")
    }
}

/// No name leaves its folder, hides, or looks like an unfinished upload.
fn is_name(text: &str) -> bool {
    let is_inner = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
    (1..=128).contains(&text.len())
        && text.as_bytes()[0].is_ascii_alphanumeric()
        && text.bytes().all(is_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_text_form() {
        for text in ["ledger/receipts/0b5c-11", "ledger/journal/000001.jsonl"] {
            let key = RecordKey::parse(text).expect("a good key");
            assert_eq!(key.to_string(), text);
        }
    }

    #[test]
    fn a_key_cannot_leave_its_folder() {
        for text in [
            "",
            "receipts",
            "ledger/receipts",
            "ledger/receipts/",
            "ledger//a",
            "/receipts/a",
            "../receipts/a",
            "ledger/../a",
            "ledger/receipts/..",
            "ledger/receipts/.a",
            "ledger/receipts/-a",
            "ledger/receipts/a/b",
            "ledger/receipts/a#1",
            "ledger/receipts/A",
            "ledger/receipts/a b",
        ] {
            assert!(RecordKey::parse(text).is_err(), "{text}");
        }
        let long = "a".repeat(129);
        assert!(RecordKey::parse(&format!("ledger/receipts/{long}")).is_err());
    }
}
