//! What becomes of a step that has no worker: it waits for an input, or for a worker, or is bound to one.

use std::collections::{BTreeMap, BTreeSet};

use framewright_crds::aijob::{Attempt, AttemptWorker, Step, StepState, StepStatus};
use framewright_crds::conditions::shortened;
use framewright_crds::names::{TaskId, bare};
use framewright_crds::protocol::OutputFile;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use ring::digest;

use super::deadline::queue_limit;
use super::{Bindings, running};
use crate::clock::Jumps;
use crate::jobs::admission::Admission;
use crate::jobs::plan::retry::one_more;
use crate::jobs::plan::{attempt, inputs, retry, waiting};
use crate::jobs::snapshot::{Binding, Snapshot};
use crate::names::WorkerRef;

/// Attempts that a status remembers.
const ATTEMPTS_KEPT: usize = 4;

/// Whether the scheduler may place this step now.
#[must_use]
pub fn is_pending(
    step: &Step,
    status: Option<&StepStatus>,
    done: &[StepStatus],
    received: &BTreeSet<String>,
    (now, jumps): (Timestamp, &Jumps),
) -> bool {
    let free = status.is_none_or(|status| {
        !status.state.is_terminal()
            && status.state != StepState::Unknown
            && attempt::open(status).is_none()
            && retry::not_before(status, jumps).is_none_or(|at| at <= now)
    });
    free && inputs::missing(step, done, received).is_none()
}

/// The steps as the next status will show them: one whose bound worker has succeeded counts as done, so that what follows from
/// it can be placed before it is written, and one write tells both.
#[must_use]
pub fn foreseen(
    job_uid: &str,
    steps: &[StepStatus],
    succeeded: &BTreeMap<(String, TaskId), Vec<OutputFile>>,
) -> Vec<StepStatus> {
    let mut steps = steps.to_vec();
    for step in &mut steps {
        let outputs = attempt::open(step).and_then(|open| {
            let task = attempt::task_id(job_uid, &step.name, open.number);
            succeeded.get(&(open.worker.uid.clone(), task))
        });
        if let Some(outputs) = outputs {
            step.state = StepState::Succeeded;
            step.outputs = outputs.iter().cloned().map(running::output).collect();
        }
    }
    steps
}

pub(super) fn wait_for_upload(
    snapshot: &Snapshot,
    status: &mut StepStatus,
    input: &str,
    digest: &str,
) {
    let start: String = bare(digest).chars().take(12).collect();
    let mut waits = format!(
        "waits for the upload of input {input} (sha256:{start}…) to the link in status.files"
    );
    if let Some(problem) = &snapshot.store_error {
        waits = shortened(&format!(
            "{waits}; the operator does not know whether the file is there: {problem}"
        ));
    }
    wait_for_input(snapshot, status, waits);
}

/// The step waits for an input, for as long as it may.
pub(super) fn wait_for_input(snapshot: &Snapshot, status: &mut StepStatus, waits: String) {
    status.message = Some(waits.clone());
    if snapshot.spec.suspend {
        status.state = StepState::Blocked;
        status.queued_at = None;
        return;
    }
    let since = status.queued_at.get_or_insert(Time(snapshot.now)).0;
    if snapshot.elapsed(since) >= queue_limit(snapshot) {
        status.state = StepState::Failed;
        status.message = Some(format!(
            "queueDeadlineSeconds ({} s) passed; it {waits}",
            snapshot.spec.queue_deadline_seconds
        ));
        return;
    }
    status.state = StepState::Blocked;
}

pub(super) fn queue_or_bind(
    snapshot: &Snapshot,
    step: &Step,
    status: &mut StepStatus,
    bindings: Bindings,
) {
    if let Admission::Waits { message, .. } = &snapshot.admission {
        return wait_for_input(snapshot, status, shortened(message));
    }
    if snapshot.spec.suspend {
        // Time spent suspended does not count against the queue deadline.
        status.state = StepState::Queued;
        status.queued_at = None;
        status.message = Some("suspended, since spec.suspend is true".to_owned());
        return;
    }
    if status.state == StepState::Blocked {
        // It has waited for an upload; now it waits for a worker.
        status.queued_at = None;
    }
    let since = status.queued_at.get_or_insert(Time(snapshot.now)).0;
    let around = snapshot.steps.get(&step.name);
    let binding = around
        .and_then(|step| step.binding.as_ref())
        .filter(|_| bindings == Bindings::TakenUp);
    if let Some(binding) = binding
        .filter(|_| retry::not_before(status, &snapshot.jumps).is_none_or(|at| at <= snapshot.now))
    {
        bind(snapshot, status, binding);
        return;
    }
    let waits = waiting::reason(snapshot, step);
    if snapshot.elapsed(since) >= queue_limit(snapshot) {
        let waited_for = waiting::in_detail(snapshot, &step.name, waits);
        status.state = StepState::Failed;
        status.message = Some(shortened(&format!(
            "queueDeadlineSeconds ({} s) passed; last reason for waiting: {waited_for}",
            snapshot.spec.queue_deadline_seconds
        )));
        return;
    }
    status.state = StepState::Queued;
    let retrying = status
        .attempts
        .last()
        .and_then(|attempt| attempt.cause)
        .is_some();
    let is_due = retry::not_before(status, &snapshot.jumps).is_none_or(|at| at <= snapshot.now);
    if !retrying || is_due {
        status.message = Some(shortened(&waits.message));
    }
}

fn bind(snapshot: &Snapshot, status: &mut StepStatus, binding: &Binding) {
    let WorkerRef {
        namespace,
        name,
        uid,
    } = &binding.worker;
    status.attempts_made = one_more(status.attempts_made);
    let worker = AttemptWorker::pod(namespace, name, uid);
    status
        .attempts
        .push(Attempt::bound(status.attempts_made, worker, snapshot.now));
    let surplus = status.attempts.len().saturating_sub(ATTEMPTS_KEPT);
    status.attempts.drain(..surplus);
    status.state = StepState::Starting;
    status.message = Some(format!("worker {name} prepares"));
    status.pool = Some(binding.pool.to_string());
    status.models.clone_from(&binding.models);
    let first = seed(&snapshot.uid, &status.name);
    status.seed.get_or_insert(first);
    status.progress = None;
}

/// What the random numbers of a step begin with: it differs from job to job, and a repeated decision chooses the same.
fn seed(job_uid: &str, step: &str) -> i64 {
    let name = format!("{job_uid}/{step}");
    let digest = digest::digest(&digest::SHA256, name.as_bytes());
    let first = digest.as_ref().iter().take(4);
    first.fold(0, |seed, byte| seed << 8 | i64::from(*byte))
}
