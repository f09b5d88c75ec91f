//! Why did bytes not go through, and what is to be done about it?

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::StatusCode;

use crate::agent::trust::TrustError;

/// Why bytes did not go through.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("no TLS without the store's certificate authority")]
    Trust {
        #[source]
        source: TrustError,
    },
    #[error("no client for the store can be made")]
    Client {
        #[source]
        source: reqwest::Error,
    },
    #[error("the store cannot be reached")]
    Unreachable {
        #[source]
        source: reqwest::Error,
    },
    #[error("the store took nothing for {} s", .0.as_secs())]
    Stalled(Duration),
    #[error("the store did not answer within {} s", .0.as_secs())]
    NoAnswer(Duration),
    #[error("the store says {status}: {message}")]
    Refused { status: StatusCode, message: String },
    #[error("the store gave {found} bytes, {expected} were named")]
    Size { found: u64, expected: u64 },
    #[error("the store gave bytes with SHA-256 {found}, {expected} was named")]
    Digest { found: String, expected: String },
    #[error("no space is left for {}", path.display())]
    Full { path: PathBuf },
    #[error("cannot write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// What to do after a [`StoreError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Ask for a new link, then try again.
    Renew,
    /// Try again later.
    Wait,
    /// The worker's own disk is full.
    MakeRoom,
    /// Trying again is useless.
    GiveUp,
}

impl StoreError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            StoreError::Refused { status, .. } => match *status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Remedy::Renew,
                // Not there yet or not there any more: the operator knows, time will tell.
                StatusCode::NOT_FOUND
                | StatusCode::REQUEST_TIMEOUT
                | StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_REQUEST => Remedy::Wait,
                status if status.is_server_error() => Remedy::Wait,
                _ => Remedy::GiveUp,
            },
            StoreError::Trust { .. }
            | StoreError::Client { .. }
            | StoreError::Unreachable { .. }
            | StoreError::Stalled(_)
            | StoreError::NoAnswer(_)
            | StoreError::Size { .. }
            | StoreError::Digest { .. } => Remedy::Wait,
            StoreError::Full { .. } => Remedy::MakeRoom,
            StoreError::Write { .. } | StoreError::Read { .. } => Remedy::GiveUp,
        }
    }
}

pub(super) fn unreachable(source: reqwest::Error) -> StoreError {
    StoreError::Unreachable {
        source: source.without_url(),
    }
}

pub(super) fn writing(path: &Path, source: io::Error) -> StoreError {
    let path = path.into();
    if is_full(&source) {
        StoreError::Full { path }
    } else {
        StoreError::Write { path, source }
    }
}

/// Whether a disk or a quota is full.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16) -> Remedy {
        let status = StatusCode::from_u16(status).expect("a status");
        let message = String::new();
        StoreError::Refused { status, message }.remedy()
    }

    #[test]
    fn an_expired_link_is_renewed_and_a_full_store_waited_for() {
        assert_eq!(refused(403), Remedy::Renew);
        assert_eq!(refused(507), Remedy::Wait);
        assert_eq!(refused(503), Remedy::Wait);
        assert_eq!(refused(404), Remedy::Wait);
        assert_eq!(refused(413), Remedy::GiveUp);
        assert_eq!(refused(415), Remedy::GiveUp);
    }
}
