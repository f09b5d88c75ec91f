//! What is known about one job at one moment: the whole input of the plan. Plain data.

use std::collections::{BTreeMap, BTreeSet};

use framewright_crds::aijob::{AIJobSpec, AIJobStatus, Cause, StepModel};
use framewright_crds::names::TaskId;
use framewright_crds::protocol::TaskState;
use jiff::{SignedDuration, Timestamp};

use crate::clock::Jumps;
use crate::jobs::admission::Admission;
use crate::jobs::plan::Outcome;
use crate::names::{PoolName, WorkerRef};

/// One job and what surrounds it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub generation: Option<i64>,
    pub created: Timestamp,
    pub spec: AIJobSpec,
    /// The newest status that the API server has confirmed. Orders follow from it alone.
    pub status: AIJobStatus,
    /// Whether its work may start.
    pub admission: Admission,
    /// What is recorded of what the job has used: it may end so.
    pub recorded: Option<Outcome>,
    /// Value of the annotation that asks for new links.
    pub renew_links: Option<String>,
    pub now: Timestamp,
    /// How the clock has jumped since the times in the status were written.
    pub jumps: Jumps,
    /// When the status was written last, as far as this process knows.
    pub written_at: Option<Timestamp>,
    /// Digests of the uploads that are in the store.
    pub received: BTreeSet<String>,
    /// Why the store could not be asked, if so.
    pub store_error: Option<String>,
    /// For each step by name.
    pub steps: BTreeMap<String, StepSnapshot>,
    /// The tasks of this job that workers hold.
    pub held: Vec<WorkerTask>,
    /// The job is being deleted, and these finalizers keep it; none if it is not.
    pub kept_by: Vec<String>,
}

impl Snapshot {
    /// How long ago that was, whatever the clock showed then.
    #[must_use]
    pub fn elapsed(&self, since: Timestamp) -> SignedDuration {
        self.now.duration_since(self.jumps.shifted(since))
    }

    /// When a limit ends that counts from then.
    #[must_use]
    pub fn end(&self, since: Timestamp, limit: SignedDuration) -> Option<Timestamp> {
        self.jumps.shifted(since).checked_add(limit).ok()
    }

    /// Whether no worker is to begin anything, though the job is not over.
    #[must_use]
    pub fn is_held_back(&self) -> bool {
        self.spec.suspend || !self.kept_by.is_empty() || self.admission != Admission::Admitted
    }
}

/// What surrounds one step.
#[derive(Clone, Debug, Default)]
pub struct StepSnapshot {
    /// Where it can run.
    pub resolution: Option<Resolution>,
    /// The worker that the scheduler chose for it.
    pub binding: Option<Binding>,
    /// The worker of its open attempt.
    pub presence: Option<Presence>,
    /// When that worker's pod ends, if its deletion was asked for.
    pub leaves_at: Option<Timestamp>,
    /// How that worker's process ended since the attempt was bound, if it did.
    pub restart: Option<Ended>,
    /// When that worker first said that it computes the attempt, even if it does not hold it any more.
    pub begun_at: Option<Timestamp>,
}

/// The scheduler's choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    pub worker: WorkerRef,
    pub pool: PoolName,
    /// The models that the step runs with there.
    pub models: Vec<StepModel>,
}

/// Where a step can run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// In one of these; the first problem of a pool, if none of them is ready.
    Pools {
        pools: Vec<PoolName>,
        problem: Option<PoolProblem>,
    },
    /// No pool in these namespaces has it.
    NotFound {
        what: Missing,
        searched: Vec<String>,
    },
    /// The pool that poolRef names does not exist.
    PoolNotFound { pool: PoolName },
    /// The pool that poolRef names does not have it; it has these.
    NotInPool {
        pool: PoolName,
        what: Missing,
        has: Vec<String>,
    },
    /// The pool exists and does not let this namespace in.
    NotAllowed { pool: PoolName },
}

/// What a step asks for and no pool has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The model of that name.
    Model(String),
    /// The pipeline of that name.
    Pipeline(String),
}

/// Why a pool takes no task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolProblem {
    pub pool: PoolName,
    pub reason: String,
    /// In the words of its status. A waiting job does not repeat them: they change often.
    pub message: String,
}

/// Whether the worker of an open attempt is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Its stream is open.
    Connected,
    /// The pod is there, its stream is not.
    Away { since: Timestamp },
    /// The pod is gone for good, or its container ended.
    Gone(Ended),
}

/// How a worker's process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub cause: Cause,
    pub message: String,
}

/// A task on a worker.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerTask {
    pub task: TaskId,
    pub worker: WorkerRef,
    pub state: TaskState,
    /// When its state or progress last changed.
    pub changed_at: Timestamp,
    /// It is prepared, and may compute.
    pub may_proceed: bool,
    /// Its links have expired, and it asked for new ones.
    pub wants_links: bool,
    /// Why its transfer from or to the store is tried again, if it is.
    pub store_error: Option<String>,
}
