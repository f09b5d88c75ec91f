//! Is the other end of a transfer fast enough? Counted over each window of waiting for it, so that neither a byte now and then nor
//! a fast beginning holds a place for hours. Pure.

use std::time::Duration;

/// The slowest transfer that is waited for, in bytes per second.
pub(crate) const SLOWEST: u64 = 16 << 10;

/// What came in the window that is open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    window: Duration,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// `window` is the time of waiting over which the rate counts.
    pub(crate) fn new(window: Duration) -> Pace {
        Pace {
            window,
            waited: Duration::ZERO,
            bytes: 0,
        }
    }

    /// Takes in that so many bytes moved after so long a wait; whether that is still fast enough.
    pub(crate) fn is_kept(&mut self, waited: Duration, bytes: u64) -> bool {
        self.waited += waited;
        self.bytes += bytes;
        if self.waited < self.window {
            return true;
        }
        let is_kept = self.bytes >= SLOWEST * self.waited.as_secs();
        (self.waited, self.bytes) = (Duration::ZERO, 0);
        is_kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seconds of waiting after which a transfer that moves so many bytes each so many seconds ends, of an hour.
    fn ends_after(seconds: u64, bytes: u64) -> Option<u64> {
        let mut pace = Pace::new(Duration::from_secs(60));
        (1..=3600 / seconds)
            .find(|_| !pace.is_kept(Duration::from_secs(seconds), bytes))
            .map(|round| round * seconds)
    }

    #[test]
    fn a_byte_now_and_then_is_too_slow_and_the_slowest_rate_is_not() {
        assert_eq!(ends_after(59, 1), Some(118));
        assert_eq!(ends_after(1, SLOWEST - 1), Some(60));
        assert_eq!(ends_after(1, SLOWEST), None);
        assert_eq!(ends_after(59, 59 * SLOWEST), None);
    }

    #[test]
    fn a_fast_beginning_earns_no_slow_end() {
        let mut pace = Pace::new(Duration::from_secs(60));
        assert!(pace.is_kept(Duration::from_secs(60), 1 << 40));
        assert!(pace.is_kept(Duration::from_secs(59), 1));
        assert!(!pace.is_kept(Duration::from_secs(1), 1));
    }
}
