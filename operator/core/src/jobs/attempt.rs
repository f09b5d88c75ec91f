//! One attempt of a step: what has become of it and of its worker, its deadlines, and whether and when the step is tried again.

use framewright_crds::aijob::{AIJobSpec, Attempt, Cause, Progress, StepStatus, Usage};
use framewright_crds::names::TaskId;
use framewright_crds::protocol::{Outcome, OutputFile, TaskState, UPLOAD_LIMIT_SECONDS};
use jiff::{SignedDuration, Timestamp};

use crate::backoff::exponential;
use crate::clock::Jumps;
use crate::jobs::snapshot::{Ended, Presence, Snapshot, WorkerTask};

/// How long a worker's stream may be away before its attempt is given up.
pub const AWAY_LIMIT: SignedDuration = SignedDuration::from_secs(20);
/// How long a computing task may report nothing new.
pub const STUCK_LIMIT: SignedDuration = SignedDuration::from_secs(300);
/// How long a finished output may wait for the store.
pub const UPLOAD_LIMIT: SignedDuration =
    SignedDuration::from_secs(UPLOAD_LIMIT_SECONDS.cast_signed());

/// A task that computes for less than this is told of at its end only: most writes of a short job would be about it.
pub const SHORT: SignedDuration = SignedDuration::from_secs(1);

/// The wait before a step is tried again, after the first failure and at most.
const RETRY_FIRST: SignedDuration = SignedDuration::from_secs(1);
const RETRY_LONGEST: SignedDuration = SignedDuration::from_mins(1);

/// What has become of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The worker prepares, or the order is on its way.
    Starting,
    /// The worker computes.
    Running { progress: Progress },
    /// The outputs are in the store.
    Succeeded {
        outputs: Vec<OutputFile>,
        usage: Usage,
    },
    /// It is over without an output.
    Failed {
        cause: Cause,
        message: String,
        usage: Option<Usage>,
    },
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
pub fn held<'a>(snapshot: &'a Snapshot, step: &str, attempt: &Attempt) -> Option<&'a WorkerTask> {
    snapshot.held.iter().find(|held| {
        held.task.step == step
            && held.task.attempt == attempt.number
            && held.worker.uid == attempt.worker.uid
    })
}

/// How a task ended, if it has. That counts even when the worker has gone since.
#[must_use]
pub fn outcome(held: Option<&WorkerTask>) -> Option<&Outcome> {
    match &held?.state {
        TaskState::Finished { outcome } => Some(outcome),
        TaskState::Starting
        | TaskState::Prepared { .. }
        | TaskState::Running { .. }
        | TaskState::Uploading { .. }
        | TaskState::Stopping => None,
    }
}

/// Judges the open attempt of a step.
#[must_use]
pub fn judge(snapshot: &Snapshot, step: &StepStatus, attempt: &Attempt) -> Verdict {
    let held = held(snapshot, &step.name, attempt);
    if let Some(outcome) = outcome(held) {
        return match outcome {
            Outcome::Succeeded { outputs, usage, .. } => Verdict::Succeeded {
                outputs: outputs.clone(),
                usage: usage.clone(),
            },
            Outcome::Failed {
                cause,
                message,
                usage,
            } => Verdict::Failed {
                cause: *cause,
                message: message.clone(),
                usage: usage.clone(),
            },
        };
    }
    if snapshot.spec.suspend {
        return failed(Cause::Suspended, "stopped, since spec.suspend is true");
    }
    if let Some(lost) = lost(snapshot, &step.name, attempt) {
        return lost;
    }
    // What an absent worker does is not known: it may be computing or have finished, so only its absence has a limit.
    if away_since(snapshot, &step.name).is_none()
        && let Some(late) = late(snapshot, &step.name, attempt, held)
    {
        return late;
    }
    if shown_at(snapshot, &step.name, attempt).is_some_and(|at| at > snapshot.now) {
        return Verdict::Starting;
    }
    match held.map(|held| &held.state) {
        None | Some(TaskState::Starting | TaskState::Prepared { .. } | TaskState::Stopping)
            if started_at(snapshot, &step.name, attempt).is_none() =>
        {
            Verdict::Starting
        }
        None | Some(TaskState::Starting | TaskState::Prepared { .. } | TaskState::Stopping) => {
            Verdict::Running {
                progress: step.progress.clone().unwrap_or_default(),
            }
        }
        Some(TaskState::Running { progress }) => Verdict::Running {
            progress: progress.clone(),
        },
        Some(TaskState::Uploading { .. } | TaskState::Finished { .. }) => {
            let progress = step.progress.clone().unwrap_or_default();
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
pub fn started_at(snapshot: &Snapshot, step: &str, attempt: &Attempt) -> Option<Timestamp> {
    let said = || snapshot.steps.get(step)?.begun_at;
    attempt
        .started_at
        .as_ref()
        .map(|started| started.0)
        .or_else(said)
}

/// When the status is to say that the worker computes, unless it does so already.
fn shown_at(snapshot: &Snapshot, step: &str, attempt: &Attempt) -> Option<Timestamp> {
    if attempt.started_at.is_some() {
        return None;
    }
    snapshot.end(started_at(snapshot, step, attempt)?, SHORT)
}

/// Whether the worker computes, or has.
#[must_use]
pub fn has_started(held: Option<&WorkerTask>) -> bool {
    match held.map(|held| &held.state) {
        None | Some(TaskState::Starting | TaskState::Prepared { .. } | TaskState::Stopping) => {
            false
        }
        Some(
            TaskState::Running { .. } | TaskState::Uploading { .. } | TaskState::Finished { .. },
        ) => true,
    }
}

/// The next moment at which time alone ends this attempt.
#[must_use]
pub fn deadline(snapshot: &Snapshot, step: &str, attempt: &Attempt) -> Option<Timestamp> {
    if let Some(since) = away_since(snapshot, step) {
        return snapshot.end(since, AWAY_LIMIT);
    }
    let held = held(snapshot, step, attempt);
    let time_limit = match started_at(snapshot, step, attempt) {
        Some(started) => snapshot.end(started, active_limit(snapshot, held)),
        None => {
            let limit = seconds(snapshot.spec.start_deadline_seconds);
            snapshot.end(attempt.bound_at.0, limit)
        }
    };
    let stuck = held
        .filter(|held| has_started(Some(held)))
        .and_then(|held| snapshot.end(held.changed_at, timeout(&held.state)));
    let shown = shown_at(snapshot, step, attempt).filter(|at| *at > snapshot.now);
    [time_limit, stuck, shown].into_iter().flatten().min()
}

/// Since when the attempt's worker has not been heard, if its pod is there.
fn away_since(snapshot: &Snapshot, step: &str) -> Option<Timestamp> {
    match snapshot.steps.get(step)?.presence.as_ref()? {
        Presence::Away { since } => Some(*since),
        Presence::Connected | Presence::Gone(_) => None,
    }
}

fn lost(snapshot: &Snapshot, step: &str, attempt: &Attempt) -> Option<Verdict> {
    match snapshot.steps.get(step)?.presence.as_ref()? {
        Presence::Connected => restarted(snapshot, step, attempt),
        Presence::Gone(Ended { cause, message }) => Some(failed(*cause, message)),
        Presence::Away { since } => {
            let away = snapshot.elapsed(*since);
            (away >= AWAY_LIMIT).then(|| {
                failed(
                    Cause::WorkerLost,
                    &format!(
                        "worker {} has not answered for {} s",
                        attempt.worker.name,
                        away.as_secs()
                    ),
                )
            })
        }
    }
}

/// A worker that computed the task and does not hold it any more has lost it: its process was restarted.
fn restarted(snapshot: &Snapshot, step: &str, attempt: &Attempt) -> Option<Verdict> {
    if started_at(snapshot, step, attempt).is_none() || held(snapshot, step, attempt).is_some() {
        return None;
    }
    Some(
        match snapshot
            .steps
            .get(step)
            .and_then(|step| step.restart.as_ref())
        {
            Some(Ended { cause, message }) => failed(*cause, message),
            None => failed(
                Cause::WorkerLost,
                &format!(
                    "worker {} was restarted and lost the task",
                    attempt.worker.name
                ),
            ),
        },
    )
}

fn late(
    snapshot: &Snapshot,
    step: &str,
    attempt: &Attempt,
    held: Option<&WorkerTask>,
) -> Option<Verdict> {
    let since = |then: Timestamp| snapshot.elapsed(then);
    let AIJobSpec {
        active_deadline_seconds,
        start_deadline_seconds,
        ..
    } = &snapshot.spec;
    if let Some(started) = started_at(snapshot, step, attempt) {
        if since(started) >= active_limit(snapshot, held) {
            return Some(failed(
                Cause::ActiveDeadline,
                &format!(
                    "computed for longer than activeDeadlineSeconds ({active_deadline_seconds} s)"
                ),
            ));
        }
    } else if !has_started(held) && since(attempt.bound_at.0) >= seconds(*start_deadline_seconds) {
        // A worker that cannot fetch is no slow one.
        if let Some(problem) = held.and_then(|held| held.store_error.as_deref()) {
            return Some(failed(Cause::StoreUnavailable, problem));
        }
        return Some(failed(
            Cause::StartDeadline,
            &format!(
                "worker {} was not computing within startDeadlineSeconds ({start_deadline_seconds} s)",
                attempt.worker.name
            ),
        ));
    }
    let held = held.filter(|held| has_started(Some(held)))?;
    let quiet = since(held.changed_at);
    (quiet >= timeout(&held.state)).then(|| match &held.state {
        TaskState::Uploading { .. } => failed(
            Cause::StoreUnavailable,
            &format!("the output could not be stored for {} s", quiet.as_secs()),
        ),
        TaskState::Starting
        | TaskState::Prepared { .. }
        | TaskState::Running { .. }
        | TaskState::Stopping
        | TaskState::Finished { .. } => failed(
            Cause::Stuck,
            &format!(
                "worker {} made no progress for {} s",
                attempt.worker.name,
                quiet.as_secs()
            ),
        ),
    })
}

/// How long after its start an attempt may last. A computed output is not thrown away because the store is slow.
fn active_limit(snapshot: &Snapshot, held: Option<&WorkerTask>) -> SignedDuration {
    let active = seconds(snapshot.spec.active_deadline_seconds);
    match held.map(|held| &held.state) {
        Some(TaskState::Uploading { .. }) => active.saturating_add(UPLOAD_LIMIT),
        Some(
            TaskState::Starting
            | TaskState::Prepared { .. }
            | TaskState::Running { .. }
            | TaskState::Stopping
            | TaskState::Finished { .. },
        )
        | None => active,
    }
}

fn timeout(state: &TaskState) -> SignedDuration {
    match state {
        TaskState::Uploading { .. } => UPLOAD_LIMIT,
        TaskState::Starting
        | TaskState::Prepared { .. }
        | TaskState::Running { .. }
        | TaskState::Stopping
        | TaskState::Finished { .. } => STUCK_LIMIT,
    }
}

fn failed(cause: Cause, message: &str) -> Verdict {
    Verdict::Failed {
        cause,
        message: message.to_owned(),
        usage: None,
    }
}

fn seconds(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

/// Whether the worker of an attempt is still there. Follows from its stream, its pod (whether it is there, and whether it is being deleted), and the end of its process. The
/// stream comes first: a pod that answers is alive.
#[must_use]
pub fn presence(
    open: &Attempt,
    stream: Option<Presence>,
    (has_pod, is_leaving): (bool, bool),
    ended: Option<&Ended>,
    leads_since: Timestamp,
) -> Presence {
    let has_ended = ended.is_some() || !has_pod;
    // A node that is drained, a pool that shrinks, a person: that is no failure of the worker's. Memory that ran out is.
    if stream != Some(Presence::Connected)
        && is_leaving
        && has_ended
        && ended.is_none_or(|ended| ended.cause == Cause::WorkerLost)
    {
        return Presence::Gone(Ended {
            cause: Cause::WorkerDrained,
            message: format!(
                "worker pod {} was deleted before it had finished",
                open.worker.name
            ),
        });
    }
    match (stream, ended) {
        (Some(Presence::Connected), _) => Presence::Connected,
        (_, Some(ended)) => Presence::Gone(ended.clone()),
        (Some(away), None) if has_pod => away,
        (None, None) if has_pod => Presence::Away { since: leads_since },
        (_, None) => Presence::Gone(Ended {
            cause: Cause::WorkerLost,
            message: format!("worker pod {} is gone", open.worker.name),
        }),
    }
}

/// What follows from a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Try again; the failure counts against backoffLimit.
    Again,
    /// Try again; it was nobody's failure.
    AgainForFree,
    /// Trying again is useless.
    GiveUp,
}

/// How many attempts of a step may fail without counting as failures. Later ones count, so that a step cannot retry for ever.
const FREE_ATTEMPTS: i32 = 20;

/// What follows when the step's present attempt ends with this cause, before it is counted.
#[must_use]
pub fn retry(cause: Cause, step: &StepStatus) -> Retry {
    match cause {
        Cause::InvalidInput => Retry::GiveUp,
        Cause::WorkerDrained
        | Cause::Suspended
        | Cause::StoreUnavailable
        | Cause::WeightsChanged => {
            if free_attempts(step) > FREE_ATTEMPTS {
                Retry::Again
            } else {
                Retry::AgainForFree
            }
        }
        Cause::WorkerLost
        | Cause::OutOfMemory
        | Cause::ScratchFull
        | Cause::Stuck
        | Cause::StartDeadline
        | Cause::ActiveDeadline
        | Cause::WeightsFailed
        | Cause::DeviceError
        | Cause::Internal
        | Cause::Unknown => Retry::Again,
    }
}

/// The earliest time of the next attempt: 1 s after the first that ended in the same way, counted or not, twice as long after each
/// further one, at most a minute. A job that was suspended need not wait.
#[must_use]
pub fn retry_not_before(step: &StepStatus, jumps: &Jumps) -> Option<Timestamp> {
    let last = step.attempts.last()?;
    let ended = jumps.shifted(last.finished_at.as_ref()?.0);
    let ended_so_far = match last.cause {
        None | Some(Cause::Suspended) => return Some(ended),
        Some(Cause::WorkerDrained | Cause::StoreUnavailable | Cause::WeightsChanged) => {
            free_attempts(step)
        }
        Some(_) => step.failures,
    };
    let delay = exponential(
        RETRY_FIRST,
        u32::try_from(ended_so_far).unwrap_or(0),
        RETRY_LONGEST,
    );
    ended.checked_add(delay).ok()
}

/// Attempts that did not count, or have not yet.
fn free_attempts(step: &StepStatus) -> i32 {
    step.attempts_made.saturating_sub(step.failures)
}

/// The next of a status's counts, which may have been edited by hand.
#[must_use]
pub fn one_more(count: i32) -> i32 {
    count.max(0).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use framewright_crds::aijob::AttemptWorker;

    fn cause(is_there: bool, is_leaving: bool, ended: Option<Cause>) -> Option<Cause> {
        let worker = AttemptWorker::pod("fleet", "w", "u");
        let open = Attempt::bound(1, worker, Timestamp::UNIX_EPOCH);
        let ended = ended.map(|cause| Ended {
            cause,
            message: String::new(),
        });
        let pod = (is_there, is_leaving);
        match presence(&open, None, pod, ended.as_ref(), Timestamp::UNIX_EPOCH) {
            Presence::Gone(Ended { cause, .. }) => Some(cause),
            Presence::Connected | Presence::Away { .. } => None,
        }
    }

    #[test]
    fn a_worker_whose_pod_was_deleted_is_not_blamed_unless_its_memory_ran_out() {
        let lost = Some(Cause::WorkerLost);
        let drained = Some(Cause::WorkerDrained);
        assert_eq!(cause(false, false, None), lost);
        assert_eq!(cause(false, true, None), drained);
        assert_eq!(cause(true, false, lost), lost);
        assert_eq!(cause(true, true, lost), drained);
        let memory = Some(Cause::OutOfMemory);
        assert_eq!(cause(true, true, memory), memory);
        assert_eq!(cause(true, true, None), None);
    }

    use framewright_crds::aijob::StepState;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    /// A step after so many attempts, the last of which has ended so.
    fn step(attempts_made: i32, failures: i32, cause: Cause) -> StepStatus {
        let last = Attempt {
            finished_at: Some(Time(Timestamp::UNIX_EPOCH)),
            cause: Some(cause),
            ..Attempt::bound(
                attempts_made,
                AttemptWorker::pod("fleet", "w", "u"),
                Timestamp::UNIX_EPOCH,
            )
        };
        StepStatus {
            state: StepState::Queued,
            attempts_made,
            failures,
            attempts: vec![last],
            ..StepStatus::blocked("large")
        }
    }

    fn waits(attempts_made: i32, failures: i32, cause: Cause) -> i64 {
        retry_not_before(&step(attempts_made, failures, cause), &Jumps::default())
            .map_or(-1, |at| at.as_second())
    }

    #[test]
    fn bad_input_is_never_tried_again() {
        let cause = Cause::InvalidInput;
        assert_eq!(retry(cause, &step(1, 0, cause)), Retry::GiveUp);
    }

    #[test]
    fn what_is_nobodys_fault_costs_the_job_nothing_but_not_for_ever() {
        for cause in [
            Cause::WorkerDrained,
            Cause::StoreUnavailable,
            Cause::WeightsChanged,
        ] {
            assert_eq!(retry(cause, &step(20, 0, cause)), Retry::AgainForFree);
            assert_eq!(retry(cause, &step(21, 0, cause)), Retry::Again);
            assert_eq!(retry(cause, &step(22, 2, cause)), Retry::AgainForFree);
        }
    }

    #[test]
    fn each_further_end_of_the_same_kind_waits_twice_as_long() {
        assert_eq!(
            [1, 2, 4, 7, 9].map(|n| waits(n, n, Cause::WorkerLost)),
            [1, 2, 8, 60, 60]
        );
        assert_eq!(
            [1, 2, 4, 7].map(|n| waits(n, 0, Cause::WorkerDrained)),
            [1, 2, 8, 60]
        );
        assert_eq!(waits(9, 0, Cause::Suspended), 0);
    }
}
