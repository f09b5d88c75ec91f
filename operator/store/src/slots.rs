//! How many transfers run at once: a bound over all of them, half of it for one namespace, and a bound for one artifact, so that
//! neither a link's holder nor a namespace can take every place.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::key::ArtifactKey;

type Counts = Arc<Mutex<HashMap<ArtifactKey, usize>>>;

#[derive(Debug)]
pub(crate) struct Slots {
    all: Arc<Semaphore>,
    share: usize,
    namespaces: Mutex<HashMap<String, Arc<Semaphore>>>,
    per_artifact: usize,
    artifacts: Counts,
    patience: Duration,
}

/// A place, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    _artifact: Counted,
    _share: OwnedSemaphorePermit,
    _place: OwnedSemaphorePermit,
}

impl Slots {
    /// `patience` is how long a transfer waits for its turn.
    pub(crate) fn new(count: u32, per_artifact: usize, patience: Duration) -> Slots {
        let count = count as usize;
        Slots {
            all: Arc::new(Semaphore::new(count)),
            share: count.div_ceil(2),
            namespaces: Mutex::default(),
            per_artifact,
            artifacts: Counts::default(),
            patience,
        }
    }

    /// A place for one transfer; `None` when there is none.
    pub(crate) async fn take(&self, key: &ArtifactKey) -> Option<Slot> {
        let deadline = Instant::now() + self.patience;
        // The namespace's own turn first, so that those who wait for it hold no place.
        let share = self.share_of(key.owner().namespace()).acquire_owned();
        let share = timeout_at(deadline, share).await.ok()?.ok()?;
        let place = Arc::clone(&self.all).acquire_owned();
        let place = timeout_at(deadline, place).await.ok()?.ok()?;
        Some(Slot {
            _artifact: Counted::below(self.per_artifact, &self.artifacts, key.clone())?,
            _share: share,
            _place: place,
        })
    }

    /// The namespaces that nobody uses are forgotten on the way.
    fn share_of(&self, namespace: &str) -> Arc<Semaphore> {
        let mut namespaces = locked(&self.namespaces);
        namespaces.retain(|name, share| name == namespace || Arc::strong_count(share) > 1);
        let share = namespaces
            .entry(namespace.to_owned())
            .or_insert_with(|| Arc::new(Semaphore::new(self.share)));
        Arc::clone(share)
    }
}

/// One of the transfers of an artifact.
#[derive(Debug)]
struct Counted {
    key: ArtifactKey,
    counts: Counts,
}

impl Counted {
    fn below(limit: usize, counts: &Counts, key: ArtifactKey) -> Option<Counted> {
        let mut running = locked(counts);
        let count = running.entry(key.clone()).or_insert(0);
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(Counted {
            key,
            counts: Arc::clone(counts),
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut running = locked(&self.counts);
        match running.get_mut(&self.key) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => {
                running.remove(&self.key);
            }
        }
    }
}

/// Counting cannot stop half-way, so a poisoned lock still holds true counts.
fn locked<T>(counts: &Mutex<T>) -> MutexGuard<'_, T> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn one_artifact_has_two_places_and_all_have_their_bound() {
        let slots = Slots::new(3, 2, PATIENCE);
        let first = slots.take(&key("studio", 'a')).await;
        let second = slots.take(&key("studio", 'a')).await;
        assert!(first.is_some() && second.is_some());
        assert!(slots.take(&key("studio", 'a')).await.is_none());
        let third = slots.take(&key("lab", 'b')).await;
        assert!(third.is_some());
        assert!(slots.take(&key("film", 'c')).await.is_none(), "three run");
        drop((first, second, third));
        assert!(locked(&slots.artifacts).is_empty());
        assert!(slots.take(&key("studio", 'a')).await.is_some());
    }

    #[tokio::test]
    async fn a_namespace_has_half_of_the_places_whatever_it_asks_for() {
        let slots = Slots::new(4, 2, PATIENCE);
        let mut held = Vec::new();
        for digit in ['a', 'b', 'c', 'd'] {
            held.extend(slots.take(&key("studio", digit)).await);
        }
        assert_eq!(held.len(), 2, "of studio");
        held.extend(slots.take(&key("lab", 'a')).await);
        held.extend(slots.take(&key("lab", 'b')).await);
        assert_eq!(held.len(), 4, "of studio and lab");
        held.clear();
        held.extend(slots.take(&key("studio", 'a')).await);
        assert_eq!(held.len(), 1);
        assert_eq!(locked(&slots.namespaces).len(), 1, "lab is forgotten");
    }

    fn key(namespace: &str, digit: char) -> ArtifactKey {
        let sha256 = digit.to_string().repeat(64);
        ArtifactKey::parse(&format!("{namespace}/aijobs/1f2e/input/{sha256}")).expect("a good key")
    }
}
