//! For how long has an upload been tried in vain? Time without an operator does not count: nobody else says where to upload to, and
//! nobody else could be told that it failed.

use std::time::{Duration, Instant};

/// Time that counts.
pub(super) struct Tried {
    so_far: Duration,
    until: Instant,
}

impl Tried {
    /// Nothing has been tried before this moment.
    pub(super) fn since(now: Instant) -> Tried {
        Tried {
            so_far: Duration::ZERO,
            until: now,
        }
    }

    /// After one more try that ended now, with an operator there or not.
    pub(super) fn until(&mut self, now: Instant, has_operator: bool) -> Duration {
        if has_operator {
            self.so_far += now.saturating_duration_since(self.until);
        }
        self.until = now;
        self.so_far
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_without_an_operator_does_not_count_and_an_hour_without_the_store_does() {
        let start = Instant::now();
        let minute = |minutes: u64| start + Duration::from_secs(60 * minutes);
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        let mut tried = Tried::since(start);
        assert_eq!(tried.until(minute(20), true), minutes(20));
        assert_eq!(tried.until(minute(20 + 24 * 60), false), minutes(20));
        assert_eq!(tried.until(minute(60 + 24 * 60), true), minutes(60));
    }
}
