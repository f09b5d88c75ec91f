//! When a transfer counts as broken, and what follows: the same again, a new link, or the end.

use std::time::Duration;

use tokio::time::{Instant, interval};

use crate::told::screen::Meter;
use crate::transfers::store::Error;

/// How often a transfer is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long the store may verify and sync what it has got.
const VERIFY: Duration = Duration::from_secs(300);

/// Failures in a row, without a byte between them, that end a transfer.
const FAILURES: u32 = 6;
/// Links that one transfer may use up.
const LINKS: u32 = 5;

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    AgainAfter(Duration),
    NewLink,
    Stop,
}

/// What a transfer has been through.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Patience {
    failures: u32,
    links: u32,
}

impl Patience {
    /// `has_moved`: whether bytes that count came through since the last failure.
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

/// The work's result, unless nothing moves on its meter for `limit`.
pub(crate) async fn unless_stalled<Work: Future>(
    meter: &Meter,
    limit: Duration,
    work: Work,
) -> Result<Work::Output, Error> {
    let mut work = std::pin::pin!(work);
    let mut look = interval(LOOK);
    let mut moved = meter.position();
    let mut since = Instant::now();
    loop {
        tokio::select! {
            output = &mut work => return Ok(output),
            _ = look.tick() => {}
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
            // Keys rotate, so a signature that was right can become wrong.
            (403, "Expired" | "WrongSignature") => Class::Link,
            (408 | 429 | 500..=506 | 508.., _) | (_, "Broken") => Class::Again,
            (_, _) => Class::Stop,
        },
        Error::Find(error) | Error::Forward(error) if error.is_final() => Class::Stop,
        Error::Find(_)
        | Error::Forward(_)
        // Between two pods of a store that restarts there is none.
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
        let mut patience = Patience::default();
        let all: Vec<Next> = (0..6)
            .map(|_| patience.after(&refused(403, "Expired"), false))
            .collect();
        assert_eq!(all[..5], [Next::NewLink; 5]);
        assert_eq!(all[5], Next::Stop);
    }

    #[test]
    fn a_store_that_is_away_is_asked_again_later_and_later() {
        let mut patience = Patience::default();
        let error = Error::NotReady {
            namespace: "a".into(),
            pod: "b".into(),
        };
        let all: Vec<Next> = (0..6).map(|_| patience.after(&error, false)).collect();
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
    fn progress_makes_patient_again() {
        let mut patience = Patience::default();
        for _ in 0..20 {
            let next = patience.after(&Error::Stalled { seconds: 60 }, true);
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
                Patience::default().after(&error, false),
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
