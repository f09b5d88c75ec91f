//! What others want to know of the workers: the scheduler, jobs and pools.

use std::collections::{BTreeSet, HashMap};

use framewright_crds::names::TaskId;
use framewright_crds::wire::{ModelState, TaskState};

use super::Fleet;
use framewright_core::jobs::seen::Presence;
use framewright_core::names::PoolName;
use framewright_core::pools::seen::StreamSeen;
use framewright_core::schedule::Slots;

impl Fleet {
    /// Whether a worker's stream is open; none if it has not been seen.
    #[must_use]
    pub fn presence(&self, uid: &str) -> Option<Presence> {
        let workers = self.lock();
        let worker = workers.get(uid)?;
        match (&worker.connection, worker.away_since) {
            (Some(_), _) => Some(Presence::Connected),
            (None, Some(since)) => Some(Presence::Away { since }),
            (None, None) => None,
        }
    }

    /// What a worker says, for its pool.
    #[must_use]
    pub fn stream_seen(&self, uid: &str) -> Option<StreamSeen> {
        let workers = self.lock();
        let worker = workers.get(uid)?;
        Some(StreamSeen {
            is_connected: worker.connection.is_some(),
            is_drained: worker.is_drained,
            tasks: worker.tasks.len(),
            last_busy: worker.last_busy,
            device_trouble: worker.greeting.device_trouble.clone(),
            models: worker.models.clone(),
        })
    }

    /// Workers that may get tasks, with their room. `taken` are the tasks bound to each pod UID, held or not.
    #[must_use]
    pub fn slots(&self, taken: &HashMap<String, BTreeSet<TaskId>>) -> Vec<Slots> {
        let workers = self.lock();
        let usable = workers.iter().filter(|(_, worker)| {
            // What an earlier process of it said of its models counts for a new one only after the welcome.
            worker.connection.is_some()
                && worker.welcomed.is_some()
                && worker.greeting.device_trouble.is_none()
                && !worker.is_ending
                && !worker.is_drained
        });
        usable
            .map(|(uid, worker)| {
                // A finished task takes no room, though the worker keeps its outcome until that is recorded.
                let is_over = |id: &TaskId| {
                    let task = worker.tasks.get(id);
                    task.is_some_and(|task| matches!(task.state, TaskState::Finished { .. }))
                };
                let bound = taken.get(uid).into_iter().flatten();
                let held = worker.tasks.keys().chain(bound);
                let tasks: BTreeSet<&TaskId> = held.filter(|id| !is_over(id)).collect();
                let used = u32::try_from(tasks.len()).unwrap_or(u32::MAX);
                let ready = worker
                    .models
                    .iter()
                    .filter(|(_, (_, state))| *state == ModelState::Ready);
                Slots {
                    worker: worker.greeting.worker.clone(),
                    pool: worker.greeting.pool.clone(),
                    free: worker.greeting.slots.saturating_sub(used),
                    ready: ready
                        .map(|(name, (digest, _))| (name.clone(), digest.clone()))
                        .collect(),
                    warm: worker.warm.clone(),
                }
            })
            .collect()
    }

    /// UIDs of a pool's connected workers.
    #[must_use]
    pub fn of_pool(&self, pool: &PoolName) -> Vec<String> {
        let workers = self.lock();
        let of_pool = workers
            .iter()
            .filter(|(_, worker)| &worker.greeting.pool == pool && worker.connection.is_some());
        of_pool.map(|(uid, _)| uid.clone()).collect()
    }
}
