//! The workers that have dialled in, what they hold, and the commands on their way to each. A new leader learns it again from the
//! workers.
//!
//! # Layout
//! - here: sessions that open and close, and what each worker is told of models
//! - [`tasks`]: the tasks that workers hold
//! - [`views`]: what the scheduler, jobs and pools want to know

mod tasks;
mod views;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use framewright_crds::modelpool::Device;
use framewright_crds::names::TaskId;
use framewright_crds::protocol::{
    Command, LoadedModel, ModelConfig, ModelState, TaskReport, TaskState,
};
use jiff::{SignedDuration, Timestamp};

use crate::clock::Jumps;
use crate::names::{PoolName, WorkerRef};
use crate::workers::validate::TASKS_LIMIT;
pub use tasks::Orphan;
use tasks::Task;
pub use views::Connected;

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
            if tasks::computes(&state) {
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
