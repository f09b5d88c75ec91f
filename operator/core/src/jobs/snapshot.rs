//! What is known about one job at one moment: the whole input of the plan. Plain data.

use std::collections::{BTreeMap, BTreeSet};

use framewright_crds::AIJob;
use framewright_crds::aijob::{AIJobSpec, AIJobStatus, Attempt, Cause, StepModel};
use framewright_crds::deletion::kept_by;
use framewright_crds::names::{OwnerKind, TaskId};
use framewright_crds::protocol::TaskState;
use jiff::{SignedDuration, Timestamp};
use kube_core::ResourceExt;

use crate::clock::Jumps;
use crate::engine::Settings;
use crate::engine::interface::Now;
use crate::engine::term::{PodCheck, Term};
use crate::engine::world::World;
use crate::jobs::admission::{Admission, Gate};
use crate::jobs::plan::{Outcome, is_finished};
use crate::jobs::{attempt, pool_selection};
use crate::links::{Place, renewal};
use crate::names::{PoolName, WorkerRef};
use crate::pools::pod as pods;
use crate::schedule::gather;

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
    /// Whose artifacts the job's files are.
    #[must_use]
    pub fn place(&self) -> Place<'_> {
        Place {
            namespace: &self.namespace,
            kind: OwnerKind::AIJobs,
            uid: &self.uid,
        }
    }

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
        what: NotProvided,
        searched: Vec<String>,
    },
    /// The pool that poolRef names does not exist.
    PoolNotFound { pool: PoolName },
    /// The pool that poolRef names does not have it; it has these.
    NotInPool {
        pool: PoolName,
        what: NotProvided,
        has: Vec<String>,
    },
    /// The pool exists and does not let this namespace in.
    NotAllowed { pool: PoolName },
}

/// What a step asks for and no pool has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotProvided {
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

/// Takes the snapshot of one job.
pub(crate) fn take(
    world: &World,
    term: &Term,
    settings: &Settings,
    job: &AIJob,
    (now, jumps): (Now, &Jumps),
) -> Snapshot {
    let uid = job.uid().unwrap_or_default();
    let status = job.status.clone().unwrap_or_default();
    let is_over = is_finished(&status);
    let received = if is_over {
        BTreeSet::new()
    } else {
        term.files.received(&uid, &status.files)
    };
    let created = job.metadata.creation_timestamp.as_ref();
    Snapshot {
        namespace: job.namespace().unwrap_or_default(),
        name: job.name_any(),
        generation: job.metadata.generation,
        created: created.map_or(now.wall, |created| created.0),
        spec: job.spec.clone(),
        renew_links: renewal(job.annotations()),
        now: now.wall,
        jumps: jumps.clone(),
        written_at: term.jobs.get(&uid).and_then(|state| state.written_at),
        received,
        store_error: term.files.error().filter(|_| !is_over).cloned(),
        steps: if is_over {
            BTreeMap::new()
        } else {
            steps(world, term, &settings.catalog, job)
        },
        held: held(term, &uid, settings.gate.as_ref()),
        admission: settings.gate.may_start(job),
        recorded: term.jobs.get(&uid).and_then(|state| state.recorded.clone()),
        kept_by: kept_by(&job.metadata),
        uid,
        status,
    }
}

/// The tasks of a job that workers hold, and whether those that wait for it may compute.
fn held(term: &Term, job_uid: &str, gate: &dyn Gate) -> Vec<WorkerTask> {
    let mut held = term.sessions.held_by(job_uid);
    for held in &mut held {
        if let TaskState::Prepared { units } = held.state {
            held.may_proceed = gate.may_proceed(&held.task, units);
        }
    }
    held
}

fn steps(
    world: &World,
    term: &Term,
    catalog: &[String],
    job: &AIJob,
) -> BTreeMap<String, StepSnapshot> {
    let uid = job.uid().unwrap_or_default();
    let namespace = job.namespace().unwrap_or_default();
    let known = job.status.as_ref().map_or(&[][..], |status| &status.steps);
    let snapshot = job.spec.steps.iter().map(|step| {
        let known = known.iter().find(|status| status.name == step.name);
        let is_over = known.is_some_and(|known| known.state.is_terminal());
        if is_over {
            return (step.name.clone(), StepSnapshot::default());
        }
        let open = known.and_then(attempt::open);
        let (presence, leaves_at, restart) = match open {
            Some(open) => {
                let (presence, leaves_at, restart) = worker(world, term, open);
                (Some(presence), leaves_at, restart)
            }
            None => (None, None, None),
        };
        let placement = term.scheduler.placement(&uid, &step.name);
        let snapshot = StepSnapshot {
            resolution: gather::requires(step).map(|requires| {
                pool_selection::resolve(
                    &namespace,
                    step.pool_ref.as_ref(),
                    &requires,
                    world.facts(),
                    catalog,
                    &world.namespaces,
                )
            }),
            binding: placement.map(|placement| Binding {
                worker: placement.worker.clone(),
                pool: placement.pool.clone(),
                models: placement.models.clone(),
            }),
            presence,
            leaves_at,
            restart,
            begun_at: open.and_then(|open| {
                let task = attempt::task_id(&uid, &step.name, open.number);
                term.sessions.begun_at(&open.worker.uid, &task)
            }),
        };
        (step.name.clone(), snapshot)
    });
    snapshot.collect()
}

/// The worker of an attempt: whether it is there, when its pod ends, if that was asked for, and how its process ended, if it did.
fn worker(
    world: &World,
    term: &Term,
    open: &Attempt,
) -> (Presence, Option<Timestamp>, Option<Ended>) {
    let stream = term.sessions.presence(&open.worker.uid);
    let pod = world.pod(&WorkerRef::from(&open.worker));
    let is_gone = pod.is_none()
        && stream != Some(Presence::Connected)
        && term.pod_checks.get(&open.worker.uid) == Some(&PodCheck::Gone);
    let leaves_at = pod.and_then(|pod| pods::leaves_at(pod));
    let restart = pod.and_then(|pod| pods::ended_since(pod, open.bound_at.0));
    let is_leaving = world.is_leaving(&open.worker.uid);
    let presence = attempt::presence(
        open,
        stream,
        (!is_gone, is_leaving),
        restart.as_ref(),
        term.since,
    );
    (presence, leaves_at, restart)
}
