//! What the API server itself has said and the cache may not show yet: a plan never works on a state older than what this process
//! has written or read live.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use kube_core::ResourceExt;

/// How long a write is remembered; a watch that lags more than this is dead, and is restarted.
const REMEMBERED: SignedDuration = SignedDuration::from_mins(5);

/// The newest object that the API server returned for each UID.
#[derive(Debug)]
pub struct Recent<K> {
    known: Mutex<HashMap<String, Known<K>>>,
}

#[derive(Debug)]
struct Known<K> {
    object: K,
    at: Timestamp,
    /// The epoch in which it was told.
    epoch: u64,
    written_at: Option<Timestamp>,
}

impl<K> Default for Recent<K> {
    fn default() -> Self {
        Recent {
            known: Mutex::new(HashMap::new()),
        }
    }
}

impl<K: ResourceExt + Clone> Recent<K> {
    /// Remembers what the API server returned for a write.
    pub fn wrote(&self, object: &K, epoch: u64, now: Timestamp) {
        self.learn(object, epoch, now, Some(now));
    }

    /// Remembers what the API server returned for a read.
    pub fn read(&self, object: &K, epoch: u64, now: Timestamp) {
        let written_at = object.uid().and_then(|uid| self.written_at(&uid));
        self.learn(object, epoch, now, written_at);
    }

    fn learn(&self, object: &K, epoch: u64, at: Timestamp, written_at: Option<Timestamp>) {
        let Some(uid) = object.uid() else { return };
        let mut object = object.clone();
        crate::trim::trim_own(&mut object);
        let known = Known {
            object,
            at,
            epoch,
            written_at,
        };
        self.lock().insert(uid, known);
    }

    /// The newer one of the cached object and the known one.
    #[must_use]
    pub fn newest(&self, cached: &K) -> K {
        let Some(uid) = cached.uid() else {
            return cached.clone();
        };
        match self.lock().get(&uid) {
            Some(known) if version(&known.object) > version(cached) => known.object.clone(),
            Some(_) | None => cached.clone(),
        }
    }

    /// Whether the API server itself has told of the object in this epoch: what a cache shows may be older than what an earlier
    /// leader has written. No clock has a say in it, since clocks jump.
    #[must_use]
    pub fn is_known(&self, uid: &str, epoch: u64) -> bool {
        self.lock()
            .get(uid)
            .is_some_and(|known| known.epoch == epoch)
    }

    /// When the object was last written by this process.
    #[must_use]
    pub fn written_at(&self, uid: &str) -> Option<Timestamp> {
        self.lock().get(uid)?.written_at
    }

    /// Forgets what every cache has long seen.
    pub fn forget_old(&self, now: Timestamp) {
        self.lock()
            .retain(|_, known| now.duration_since(known.at) < REMEMBERED);
    }

    /// Forgets one object: the next orders about it follow a live read.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Known<K>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Resource versions are numbers that grow, and since Kubernetes 1.35 officially so (KEP-5504).
fn version<K: ResourceExt>(object: &K) -> u64 {
    object
        .resource_version()
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}
