//! Which worker pods are being deleted, or were a moment ago: what happened to their work is nobody's failure. In memory, since a pod
//! that is gone tells nothing any more.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};

/// How long a deletion is remembered; longer than a pod's grace, which a pool's template may set to a day.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(25);

/// By the pods' UIDs, when their deletion was first seen.
#[derive(Debug, Default)]
pub struct Leaving(Mutex<HashMap<String, Timestamp>>);

impl Leaving {
    /// Somebody has asked for the pod's deletion.
    pub fn note(&self, pod_uid: &str, now: Timestamp) {
        self.lock().entry(pod_uid.to_owned()).or_insert(now);
    }

    /// Whether its deletion was asked for.
    #[must_use]
    pub fn has(&self, pod_uid: &str) -> bool {
        self.lock().contains_key(pod_uid)
    }

    /// Forgets pods that are long gone.
    pub fn forget_old(&self, now: Timestamp) {
        self.lock()
            .retain(|_, since| now.duration_since(*since) < REMEMBERED);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Timestamp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
