//! Own writes that the cache may not show yet: a plan never works on a state older than what this process itself has written.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

/// How long a write is remembered; a watch that lags more than this is dead, and is restarted.
const REMEMBERED: SignedDuration = SignedDuration::from_mins(5);

/// The newest object that the API server returned for each UID.
#[derive(Debug)]
pub struct Recent<K> {
    writes: Mutex<HashMap<String, (Timestamp, K)>>,
}

impl<K> Default for Recent<K> {
    fn default() -> Self {
        Recent {
            writes: Mutex::new(HashMap::new()),
        }
    }
}

impl<K: ResourceExt + Clone> Recent<K> {
    /// Remembers what the API server returned for a write.
    pub fn wrote(&self, object: &K, now: Timestamp) {
        let Some(uid) = object.uid() else { return };
        self.lock().insert(uid, (now, object.clone()));
    }

    /// The newer one of the cached object and the own write.
    #[must_use]
    pub fn newest(&self, cached: &K) -> K {
        let Some(uid) = cached.uid() else {
            return cached.clone();
        };
        match self.lock().get(&uid) {
            Some((_, own)) if version(own) > version(cached) => own.clone(),
            Some(_) | None => cached.clone(),
        }
    }

    /// When the object was last written by this process.
    #[must_use]
    pub fn written_at(&self, uid: &str) -> Option<Timestamp> {
        self.lock().get(uid).map(|(at, _)| *at)
    }

    /// Forgets what every cache has long seen.
    pub fn forget_old(&self, now: Timestamp) {
        self.lock()
            .retain(|_, (at, _)| now.duration_since(*at) < REMEMBERED);
    }

    /// Forgets one object, since the API server knows better.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Timestamp, K)>> {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Resource versions are numbers that grow, and since Kubernetes 1.35 officially so (KEP-5504).
fn version<K: ResourceExt>(object: &K) -> u64 {
    object
        .resource_version()
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}
