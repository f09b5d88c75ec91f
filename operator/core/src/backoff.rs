//! How long something that failed is left alone.

use std::time::Duration;

use jiff::SignedDuration;

/// The wait of a [`Backoff`] after the first failure, and the longest one.
const FIRST: SignedDuration = SignedDuration::from_millis(50);
const LONGEST: SignedDuration = SignedDuration::from_mins(1);

/// The wait after so many failures in a row: `first` after one, twice as long after each further one, at most `longest`.
#[must_use]
pub fn exponential(
    first: SignedDuration,
    failures: u32,
    longest: SignedDuration,
) -> SignedDuration {
    let doublings = failures.saturating_sub(1).min(30);
    first
        .checked_mul(1 << doublings)
        .map_or(longest, |wait| wait.min(longest))
}

/// The failures in a row of requests about one object, and until when it is left alone, in monotonic time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    failures: u32,
    until: Option<Duration>,
}

impl Backoff {
    /// One more failure; until when to wait.
    pub fn failed(&mut self, now: Duration) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let wait = exponential(FIRST, self.failures, LONGEST);
        let until = now.saturating_add(wait.unsigned_abs());
        self.until = Some(until);
        until
    }

    pub fn succeeded(&mut self) {
        *self = Backoff::default();
    }

    /// Until when to wait, if that is not over.
    #[must_use]
    pub fn waits(&self, now: Duration) -> Option<Duration> {
        self.until.filter(|until| *until > now)
    }

    /// Failures in a row.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_a_minute_and_starts_anew_after_a_success() {
        let mut backoff = Backoff::default();
        let now = Duration::from_secs(7);
        let wait = |until: Duration| until.as_millis() - 7000;
        assert_eq!(wait(backoff.failed(now)), 50);
        assert_eq!(wait(backoff.failed(now)), 100);
        for _ in 0..50 {
            assert!(wait(backoff.failed(now)) <= 60_000);
        }
        backoff.succeeded();
        assert_eq!(backoff.waits(now), None);
        assert_eq!(wait(backoff.failed(now)), 50);
    }
}
