//! What becomes of a step that has no worker: it waits for an input, or for a worker, or is bound to one.

use std::collections::BTreeSet;

use framewright_crds::aijob::{Attempt, Step, StepState, StepStatus};
use framewright_crds::conditions::shortened;
use framewright_crds::names::TaskId;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Bindings;
use super::deadline::queue_limit;
use crate::jobs::plan::notes::{Note, note};
use crate::jobs::plan::retry::one_more;
use crate::jobs::plan::{attempt, inputs, retry, waiting};
use crate::jobs::seen::{Binding, Observed};

/// Attempts that a status remembers.
const ATTEMPTS_KEPT: usize = 3;

/// Whether the scheduler may place this step now.
#[must_use]
pub fn is_pending(
    step: &Step,
    status: Option<&StepStatus>,
    done: &[StepStatus],
    received: &BTreeSet<String>,
    now: Timestamp,
) -> bool {
    let free = status.is_none_or(|status| {
        !status.state.is_terminal()
            && attempt::open(status).is_none()
            && retry::not_before(status).is_none_or(|at| at <= now)
    });
    free && inputs::missing(step, done, received).is_none()
}

/// The steps as the next status will show them: one whose bound worker has succeeded counts as done, so that what follows from
/// it can be placed before it is written, and one write tells both.
#[must_use]
pub fn foreseen(
    job_uid: &str,
    steps: &[StepStatus],
    succeeded: &BTreeSet<(String, TaskId)>,
) -> Vec<StepStatus> {
    let mut steps = steps.to_vec();
    for step in &mut steps {
        let is_done = attempt::open(step).is_some_and(|open| {
            let task = attempt::task_id(job_uid, &step.name, open.number);
            succeeded.contains(&(open.pod_uid.clone(), task))
        });
        if is_done {
            step.state = StepState::Succeeded;
        }
    }
    steps
}

pub(super) fn wait_for_upload(
    seen: &Observed,
    status: &mut StepStatus,
    input: &str,
    sha256: &str,
    notes: &mut Vec<Note>,
) {
    let start: String = sha256.chars().take(12).collect();
    let mut waits = format!(
        "waits for the upload of input {input} (sha256 {start}…) to the link in status.uploads"
    );
    if let Some(trouble) = &seen.store_trouble {
        waits = shortened(&format!(
            "{waits}; whether it is there is not known: {trouble}"
        ));
    }
    status.message = Some(waits.clone());
    if seen.spec.suspend {
        status.state = StepState::Blocked;
        status.queued_at = None;
        return;
    }
    let since = status.queued_at.get_or_insert(Time(seen.now)).0;
    if seen.now.duration_since(since) >= queue_limit(seen) {
        status.state = StepState::Failed;
        status.message = Some(format!(
            "queueDeadlineSeconds ({} s) passed; it {waits}",
            seen.spec.queue_deadline_seconds
        ));
        notes.push(note(
            true,
            "QueueDeadlineExceeded",
            status,
            &format!("step {}: {waits}", status.name),
        ));
        return;
    }
    status.state = StepState::Blocked;
}

pub(super) fn queue_or_bind(
    seen: &Observed,
    step: &Step,
    status: &mut StepStatus,
    bindings: Bindings,
    notes: &mut Vec<Note>,
) {
    if seen.spec.suspend {
        // Time spent suspended does not count against the queue deadline.
        status.state = StepState::Queued;
        status.queued_at = None;
        status.message = Some("held back, since spec.suspend is true".to_owned());
        return;
    }
    if status.state == StepState::Blocked {
        // It has waited for an upload; now it waits for a worker.
        status.queued_at = None;
    }
    let since = status.queued_at.get_or_insert(Time(seen.now)).0;
    let around = seen.steps.get(&step.name);
    let binding = around
        .and_then(|step| step.binding.as_ref())
        .filter(|_| bindings == Bindings::TakenUp);
    if let Some(binding) =
        binding.filter(|_| retry::not_before(status).is_none_or(|at| at <= seen.now))
    {
        bind(status, binding, seen.now);
        return;
    }
    let waits = waiting::reason(seen, &step.name, &step.model);
    if seen.now.duration_since(since) >= queue_limit(seen) {
        let waited_for = waiting::in_detail(seen, &step.name, waits);
        status.state = StepState::Failed;
        status.message = Some(shortened(&format!(
            "queueDeadlineSeconds ({} s) passed; the last it waited for: {waited_for}",
            seen.spec.queue_deadline_seconds
        )));
        notes.push(note(
            true,
            "QueueDeadlineExceeded",
            status,
            &format!("step {}: {waited_for}", status.name),
        ));
        return;
    }
    status.state = StepState::Queued;
    let retrying = status
        .attempts
        .last()
        .and_then(|attempt| attempt.cause)
        .is_some();
    let is_due = retry::not_before(status).is_none_or(|at| at <= seen.now);
    if !retrying || is_due {
        status.message = Some(shortened(&waits.message));
    }
}

fn bind(status: &mut StepStatus, binding: &Binding, now: Timestamp) {
    status.attempts_made = one_more(status.attempts_made);
    status.attempts.push(Attempt::bound(
        status.attempts_made,
        &binding.worker.namespace,
        &binding.worker.name,
        &binding.worker.uid,
        now,
    ));
    let surplus = status.attempts.len().saturating_sub(ATTEMPTS_KEPT);
    status.attempts.drain(..surplus);
    status.state = StepState::Starting;
    status.message = Some(format!("worker {} prepares", binding.worker.name));
    status.pool = Some(binding.pool.to_string());
    status.weights_digest = Some(binding.weights_digest.clone());
    status.progress = None;
}
