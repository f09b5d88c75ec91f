//! Decisions of the scheduler that are not in a status yet. In memory: a lost one is made again.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use framewright_crds::names::TaskId;
use jiff::{SignedDuration, Timestamp};

use crate::jobs::seen::Binding;
use crate::schedule::Placement;

/// A decision that no status has taken up by then is void.
const VOID_AFTER: SignedDuration = SignedDuration::from_secs(10);

/// What the scheduler has decided.
#[derive(Debug, Default)]
pub struct Placements {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    placed: HashMap<(String, String), (Placement, Timestamp)>,
    /// Jobs that the scheduler has looked at at least once.
    considered: HashSet<String>,
}

impl Placements {
    /// The worker chosen for a step.
    #[must_use]
    pub fn binding(&self, job_uid: &str, step: &str) -> Option<Binding> {
        let inner = self.lock();
        let (placement, _) = inner.placed.get(&(job_uid.to_owned(), step.to_owned()))?;
        Some(Binding {
            worker: placement.worker.clone(),
            pool: placement.pool.clone(),
            weights_digest: placement.weights_digest.clone(),
        })
    }

    /// Whether a step has a worker already.
    #[must_use]
    pub fn has(&self, job_uid: &str, step: &str) -> bool {
        self.lock()
            .placed
            .contains_key(&(job_uid.to_owned(), step.to_owned()))
    }

    /// Records decisions.
    pub fn add(&self, placements: Vec<Placement>, now: Timestamp) {
        let mut inner = self.lock();
        for placement in placements {
            inner.placed.insert(
                (placement.job_uid.clone(), placement.step.clone()),
                (placement, now),
            );
        }
    }

    /// The decision is in the status now, or of no use any more.
    pub fn remove(&self, job_uid: &str, step: &str) {
        self.lock()
            .placed
            .remove(&(job_uid.to_owned(), step.to_owned()));
    }

    /// Drops decisions that nobody took up.
    pub fn expire(&self, now: Timestamp) {
        self.lock()
            .placed
            .retain(|_, (_, at)| now.duration_since(*at) < VOID_AFTER);
    }

    /// Tasks placed on each pod UID and not in a status yet, under attempt 0, which no real task has.
    #[must_use]
    pub fn taken(&self) -> HashMap<String, BTreeSet<TaskId>> {
        let mut taken: HashMap<String, BTreeSet<TaskId>> = HashMap::new();
        for (placement, _) in self.lock().placed.values() {
            let task = TaskId {
                job_uid: placement.job_uid.clone(),
                step: placement.step.clone(),
                replica: 0,
                attempt: 0,
            };
            taken
                .entry(placement.worker.uid.clone())
                .or_default()
                .insert(task);
        }
        taken
    }

    /// Notes that the scheduler has looked at these jobs; those that it had not before.
    pub fn consider(&self, jobs: impl Iterator<Item = String>) -> Vec<String> {
        let mut inner = self.lock();
        jobs.filter(|uid| inner.considered.insert(uid.clone()))
            .collect()
    }

    /// Whether the scheduler has looked at a job.
    #[must_use]
    pub fn is_considered(&self, job_uid: &str) -> bool {
        self.lock().considered.contains(job_uid)
    }

    /// Forgets jobs that are gone.
    pub fn retain(&self, is_there: impl Fn(&str) -> bool) {
        let mut inner = self.lock();
        inner.placed.retain(|(uid, _), _| is_there(uid));
        inner.considered.retain(|uid| is_there(uid));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
