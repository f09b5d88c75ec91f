//! How long an object that failed is left alone: 50 ms at first, twice as long each time, at most a minute.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Failures in a row, by object.
#[derive(Debug, Default)]
pub struct Backoff(Mutex<HashMap<String, u32>>);

impl Backoff {
    /// One more failure; how long to wait.
    pub fn failed(&self, key: &str) -> Duration {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(key.to_owned()).or_insert(0);
        *count = count.saturating_add(1);
        delay(*count)
    }

    /// It went well.
    pub fn succeeded(&self, key: &str) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key);
    }
}

fn delay(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(12);
    Duration::from_millis(50 << doublings).min(Duration::from_secs(60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_a_minute_and_starts_anew_after_a_success() {
        let backoff = Backoff::default();
        assert_eq!(backoff.failed("a"), Duration::from_millis(50));
        assert_eq!(backoff.failed("a"), Duration::from_millis(100));
        assert_eq!(backoff.failed("b"), Duration::from_millis(50));
        for _ in 0..50 {
            assert!(backoff.failed("a") <= Duration::from_secs(60));
        }
        backoff.succeeded("a");
        assert_eq!(backoff.failed("a"), Duration::from_millis(50));
    }
}
