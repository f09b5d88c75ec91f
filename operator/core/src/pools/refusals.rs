//! What the API server said when it refused a pool's pods: quota, admission, a wrong field. In memory.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

/// The wait after a first refusal; it doubles with each further one. What is refused for long is made within half a minute when the
/// cause is gone.
const FIRST_WAIT: SignedDuration = SignedDuration::from_secs(2);
const LONGEST_WAIT: SignedDuration = SignedDuration::from_secs(30);

/// The refusals in a row of each pool, by UID.
#[derive(Debug, Default)]
pub struct Refusals(HashMap<String, Refusal>);

/// The last refusal, if the last try was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub message: String,
    /// Of the pool's spec: another one is tried at once.
    pub generation: Option<i64>,
    /// Until then the same spec is not tried again.
    pub retry_at: Timestamp,
    in_a_row: u32,
}

impl Refusal {
    /// A first refusal.
    #[must_use]
    pub fn first(message: &str, generation: Option<i64>, now: Timestamp) -> Refusal {
        Refusal {
            message: message.to_owned(),
            generation,
            retry_at: now.saturating_add(FIRST_WAIT).unwrap_or(now),
            in_a_row: 1,
        }
    }

    /// One more, in a row.
    #[must_use]
    pub fn again(&self, message: &str, now: Timestamp) -> Refusal {
        let doublings = self.in_a_row.min(5);
        let wait = (FIRST_WAIT * (1 << doublings)).min(LONGEST_WAIT);
        Refusal {
            message: message.to_owned(),
            generation: self.generation,
            retry_at: now.saturating_add(wait).unwrap_or(now),
            in_a_row: self.in_a_row.saturating_add(1),
        }
    }

    /// Whether pods of this generation must wait.
    #[must_use]
    pub fn holds_back(&self, generation: Option<i64>, now: Timestamp) -> bool {
        // A clock that was set back makes no wait longer.
        let wait = self.retry_at.duration_since(now);
        self.generation == generation && wait.is_positive() && wait <= LONGEST_WAIT
    }
}

impl Refusals {
    /// One more refusal.
    pub fn add(&mut self, pool_uid: &str, message: &str, generation: Option<i64>, now: Timestamp) {
        let refusals = &mut self.0;
        let refusal = match refusals.get(pool_uid) {
            Some(last) if last.generation == generation => last.again(message, now),
            Some(_) | None => Refusal::first(message, generation, now),
        };
        refusals.insert(pool_uid.to_owned(), refusal);
    }

    /// Its pods are made, or none is missing.
    pub fn clear(&mut self, pool_uid: &str) {
        self.0.remove(pool_uid);
    }

    #[must_use]
    pub fn get(&self, pool_uid: &str) -> Option<Refusal> {
        self.0.get(pool_uid).cloned()
    }

    /// A pool is gone.
    pub fn forget_pool(&mut self, pool_uid: &str) {
        self.0.remove(pool_uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap_or_default()
    }

    #[test]
    fn the_wait_doubles_up_to_half_a_minute_and_another_spec_is_tried_at_once() {
        let mut refusals = Refusals::default();
        let mut waits = Vec::new();
        for _ in 0..7 {
            refusals.add("p", "quota", Some(1), at(0));
            let refusal = refusals.get("p").expect("it was refused");
            waits.push(refusal.retry_at.as_second());
            assert!(refusal.holds_back(Some(1), at(1)));
            assert!(!refusal.holds_back(Some(2), at(1)));
            assert!(!refusal.holds_back(Some(1), at(-3600)));
        }
        assert_eq!(waits, [2, 4, 8, 16, 30, 30, 30]);
        refusals.add("p", "quota", Some(2), at(0));
        let anew = refusals.get("p").expect("it was refused");
        assert_eq!(anew.retry_at, at(2));
    }
}
