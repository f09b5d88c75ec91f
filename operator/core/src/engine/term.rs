//! What is true in one term of leadership only. It ends in one place: the term is dropped.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use framewright_crds::aijob::AIJobStatus;
use framewright_crds::modelpool::ModelPoolStatus;
use framewright_crds::{AIJob, ModelPool};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::deadlines::Deadlines;
use super::interface::RequestId;
use super::store_files::Files;
use crate::backoff::Backoff;
use crate::jobs::plan::Outcome;
use crate::names::{JobName, PoolName, WorkerRef};
use crate::pools::pod_failures::{Deleted, Failures, Refusals};
use crate::pools::template::Template;
use crate::schedule::scheduler::Scheduler;
use crate::workers::sessions::{Orphan, Sessions};

/// One term.
#[derive(Debug)]
pub struct Term {
    pub epoch: u64,
    /// Workers get a while from then on to dial in.
    pub since: Timestamp,
    pub sessions: Sessions,
    pub scheduler: Scheduler,
    pub files: Files,
    pub jobs: HashMap<String, JobState>,
    pub pools: HashMap<String, PoolState>,
    pub refusals: Refusals,
    /// Which requests about pods fail, by pool.
    pub failures: Failures,
    /// The pods that others delete before they run, by pool.
    pub deleted: Deleted,
    /// The requests that are on their way.
    pub requests: HashMap<RequestId, Open>,
    /// Whether pods that no watch shows are there, by UID.
    pub pod_checks: HashMap<String, PodCheck>,
    pub dirty: Dirty,
    pub deadlines: Deadlines,
    pub writes: Writes,
    /// Jobs whose reason for waiting has changed, and from when on they are decided about.
    pub waiting: BTreeMap<JobName, Duration>,
    /// Jobs about whose orphaned tasks the API server is being asked, as namespace/name.
    pub orphans: BTreeSet<String>,
}

/// What is to be decided about.
#[derive(Debug, Default)]
pub struct Dirty {
    /// Jobs whose steps and tasks may be others now.
    pub gather: BTreeSet<JobName>,
    pub jobs: BTreeSet<JobName>,
    pub pools: BTreeSet<PoolName>,
    /// Pod UIDs of workers whose room may be another now.
    pub workers: BTreeSet<String>,
    pub orphans: bool,
}

impl Dirty {
    pub fn job(&mut self, name: &JobName) {
        self.gather.insert(name.clone());
        self.jobs.insert(name.clone());
    }

    pub fn pool(&mut self, name: &PoolName) {
        self.pools.insert(name.clone());
    }

    pub fn worker(&mut self, uid: &str) {
        self.workers.insert(uid.to_owned());
    }

    pub fn is_empty(&self) -> bool {
        let Dirty {
            gather,
            jobs,
            pools,
            workers,
            orphans,
        } = self;
        gather.is_empty() && jobs.is_empty() && pools.is_empty() && workers.is_empty() && !orphans
    }
}

/// What is known of one job in this term. What is written follows from any newest version; commands follow only once the API server
/// itself has returned the job in this term: a watch may still show what an earlier leader has changed since.
#[derive(Debug, Default)]
pub struct JobState {
    pub is_confirmed: bool,
    /// A request ended in a way that does not say what the job is now: it is read before anything is decided.
    pub is_unknown: bool,
    /// The request about it that is on its way.
    pub request: Option<RequestId>,
    pub written_at: Option<Timestamp>,
    pub backoff: Backoff,
    /// What is recorded of what the job has used.
    pub recorded: Option<Outcome>,
    /// When it was last decided about because its reason for waiting had changed.
    pub reason_changed_at: Option<Duration>,
    /// The newest version of this term whose transitions are published.
    pub published: Option<Arc<AIJob>>,
    /// The version about which deciding has panicked.
    pub panicked: Option<String>,
    /// A job that is over, as it was just read.
    pub fresh: Option<Arc<AIJob>>,
    /// The status that was written last, and the one that the API server made of it, if that is another one.
    pub sent: Option<Box<(AIJobStatus, AIJobStatus)>>,
}

/// What is known of one pool in this term.
#[derive(Debug, Default)]
pub struct PoolState {
    pub is_unknown: bool,
    pub request: Option<RequestId>,
    pub backoff: Backoff,
    /// The newest version of this term whose transitions are published.
    pub published: Option<Arc<ModelPool>>,
    pub panicked: Option<String>,
    /// The status that was written last, and the one that the API server made of it, if that is another one.
    pub sent: Option<Box<(ModelPoolStatus, ModelPoolStatus)>>,
    /// When its status was written last.
    pub written: Option<Duration>,
    /// The pods' template, by the generation of the spec.
    pub template: Option<(Option<i64>, Arc<Template>)>,
    /// What is to be done about pods, in this order.
    pub work: VecDeque<PodWork>,
    /// Something of it was begun; what follows when all is done is decided on a new list.
    pub is_working: bool,
    /// The request about a pod, or for a list of pods, that is on its way.
    pub pod_request: Option<RequestId>,
    pub pod_backoff: Backoff,
    /// The pods, as the API server has just listed them: a watch that does not show a pod proves nothing.
    pub live: Option<Vec<Arc<Pod>>>,
    /// The list has not been compared yet with the pods that were made.
    pub is_list_new: bool,
    /// What was done about pods a moment ago, and until when it is not done again: a watch may not show it yet.
    pub done: BTreeMap<PodWork, Duration>,
    /// How many pods were made since they were listed.
    pub made: usize,
    /// Names that were tried for new pods.
    pub tried: Vec<String>,
}

/// Something to do about a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PodWork {
    Delete(WorkerRef),
    Protect {
        worker: WorkerRef,
        is_protected: bool,
    },
    Create {
        name: String,
    },
}

/// Whether a pod that no watch shows is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodCheck {
    Asked,
    /// It was, and is asked again from then on.
    There {
        until: Duration,
    },
    /// It is gone, and does not come back.
    Gone,
}

/// A request that is on its way.
#[derive(Debug)]
pub enum Open {
    ReadJob {
        name: JobName,
        uid: String,
        /// The newest version that was known when it was asked for.
        known: u64,
    },
    WriteOutcome {
        name: JobName,
        uid: String,
        outcome: Outcome,
    },
    WriteJob {
        name: JobName,
        uid: String,
        before: Arc<AIJob>,
        wanted: Box<AIJobStatus>,
    },
    DeleteJob {
        name: JobName,
        uid: String,
        /// The version that is deleted.
        version: u64,
    },
    ReadPool {
        name: PoolName,
        uid: String,
        known: u64,
    },
    WritePool {
        name: PoolName,
        uid: String,
        before: Arc<ModelPool>,
        wanted: Box<ModelPoolStatus>,
    },
    ListPods {
        pool: PoolName,
        uid: String,
    },
    Pod {
        pool: PoolName,
        uid: String,
        work: PodWork,
    },
    /// Reads the owner of a pod whose name a new pod needs.
    PodOwner {
        pool: PoolName,
        uid: String,
    },
    CheckPod {
        worker_uid: String,
    },
    Orphans {
        job: String,
        tasks: Vec<Orphan>,
    },
}

/// How urgent a status write is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// An end or a binding.
    Step,
    /// Links, and everything about pools.
    Links,
    /// Reasons for waiting, and progress.
    Rest,
}

/// An object whose status is to be written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Object {
    Job(JobName),
    Pool(PoolName),
}

/// The status writes that are due, the most urgent first, and among those the oldest.
#[derive(Debug, Default)]
pub struct Writes {
    by_turn: BTreeMap<(Urgency, u64), Object>,
    turns: HashMap<ObjectKey, (Urgency, u64)>,
    last: u64,
}

type ObjectKey = (bool, String, String);

impl Writes {
    /// A write is due. One that has become more urgent moves up.
    pub fn due(&mut self, object: Object, urgency: Urgency) {
        let key = key(&object);
        if let Some(turn) = self.turns.get(&key) {
            if turn.0 <= urgency {
                return;
            }
            self.by_turn.remove(turn);
        }
        self.last += 1;
        let turn = (urgency, self.last);
        self.by_turn.insert(turn, object);
        self.turns.insert(key, turn);
    }

    /// A write is not due any more.
    pub fn clear(&mut self, object: &Object) {
        if let Some(turn) = self.turns.remove(&key(object)) {
            self.by_turn.remove(&turn);
        }
    }

    /// Takes the next one.
    pub fn pop(&mut self) -> Option<Object> {
        let (_, object) = self.by_turn.pop_first()?;
        self.turns.remove(&key(&object));
        Some(object)
    }
}

fn key(object: &Object) -> ObjectKey {
    match object {
        Object::Job(name) => (true, name.namespace.clone(), name.name.clone()),
        Object::Pool(name) => (false, name.namespace.clone(), name.name.clone()),
    }
}

impl Term {
    pub fn new(epoch: u64, since: Timestamp) -> Term {
        Term {
            epoch,
            since,
            sessions: Sessions::default(),
            scheduler: Scheduler::default(),
            files: Files::default(),
            jobs: HashMap::new(),
            pools: HashMap::new(),
            refusals: Refusals::default(),
            failures: Failures::default(),
            deleted: Deleted::default(),
            requests: HashMap::new(),
            pod_checks: HashMap::new(),
            dirty: Dirty::default(),
            deadlines: Deadlines::default(),
            writes: Writes::default(),
            waiting: BTreeMap::new(),
            orphans: BTreeSet::new(),
        }
    }

    /// UIDs of the jobs that have a task on a pod, whether its worker knows of it or not, and of those whose tasks its worker holds.
    #[must_use]
    pub fn jobs_on(&self, pod_uid: &str) -> BTreeSet<String> {
        let mut jobs = self.scheduler.jobs_on(pod_uid);
        jobs.extend(self.sessions.jobs_of(pod_uid));
        jobs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::ObjectName;

    #[test]
    fn the_most_urgent_write_is_next_and_each_object_is_written_once() {
        let object = |name: &str| Object::Job(ObjectName::new("n", name));
        let mut writes = Writes::default();
        writes.due(object("a"), Urgency::Rest);
        writes.due(object("b"), Urgency::Links);
        writes.due(object("c"), Urgency::Step);
        writes.due(object("a"), Urgency::Step);
        writes.due(object("b"), Urgency::Rest);
        let order: Vec<Object> = std::iter::from_fn(|| writes.pop()).collect();
        assert_eq!(order, [object("c"), object("a"), object("b")]);
    }
}
