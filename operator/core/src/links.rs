//! Presigned links: who signs them, how long they work, and the entries of `status.files`, which have the links for uploads. No I/O, no
//! clock.

use std::collections::{BTreeMap, BTreeSet};

use framewright_crds::aijob::{FileState, FileStatus, OutputStatus};
use framewright_crds::names::{ANNOTATION_RENEW_LINKS, ArtifactRole, OwnerKind, bare};
use framewright_crds::protocol::OutputFile;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

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

/// Links that a status has at one time: each weighs some 350 bytes, and a status must stay small.
const LINKS_AT_ONCE: usize = 8;
/// The source of a file that somebody uploads.
const UPLOAD: &str = "upload";

/// A file that an object's spec names.
pub struct Wanted<'a> {
    /// step/input or model/path.
    pub name: String,
    pub digest: &'a str,
    pub bytes: i64,
}

/// What is known about the files of one object.
pub struct Known<'a> {
    /// The entries that its status has now.
    pub old: &'a [FileStatus],
    /// SHA-256 of those that are in the store.
    pub received: &'a BTreeSet<String>,
    /// Whether somebody asked for new links.
    pub renew: bool,
    pub now: Timestamp,
}

/// One entry for each file, by name. Files with one digest are one upload, whose link the first of them has; it is kept until it ends,
/// and goes when the file has come. Of many files the first ones have links; the next ones get theirs as those come.
#[must_use]
pub fn entries<'a>(
    files: impl Iterator<Item = Wanted<'a>>,
    known: &Known<'_>,
    sign: &dyn Fn(&str, i64, Timestamp) -> String,
) -> Vec<FileStatus> {
    let mut entries: Vec<FileStatus> = Vec::new();
    let mut first: BTreeMap<&str, String> = BTreeMap::new();
    let mut links = 0;
    for Wanted {
        name,
        digest,
        bytes,
    } in files
    {
        let same = first.get(digest);
        let is_received = known.received.contains(bare(digest));
        let link = if is_received || links == LINKS_AT_ONCE || same.is_some() {
            None
        } else {
            links += 1;
            link(digest, bytes, known, sign)
        };
        let (link, expires_at) = link.unzip();
        let message = same
            .filter(|_| !is_received)
            .map(|same| format!("the same file as {same}, which has the link"));
        let state = if is_received {
            FileState::Received
        } else {
            FileState::Awaited
        };
        first.entry(digest).or_insert_with(|| name.clone());
        entries.push(FileStatus {
            name,
            source: UPLOAD.to_owned(),
            state,
            digest: digest.to_owned(),
            bytes,
            link,
            expires_at,
            message,
        });
    }
    entries
}

/// The value of the annotation that asks for new links; of a long one its start, since the status repeats it.
#[must_use]
pub fn renewal(annotations: &BTreeMap<String, String>) -> Option<String> {
    let value = annotations.get(ANNOTATION_RENEW_LINKS)?;
    Some(value.chars().take(63).collect())
}

/// Whether new links were asked for and not made yet, by the annotation's value and the one that the status has answered.
#[must_use]
pub fn is_renewal_due(asked: Option<&str>, answered: Option<&str>) -> bool {
    asked.is_some() && asked != answered
}

/// When a link made now ends: whole seconds, as links count them.
#[must_use]
pub fn expiry(now: Timestamp) -> Option<Timestamp> {
    Timestamp::from_second(now.as_second())
        .ok()?
        .checked_add(STATUS_LINK_LIFE)
        .ok()
}

fn link(
    digest: &str,
    bytes: i64,
    known: &Known<'_>,
    sign: &dyn Fn(&str, i64, Timestamp) -> String,
) -> Option<(String, Time)> {
    let old = known
        .old
        .iter()
        .find(|old| old.digest == digest && old.bytes == bytes && old.link.is_some())
        .filter(|_| !known.renew);
    let valid = old
        .and_then(|old| Some((old.link.clone()?, old.expires_at.clone()?)))
        .filter(|(_, expires)| expires.0 > known.now);
    valid.or_else(|| {
        let expires = expiry(known.now)?;
        Some((sign(bare(digest), bytes, expires), Time(expires)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap_or_default()
    }

    fn wanted<'a>(files: &[(&str, &'a str)]) -> Vec<Wanted<'a>> {
        let files = files.iter();
        let files = files.map(|&(name, digest)| Wanted {
            name: name.to_owned(),
            digest,
            bytes: 1,
        });
        files.collect()
    }

    fn check(old: &[FileStatus], received: &[&str], renew: bool, now: i64) -> Vec<FileStatus> {
        let received = received.iter().map(|&digest| digest.to_owned()).collect();
        let known = Known {
            old,
            received: &received,
            renew,
            now: at(now),
        };
        let sign =
            |sha256: &str, _: i64, expires: Timestamp| format!("{sha256}@{}", expires.as_second());
        let files = wanted(&[
            ("one", "sha256:a"),
            ("two", "sha256:b"),
            ("again", "sha256:a"),
        ]);
        entries(files.into_iter(), &known, &sign)
    }

    #[test]
    fn a_settled_object_keeps_its_links_so_nothing_is_written() {
        let first = check(&[], &[], false, 0);
        assert_eq!(first.len(), 3);
        assert_eq!(check(&first, &[], false, 3600), first);
    }

    #[test]
    fn a_new_link_is_made_when_the_old_one_ended_or_when_asked_for() {
        let first = check(&[], &[], false, 0);
        assert_ne!(check(&first, &[], false, 24 * 3600), first);
        assert_ne!(check(&first, &[], true, 60), first);
    }

    #[test]
    fn files_with_one_digest_are_one_upload() {
        let entries = check(&[], &[], false, 0);
        assert_eq!(entries[0].link.as_deref(), Some("a@86400"));
        assert_eq!(entries[2].link, None);
        let said = entries[2].message.as_deref();
        assert_eq!(said, Some("the same file as one, which has the link"));
        let entries = check(&entries, &["a"], false, 0);
        assert!(entries[0].is_received() && entries[2].is_received());
        assert_eq!(entries[2].message, None);
    }

    #[test]
    fn of_many_files_the_first_that_have_not_come_have_links() {
        let names: Vec<String> = (0..20).map(|index| format!("{index}")).collect();
        let received = BTreeSet::from(["0".to_owned(), "3".to_owned()]);
        let known = Known {
            old: &[],
            received: &received,
            renew: false,
            now: at(0),
        };
        let files: Vec<(&str, &str)> = names
            .iter()
            .map(|name| (name.as_str(), name.as_str()))
            .collect();
        let files = wanted(&files);
        let entries = entries(files.into_iter(), &known, &|sha256, _, _| sha256.to_owned());
        let linked: Vec<usize> = (0..20)
            .filter(|&index| entries[index].link.is_some())
            .collect();
        assert_eq!(linked, [1, 2, 4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn a_file_that_has_come_needs_no_link() {
        let entries = check(&[], &["a"], false, 0);
        assert!(entries[0].is_received() && entries[0].link.is_none());
        assert!(!entries[1].is_received() && entries[1].link.is_some());
    }
}
