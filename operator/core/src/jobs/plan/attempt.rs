//! What has become of a step's open attempt.

use framewright_crds::aijob::{AIJobSpec, Attempt, Cause, Progress, StepStatus};
use framewright_crds::names::TaskId;
use framewright_crds::wire::{Outcome, OutputFile, TaskState, UPLOAD_LIMIT_SECONDS};
use jiff::{SignedDuration, Timestamp};

use crate::jobs::seen::{Ended, Held, Observed, Presence};

/// How long a worker's stream may be away before its attempt is given up.
pub const AWAY_LIMIT: SignedDuration = SignedDuration::from_secs(20);
/// How long a computing task may report nothing new.
pub const STUCK_LIMIT: SignedDuration = SignedDuration::from_secs(300);
/// How long a finished output may wait for the store.
pub const UPLOAD_LIMIT: SignedDuration =
    SignedDuration::from_secs(UPLOAD_LIMIT_SECONDS.cast_signed());

/// A task that computes for less than this is told of at its end only: most writes of a short job would be about it.
pub const SHORT: SignedDuration = SignedDuration::from_secs(1);

/// What has become of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The worker prepares, or the order is on its way.
    Starting,
    /// The worker computes.
    Running { progress: Progress },
    /// The output is in the store.
    Succeeded { output: OutputFile, units: i64 },
    /// It is over without an output.
    Failed { cause: Cause, message: String },
}

/// The newest attempt, if it has not ended.
#[must_use]
pub fn open(step: &StepStatus) -> Option<&Attempt> {
    step.attempts
        .last()
        .filter(|attempt| attempt.finished_at.is_none())
}

/// The task id of an attempt.
#[must_use]
pub fn task_id(job_uid: &str, step: &str, attempt: i32) -> TaskId {
    TaskId {
        job_uid: job_uid.to_owned(),
        step: step.to_owned(),
        replica: 0,
        attempt,
    }
}

/// What the bound worker holds of this attempt. Nobody else's word counts.
#[must_use]
pub fn held<'a>(seen: &'a Observed, step: &str, attempt: &Attempt) -> Option<&'a Held> {
    seen.held.iter().find(|held| {
        held.task.step == step
            && held.task.attempt == attempt.number
            && held.worker.uid == attempt.pod_uid
    })
}

/// How a task ended, if it has. That counts even when the worker has gone since.
#[must_use]
pub fn outcome(held: Option<&Held>) -> Option<&Outcome> {
    match &held?.state {
        TaskState::Finished { outcome } => Some(outcome),
        TaskState::Starting | TaskState::Running { .. } | TaskState::Uploading { .. } => None,
    }
}

/// Judges the open attempt of a step.
#[must_use]
pub fn judge(seen: &Observed, step: &StepStatus, attempt: &Attempt) -> Verdict {
    let held = held(seen, &step.name, attempt);
    if let Some(outcome) = outcome(held) {
        return match outcome {
            Outcome::Succeeded { output, units } => Verdict::Succeeded {
                output: output.clone(),
                units: *units,
            },
            Outcome::Failed { cause, message } => Verdict::Failed {
                cause: *cause,
                message: message.clone(),
            },
        };
    }
    if seen.spec.suspend {
        return failed(Cause::Suspended, "stopped, since spec.suspend is true");
    }
    if let Some(lost) = lost(seen, &step.name, attempt) {
        return lost;
    }
    // What an absent worker does is not known: it may be computing or have finished, so only its absence has a limit.
    if away_since(seen, &step.name).is_none()
        && let Some(late) = late(seen, &step.name, attempt, held)
    {
        return late;
    }
    if shown_at(seen, &step.name, attempt).is_some_and(|at| at > seen.now) {
        return Verdict::Starting;
    }
    match held.map(|held| &held.state) {
        None | Some(TaskState::Starting) if started_at(seen, &step.name, attempt).is_none() => {
            Verdict::Starting
        }
        None | Some(TaskState::Starting) => Verdict::Running {
            progress: step.progress.unwrap_or_default(),
        },
        Some(TaskState::Running { progress }) => Verdict::Running {
            progress: *progress,
        },
        Some(TaskState::Uploading { .. } | TaskState::Finished { .. }) => {
            let progress = step.progress.unwrap_or_default();
            Verdict::Running {
                progress: Progress {
                    percent: 100,
                    ..progress
                },
            }
        }
    }
}

/// When the worker began to compute, as the status says it, or else as the worker did.
#[must_use]
pub fn started_at(seen: &Observed, step: &str, attempt: &Attempt) -> Option<Timestamp> {
    let said = || seen.steps.get(step)?.begun_at;
    attempt
        .started_at
        .as_ref()
        .map(|started| started.0)
        .or_else(said)
}

/// When the status is to say that the worker computes, unless it does so already.
fn shown_at(seen: &Observed, step: &str, attempt: &Attempt) -> Option<Timestamp> {
    if attempt.started_at.is_some() {
        return None;
    }
    started_at(seen, step, attempt)?.checked_add(SHORT).ok()
}

/// Whether the worker computes, or has.
#[must_use]
pub fn has_started(held: Option<&Held>) -> bool {
    match held.map(|held| &held.state) {
        None | Some(TaskState::Starting) => false,
        Some(
            TaskState::Running { .. } | TaskState::Uploading { .. } | TaskState::Finished { .. },
        ) => true,
    }
}

/// The next moment at which time alone ends this attempt.
#[must_use]
pub fn deadline(seen: &Observed, step: &str, attempt: &Attempt) -> Option<Timestamp> {
    if let Some(since) = away_since(seen, step) {
        return since.checked_add(AWAY_LIMIT).ok();
    }
    let held = held(seen, step, attempt);
    let time_limit = match started_at(seen, step, attempt) {
        Some(started) => started.checked_add(active_limit(seen, held)),
        None => attempt
            .bound_at
            .0
            .checked_add(seconds(seen.spec.pre_running_deadline_seconds)),
    };
    let stuck = held
        .filter(|held| has_started(Some(held)))
        .and_then(|held| held.changed_at.checked_add(patience(&held.state)).ok());
    let shown = shown_at(seen, step, attempt).filter(|at| *at > seen.now);
    [time_limit.ok(), stuck, shown].into_iter().flatten().min()
}

/// Since when the attempt's worker has not been heard, if its pod is there.
fn away_since(seen: &Observed, step: &str) -> Option<Timestamp> {
    match seen.steps.get(step)?.presence.as_ref()? {
        Presence::Away { since } => Some(*since),
        Presence::Connected | Presence::Gone(_) => None,
    }
}

fn lost(seen: &Observed, step: &str, attempt: &Attempt) -> Option<Verdict> {
    match seen.steps.get(step)?.presence.as_ref()? {
        Presence::Connected => restarted(seen, step, attempt),
        Presence::Gone(Ended { cause, message }) => Some(failed(*cause, message)),
        Presence::Away { since } => {
            let away = seen.now.duration_since(*since);
            (away >= AWAY_LIMIT).then(|| {
                failed(
                    Cause::WorkerLost,
                    &format!(
                        "worker {} has not answered for {} s",
                        attempt.worker,
                        away.as_secs()
                    ),
                )
            })
        }
    }
}

/// A worker that computed the task and does not hold it any more has lost it: its process started anew.
fn restarted(seen: &Observed, step: &str, attempt: &Attempt) -> Option<Verdict> {
    if started_at(seen, step, attempt).is_none() || held(seen, step, attempt).is_some() {
        return None;
    }
    Some(
        match seen.steps.get(step).and_then(|step| step.restart.as_ref()) {
            Some(Ended { cause, message }) => failed(*cause, message),
            None => failed(
                Cause::WorkerLost,
                &format!("worker {} started anew and lost the task", attempt.worker),
            ),
        },
    )
}

fn late(seen: &Observed, step: &str, attempt: &Attempt, held: Option<&Held>) -> Option<Verdict> {
    let since = |then: Timestamp| seen.now.duration_since(then);
    let AIJobSpec {
        active_deadline_seconds,
        pre_running_deadline_seconds,
        ..
    } = &seen.spec;
    if let Some(started) = started_at(seen, step, attempt) {
        if since(started) >= active_limit(seen, held) {
            return Some(failed(
                Cause::ActiveDeadline,
                &format!(
                    "computed for longer than activeDeadlineSeconds ({active_deadline_seconds} s)"
                ),
            ));
        }
    } else if !has_started(held)
        && since(attempt.bound_at.0) >= seconds(*pre_running_deadline_seconds)
    {
        // A worker that cannot fetch is no slow one.
        if let Some(trouble) = held.and_then(|held| held.store_trouble.as_deref()) {
            return Some(failed(Cause::StoreUnavailable, trouble));
        }
        return Some(failed(
            Cause::PreRunningDeadline,
            &format!(
                "worker {} was not computing within preRunningDeadlineSeconds ({pre_running_deadline_seconds} s)",
                attempt.worker
            ),
        ));
    }
    let held = held.filter(|held| has_started(Some(held)))?;
    let quiet = since(held.changed_at);
    (quiet >= patience(&held.state)).then(|| match &held.state {
        TaskState::Uploading { .. } => failed(
            Cause::StoreUnavailable,
            &format!("the output could not be stored for {} s", quiet.as_secs()),
        ),
        TaskState::Starting | TaskState::Running { .. } | TaskState::Finished { .. } => failed(
            Cause::Stuck,
            &format!(
                "worker {} made no progress for {} s",
                attempt.worker,
                quiet.as_secs()
            ),
        ),
    })
}

/// How long after its start an attempt may last. A computed output is not thrown away because the store is slow.
fn active_limit(seen: &Observed, held: Option<&Held>) -> SignedDuration {
    let active = seconds(seen.spec.active_deadline_seconds);
    match held.map(|held| &held.state) {
        Some(TaskState::Uploading { .. }) => active.saturating_add(UPLOAD_LIMIT),
        Some(TaskState::Starting | TaskState::Running { .. } | TaskState::Finished { .. })
        | None => active,
    }
}

fn patience(state: &TaskState) -> SignedDuration {
    match state {
        TaskState::Uploading { .. } => UPLOAD_LIMIT,
        TaskState::Starting | TaskState::Running { .. } | TaskState::Finished { .. } => STUCK_LIMIT,
    }
}

fn failed(cause: Cause, message: &str) -> Verdict {
    Verdict::Failed {
        cause,
        message: message.to_owned(),
    }
}

fn seconds(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}
