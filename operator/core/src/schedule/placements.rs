//! Decisions of the scheduler that are not in a status yet. In memory: a lost one is made again.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use framewright_crds::aijob::{AIJobStatus, StepState};
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
    placed: HashMap<Step, (Placement, Timestamp)>,
    /// Steps for which the scheduler's last look found no room.
    without_room: BTreeSet<Step>,
    /// Since when a job holds its status back for the scheduler's look.
    awaiting: HashMap<String, Timestamp>,
}

/// A job's UID and a step's name.
type Step = (String, String);

/// The decisions of one moment, as plain data. Who looks at jobs, too, takes these first: a decision goes when a status has it, so
/// each is then seen here or there.
#[derive(Clone, Debug, Default)]
pub struct Placed {
    steps: BTreeSet<Step>,
    /// Tasks placed on each pod UID, under attempt 0, which no real task has.
    pub taken: HashMap<String, BTreeSet<TaskId>>,
}

impl Placed {
    /// Whether a step has a worker already.
    #[must_use]
    pub fn has(&self, job_uid: &str, step: &str) -> bool {
        self.steps.contains(&(job_uid.to_owned(), step.to_owned()))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
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

    /// Records decisions.
    pub fn add(&self, placements: Vec<Placement>, now: Timestamp) {
        let mut inner = self.lock();
        for placement in placements {
            let step = (placement.job_uid.clone(), placement.step.clone());
            inner.placed.insert(step, (placement, now));
        }
    }

    /// A status is durable: the decisions that it has taken up, or that are of no use any more, go.
    pub fn written(&self, job_uid: &str, status: &AIJobStatus) {
        let mut inner = self.lock();
        for step in &status.steps {
            match step.state {
                StepState::Blocked | StepState::Queued => {}
                StepState::Starting
                | StepState::Running
                | StepState::Succeeded
                | StepState::Failed
                | StepState::Skipped => {
                    let key = (job_uid.to_owned(), step.name.clone());
                    inner.placed.remove(&key);
                }
            }
        }
    }

    /// Drops decisions that nobody took up.
    pub fn expire(&self, now: Timestamp) {
        self.lock()
            .placed
            .retain(|_, (_, at)| now.duration_since(*at).abs() < VOID_AFTER);
    }

    /// What is decided and in no status yet.
    #[must_use]
    pub fn snapshot(&self) -> Placed {
        let inner = self.lock();
        let mut taken: HashMap<String, BTreeSet<TaskId>> = HashMap::new();
        for (placement, _) in inner.placed.values() {
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
        Placed {
            steps: inner.placed.keys().cloned().collect(),
            taken,
        }
    }

    /// Notes for which steps the scheduler's last look found no room; UIDs of the jobs for which that is new.
    pub fn found_no_room(&self, steps: BTreeSet<(String, String)>) -> BTreeSet<String> {
        let mut inner = self.lock();
        let new = steps.difference(&inner.without_room);
        let jobs = new.map(|(uid, _)| uid.clone()).collect();
        inner.without_room = steps;
        jobs
    }

    /// Since when a step waits for the scheduler's look; none if the scheduler has looked.
    #[must_use]
    pub fn awaits_look(&self, job_uid: &str, step: &str, now: Timestamp) -> Option<Timestamp> {
        let inner = self.lock();
        let step = (job_uid.to_owned(), step.to_owned());
        let is_looked_at = inner.placed.contains_key(&step) || inner.without_room.contains(&step);
        (!is_looked_at).then(|| inner.awaiting.get(job_uid).copied().unwrap_or(now))
    }

    /// Notes whether a job holds its status back for the scheduler's look.
    pub fn await_look(&self, job_uid: &str, awaits: bool, now: Timestamp) {
        let mut inner = self.lock();
        if awaits {
            inner.awaiting.entry(job_uid.to_owned()).or_insert(now);
        } else {
            inner.awaiting.remove(job_uid);
        }
    }

    /// Forgets jobs that are gone.
    pub fn retain(&self, is_there: impl Fn(&str) -> bool) {
        let mut inner = self.lock();
        inner.placed.retain(|(uid, _), _| is_there(uid));
        inner.awaiting.retain(|uid, _| is_there(uid));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(names: &[&str]) -> BTreeSet<(String, String)> {
        let step = |name: &&str| ("job".to_owned(), (*name).to_owned());
        names.iter().map(step).collect()
    }

    #[test]
    fn a_step_awaits_the_look_that_finds_no_room_for_it_and_no_longer() {
        let placements = Placements::default();
        let at = |second| Timestamp::from_second(second).unwrap_or_default();
        let awaits = |now| placements.awaits_look("job", "a", at(now));
        assert_eq!(awaits(3), Some(at(3)));
        placements.await_look("job", true, at(3));
        placements.await_look("job", true, at(4));
        assert_eq!(awaits(5), Some(at(3)));
        assert_eq!(placements.found_no_room(steps(&["a"])).len(), 1);
        assert_eq!(awaits(5), None);
        assert!(placements.found_no_room(steps(&["a"])).is_empty());
        assert!(placements.found_no_room(steps(&[])).is_empty());
        assert_eq!(awaits(6), Some(at(3)));
    }
}
