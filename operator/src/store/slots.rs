//! How many uploads run at once: a bound over all of them, and two for one artifact, so that no link's holder can take every place.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::key::ArtifactKey;

/// A repeated upload may overlap with the one that its sender gave up.
const PER_ARTIFACT: u32 = 2;
type Counts = Arc<Mutex<HashMap<ArtifactKey, u32>>>;

#[derive(Debug)]
pub(crate) struct Slots {
    all: Arc<Semaphore>,
    running: Counts,
    patience: Duration,
}

/// A place, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    key: ArtifactKey,
    running: Counts,
    _permit: OwnedSemaphorePermit,
}

impl Slots {
    /// `patience` is how long an upload waits for its turn.
    pub(crate) fn new(count: u32, patience: Duration) -> Slots {
        Slots {
            all: Arc::new(Semaphore::new(count as usize)),
            running: Counts::default(),
            patience,
        }
    }

    /// A place for one upload; `None` when there is none.
    pub(crate) async fn take(&self, key: &ArtifactKey) -> Option<Slot> {
        let waiting = Arc::clone(&self.all).acquire_owned();
        let permit = tokio::time::timeout(self.patience, waiting)
            .await
            .ok()?
            .ok()?;
        let mut running = locked(&self.running);
        let count = running.entry(key.clone()).or_insert(0);
        if *count == PER_ARTIFACT {
            return None;
        }
        *count += 1;
        Some(Slot {
            key: key.clone(),
            running: Arc::clone(&self.running),
            _permit: permit,
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut running = locked(&self.running);
        match running.get_mut(&self.key) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => {
                running.remove(&self.key);
            }
        }
    }
}

/// Counting cannot stop half-way, so a poisoned lock still holds true counts.
fn locked(counts: &Counts) -> MutexGuard<'_, HashMap<ArtifactKey, u32>> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_artifact_has_two_places_and_all_have_their_bound() {
        let slots = Slots::new(3, Duration::from_millis(20));
        let (first, second) = (slots.take(&key('a')).await, slots.take(&key('a')).await);
        assert!(first.is_some() && second.is_some());
        assert!(slots.take(&key('a')).await.is_none(), "two are running");
        let third = slots.take(&key('b')).await;
        assert!(third.is_some());
        assert!(slots.take(&key('c')).await.is_none(), "three are running");
        drop((first, second, third));
        assert!(locked(&slots.running).is_empty());
        assert!(slots.take(&key('a')).await.is_some());
    }

    fn key(digit: char) -> ArtifactKey {
        let sha256 = digit.to_string().repeat(64);
        ArtifactKey::parse(&format!("studio/aijobs/1f2e/{sha256}")).expect("a good key")
    }
}
