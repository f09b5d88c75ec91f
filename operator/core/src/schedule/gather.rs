//! What the scheduler works with, out of the jobs' statuses: the steps that could run, and the tasks that are bound. No I/O, no clock.

use std::collections::{BTreeMap, BTreeSet};

use framewright_crds::AIJob;
use framewright_crds::aijob::{Step, StepState, StepStatus};
use framewright_crds::names::TaskId;
use framewright_crds::protocol::OutputFile;
use jiff::Timestamp;
use kube_core::ResourceExt;

use crate::clock::Jumps;
use crate::jobs::plan::is_finished;
use crate::jobs::pool_selection::{NamespaceLabels, PoolFacts, resolve};
use crate::jobs::snapshot::Resolution;
use crate::jobs::{attempt, steps};
use crate::schedule::{Pending, Requires};

/// What surrounds the jobs.
pub struct Around<'a> {
    pub pools: &'a [PoolFacts],
    pub catalog: &'a [String],
    pub labels: &'a NamespaceLabels,
    pub now: Timestamp,
    pub jumps: &'a Jumps,
    /// Whether the job may start.
    pub may_start: bool,
}

/// What the scheduler needs to know of a job.
#[derive(Debug, Default)]
pub struct Gathered {
    pub pending: Vec<Pending>,
    /// Tasks that are bound, each with the UID of its pod.
    pub tasks: Vec<(String, TaskId)>,
}

/// Gathers it from the newest known state of a live job. `received` are the digests of its uploads that have come, `succeeded` the
/// tasks that have succeeded, as their bound workers say, each with the UID of its pod, and what they made; no status may say so yet.
#[must_use]
pub fn gather(
    job: &AIJob,
    around: &Around<'_>,
    received: &BTreeSet<String>,
    succeeded: &BTreeMap<(String, TaskId), Vec<OutputFile>>,
) -> Gathered {
    let (Some(namespace), Some(uid)) = (job.namespace(), job.uid()) else {
        return Gathered::default();
    };
    let known = job.status.as_ref().map_or(&[][..], |status| &status.steps);
    let steps = steps::foreseen(&uid, known, succeeded);
    let owner = (namespace.as_str(), uid.as_str());
    Gathered {
        pending: pending_steps(job, owner, &steps, around, received),
        tasks: open_tasks(&steps, &uid),
    }
}

/// Whether a job is neither over nor being deleted.
#[must_use]
pub fn is_live(job: &AIJob) -> bool {
    job.metadata.deletion_timestamp.is_none() && !job.status.as_ref().is_some_and(is_finished)
}

/// A job's open attempts, each with the UID of the pod that it is bound to.
fn open_tasks(steps: &[StepStatus], uid: &str) -> Vec<(String, TaskId)> {
    steps
        .iter()
        .filter(|step| !step.state.is_terminal())
        .filter_map(|step| {
            let open = attempt::open(step)?;
            Some((
                open.worker.uid.clone(),
                attempt::task_id(uid, &step.name, open.number),
            ))
        })
        .collect()
}

/// What a step needs of a worker; none of a step whose pipeline this version does not know.
#[must_use]
pub fn requires(step: &Step) -> Option<Requires> {
    let models = step.models().into_iter();
    Some(Requires {
        pipeline: step.pipeline()?.spec().name.to_owned(),
        models: models
            .map(|(role, name)| (role.to_owned(), name.to_owned()))
            .collect(),
    })
}

fn pending_steps(
    job: &AIJob,
    (namespace, uid): (&str, &str),
    known_steps: &[StepStatus],
    around: &Around<'_>,
    received: &BTreeSet<String>,
) -> Vec<Pending> {
    if job.spec.suspend || !around.may_start {
        return Vec::new();
    }
    let created = job
        .metadata
        .creation_timestamp
        .as_ref()
        .map_or(around.now, |created| created.0);
    let is_doomed = known_steps
        .iter()
        .any(|step| step.state == StepState::Failed);
    if is_doomed {
        return Vec::new();
    }
    let pending = |(position, step): (usize, &Step)| {
        let known = known_steps.iter().find(|known| known.name == step.name);
        if !steps::is_pending(
            step,
            known,
            known_steps,
            received,
            (around.now, around.jumps),
        ) {
            return None;
        }
        let requires = requires(step)?;
        let resolution = resolve(
            namespace,
            step.pool_ref.as_ref(),
            &requires,
            around.pools,
            around.catalog,
            around.labels,
        );
        let pools = match resolution {
            Resolution::Pools { pools, .. } => pools,
            Resolution::NotFound { .. }
            | Resolution::PoolNotFound { .. }
            | Resolution::NotInPool { .. }
            | Resolution::NotAllowed { .. } => Vec::new(),
        };
        let attempts = known.iter().flat_map(|known| &known.attempts);
        let makers = step
            .inputs
            .iter()
            .filter_map(|input| input.from_step.as_ref())
            .filter_map(|from| {
                let maker = known_steps.iter().find(|maker| maker.name == from.name)?;
                Some(maker.attempts.last()?.worker.uid.clone())
            });
        Some(Pending {
            job_uid: uid.to_owned(),
            step: step.name.clone(),
            namespace: namespace.to_owned(),
            requires,
            pools,
            priority: job.spec.priority,
            created,
            position,
            avoid: attempts
                .filter(|attempt| attempt.cause.is_some())
                .map(|attempt| attempt.worker.uid.clone())
                .collect(),
            near: makers.collect(),
        })
    };
    job.spec
        .steps
        .iter()
        .enumerate()
        .filter_map(pending)
        .collect()
}
