//! Which presigned link of a status can be used, and when a new one is needed. No I/O and no clock.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::objects::owner::Files;

/// A link that expires sooner than this is not used.
const SOON: SignedDuration = SignedDuration::from_secs(120);

/// The link that a transfer needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// To upload the file with this digest.
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

/// Finds the link in a status.
pub(crate) fn choose(files: &Files, wanted: &Wanted, now: Timestamp) -> Choice {
    let usable = |link: &Option<String>, expires_at: &Option<Time>| match link {
        Some(link) if lasts(expires_at, now) => Choice::Found(Found::Link(link.clone())),
        Some(_) | None => Choice::Renew,
    };
    match wanted {
        Wanted::Upload(digest) => {
            // Files with the same digest are one upload. The first of them has the link.
            match files.uploads.iter().find(|file| file.digest == *digest) {
                Some(file) if file.is_received() => Choice::Found(Found::Received),
                Some(_) if files.over.is_some() => Choice::Unknown,
                Some(file) => usable(&file.link, &file.expires_at),
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
    use framewright_crds::aijob::{FileState, FileStatus};

    use super::*;

    #[test]
    fn a_link_that_expires_soon_is_renewed_first() {
        let choice = |expires_at| choose(&files(expires_at, FileState::Awaited), &wanted(), at(0));
        assert!(matches!(choice(Some(600)), Choice::Found(Found::Link(_))));
        assert!(matches!(choice(Some(60)), Choice::Renew));
        assert!(matches!(choice(None), Choice::Renew));
    }

    #[test]
    fn what_the_store_has_needs_no_link() {
        let received = files(None, FileState::Received);
        assert!(matches!(
            choose(&received, &wanted(), at(0)),
            Choice::Found(Found::Received)
        ));
    }

    #[test]
    fn files_with_the_same_digest_have_one_link() {
        let mut files = files(Some(600), FileState::Awaited);
        let second = FileStatus {
            name: "poster/video".into(),
            link: None,
            expires_at: None,
            ..files.uploads[0].clone()
        };
        files.uploads.push(second);
        assert!(matches!(
            choose(&files, &wanted(), at(0)),
            Choice::Found(Found::Link(_))
        ));
    }

    #[test]
    fn a_file_in_a_state_of_a_newer_version_is_still_uploaded() {
        let files = files(Some(600), FileState::Unknown);
        assert!(matches!(
            choose(&files, &wanted(), at(0)),
            Choice::Found(Found::Link(_))
        ));
    }

    #[test]
    fn a_job_that_is_over_takes_no_files() {
        let over = Files {
            over: Some("Failed".into()),
            ..files(Some(600), FileState::Awaited)
        };
        assert!(matches!(choose(&over, &wanted(), at(0)), Choice::Unknown));
    }

    fn wanted() -> Wanted {
        Wanted::Upload("sha256:a".into())
    }

    fn files(expires_at: Option<i64>, state: FileState) -> Files {
        Files {
            is_observed: true,
            uploads: vec![FileStatus {
                name: "large/video".into(),
                source: "upload".into(),
                state,
                digest: "sha256:a".into(),
                bytes: 1,
                link: expires_at.map(|_| "https://x/v1/a".into()),
                expires_at: expires_at.map(|second| Time(at(second))),
                message: None,
            }],
            ..Files::default()
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap_or_default()
    }
}
