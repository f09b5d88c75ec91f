//! What a step's open attempt comes to.

use framewright_crds::aijob::{Attempt, Cause, Progress, StepOutput, StepState, StepStatus, Usage};
use framewright_crds::conditions::shortened;
use framewright_crds::protocol::OutputFile;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::jobs::plan::attempt::{self, Verdict};
use crate::jobs::plan::retry;
use crate::jobs::snapshot::Snapshot;

pub(super) fn judge(snapshot: &Snapshot, status: &mut StepStatus, open: &Attempt) {
    let held = attempt::held(snapshot, &status.name, open);
    let problem = held
        .and_then(|held| held.store_error.as_deref())
        .map(shortened);
    let problem = problem.or_else(|| {
        let around = snapshot.steps.get(&status.name)?;
        let end = Timestamp::from_second(around.leaves_at?.as_second()).ok()?;
        Some(format!(
            "the worker's pod is being deleted: if the step is not done by {end}, it starts again on another worker"
        ))
    });
    match attempt::judge(snapshot, status, open) {
        Verdict::Starting => {
            status.state = StepState::Starting;
            status.message =
                problem.or_else(|| Some(format!("worker {} prepares", open.worker.name)));
        }
        Verdict::Running { progress } => {
            status.state = StepState::Running;
            status.message = problem;
            status.progress = Some(progress);
            start(snapshot, status, open, Some(snapshot.now));
        }
        Verdict::Succeeded { outputs, usage } => {
            start(snapshot, status, open, None);
            close(status, snapshot.now, None);
            status.state = StepState::Succeeded;
            status.message = None;
            status.progress = status.progress.take().map(|progress| Progress {
                percent: 100,
                done: progress.of.or(progress.done),
                ..progress
            });
            status.outputs = outputs.into_iter().map(output).collect();
            count(status, Some(usage));
        }
        Verdict::Failed {
            cause,
            message,
            usage,
        } => {
            start(snapshot, status, open, None);
            close(status, snapshot.now, Some((cause, &message)));
            count(status, usage);
            after_failure(snapshot, status, open, cause, &message);
        }
    }
}

fn after_failure(
    snapshot: &Snapshot,
    status: &mut StepStatus,
    open: &Attempt,
    cause: Cause,
    message: &str,
) {
    status.progress = None;
    let next = retry::next(cause, status);
    if next == retry::Next::Again {
        status.failures = retry::one_more(status.failures);
    }
    if next == retry::Next::GiveUp || status.failures > snapshot.spec.backoff_limit {
        status.state = StepState::Failed;
        status.message = Some(shortened(message));
        return;
    }
    status.state = StepState::Queued;
    status.queued_at = Some(Time(snapshot.now));
    status.message = Some(shortened(&format!(
        "attempt {} failed and is tried again: {message}",
        open.number
    )));
}

/// Notes when the worker began to compute: when it said so, or else `otherwise`.
fn start(
    snapshot: &Snapshot,
    status: &mut StepStatus,
    open: &Attempt,
    otherwise: Option<Timestamp>,
) {
    let started = attempt::started_at(snapshot, &status.name, open).or(otherwise);
    if let Some(attempt) = status.attempts.last_mut() {
        attempt.started_at = started.map(Time);
    }
}

pub(super) fn close(status: &mut StepStatus, now: Timestamp, failure: Option<(Cause, &str)>) {
    if let Some(attempt) = status.attempts.last_mut() {
        attempt.finished_at = Some(Time(now));
        attempt.cause = failure.map(|(cause, _)| cause);
        attempt.message = failure.map(|(_, message)| shortened(message));
    }
}

/// Adds what an attempt has used to the step's sum. Work of another unit than before is not added.
fn count(status: &mut StepStatus, usage: Option<Usage>) {
    let Some(usage) = usage else {
        return;
    };
    match &mut status.usage {
        Some(sum) if sum.unit == usage.unit => {
            sum.amount = sum.amount.saturating_add(usage.amount);
        }
        Some(_) => {}
        None => status.usage = Some(usage.clone()),
    }
    if let Some(attempt) = status.attempts.last_mut() {
        attempt.usage = Some(usage);
    }
}

pub(super) fn output(file: OutputFile) -> StepOutput {
    let OutputFile {
        name,
        role,
        digest,
        bytes,
        media_type,
        facts,
    } = file;
    StepOutput {
        name,
        role,
        digest,
        media_type,
        bytes,
        facts,
    }
}
