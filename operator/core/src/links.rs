//! Presigned links: who signs them, whose artifacts they are about, and how long they work.

use framewright_crds::aijob::OutputStatus;
use framewright_crds::names::{ArtifactRole, OwnerKind};
use framewright_crds::protocol::OutputFile;
use jiff::{SignedDuration, Timestamp};

/// How long a link in a status works.
pub const STATUS_LINK_LIFE: SignedDuration = SignedDuration::from_hours(24);
/// How long a link works that a worker gets. It asks for a new one if it needs the file for longer.
pub const WORKER_LINK_LIFE: SignedDuration = SignedDuration::from_hours(6);

/// Makes links for statuses. Signing is pure: the same arguments give the same link.
pub trait Signer {
    /// Where to PUT these bytes.
    fn upload(&self, at: &Place<'_>, sha256: &str, bytes: i64, expires: Timestamp) -> String;
    /// Where to GET this artifact, to be saved under this name.
    fn download(
        &self,
        at: &Place<'_>,
        artifact: &OutputStatus,
        file_name: &str,
        expires: Timestamp,
    ) -> String;
    /// Where a worker GETs an artifact, by its role and SHA-256; none if the names cannot be part of a key.
    fn worker_get(
        &self,
        at: &Place<'_>,
        artifact: (ArtifactRole, &str),
        expires: Timestamp,
    ) -> Option<String>;
    /// Where a worker PUTs its output; none if the names cannot be part of a key.
    fn worker_put(&self, at: &Place<'_>, output: &OutputFile, expires: Timestamp)
    -> Option<String>;
}

/// Whose artifact it is.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub namespace: &'a str,
    pub kind: OwnerKind,
    pub uid: &'a str,
}
