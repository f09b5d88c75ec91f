//! Which presigned link of a status can be used, and when a new one is needed. No I/O and no clock.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::objects::owner::Files;

/// A link that expires sooner than this is not used.
const SOON: SignedDuration = SignedDuration::from_secs(120);

/// The link that a transfer needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// To upload the file with this SHA-256.
    Upload(String),
    /// To download the result of this name.
    Output(String),
}

/// The answer to [`Wanted`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The file is in the store already.
    Received,
    /// The link.
    Link(String),
}

/// What a status has for [`Wanted`].
pub(crate) enum Choice {
    Found(Found),
    /// The link is missing or expires soon.
    Renew,
    /// The status does not have the file.
    Unknown,
}

/// Looks the link up in a status.
pub(crate) fn choose(files: &Files, wanted: &Wanted, now: Timestamp) -> Choice {
    let usable = |link: &Option<String>, expires_at: &Option<Time>| match link {
        Some(link) if lasts(expires_at, now) => Choice::Found(Found::Link(link.clone())),
        Some(_) | None => Choice::Renew,
    };
    match wanted {
        Wanted::Upload(sha256) => {
            match files.uploads.iter().find(|upload| upload.sha256 == *sha256) {
                Some(upload) if upload.received => Choice::Found(Found::Received),
                Some(_) if files.over.is_some() => Choice::Unknown,
                Some(upload) => usable(&upload.link, &upload.expires_at),
                None => Choice::Unknown,
            }
        }
        Wanted::Output(name) => match files.outputs.iter().find(|output| output.name == *name) {
            Some(output) => usable(&output.link, &output.expires_at),
            None => Choice::Unknown,
        },
    }
}

fn lasts(expires_at: &Option<Time>, now: Timestamp) -> bool {
    expires_at
        .as_ref()
        .is_none_or(|end| end.0.duration_since(now) > SOON)
}

#[cfg(test)]
mod tests {
    use framewright_crds::aijob::UploadStatus;

    use super::*;

    #[test]
    fn a_link_that_ends_soon_is_renewed_first() {
        let wanted = Wanted::Upload("a".into());
        assert!(matches!(
            choose(&files(Some(600), false), &wanted, at(0)),
            Choice::Found(Found::Link(_))
        ));
        assert!(matches!(
            choose(&files(Some(60), false), &wanted, at(0)),
            Choice::Renew
        ));
        assert!(matches!(
            choose(&files(None, false), &wanted, at(0)),
            Choice::Renew
        ));
    }

    #[test]
    fn what_the_store_has_needs_no_link() {
        let wanted = Wanted::Upload("a".into());
        assert!(matches!(
            choose(&files(None, true), &wanted, at(0)),
            Choice::Found(Found::Received)
        ));
    }

    #[test]
    fn a_job_that_is_over_takes_no_files() {
        let over = Files {
            over: Some("Failed".into()),
            ..files(Some(600), false)
        };
        assert!(matches!(
            choose(&over, &Wanted::Upload("a".into()), at(0)),
            Choice::Unknown
        ));
    }

    fn files(ends: Option<i64>, received: bool) -> Files {
        Files {
            is_observed: true,
            uploads: vec![UploadStatus {
                sha256: "a".into(),
                bytes: 1,
                received,
                link: ends.map(|_| "https://x/v1/a".into()),
                expires_at: ends.map(|second| Time(at(second))),
            }],
            ..Files::default()
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap_or_default()
    }
}
