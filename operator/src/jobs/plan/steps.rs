//! Each step's next status. A step that is over never changes again.

use std::collections::BTreeSet;

use framewright_crds::aijob::{Artifact, Attempt, Cause, Progress, Step, StepState, StepStatus};
use framewright_crds::conditions::shortened;
use framewright_crds::names::{OwnerKind, TaskId, artifact_uri};
use framewright_crds::wire::OutputFile;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::attempt::{self, Verdict};
use super::inputs::{self, Missing};
use super::notes::{Note, note};
use super::{retry, waiting};
use crate::jobs::seen::{Binding, Observed};

/// Attempts that a status remembers.
const ATTEMPTS_KEPT: usize = 3;

/// All steps' next statuses, and what to tell people about the changes.
#[must_use]
pub fn next(seen: &Observed) -> (Vec<StepStatus>, Vec<Note>) {
    let (done, notes) = each(seen, Bindings::TakenUp);
    let Some(failed) = failed(&done) else {
        return (done, notes);
    };
    // A job that fails binds nothing more, not even in the same write.
    let message = format!("stopped, since step {failed} failed");
    let (mut done, notes) = each(seen, Bindings::Left);
    for step in done.iter_mut().filter(|step| !step.state.is_terminal()) {
        skip(step, &message, seen.now);
    }
    (done, notes)
}

/// Whether the scheduler's choices are taken up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bindings {
    TakenUp,
    Left,
}

fn each(seen: &Observed, bindings: Bindings) -> (Vec<StepStatus>, Vec<Note>) {
    let mut done: Vec<StepStatus> = Vec::with_capacity(seen.spec.steps.len());
    let mut notes = Vec::new();
    for step in &seen.spec.steps {
        let old = seen
            .status
            .steps
            .iter()
            .find(|status| status.name == step.name);
        let new = one(
            seen,
            step,
            old.cloned().unwrap_or_else(|| first(step)),
            &done,
            bindings,
            &mut notes,
        );
        done.push(new);
    }
    (done, notes)
}

fn failed(steps: &[StepStatus]) -> Option<String> {
    let failed = steps.iter().find(|step| step.state == StepState::Failed);
    failed.map(|step| step.name.clone())
}

/// The next moment at which time alone changes this step.
#[must_use]
pub fn next_deadline(seen: &Observed, step: &StepStatus, all: &[StepStatus]) -> Option<Timestamp> {
    match step.state {
        StepState::Succeeded | StepState::Failed | StepState::Skipped => None,
        StepState::Blocked => {
            // One that waits for an earlier step is as late as that one.
            let spec = seen.spec.steps.iter().find(|spec| spec.name == step.name)?;
            match inputs::missing(spec, all, &seen.received)? {
                Missing::Upload { .. } => {
                    let since = step.queued_at.as_ref()?.0;
                    since.checked_add(queue_limit(seen)).ok()
                }
                Missing::Step { .. } | Missing::FailedStep { .. } => None,
            }
        }
        StepState::Queued => {
            let limit = step
                .queued_at
                .as_ref()?
                .0
                .checked_add(queue_limit(seen))
                .ok();
            let retry = retry::not_before(step).filter(|at| *at > seen.now);
            [limit, retry].into_iter().flatten().min()
        }
        StepState::Starting | StepState::Running => {
            attempt::deadline(seen, &step.name, attempt::open(step)?)
        }
    }
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

fn first(step: &Step) -> StepStatus {
    StepStatus {
        name: step.name.clone(),
        state: StepState::Blocked,
        message: None,
        queued_at: None,
        pool: None,
        weights_digest: None,
        attempts_made: 0,
        failures: 0,
        attempts: Vec::new(),
        progress: None,
        output: None,
        units: None,
    }
}

fn one(
    seen: &Observed,
    step: &Step,
    mut status: StepStatus,
    done: &[StepStatus],
    bindings: Bindings,
    notes: &mut Vec<Note>,
) -> StepStatus {
    if status.state.is_terminal() {
        return status;
    }
    if let Some(open) = attempt::open(&status).cloned() {
        judge(seen, &mut status, &open, notes);
        if status.state.is_terminal() || attempt::open(&status).is_some() {
            return status;
        }
    }
    match inputs::missing(step, done, &seen.received) {
        Some(Missing::FailedStep { name }) => skip(
            &mut status,
            &format!("stopped, since step {name} failed"),
            seen.now,
        ),
        Some(Missing::Step { name }) => {
            status.state = StepState::Blocked;
            status.message = Some(format!("waits for step {name}"));
        }
        Some(Missing::Upload { input, sha256 }) => {
            wait_for_upload(seen, &mut status, &input, &sha256)
        }
        None => queue_or_bind(seen, step, &mut status, bindings, notes),
    }
    status
}

fn judge(seen: &Observed, status: &mut StepStatus, open: &Attempt, notes: &mut Vec<Note>) {
    let held = attempt::held(seen, &status.name, open);
    let trouble = held
        .and_then(|held| held.store_trouble.as_deref())
        .map(shortened);
    match attempt::judge(seen, status, open) {
        Verdict::Starting => {
            status.state = StepState::Starting;
            status.message = trouble.or_else(|| Some(format!("worker {} prepares", open.worker)));
        }
        Verdict::Running { progress } => {
            status.state = StepState::Running;
            status.message = trouble;
            status.progress = Some(progress);
            start(seen, status, open, Some(seen.now));
        }
        Verdict::Succeeded { output, units } => {
            start(seen, status, open, None);
            close(status, seen.now, None);
            status.state = StepState::Succeeded;
            status.message = None;
            status.progress = status.progress.map(|progress| Progress {
                percent: 100,
                frame: progress.frames.or(progress.frame),
                ..progress
            });
            status.output = Some(artifact(seen, &output));
            status.units = Some(units);
            notes.push(note(
                false,
                "StepSucceeded",
                status,
                &format!("step {} is done ({} units)", status.name, units),
            ));
        }
        Verdict::Failed { cause, message } => {
            start(seen, status, open, None);
            close(status, seen.now, Some((cause, &message)));
            after_failure(seen, status, open, cause, &message, notes);
        }
    }
}

fn after_failure(
    seen: &Observed,
    status: &mut StepStatus,
    open: &Attempt,
    cause: Cause,
    message: &str,
    notes: &mut Vec<Note>,
) {
    status.progress = None;
    let next = retry::next(cause);
    if next == retry::Next::Again {
        status.failures += 1;
    }
    let told = format!(
        "step {}, attempt {} on {}: {message}",
        status.name, open.number, open.worker
    );
    if next == retry::Next::GiveUp || status.failures > seen.spec.backoff_limit {
        status.state = StepState::Failed;
        status.message = Some(shortened(message));
        notes.push(note(true, &format!("{cause:?}"), status, &told));
        return;
    }
    status.state = StepState::Queued;
    status.queued_at = Some(Time(seen.now));
    status.message = Some(shortened(&format!(
        "attempt {} failed and is tried again: {message}",
        open.number
    )));
    notes.push(note(
        next == retry::Next::Again,
        &format!("{cause:?}"),
        status,
        &told,
    ));
}

fn wait_for_upload(seen: &Observed, status: &mut StepStatus, input: &str, sha256: &str) {
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
        return;
    }
    status.state = StepState::Blocked;
}

fn queue_or_bind(
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
        notes.push(note(
            false,
            "Bound",
            status,
            &format!(
                "step {} goes to worker {} of pool {}",
                status.name, binding.worker.name, binding.pool
            ),
        ));
        return;
    }
    let waits = waiting::reason(seen, &step.name, &step.model);
    if seen.now.duration_since(since) >= queue_limit(seen) {
        status.state = StepState::Failed;
        status.message = Some(shortened(&format!(
            "queueDeadlineSeconds ({} s) passed; the last it waited for: {}",
            seen.spec.queue_deadline_seconds, waits.message
        )));
        notes.push(note(
            true,
            "QueueDeadlineExceeded",
            status,
            &format!("step {}: {}", status.name, waits.message),
        ));
        return;
    }
    status.state = StepState::Queued;
    let retrying = status
        .attempts
        .last()
        .and_then(|attempt| attempt.cause)
        .is_some();
    let is_looked_at = around.is_none_or(|step| step.awaits_look.is_none());
    let is_due = retry::not_before(status).is_none_or(|at| at <= seen.now);
    if !retrying || (is_due && is_looked_at) {
        status.message = Some(shortened(&waits.message));
    }
}

fn bind(status: &mut StepStatus, binding: &Binding, now: Timestamp) {
    status.attempts_made += 1;
    status.attempts.push(Attempt {
        number: status.attempts_made,
        namespace: binding.worker.namespace.clone(),
        worker: binding.worker.name.clone(),
        pod_uid: binding.worker.uid.clone(),
        bound_at: Time(now),
        started_at: None,
        finished_at: None,
        cause: None,
        message: None,
    });
    let surplus = status.attempts.len().saturating_sub(ATTEMPTS_KEPT);
    status.attempts.drain(..surplus);
    status.state = StepState::Starting;
    status.message = Some(format!("worker {} prepares", binding.worker.name));
    status.pool = Some(binding.pool.to_string());
    status.weights_digest = Some(binding.weights_digest.clone());
    status.progress = None;
}

/// Notes when the worker began to compute: when it said so, or else `otherwise`.
fn start(seen: &Observed, status: &mut StepStatus, open: &Attempt, otherwise: Option<Timestamp>) {
    let started = attempt::started_at(seen, &status.name, open).or(otherwise);
    if let Some(attempt) = status.attempts.last_mut() {
        attempt.started_at = started.map(Time);
    }
}

fn close(status: &mut StepStatus, now: Timestamp, failure: Option<(Cause, &str)>) {
    if let Some(attempt) = status.attempts.last_mut() {
        attempt.finished_at = Some(Time(now));
        attempt.cause = failure.map(|(cause, _)| cause);
        attempt.message = failure.map(|(_, message)| shortened(message));
    }
}

fn skip(status: &mut StepStatus, message: &str, now: Timestamp) {
    if attempt::open(status).is_some() {
        close(status, now, None);
    }
    status.state = StepState::Skipped;
    status.message = Some(message.to_owned());
    status.progress = None;
}

fn artifact(seen: &Observed, output: &OutputFile) -> Artifact {
    let OutputFile {
        sha256,
        bytes,
        media_type,
    } = output;
    Artifact {
        uri: artifact_uri(&seen.namespace, OwnerKind::AIJobs, &seen.uid, sha256),
        digest: format!("sha256:{sha256}"),
        media_type: media_type.clone(),
        bytes: *bytes,
    }
}

fn queue_limit(seen: &Observed) -> SignedDuration {
    SignedDuration::from_secs(seen.spec.queue_deadline_seconds)
}
