//! What a step's open attempt comes to.

use framewright_crds::aijob::{Artifact, Attempt, Cause, Progress, StepState, StepStatus};
use framewright_crds::conditions::shortened;
use framewright_crds::names::{ArtifactRole, OwnerKind, artifact_uri};
use framewright_crds::wire::OutputFile;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::jobs::plan::attempt::{self, Verdict};
use crate::jobs::plan::notes::{Note, note};
use crate::jobs::plan::retry;
use crate::jobs::seen::Observed;

pub(super) fn judge(
    seen: &Observed,
    status: &mut StepStatus,
    open: &Attempt,
    notes: &mut Vec<Note>,
) {
    let held = attempt::held(seen, &status.name, open);
    let trouble = held
        .and_then(|held| held.store_trouble.as_deref())
        .map(shortened);
    let trouble = trouble.or_else(|| {
        let around = seen.steps.get(&status.name)?;
        let end = Timestamp::from_second(around.leaves_at?.as_second()).ok()?;
        Some(format!(
            "its worker's pod is being deleted: what is not done by {end} begins anew on another worker"
        ))
    });
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
    let next = retry::next(cause, status);
    if next == retry::Next::Again {
        status.failures = retry::one_more(status.failures);
    }
    let told = format!(
        "step {}, attempt {} on {}: {message}",
        status.name, open.number, open.worker
    );
    if next == retry::Next::GiveUp || status.failures > seen.spec.backoff_limit {
        status.state = StepState::Failed;
        status.message = Some(shortened(message));
        notes.push(note(true, cause.as_str(), status, &told));
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
        cause.as_str(),
        status,
        &told,
    ));
}

/// Notes when the worker began to compute: when it said so, or else `otherwise`.
fn start(seen: &Observed, status: &mut StepStatus, open: &Attempt, otherwise: Option<Timestamp>) {
    let started = attempt::started_at(seen, &status.name, open).or(otherwise);
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

fn artifact(seen: &Observed, output: &OutputFile) -> Artifact {
    let OutputFile {
        sha256,
        bytes,
        media_type,
    } = output;
    Artifact {
        uri: Some(artifact_uri(
            &seen.namespace,
            (OwnerKind::AIJobs, &seen.uid),
            ArtifactRole::Output,
            sha256,
        )),
        digest: format!("sha256:{sha256}"),
        media_type: media_type.clone(),
        bytes: *bytes,
    }
}
