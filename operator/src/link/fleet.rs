//! The workers that have dialled in, what they hold, and the way to each. In memory: a new leader learns it again from the workers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use framewright_crds::aijob::Progress;
use framewright_crds::modelpool::Device;
use framewright_crds::names::TaskId;
use framewright_crds::wire::{ModelOrder, ModelState, Order, TaskReport, TaskState};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;

use crate::jobs::seen::{Held, PoolName, Presence, WorkerRef};
use crate::pools::seen::LinkSeen;
use crate::schedule::Slots;

/// How long a worker that went away is remembered.
const REMEMBERED: SignedDuration = SignedDuration::from_mins(10);

/// All workers, by pod UID.
#[derive(Debug, Default)]
pub struct Fleet {
    workers: Mutex<HashMap<String, Worker>>,
}

/// What a worker says of itself when it dials in.
#[derive(Clone, Debug)]
pub struct Greeting {
    pub worker: WorkerRef,
    pub pool: PoolName,
    pub device: Device,
    pub device_trouble: Option<String>,
    pub slots: u32,
    pub tasks: Vec<TaskReport>,
}

#[derive(Debug)]
struct Worker {
    greeting: Greeting,
    connection: Option<Connection>,
    away_since: Option<Timestamp>,
    /// It said itself that it ends.
    is_ending: bool,
    /// Its pool wants it gone.
    is_drained: bool,
    /// Which models it was told to hold on this stream.
    welcomed: Option<String>,
    models: BTreeMap<String, (String, ModelState)>,
    warm: Option<String>,
    tasks: BTreeMap<TaskId, Task>,
}

#[derive(Debug)]
struct Connection {
    id: u64,
    orders: mpsc::Sender<Order>,
}

#[derive(Clone, Debug)]
struct Task {
    job: String,
    state: TaskState,
    changed_at: Timestamp,
    wants_grants: bool,
}

/// A task whose job is not known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    pub task: TaskId,
    /// namespace/name of its job.
    pub job: String,
    pub worker: WorkerRef,
}

impl Fleet {
    /// A worker has dialled in; an older stream of the same pod ends.
    pub fn connect(
        &self,
        greeting: Greeting,
        id: u64,
        orders: mpsc::Sender<Order>,
        now: Timestamp,
    ) {
        let mut workers = self.lock();
        let tasks = greeting.tasks.clone();
        let entry = workers.entry(greeting.worker.uid.clone());
        let known = match entry {
            std::collections::hash_map::Entry::Occupied(known) => {
                let known = known.into_mut();
                known.greeting = greeting;
                known.connection = Some(Connection { id, orders });
                known.away_since = None;
                known.is_ending = false;
                known.welcomed = None;
                known
            }
            std::collections::hash_map::Entry::Vacant(entry) => entry.insert(Worker {
                greeting,
                connection: Some(Connection { id, orders }),
                away_since: None,
                is_ending: false,
                is_drained: false,
                welcomed: None,
                models: BTreeMap::new(),
                warm: None,
                tasks: BTreeMap::new(),
            }),
        };
        // What it holds is what it says, except that an unchanged task keeps the time of its last change.
        let mut held = BTreeMap::new();
        for TaskReport { task, job, state } in tasks {
            let changed_at = match known.tasks.get(&task) {
                Some(old) if old.state == state => old.changed_at,
                Some(_) | None => now,
            };
            held.insert(
                task,
                Task {
                    job,
                    state,
                    changed_at,
                    wants_grants: false,
                },
            );
        }
        known.tasks = held;
    }

    /// A stream has ended. Nothing happens if the pod has a newer one.
    pub fn disconnect(&self, uid: &str, id: u64, now: Timestamp) {
        let mut workers = self.lock();
        if let Some(worker) = workers.get_mut(uid)
            && worker
                .connection
                .as_ref()
                .is_some_and(|connection| connection.id == id)
        {
            worker.connection = None;
            worker.away_since = Some(now);
        }
    }

    /// Forgets pods that are gone, and all when leadership is lost.
    pub fn retain(&self, now: Timestamp, is_there: impl Fn(&WorkerRef) -> bool) {
        self.lock().retain(|_, worker| {
            let away = worker.away_since.map(|since| now.duration_since(since));
            worker.connection.is_some()
                || (is_there(&worker.greeting.worker) && away.is_none_or(|away| away < REMEMBERED))
        });
    }

    /// Ends all streams and forgets all.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// Queues an order on a worker's stream; false when it has none or does not read.
    pub fn send(&self, uid: &str, order: Order) -> bool {
        let workers = self.lock();
        let connection = workers
            .get(uid)
            .and_then(|worker| worker.connection.as_ref());
        connection.is_some_and(|connection| connection.orders.try_send(order).is_ok())
    }

    /// A task was ordered; it is held from now on, whether the worker has said so or not.
    pub fn ordered(&self, uid: &str, task: &TaskId, job: &str, model: &str, now: Timestamp) {
        if let Some(worker) = self.lock().get_mut(uid) {
            worker.warm = Some(model.to_owned());
            let new = || Task {
                job: job.to_owned(),
                state: TaskState::Starting,
                changed_at: now,
                wants_grants: false,
            };
            worker
                .tasks
                .entry(task.clone())
                .or_insert_with(new)
                .wants_grants = false;
        }
    }

    /// The worker was told to forget a task.
    pub fn forget(&self, uid: &str, task: &TaskId) {
        if let Some(worker) = self.lock().get_mut(uid) {
            worker.tasks.remove(task);
        }
    }

    /// A task has moved on; namespace/name of its job, if the task is known.
    pub fn moved(
        &self,
        uid: &str,
        task: &TaskId,
        state: TaskState,
        now: Timestamp,
    ) -> Option<String> {
        let mut workers = self.lock();
        let task = workers.get_mut(uid)?.tasks.get_mut(task)?;
        let is_over = matches!(task.state, TaskState::Finished { .. });
        // A worker reports progress only when there is some, even where the numbers stay the same.
        let has_moved = task.state != state || matches!(state, TaskState::Running { .. });
        if has_moved && !is_over {
            task.state = state;
            task.changed_at = now;
        }
        Some(task.job.clone())
    }

    /// A task computes; its progress, if it has reported some, stays.
    pub fn started(&self, uid: &str, task: &TaskId, now: Timestamp) -> Option<String> {
        let is_starting = {
            let workers = self.lock();
            matches!(
                workers.get(uid)?.tasks.get(task)?.state,
                TaskState::Starting
            )
        };
        let running = TaskState::Running {
            progress: Progress::default(),
        };
        if is_starting {
            return self.moved(uid, task, running, now);
        }
        self.lock()
            .get(uid)?
            .tasks
            .get(task)
            .map(|task| task.job.clone())
    }

    /// A task's grants ran out; namespace/name of its job, if the task is known.
    pub fn wants_grants(&self, uid: &str, task: &TaskId) -> Option<String> {
        let mut workers = self.lock();
        let task = workers.get_mut(uid)?.tasks.get_mut(task)?;
        task.wants_grants = true;
        Some(task.job.clone())
    }

    /// Sends the pool's models, unless the worker has been sent the same on this stream.
    pub fn welcome(&self, uid: &str, models: Vec<ModelOrder>, key: &str) {
        let mut workers = self.lock();
        let Some(worker) = workers
            .get_mut(uid)
            .filter(|worker| worker.welcomed.as_deref() != Some(key))
        else {
            return;
        };
        let Some(connection) = &worker.connection else {
            return;
        };
        if connection
            .orders
            .try_send(Order::Welcome { models })
            .is_ok()
        {
            worker.welcomed = Some(key.to_owned());
        }
    }

    /// The grants for weights ran out: the next welcome is sent even if nothing else changed.
    pub fn unwelcome(&self, uid: &str) {
        if let Some(worker) = self.lock().get_mut(uid) {
            worker.welcomed = None;
        }
    }

    /// A model's state on a worker has changed.
    pub fn model(&self, uid: &str, name: &str, digest: &str, state: ModelState) {
        if let Some(worker) = self.lock().get_mut(uid) {
            worker
                .models
                .insert(name.to_owned(), (digest.to_owned(), state));
        }
    }

    /// The worker takes no new task and ends.
    pub fn ending(&self, uid: &str) {
        if let Some(worker) = self.lock().get_mut(uid) {
            worker.is_ending = true;
        }
    }

    /// Sets which workers of a pool get no new task.
    pub fn drain(&self, pool: &PoolName, drained: &BTreeSet<String>) {
        for (uid, worker) in self.lock().iter_mut() {
            if &worker.greeting.pool == pool {
                worker.is_drained = drained.contains(uid);
            }
        }
    }

    /// The tasks of a job, wherever they are.
    #[must_use]
    pub fn held_by(&self, job_uid: &str) -> Vec<Held> {
        let workers = self.lock();
        let mut held: Vec<Held> = workers
            .values()
            .flat_map(|worker| {
                worker
                    .tasks
                    .iter()
                    .map(move |(id, task)| (worker, id, task))
            })
            .filter(|(_, id, _)| id.job_uid == job_uid)
            .map(|(worker, id, task)| Held {
                task: id.clone(),
                worker: worker.greeting.worker.clone(),
                state: task.state.clone(),
                changed_at: task.changed_at,
                wants_grants: task.wants_grants,
            })
            .collect();
        held.sort_by(|a, b| a.task.cmp(&b.task));
        held
    }

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
    pub fn link_seen(&self, uid: &str) -> Option<LinkSeen> {
        let workers = self.lock();
        let worker = workers.get(uid)?;
        Some(LinkSeen {
            is_connected: worker.connection.is_some(),
            tasks: worker.tasks.len(),
            device_trouble: worker.greeting.device_trouble.clone(),
            models: worker.models.clone(),
        })
    }

    /// Workers that may get tasks, with their room. `taken` are the tasks bound to each pod UID, held or not.
    #[must_use]
    pub fn slots(&self, taken: &HashMap<String, BTreeSet<TaskId>>) -> Vec<Slots> {
        let workers = self.lock();
        let usable = workers.iter().filter(|(_, worker)| {
            worker.connection.is_some()
                && worker.greeting.device_trouble.is_none()
                && !worker.is_ending
                && !worker.is_drained
        });
        usable
            .map(|(uid, worker)| {
                let bound = taken.get(uid).into_iter().flatten();
                let tasks: BTreeSet<&TaskId> = worker.tasks.keys().chain(bound).collect();
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

    /// Tasks of jobs that `is_known` does not know, by UID.
    #[must_use]
    pub fn strays(&self, is_known: impl Fn(&str) -> bool) -> Vec<Stray> {
        let workers = self.lock();
        workers
            .values()
            .filter(|worker| worker.connection.is_some())
            .flat_map(|worker| {
                worker
                    .tasks
                    .iter()
                    .map(move |(id, task)| (worker, id, task))
            })
            .filter(|(_, id, _)| !is_known(&id.job_uid))
            .map(|(worker, id, task)| Stray {
                task: id.clone(),
                job: task.job.clone(),
                worker: worker.greeting.worker.clone(),
            })
            .collect()
    }

    /// namespace/name of the jobs whose tasks a worker holds.
    #[must_use]
    pub fn jobs_of(&self, uid: &str) -> Vec<String> {
        let workers = self.lock();
        workers
            .get(uid)
            .map(|worker| worker.tasks.values().map(|task| task.job.clone()).collect())
            .unwrap_or_default()
    }

    /// Connected workers of each pool.
    #[must_use]
    pub fn connected(&self) -> BTreeMap<PoolName, i64> {
        let mut counts = BTreeMap::new();
        for worker in self
            .lock()
            .values()
            .filter(|worker| worker.connection.is_some())
        {
            *counts.entry(worker.greeting.pool.clone()).or_insert(0) += 1;
        }
        counts
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

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Worker>> {
        // Nothing panics while it holds the lock; if something did, the map is still whole.
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
