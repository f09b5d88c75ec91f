//! The tasks that workers hold: what each has become.

use std::collections::BTreeSet;

use framewright_crds::aijob::Progress;
use framewright_crds::names::TaskId;
use framewright_crds::wire::{Order, Outcome, TaskOrder, TaskState};
use jiff::Timestamp;

use super::Fleet;
use framewright_core::jobs::seen::Held;
use framewright_core::names::{PoolName, WorkerRef};
use framewright_core::pools::plan::protection::is_quiet;

/// A task on a worker.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) job: String,
    pub(super) state: TaskState,
    pub(super) changed_at: Timestamp,
    pub(super) wants_grants: bool,
    pub(super) store_trouble: Option<String>,
}

/// What became of a task's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The worker has no stream, or does not read it.
    No,
    /// It is queued; the worker's pool, if a busy period begins.
    Yes { begins_period_of: Option<PoolName> },
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
    /// Queues a task on a worker's stream. The task is held from now on, whether the worker has said so or not: under the same
    /// lock, so that its first word about the task finds it known.
    pub fn run(&self, uid: &str, order: TaskOrder, now: Timestamp) -> Sent {
        let mut workers = self.lock();
        let Some(worker) = workers.get_mut(uid) else {
            return Sent::No;
        };
        let Some(connection) = &worker.connection else {
            return Sent::No;
        };
        let (task, job, model) = (order.task.clone(), order.job.clone(), order.model.clone());
        let order = Order::Run(Box::new(order));
        if connection.orders.try_send(order).is_err() {
            return Sent::No;
        }
        let was_quiet = worker.tasks.is_empty() && is_quiet(worker.last_busy, now);
        worker.warm = Some(model);
        let new = || Task {
            job,
            state: TaskState::Starting,
            changed_at: now,
            wants_grants: false,
            store_trouble: None,
        };
        worker.tasks.entry(task).or_insert_with(new).wants_grants = false;
        Sent::Yes {
            begins_period_of: was_quiet.then(|| worker.greeting.pool.clone()),
        }
    }

    /// The worker was told to forget a task.
    pub fn forget(&self, uid: &str, task: &TaskId, now: Timestamp) {
        let mut workers = self.lock();
        let Some(worker) = workers.get_mut(uid) else {
            return;
        };
        worker.begun.remove(task);
        if worker.tasks.remove(task).is_some() && worker.tasks.is_empty() {
            worker.last_busy = Some(now);
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
        let worker = workers.get_mut(uid)?;
        let id = task;
        let task = worker.tasks.get_mut(id)?;
        if computes(&state) {
            worker.begun.entry(id.clone()).or_insert(now);
        }
        let is_over = matches!(task.state, TaskState::Finished { .. });
        // A worker reports progress only when there is some, even where the numbers stay the same.
        let has_moved = task.state != state || matches!(state, TaskState::Running { .. });
        if has_moved && !is_over {
            task.state = state;
            task.changed_at = now;
            task.store_trouble = None;
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

    /// A task's transfer fails, or goes on again; namespace/name of its job, if the task is known.
    pub fn store_trouble(
        &self,
        uid: &str,
        task: &TaskId,
        trouble: Option<String>,
    ) -> Option<String> {
        let mut workers = self.lock();
        let task = workers.get_mut(uid)?.tasks.get_mut(task)?;
        task.store_trouble = trouble;
        Some(task.job.clone())
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
                store_trouble: task.store_trouble.clone(),
            })
            .collect();
        held.sort_by(|a, b| a.task.cmp(&b.task));
        held
    }

    /// When a worker first said that it computes a task, whether it still holds it or not.
    #[must_use]
    pub fn begun_at(&self, uid: &str, task: &TaskId) -> Option<Timestamp> {
        self.lock().get(uid)?.begun.get(task).copied()
    }

    /// Tasks that have succeeded and are not settled, each with the pod UID of its worker.
    #[must_use]
    pub fn succeeded(&self) -> BTreeSet<(String, TaskId)> {
        let workers = self.lock();
        let tasks = workers
            .iter()
            .flat_map(|(uid, worker)| worker.tasks.iter().map(move |task| (uid, task)));
        tasks
            .filter(|(_, (_, task))| {
                matches!(
                    task.state,
                    TaskState::Finished {
                        outcome: Outcome::Succeeded { .. }
                    }
                )
            })
            .map(|(uid, (id, _))| (uid.clone(), id.clone()))
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
}

/// Whether the worker is past preparing. One that ended may never have computed.
pub(super) fn computes(state: &TaskState) -> bool {
    match state {
        TaskState::Running { .. } | TaskState::Uploading { .. } => true,
        TaskState::Starting | TaskState::Finished { .. } => false,
    }
}
