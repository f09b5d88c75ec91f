//! What others want to know of the workers: the scheduler, jobs and pools.

use std::collections::{BTreeMap, BTreeSet};

use framewright_crds::names::TaskId;
use framewright_crds::protocol::{ModelState, TaskState};

use super::{SessionId, Sessions, Worker};
use crate::jobs::snapshot::Presence;
use crate::names::{PoolName, WorkerRef};
use crate::pools::snapshot::StreamSnapshot;
use crate::schedule::{Provides, Slots};

/// What a pool has now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connected {
    /// Workers that are connected.
    pub workers: usize,
    /// How many tasks they take at a time.
    pub slots: u64,
    /// The tasks that they have, waiting ones and those that are stopping included.
    pub tasks: usize,
}

impl Sessions {
    /// Whether a worker's session is open; none if it has not been seen.
    #[must_use]
    pub fn presence(&self, uid: &str) -> Option<Presence> {
        let worker = self.workers.get(uid)?;
        match (&worker.session, worker.away_since) {
            (Some(_), _) => Some(Presence::Connected),
            (None, Some(since)) => Some(Presence::Away { since }),
            (None, None) => None,
        }
    }

    /// What a worker says, for its pool.
    #[must_use]
    pub fn stream_seen(&self, uid: &str) -> Option<StreamSnapshot> {
        let worker = self.workers.get(uid)?;
        Some(StreamSnapshot {
            is_connected: worker.session.is_some(),
            is_drained: worker.is_drained,
            tasks: worker.tasks.len(),
            last_busy: worker.last_busy,
            device_error: worker.greeting.device_error.clone(),
            models: worker.models.clone(),
            pipelines: worker.greeting.pipelines.clone(),
        })
    }

    /// A worker's room, if it may get tasks. `bound` are the tasks that are bound to it, held or not.
    #[must_use]
    pub fn slots(&self, uid: &str, bound: &BTreeSet<TaskId>) -> Option<Slots> {
        let worker = self.workers.get(uid)?;
        // What an earlier process of it said of its models counts for a new one only once it is configured.
        let is_usable = worker.session.is_some()
            && worker.configured.is_some()
            && worker.greeting.device_error.is_none()
            && !worker.is_ending
            && !worker.is_drained;
        if !is_usable {
            return None;
        }
        let used = u32::try_from(used(worker, bound)).unwrap_or(u32::MAX);
        let ready = worker
            .models
            .iter()
            .filter(|(_, (_, state))| *state == ModelState::Ready);
        Some(Slots {
            worker: worker.greeting.worker.clone(),
            pool: worker.greeting.pool.clone(),
            free: worker.greeting.slots.saturating_sub(used),
            provides: Provides {
                pipelines: worker.greeting.pipelines.iter().cloned().collect(),
                models: ready
                    .map(|(name, (digest, _))| (name.clone(), digest.clone()))
                    .collect(),
                loaded: worker.loaded.clone(),
            },
        })
    }

    /// How many tasks more than it has room for a worker holds, or has bound to it.
    #[must_use]
    pub fn excess(&self, uid: &str, bound: &BTreeSet<TaskId>) -> usize {
        self.workers.get(uid).map_or(0, |worker| {
            let slots = usize::try_from(worker.greeting.slots).unwrap_or(usize::MAX);
            used(worker, bound).saturating_sub(slots)
        })
    }

    /// Whether a worker may still be doing a task: it says so, or is away.
    #[must_use]
    pub fn may_hold(&self, uid: &str, task: &TaskId) -> bool {
        self.workers.get(uid).is_none_or(|worker| {
            let state = worker.tasks.get(task).map(|held| &held.state);
            let is_held = state.is_some_and(|state| !matches!(state, TaskState::Finished { .. }));
            worker.session.is_none() || is_held
        })
    }

    /// UIDs of a pool's connected workers.
    #[must_use]
    pub fn of_pool(&self, pool: &PoolName) -> Vec<String> {
        let of_pool = self
            .workers
            .iter()
            .filter(|(_, worker)| &worker.greeting.pool == pool && worker.session.is_some());
        let mut uids: Vec<String> = of_pool.map(|(uid, _)| uid.clone()).collect();
        uids.sort();
        uids
    }

    /// UIDs of a pool's workers, whether they are connected or not.
    #[must_use]
    pub fn workers_of(&self, pool: &PoolName) -> Vec<String> {
        let of_pool = self
            .workers
            .iter()
            .filter(|(_, worker)| &worker.greeting.pool == pool);
        let mut uids: Vec<String> = of_pool.map(|(uid, _)| uid.clone()).collect();
        uids.sort();
        uids
    }

    /// The connected workers of each pool, their slots, and the tasks that they have.
    #[must_use]
    pub fn by_pool(&self) -> BTreeMap<PoolName, Connected> {
        let mut pools = BTreeMap::<PoolName, Connected>::new();
        for worker in self
            .workers
            .values()
            .filter(|worker| worker.session.is_some())
        {
            let pool = pools.entry(worker.greeting.pool.clone()).or_default();
            pool.workers += 1;
            pool.slots += u64::from(worker.greeting.slots);
            pool.tasks += worker.tasks.len();
        }
        pools
    }

    /// The pool of a worker.
    #[must_use]
    pub fn pool(&self, uid: &str) -> Option<&PoolName> {
        self.workers.get(uid).map(|worker| &worker.greeting.pool)
    }

    /// The pod of a worker.
    #[must_use]
    pub fn worker(&self, uid: &str) -> Option<&WorkerRef> {
        self.workers.get(uid).map(|worker| &worker.greeting.worker)
    }

    /// Whether this is the worker's open session.
    #[must_use]
    pub fn is_open(&self, session: SessionId, uid: &str) -> bool {
        let worker = self.workers.get(uid);
        worker.is_some_and(|worker| worker.session == Some(session))
    }

    /// All open sessions.
    #[must_use]
    pub fn open_sessions(&self) -> Vec<SessionId> {
        let mut sessions: Vec<SessionId> = self
            .workers
            .values()
            .filter_map(|Worker { session, .. }| *session)
            .collect();
        sessions.sort_unstable();
        sessions
    }
}

/// How many tasks take room of a worker.
fn used(worker: &Worker, bound: &BTreeSet<TaskId>) -> usize {
    // A finished task takes no room, though the worker keeps its outcome until that is recorded.
    let is_over = |id: &TaskId| {
        let task = worker.tasks.get(id);
        task.is_some_and(|task| matches!(task.state, TaskState::Finished { .. }))
    };
    let tasks: BTreeSet<&TaskId> = worker
        .tasks
        .keys()
        .chain(bound)
        .filter(|id| !is_over(id))
        .collect();
    tasks.len()
}
