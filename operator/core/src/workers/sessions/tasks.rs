//! The tasks that workers hold: what each has become.

use std::collections::BTreeMap;

use framewright_crds::aijob::Progress;
use framewright_crds::names::TaskId;
use framewright_crds::protocol::{Command, Outcome, OutputFile, RunTask, TaskState};
use jiff::Timestamp;

use super::Sessions;
use crate::jobs::snapshot::WorkerTask;
use crate::names::WorkerRef;
use crate::pools::plan::protection::is_quiet;
use crate::workers::validate::OUTPUTS_LIMIT;

/// A task on a worker.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) job: String,
    pub(super) state: TaskState,
    /// Whether it waits, once it is prepared, until it may compute; not known of one that an earlier leader sent.
    pub(super) waits: Option<bool>,
    pub(super) changed_at: Timestamp,
    pub(super) wants_links: bool,
    pub(super) store_error: Option<String>,
}

/// A task whose job is not known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    pub task: TaskId,
    /// namespace/name of its job.
    pub job: String,
    pub worker: WorkerRef,
}

impl Sessions {
    /// Sends a task. The task is held from now on, whether the worker has said so or not. Some if it was sent: whether a busy period
    /// of the worker begins.
    pub fn run(&mut self, uid: &str, run: RunTask, now: Timestamp) -> Option<bool> {
        let worker = self.workers.get_mut(uid)?;
        let session = worker.session?;
        let was_quiet = worker.tasks.is_empty() && is_quiet(worker.last_busy, now);
        let task = run.task.clone();
        let new = || Task {
            job: run.job.clone(),
            state: TaskState::Starting,
            waits: Some(run.max_units.is_some()),
            changed_at: now,
            wants_links: false,
            store_error: None,
        };
        let known = worker.tasks.entry(task.clone()).or_insert_with(new);
        known.wants_links = false;
        if known.state == TaskState::Stopping {
            *known = new();
        }
        self.outbox.push((session, Command::Run(Box::new(run))));
        self.index(uid, &task.job_uid);
        Some(was_quiet)
    }

    /// The worker was told to forget a task.
    pub fn forget(&mut self, uid: &str, task: &TaskId, now: Timestamp) {
        let Some(worker) = self.workers.get_mut(uid) else {
            return;
        };
        worker.begun.remove(task);
        if worker.tasks.remove(task).is_some() && worker.tasks.is_empty() {
            worker.last_busy = Some(now);
        }
        self.index(uid, &task.job_uid);
    }

    /// The worker was told to stop a task. The task takes room until the worker says that it has stopped.
    pub fn stopping(&mut self, uid: &str, task: &TaskId, now: Timestamp) {
        if let Some(known) = self.task_mut(uid, task) {
            known.state = TaskState::Stopping;
            known.changed_at = now;
        }
    }

    /// A task has stopped.
    pub fn stopped(&mut self, uid: &str, task: &TaskId, now: Timestamp) {
        let state = self.task_mut(uid, task).map(|known| &known.state);
        if state == Some(&TaskState::Stopping) {
            self.forget(uid, task, now);
        }
    }

    /// A task has moved on; whether the task is known.
    pub fn moved(&mut self, uid: &str, id: &TaskId, state: TaskState, now: Timestamp) -> bool {
        let Some(worker) = self.workers.get_mut(uid) else {
            return false;
        };
        let Some(task) = worker.tasks.get_mut(id) else {
            return false;
        };
        let is_over = matches!(task.state, TaskState::Finished { .. } | TaskState::Stopping);
        if computes(&state) && !is_over {
            worker.begun.entry(id.clone()).or_insert(now);
        }
        // A worker reports progress only when there is some, even where the numbers stay the same.
        let has_moved = task.state != state || matches!(state, TaskState::Running { .. });
        if has_moved && !is_over {
            task.state = state;
            task.changed_at = now;
            task.store_error = None;
        }
        true
    }

    /// The inputs of a task are there. Only one that waits, or may wait, to be told that it may compute is in that state. Whether the task is known.
    pub fn prepared(&mut self, uid: &str, id: &TaskId, units: u64, now: Timestamp) -> bool {
        match self.task_mut(uid, id).map(|task| (task.waits, &task.state)) {
            Some((Some(true) | None, TaskState::Starting)) => {
                self.moved(uid, id, TaskState::Prepared { units }, now)
            }
            Some(_) => true,
            None => false,
        }
    }

    /// A task asks for a link to upload one of its outputs. Whether the task is known.
    pub fn wants_upload(
        &mut self,
        uid: &str,
        id: &TaskId,
        file: OutputFile,
        now: Timestamp,
    ) -> bool {
        let mut outputs = match self.task_mut(uid, id).map(|task| &task.state) {
            Some(TaskState::Uploading { outputs }) => outputs.clone(),
            Some(_) => Vec::new(),
            None => return false,
        };
        outputs.retain(|known| known.name != file.name);
        if outputs.len() < OUTPUTS_LIMIT {
            outputs.push(file);
        }
        self.moved(uid, id, TaskState::Uploading { outputs }, now)
    }

    /// A task computes; its progress, if it has reported some, stays. Whether the task is known.
    pub fn started(&mut self, uid: &str, task: &TaskId, now: Timestamp) -> bool {
        let known = self
            .workers
            .get(uid)
            .and_then(|worker| worker.tasks.get(task));
        let Some(known) = known else {
            return false;
        };
        if matches!(
            known.state,
            TaskState::Starting | TaskState::Prepared { .. }
        ) {
            let running = TaskState::Running {
                progress: Progress::default(),
            };
            return self.moved(uid, task, running, now);
        }
        true
    }

    /// A task's links ran out; whether the task is known.
    pub fn wants_links(&mut self, uid: &str, task: &TaskId) -> bool {
        let task = self.task_mut(uid, task);
        task.map(|task| task.wants_links = true).is_some()
    }

    /// A task's transfer fails, or goes on again; whether the task is known.
    pub fn store_error(&mut self, uid: &str, task: &TaskId, error: Option<String>) -> bool {
        let task = self.task_mut(uid, task);
        task.map(|task| task.store_error = error).is_some()
    }

    fn task_mut(&mut self, uid: &str, task: &TaskId) -> Option<&mut Task> {
        self.workers.get_mut(uid)?.tasks.get_mut(task)
    }

    /// The tasks of a job, wherever they are.
    #[must_use]
    pub fn held_by(&self, job_uid: &str) -> Vec<WorkerTask> {
        let workers = self.by_job.get(job_uid).into_iter().flatten();
        let workers = workers.filter_map(|uid| self.workers.get(uid));
        let mut held: Vec<WorkerTask> = workers
            .flat_map(|worker| {
                worker
                    .tasks
                    .iter()
                    .map(move |(id, task)| (worker, id, task))
            })
            .filter(|(_, id, _)| id.job_uid == job_uid)
            .map(|(worker, id, task)| WorkerTask {
                task: id.clone(),
                worker: worker.greeting.worker.clone(),
                state: task.state.clone(),
                changed_at: task.changed_at,
                may_proceed: false,
                wants_links: task.wants_links,
                store_error: task.store_error.clone(),
            })
            .collect();
        held.sort_by(|a, b| a.task.cmp(&b.task));
        held
    }

    /// When a worker first said that it computes a task, whether it still holds it or not.
    #[must_use]
    pub fn begun_at(&self, uid: &str, task: &TaskId) -> Option<Timestamp> {
        self.workers.get(uid)?.begun.get(task).copied()
    }

    /// The tasks of a job that have succeeded and are not acknowledged, each with the pod UID of its worker, and what they made.
    #[must_use]
    pub fn succeeded(&self, job_uid: &str) -> BTreeMap<(String, TaskId), Vec<OutputFile>> {
        let workers = self.by_job.get(job_uid).into_iter().flatten();
        let workers = workers.filter_map(|uid| Some((uid, self.workers.get(uid)?)));
        workers
            .flat_map(|(uid, worker)| worker.tasks.iter().map(move |task| (uid, task)))
            .filter(|(_, (id, _))| id.job_uid == job_uid)
            .filter_map(|(uid, (id, task))| {
                if let TaskState::Finished {
                    outcome: Outcome::Succeeded { outputs, .. },
                } = &task.state
                {
                    return Some(((uid.clone(), id.clone()), outputs.clone()));
                }
                None
            })
            .collect()
    }

    /// Tasks of jobs that `is_known` does not know, by UID.
    #[must_use]
    pub fn orphans(&self, is_known: impl Fn(&str) -> bool) -> Vec<Orphan> {
        let unknown = self.by_job.iter().filter(|(job, _)| !is_known(job));
        let mut orphans: Vec<Orphan> = unknown
            .flat_map(|(job, workers)| workers.iter().map(move |uid| (job, uid)))
            .filter_map(|(job, uid)| Some((job, self.workers.get(uid)?)))
            .filter(|(_, worker)| worker.session.is_some())
            .flat_map(|(job, worker)| {
                let tasks = worker.tasks.iter().filter(move |(id, task)| {
                    id.job_uid == *job && task.state != TaskState::Stopping
                });
                tasks.map(move |(id, task)| Orphan {
                    task: id.clone(),
                    job: task.job.clone(),
                    worker: worker.greeting.worker.clone(),
                })
            })
            .collect();
        orphans.sort_by(|a, b| a.task.cmp(&b.task));
        orphans
    }

    /// UIDs of the jobs whose tasks a worker holds.
    #[must_use]
    pub fn jobs_of(&self, uid: &str) -> Vec<String> {
        let tasks = self
            .workers
            .get(uid)
            .into_iter()
            .flat_map(|worker| worker.tasks.keys());
        tasks.map(|task| task.job_uid.clone()).collect()
    }
}

/// Whether the worker is past preparing. One that ended may never have computed.
pub(super) fn computes(state: &TaskState) -> bool {
    match state {
        TaskState::Running { .. } | TaskState::Uploading { .. } => true,
        TaskState::Starting
        | TaskState::Prepared { .. }
        | TaskState::Stopping
        | TaskState::Finished { .. } => false,
    }
}
