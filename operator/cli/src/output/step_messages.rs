//! What has changed between two statuses of a step, as lines; tested with the job's. No I/O and no clock.

use framewright_crds::aijob::{Attempt, Cause, Progress, StepState, StepStatus};
use jiff::{SignedDuration, Timestamp};

use crate::output::table::{computing, duration, grouped};

/// One line for each change. If `progress_at` has the current time, each 10% of the progress is a change, too.
pub(crate) fn changes(
    old: Option<&StepStatus>,
    new: &StepStatus,
    progress_at: Option<Timestamp>,
) -> Vec<String> {
    let mut lines: Vec<String> = new
        .attempts
        .iter()
        .filter(|attempt| attempt.cause.is_some() && !is_known_failure(old, attempt))
        .map(failure)
        .collect();
    let has_changed =
        old.is_none_or(|old| old.state != new.state || old.attempts_made != new.attempts_made);
    if has_changed {
        lines.extend(state_words(new));
    }
    if let Some(now) = progress_at.filter(|_| !new.state.is_terminal()) {
        lines.extend(tenth(old, new, now));
    }
    lines
}

fn is_known_failure(old: Option<&StepStatus>, attempt: &Attempt) -> bool {
    let attempts = old.into_iter().flat_map(|old| &old.attempts);
    attempts
        .into_iter()
        .any(|known| known.number == attempt.number && known.cause.is_some())
}

fn failure(attempt: &Attempt) -> String {
    let Attempt {
        number,
        worker,
        namespace,
        cause,
        message,
        pod_uid: _,
        bound_at: _,
        started_at: _,
        finished_at: _,
    } = attempt;
    if *cause == Some(Cause::Suspended) {
        return format!(
            "attempt {number} on {namespace}/{worker} was stopped: the job is suspended"
        );
    }
    let cause = cause.map_or("", Cause::as_str);
    let message = message
        .as_ref()
        .map_or_else(String::new, |message| format!(", {message}"));
    format!("attempt {number} on {namespace}/{worker} failed: {cause}{message}")
}

fn state_words(step: &StepStatus) -> Option<String> {
    let because = step
        .message
        .as_ref()
        .map_or_else(String::new, |message| format!(": {message}"));
    let on = step.attempts.last().map_or_else(String::new, |attempt| {
        format!(
            " on {}/{}, attempt {}",
            attempt.namespace, attempt.worker, attempt.number
        )
    });
    match step.state {
        StepState::Blocked => None,
        // Before the first attempt, the job's line says what it is waiting for.
        StepState::Queued if step.attempts_made == 0 => None,
        // The job's line says that it is suspended, and how to resume it.
        StepState::Queued if last_cause(step) == Some(Cause::Suspended) => None,
        StepState::Queued if step.message.is_some() => Some(format!("waits{because}")),
        StepState::Queued => Some("waits for a worker".to_owned()),
        StepState::Starting => Some(format!("starts{on}")),
        StepState::Running => Some(format!("computes{on}")),
        StepState::Succeeded => {
            let time = step.attempts.last().map_or_else(String::new, time_taken);
            let units = step
                .units
                .map_or_else(String::new, |units| format!(", {} units", grouped(units)));
            Some(format!("done{time}{units}"))
        }
        // The attempt's line says why, if there was an attempt.
        StepState::Failed if step.message.is_some() && step.message == last_message(step) => {
            Some("failed".to_owned())
        }
        StepState::Failed => Some(format!("failed{because}")),
        StepState::Skipped => Some(format!("was skipped{because}")),
    }
}

/// Such as " in 4 s". If the start is not known, the attempt started after it was bound.
fn time_taken(attempt: &Attempt) -> String {
    let Some(end) = attempt.finished_at.as_ref().map(|end| end.0) else {
        return String::new();
    };
    match computing(attempt, end) {
        Some(time) => format!(" in {}", duration(time)),
        None => format!(
            " in at most {}",
            duration(end.duration_since(attempt.bound_at.0))
        ),
    }
}

fn last_cause(step: &StepStatus) -> Option<Cause> {
    step.attempts.last()?.cause
}

fn last_message(step: &StepStatus) -> Option<String> {
    step.attempts.last()?.message.clone()
}

fn tenth(old: Option<&StepStatus>, new: &StepStatus, now: Timestamp) -> Option<String> {
    let progress = new.progress?;
    let before = old
        .filter(|old| old.attempts_made == new.attempts_made)
        .and_then(|old| old.progress);
    let before = before.map_or(0, |progress| progress.percent / 10);
    (progress.percent / 10 > before)
        .then(|| how_far(new, now))
        .flatten()
}

/// Such as "33%, frame 3 of 9, about 4 min 10 s left".
pub(crate) fn how_far(step: &StepStatus, now: Timestamp) -> Option<String> {
    let progress = step.progress?;
    let left = time_left(step, now).map_or_else(String::new, |left| {
        format!(", about {} left", duration(left))
    });
    Some(format!("{progress}{left}"))
}

/// The time left, if the step continues at this rate. None if it has only just started.
fn time_left(step: &StepStatus, now: Timestamp) -> Option<SignedDuration> {
    let Progress {
        percent,
        frame,
        frames,
    } = step.progress?;
    let (done, all) = match (frame, frames) {
        (Some(frame), Some(frames)) => (frame, frames),
        (_, _) => (i64::from(percent), 100),
    };
    let passed = computing(step.attempts.last()?, now)?.as_secs();
    if done < 1 || done >= all || passed < 5 {
        return None;
    }
    let left = passed.saturating_mul(all - done) / done;
    Some(SignedDuration::from_secs(left))
}
