//! When a transfer counts as stalled, and what follows an error: a retry, a new link, or the end.

use std::time::Duration;

use tokio::time::{Instant, interval};

use crate::screen::Meter;
use crate::transfers::store::Error;

/// How often the progress of a transfer is checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How long the store may take to verify and sync a file.
const VERIFY: Duration = Duration::from_secs(300);

/// Failures in a row without progress that end a transfer.
const FAILURES: u32 = 6;
/// New links that one transfer may ask for.
const LINKS: u32 = 5;

/// What to do after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Retry after a pause.
    AgainAfter(Duration),
    /// Retry with a new link.
    NewLink,
    /// Give up.
    Stop,
}

/// The retries of a transfer so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Retries {
    failures: u32,
    links: u32,
}

impl Retries {
    /// What follows this error. `has_moved`: whether the transfer has made progress since the last error.
    pub(crate) fn after(&mut self, error: &Error, has_moved: bool) -> Next {
        if has_moved {
            self.failures = 0;
        }
        match class(error) {
            Class::Again if self.failures + 1 < FAILURES => {
                self.failures += 1;
                Next::AgainAfter(Duration::from_secs(1 << self.failures.min(4)))
            }
            Class::Link if self.links < LINKS => {
                self.links += 1;
                Next::NewLink
            }
            Class::Again | Class::Link | Class::Stop => Next::Stop,
        }
    }
}

/// Runs `work`. It is an error if the meter makes no progress for `limit`.
pub(crate) async fn unless_stalled<Work: Future>(
    meter: &Meter,
    limit: Duration,
    work: Work,
) -> Result<Work::Output, Error> {
    let mut work = std::pin::pin!(work);
    let mut check = interval(CHECK_INTERVAL);
    let mut moved = meter.position();
    let mut since = Instant::now();
    loop {
        tokio::select! {
            output = &mut work => return Ok(output),
            _ = check.tick() => {}
        }
        if meter.position() != moved {
            moved = meter.position();
            since = Instant::now();
        }
        let limit = if meter.is_complete() { VERIFY } else { limit };
        if since.elapsed() >= limit {
            return Err(Error::Stalled {
                seconds: limit.as_secs(),
            });
        }
    }
}

/// Whether an error is temporary.
enum Class {
    Again,
    Link,
    Stop,
}

fn class(error: &Error) -> Class {
    match error {
        Error::Refused {
            status,
            reason,
            message: _,
        } => match (*status, reason.as_str()) {
            // The store's keys rotate, so a valid signature can become invalid.
            (403, "Expired" | "WrongSignature") => Class::Link,
            (408 | 429 | 500..=506 | 508.., _) | (_, "Broken") => Class::Again,
            (_, _) => Class::Stop,
        },
        Error::Find(error) | Error::Forward(error) if error.is_final() => Class::Stop,
        Error::Find(_)
        | Error::Forward(_)
        // While the store restarts it has no pod.
        | Error::NoPod { .. }
        | Error::NotReady { .. }
        | Error::Port(_)
        | Error::Slow
        | Error::Http(_)
        | Error::Stalled { .. } => Class::Again,
        Error::Forbidden { .. }
        | Error::Link(_)
        | Error::Request(_)
        | Error::ReadFile { .. }
        | Error::WriteFile { .. }
        | Error::Unexpected(_) => Class::Stop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_ended_is_renewed_and_not_for_ever() {
        let mut retries = Retries::default();
        let all: Vec<Next> = (0..6)
            .map(|_| retries.after(&refused(403, "Expired"), false))
            .collect();
        assert_eq!(all[..5], [Next::NewLink; 5]);
        assert_eq!(all[5], Next::Stop);
    }

    #[test]
    fn a_store_that_is_away_is_asked_again_later_and_later() {
        let mut retries = Retries::default();
        let error = Error::NotReady {
            namespace: "a".into(),
            pod: "b".into(),
        };
        let all: Vec<Next> = (0..6).map(|_| retries.after(&error, false)).collect();
        let seconds = |seconds| Next::AgainAfter(Duration::from_secs(seconds));
        assert_eq!(
            all,
            [
                seconds(2),
                seconds(4),
                seconds(8),
                seconds(16),
                seconds(16),
                Next::Stop
            ]
        );
    }

    #[test]
    fn progress_resets_the_failures() {
        let mut retries = Retries::default();
        for _ in 0..20 {
            let next = retries.after(&Error::Stalled { seconds: 60 }, true);
            assert_eq!(next, Next::AgainAfter(Duration::from_secs(2)));
        }
    }

    #[test]
    fn a_refusal_that_stays_the_same_ends_at_once() {
        for error in [
            refused(422, "DigestMismatch"),
            refused(507, "StoreFull"),
            refused(404, "NotFound"),
            refused(403, "NotAllowed"),
        ] {
            assert_eq!(
                Retries::default().after(&error, false),
                Next::Stop,
                "{error}"
            );
        }
    }

    fn refused(status: u16, reason: &str) -> Error {
        Error::Refused {
            status,
            reason: reason.into(),
            message: String::new(),
        }
    }
}
