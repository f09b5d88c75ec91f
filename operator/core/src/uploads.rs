//! The upload entries of a job's or pool's status: which files are waited for, and where they go. No I/O, no clock.

use std::collections::{BTreeMap, BTreeSet};

use framewright_crds::aijob::UploadStatus;
use framewright_crds::names::ANNOTATION_RENEW_LINKS;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// How long a link in a status works.
pub const LINK_LIFE: SignedDuration = SignedDuration::from_hours(24);
/// Links that a status has at one time: each weighs some 350 bytes, and a status must stay small.
const LINKS_AT_ONCE: usize = 8;

/// What is known about the uploads of one object.
pub struct Known<'a> {
    /// The entries that its status has now.
    pub old: &'a [UploadStatus],
    /// Digests that are in the store.
    pub received: &'a BTreeSet<String>,
    /// Whether somebody asked for new links.
    pub renew: bool,
    pub now: Timestamp,
}

/// One entry for each file, by digest; a link is kept until it ends, and goes when the file has come. Of many files the first ones
/// have links; the next ones get theirs as those come.
#[must_use]
pub fn entries<'a>(
    files: impl Iterator<Item = (&'a str, i64)>,
    known: &Known<'_>,
    sign: &dyn Fn(&str, i64, Timestamp) -> String,
) -> Vec<UploadStatus> {
    let mut entries: Vec<UploadStatus> = Vec::new();
    let mut links = 0;
    for (sha256, bytes) in files {
        if entries.iter().any(|other| other.sha256 == sha256) {
            continue;
        }
        let received = known.received.contains(sha256);
        let link = if received || links == LINKS_AT_ONCE {
            None
        } else {
            links += 1;
            link(sha256, bytes, known, sign)
        };
        let (link, expires_at) = link.unzip();
        entries.push(UploadStatus {
            sha256: sha256.to_owned(),
            bytes,
            received,
            link,
            expires_at,
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
        .checked_add(LINK_LIFE)
        .ok()
}

fn link(
    sha256: &str,
    bytes: i64,
    known: &Known<'_>,
    sign: &dyn Fn(&str, i64, Timestamp) -> String,
) -> Option<(String, Time)> {
    let old = known
        .old
        .iter()
        .find(|old| old.sha256 == sha256)
        .filter(|_| !known.renew);
    let valid = old
        .and_then(|old| Some((old.link.clone()?, old.expires_at.clone()?)))
        .filter(|(_, expires)| expires.0 > known.now);
    valid.or_else(|| {
        let expires = expiry(known.now)?;
        Some((sign(sha256, bytes, expires), Time(expires)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap_or_default()
    }

    fn check(old: &[UploadStatus], received: &[&str], renew: bool, now: i64) -> Vec<UploadStatus> {
        let received = received.iter().map(|&digest| digest.to_owned()).collect();
        let known = Known {
            old,
            received: &received,
            renew,
            now: at(now),
        };
        let sign =
            |sha256: &str, _: i64, expires: Timestamp| format!("{sha256}@{}", expires.as_second());
        entries([("a", 1), ("b", 2), ("a", 1)].into_iter(), &known, &sign)
    }

    #[test]
    fn a_settled_object_keeps_its_links_so_nothing_is_written() {
        let first = check(&[], &[], false, 0);
        assert_eq!(first.len(), 2);
        assert_eq!(check(&first, &[], false, 3600), first);
    }

    #[test]
    fn a_link_is_made_anew_when_it_ended_or_when_asked_for() {
        let first = check(&[], &[], false, 0);
        assert_ne!(check(&first, &[], false, 24 * 3600), first);
        assert_ne!(check(&first, &[], true, 60), first);
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
        let files = names.iter().map(|name| (name.as_str(), 1));
        let entries = entries(files, &known, &|sha256, _, _| sha256.to_owned());
        let linked: Vec<usize> = (0..20)
            .filter(|&index| entries[index].link.is_some())
            .collect();
        assert_eq!(linked, [1, 2, 4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn a_file_that_has_come_needs_no_link() {
        let entries = check(&[], &["a"], false, 0);
        assert!(entries[0].received && entries[0].link.is_none());
        assert!(!entries[1].received && entries[1].link.is_some());
    }
}
