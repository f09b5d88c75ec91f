//! What the API server said when it refused a pool's pods: quota, admission, a wrong field. In memory.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// The last refusal for each pool, by UID.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<HashMap<String, String>>);

impl Refusals {
    /// Records the outcome of making pods.
    pub fn set(&self, pool_uid: &str, refusal: Option<String>) {
        let mut refusals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match refusal {
            Some(refusal) => refusals.insert(pool_uid.to_owned(), refusal),
            None => refusals.remove(pool_uid),
        };
    }

    /// The last refusal, if the last try was refused.
    #[must_use]
    pub fn get(&self, pool_uid: &str) -> Option<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(pool_uid)
            .cloned()
    }
}
