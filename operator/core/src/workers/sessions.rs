//! The workers that have opened a session, their tasks, and the commands on their way to each. A new leader learns all of it from the
//! workers' Hello messages.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use framewright_crds::aijob::Progress;
use framewright_crds::modelpool::Device;
use framewright_crds::names::{ArtifactRole, TaskId};
use framewright_crds::protocol::{
    Command, LoadedModel, ModelConfig, ModelState, Outcome, OutputFile, RunTask, TaskReport,
    TaskState, WorkerMessage,
};
use jiff::{SignedDuration, Timestamp};

use super::validate::{self, OUTPUTS_LIMIT, TASKS_LIMIT};
use crate::clock::Jumps;
use crate::jobs::snapshot::{Presence, WorkerTask};
use crate::names::{PoolName, WorkerRef};
use crate::pools::eviction_protection::is_quiet;
use crate::pools::snapshot::StreamSnapshot;
use crate::schedule::{Provides, Slots};

/// How long a worker that went away is remembered.
const REMEMBERED: SignedDuration = SignedDuration::from_mins(10);

/// Tasks of a worker whose beginnings are remembered.
const BEGUN_LIMIT: usize = 2 * TASKS_LIMIT;
/// How long a task may take to stop; a worker that cannot stop one ends before.
const STOP_LIMIT: SignedDuration = SignedDuration::from_mins(10);

/// One connection of a worker.
pub type SessionId = u64;

/// All workers, by pod UID.
#[derive(Debug, Default)]
pub struct Sessions {
    workers: HashMap<String, Worker>,
    /// The pod UIDs of the workers that hold tasks of a job, by the job's UID.
    by_job: HashMap<String, BTreeSet<String>>,
    /// Commands that were given and are to be sent.
    outbox: Vec<(SessionId, Command)>,
}

/// What a worker says of itself when it dials in.
#[derive(Clone, Debug)]
pub struct Greeting {
    pub worker: WorkerRef,
    pub pool: PoolName,
    pub device: Device,
    pub device_error: Option<String>,
    pub slots: u32,
    pub pipelines: Vec<String>,
    pub loaded: Vec<LoadedModel>,
    pub tasks: Vec<TaskReport>,
}

#[derive(Debug)]
struct Worker {
    greeting: Greeting,
    session: Option<SessionId>,
    away_since: Option<Timestamp>,
    /// It said itself that it ends.
    is_ending: bool,
    /// Its pool wants it gone.
    is_drained: bool,
    /// Which models it was told to hold in this session.
    configured: Option<String>,
    /// The models that it was last told to hold, each with its digest.
    wanted: BTreeMap<String, String>,
    models: BTreeMap<String, (String, ModelState)>,
    /// Digests of the models that are loaded on its device.
    loaded: BTreeSet<String>,
    /// When it gave back the last task that it had.
    last_busy: Option<Timestamp>,
    tasks: BTreeMap<TaskId, Task>,
    /// When it first said that it computes a task; kept when a new process of it does not hold the task any more.
    begun: BTreeMap<TaskId, Timestamp>,
}

impl Sessions {
    /// A worker has dialled in; the older session of the same pod, which ends.
    pub fn open(&mut self, greeting: Greeting, id: SessionId, now: Timestamp) -> Option<SessionId> {
        let uid = greeting.worker.uid.clone();
        let tasks = greeting.tasks.clone();
        let old_jobs = self.jobs_of(&uid);
        let known = match self.workers.entry(uid.clone()) {
            std::collections::hash_map::Entry::Occupied(known) => {
                let known = known.into_mut();
                known.greeting = greeting;
                known
            }
            std::collections::hash_map::Entry::Vacant(entry) => entry.insert(Worker {
                greeting,
                session: None,
                away_since: None,
                is_ending: false,
                is_drained: false,
                configured: None,
                wanted: BTreeMap::new(),
                models: BTreeMap::new(),
                loaded: BTreeSet::new(),
                last_busy: None,
                tasks: BTreeMap::new(),
                begun: BTreeMap::new(),
            }),
        };
        let replaced = known.session.replace(id);
        known.away_since = None;
        known.is_ending = false;
        known.configured = None;
        known.loaded = digests(std::mem::take(&mut known.greeting.loaded));
        // What it holds is what it says, except that an unchanged task keeps the time of its last change.
        let mut held = BTreeMap::new();
        for TaskReport { task, job, state } in tasks {
            let (changed_at, store_error) = match known.tasks.get(&task) {
                Some(old) if old.state == state => (old.changed_at, old.store_error.clone()),
                Some(_) | None => (now, None),
            };
            if computes(&state) {
                known.begun.entry(task.clone()).or_insert(now);
            }
            held.insert(
                task,
                Task {
                    job,
                    waits: None,
                    state,
                    changed_at,
                    wants_links: false,
                    store_error,
                },
            );
        }
        if held.is_empty() && !known.tasks.is_empty() {
            known.last_busy = Some(now);
        }
        known.tasks = held;
        if known.begun.len() > BEGUN_LIMIT {
            let Worker { begun, tasks, .. } = known;
            begun.retain(|task, _| tasks.contains_key(task));
        }
        let new_jobs: Vec<String> = known
            .tasks
            .keys()
            .map(|task| task.job_uid.clone())
            .collect();
        for job in old_jobs.iter().chain(&new_jobs) {
            self.index(&uid, job);
        }
        if let Some(replaced) = replaced {
            self.outbox.retain(|(session, _)| *session != replaced);
        }
        replaced
    }

    /// A session has ended; the worker whose it was, unless its pod has a newer session.
    pub fn close(&mut self, id: SessionId, uid: &str, now: Timestamp) -> bool {
        self.outbox.retain(|(session, _)| *session != id);
        let Some(worker) = self.workers.get_mut(uid) else {
            return false;
        };
        if worker.session != Some(id) {
            return false;
        }
        worker.session = None;
        worker.away_since = Some(now);
        true
    }

    /// Forgets pods that are gone. A clock that was set back has left times ahead of it: they become now.
    pub fn forget_gone(
        &mut self,
        (now, jumps): (Timestamp, &Jumps),
        is_there: impl Fn(&WorkerRef) -> bool,
    ) {
        let elapsed = |since| now.duration_since(jumps.shifted(since));
        let mut forgotten = Vec::new();
        self.workers.retain(|uid, worker| {
            let known = [worker.away_since.as_mut(), worker.last_busy.as_mut()];
            let tasks = worker.tasks.values_mut().map(|task| &mut task.changed_at);
            let times = known.into_iter().flatten().chain(tasks);
            for time in times.chain(worker.begun.values_mut()) {
                *time = now.min(*time);
            }
            let Worker { begun, tasks, .. } = worker;
            tasks.retain(|task, held| {
                let is_kept =
                    held.state != TaskState::Stopping || elapsed(held.changed_at) < STOP_LIMIT;
                if !is_kept {
                    forgotten.push((uid.clone(), task.job_uid.clone()));
                }
                is_kept
            });
            begun.retain(|task, at| tasks.contains_key(task) || elapsed(*at) < REMEMBERED);
            let away = worker.away_since.map(elapsed);
            let is_kept = worker.session.is_some()
                || (is_there(&worker.greeting.worker) && away.is_none_or(|away| away < REMEMBERED));
            if !is_kept {
                forgotten.extend(tasks.keys().map(|task| (uid.clone(), task.job_uid.clone())));
            }
            is_kept
        });
        for (uid, job) in forgotten {
            self.index(&uid, &job);
        }
    }

    /// Gives a worker a command; false when it has no session.
    pub fn send(&mut self, uid: &str, command: Command) -> bool {
        let Some(session) = self.workers.get(uid).and_then(|worker| worker.session) else {
            return false;
        };
        self.outbox.push((session, command));
        true
    }

    /// The commands that were given since this was last asked.
    pub fn take_outbox(&mut self) -> Vec<(SessionId, Command)> {
        std::mem::take(&mut self.outbox)
    }

    /// Sends the pool's models, unless the worker has been sent the same in this session.
    pub fn configure(&mut self, uid: &str, key: &str, models: impl FnOnce() -> Vec<ModelConfig>) {
        let Some(worker) = self
            .workers
            .get_mut(uid)
            .filter(|worker| worker.configured.as_deref() != Some(key))
        else {
            return;
        };
        let Some(session) = worker.session else {
            return;
        };
        let models = models();
        worker.configured = Some(key.to_owned());
        worker.wanted = models
            .iter()
            .map(|model| (model.name.clone(), model.digest.clone()))
            .collect();
        let Worker {
            wanted,
            models: held,
            ..
        } = worker;
        held.retain(|name, (digest, _)| wanted.get(name) == Some(digest));
        self.outbox.push((session, Command::Configure { models }));
    }

    /// The links for weights have expired: the models are sent again even if nothing else changed.
    pub fn configure_again(&mut self, uid: &str) {
        if let Some(worker) = self.workers.get_mut(uid) {
            worker.configured = None;
        }
    }

    /// What is loaded on a worker's device has changed.
    pub fn loaded(&mut self, uid: &str, models: Vec<LoadedModel>) {
        if let Some(worker) = self.workers.get_mut(uid) {
            worker.loaded = digests(models);
        }
    }

    /// A model's state on a worker has changed. Of models and weights that it was not told to hold nothing is kept.
    pub fn model(&mut self, uid: &str, name: &str, digest: &str, state: ModelState) {
        if let Some(worker) = self.workers.get_mut(uid)
            && worker
                .wanted
                .get(name)
                .is_some_and(|wanted| wanted == digest)
        {
            worker
                .models
                .insert(name.to_owned(), (digest.to_owned(), state));
        }
    }

    /// The worker takes no new task and ends.
    pub fn ending(&mut self, uid: &str) {
        if let Some(worker) = self.workers.get_mut(uid) {
            worker.is_ending = true;
        }
    }

    /// Sets whether a worker gets new tasks; whether that is new.
    pub fn drain(&mut self, uid: &str, is_drained: bool) -> bool {
        self.workers.get_mut(uid).is_some_and(|worker| {
            std::mem::replace(&mut worker.is_drained, is_drained) != is_drained
        })
    }

    /// Notes whether a worker holds tasks of a job.
    fn index(&mut self, uid: &str, job: &str) {
        let holds = self
            .workers
            .get(uid)
            .is_some_and(|worker| worker.tasks.keys().any(|task| task.job_uid == job));
        if holds {
            let workers = self.by_job.entry(job.to_owned()).or_default();
            workers.insert(uid.to_owned());
        } else if let Some(workers) = self.by_job.get_mut(job) {
            workers.remove(uid);
            if workers.is_empty() {
                self.by_job.remove(job);
            }
        }
    }
}

fn digests(models: Vec<LoadedModel>) -> BTreeSet<String> {
    models.into_iter().map(|model| model.digest).collect()
}

// Tasks.

/// A task on a worker.
#[derive(Clone, Debug)]
struct Task {
    job: String,
    state: TaskState,
    /// Whether it waits, once it is prepared, until it may compute; not known of one that an earlier leader sent.
    waits: Option<bool>,
    changed_at: Timestamp,
    wants_links: bool,
    store_error: Option<String>,
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
    /// Sends a task. It counts as the worker's from now on, before the worker has confirmed it. Returns None without a session, and
    /// otherwise whether the worker was idle.
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

    /// The inputs of a task are there. Only a task that may have to wait for
    /// Proceed enters this state. Whether the task is known.
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
fn computes(state: &TaskState) -> bool {
    match state {
        TaskState::Running { .. } | TaskState::Uploading { .. } => true,
        TaskState::Starting
        | TaskState::Prepared { .. }
        | TaskState::Stopping
        | TaskState::Finished { .. } => false,
    }
}

// Messages.

/// What a message is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Concerns {
    Nothing,
    /// The worker itself, and so its pool.
    Worker,
    /// The job with this UID.
    Job(String),
}

/// Takes in one message. Every message may come twice.
pub fn receive(
    sessions: &mut Sessions,
    uid: &str,
    message: WorkerMessage,
    now: Timestamp,
) -> Concerns {
    let Some(message) = validate::message(message) else {
        return Concerns::Nothing;
    };
    let (task, is_known) = match message {
        // Only the first message of a session is a Hello.
        WorkerMessage::Hello(_) | WorkerMessage::Unknown => return Concerns::Nothing,
        WorkerMessage::Model {
            name,
            digest,
            state,
        } => {
            sessions.model(uid, &name, &digest, state);
            return Concerns::Worker;
        }
        WorkerMessage::Started { task } => {
            let is_known = sessions.started(uid, &task, now);
            (task, is_known)
        }
        WorkerMessage::Progress { task, progress } => {
            let is_known = sessions.moved(uid, &task, TaskState::Running { progress }, now);
            (task, is_known)
        }
        WorkerMessage::Prepared { task, units } => {
            let is_known = sessions.prepared(uid, &task, units, now);
            (task, is_known)
        }
        WorkerMessage::UploadRequest {
            task,
            role: ArtifactRole::Output,
            file,
        } => {
            let is_known = sessions.wants_upload(uid, &task, file, now);
            (task, is_known)
        }
        // Only outputs are uploaded so far.
        WorkerMessage::UploadRequest { .. } => return Concerns::Nothing,
        WorkerMessage::Loaded { models, free: _ } => {
            sessions.loaded(uid, models);
            return Concerns::Worker;
        }
        WorkerMessage::Finished { task, outcome } => {
            let is_known = sessions.moved(uid, &task, TaskState::Finished { outcome }, now);
            (task, is_known)
        }
        WorkerMessage::RenewLinks { task: Some(task) } => {
            let is_known = sessions.wants_links(uid, &task);
            (task, is_known)
        }
        WorkerMessage::StoreError { task, error } => {
            let is_known = sessions.store_error(uid, &task, error);
            (task, is_known)
        }
        WorkerMessage::Stopped { task } => {
            sessions.stopped(uid, &task, now);
            return Concerns::Worker;
        }
        WorkerMessage::RenewLinks { task: None } => {
            sessions.configure_again(uid);
            return Concerns::Worker;
        }
        WorkerMessage::Draining => {
            sessions.ending(uid);
            return Concerns::Worker;
        }
    };
    // A worker that was told to forget a task may still say something about it.
    if is_known {
        Concerns::Job(task.job_uid)
    } else {
        Concerns::Nothing
    }
}

// Queries.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_whose_weights_were_changed_is_ready_when_the_worker_has_the_new_ones() {
        let mut sessions = Sessions::default();
        let greeting = Greeting {
            worker: WorkerRef {
                namespace: "fleet".to_owned(),
                name: "w".to_owned(),
                uid: "u".to_owned(),
            },
            pool: PoolName {
                namespace: "fleet".to_owned(),
                name: "p".to_owned(),
            },
            device: Device::Cpu,
            device_error: None,
            slots: 1,
            pipelines: vec!["upscale".to_owned()],
            loaded: Vec::new(),
            tasks: Vec::new(),
        };
        sessions.open(greeting, 1, Timestamp::UNIX_EPOCH);
        let configure = |sessions: &mut Sessions, digest: &str| {
            let model = ModelConfig {
                name: "x2".to_owned(),
                digest: digest.to_owned(),
                files: Vec::new(),
            };
            sessions.configure("u", digest, || vec![model]);
        };
        let ready = |sessions: &Sessions| {
            let slots = sessions.slots("u", &BTreeSet::new());
            slots.and_then(|slots| slots.provides.models.get("x2").cloned())
        };
        configure(&mut sessions, "old");
        sessions.model("u", "x2", "old", ModelState::Ready);
        assert_eq!(ready(&sessions).as_deref(), Some("old"));
        configure(&mut sessions, "new");
        assert_eq!(ready(&sessions), None);
        // Said before the worker had heard of the new ones.
        sessions.model("u", "x2", "old", ModelState::Ready);
        assert_eq!(ready(&sessions), None);
        sessions.model("u", "x2", "new", ModelState::Ready);
        assert_eq!(ready(&sessions).as_deref(), Some("new"));
    }
}
