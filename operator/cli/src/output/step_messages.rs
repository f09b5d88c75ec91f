//! What has changed between two statuses of a step, as lines; tested with the job's. No I/O and no clock.

use framewright_crds::aijob::{Attempt, Cause, Progress, StepState, StepStatus};
use jiff::{SignedDuration, Timestamp};

use crate::output::table::{amount, computing, duration, worker};

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
    let (number, worker) = (attempt.number, worker(attempt));
    if attempt.cause == Some(Cause::Suspended) {
        return format!("attempt {number} on {worker} was stopped: the job is suspended");
    }
    let cause = attempt.cause.map_or("", Cause::as_str);
    let message = attempt
        .message
        .as_ref()
        .map_or_else(String::new, |message| format!(", {message}"));
    format!("attempt {number} on {worker} failed: {cause}{message}")
}

fn state_words(step: &StepStatus) -> Option<String> {
    let because = step
        .message
        .as_ref()
        .map_or_else(String::new, |message| format!(": {message}"));
    let on = step.attempts.last().map_or_else(String::new, |attempt| {
        format!(" on {}, attempt {}", worker(attempt), attempt.number)
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
            let usage = step
                .usage
                .as_ref()
                .map_or_else(String::new, |usage| format!(", {}", amount(usage)));
            Some(format!("done{time}{usage}"))
        }
        // The attempt's line says why, if there was an attempt.
        StepState::Failed if step.message.is_some() && step.message == last_message(step) => {
            Some("failed".to_owned())
        }
        StepState::Failed => Some(format!("failed{because}")),
        StepState::Skipped => Some(format!("was skipped{because}")),
        // A state of a newer version.
        StepState::Unknown => Some(format!("{}{because}", step.state)),
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
    let before = old.filter(|old| old.attempts_made == new.attempts_made);
    let tenths = |step: &StepStatus| step.progress.as_ref().map_or(0, |done| done.percent / 10);
    if tenths(new) <= before.map_or(0, tenths) {
        return None;
    }
    how_far(new, now)
}

/// Such as "33%, frame 3 of 9, about 4 min 10 s left".
pub(crate) fn how_far(step: &StepStatus, now: Timestamp) -> Option<String> {
    let progress = step.progress.as_ref()?;
    let left = time_left(step, now).map_or_else(String::new, |left| {
        format!(", about {} left", duration(left))
    });
    Some(format!("{progress}{left}"))
}

/// The same without the percentage, which the bar shows.
pub(crate) fn beside_bar(step: &StepStatus, now: Timestamp) -> String {
    let far = how_far(step, now).unwrap_or_default();
    let percent = step
        .progress
        .as_ref()
        .map_or(0, |progress| progress.percent);
    let rest = far.strip_prefix(&format!("{percent}%"));
    rest.map_or(far.as_str(), |rest| rest.trim_start_matches(", "))
        .to_owned()
}

/// The time left, if the step continues at this rate. None if it has only just started.
fn time_left(step: &StepStatus, now: Timestamp) -> Option<SignedDuration> {
    let progress = step.progress.as_ref()?;
    let percent = (i64::from(progress.percent), 100);
    let (done, all) = counts_of_step(progress).unwrap_or(percent);
    let passed = computing(step.attempts.last()?, now)?.as_secs();
    if done < 1 || done >= all || passed < 5 {
        return None;
    }
    let left = passed.saturating_mul(all - done) / done;
    Some(SignedDuration::from_secs(left))
}

/// How many are done, of how many. These numbers are finer than the percentage. None if they are of one stage only, and so disagree
/// with the percentage, which is of the whole step.
fn counts_of_step(progress: &Progress) -> Option<(i64, i64)> {
    let (done, of) = (progress.done?, progress.of?);
    let percent = |done: i64| done.saturating_mul(100).checked_div(of);
    let agree = percent(done)?..=percent(done.saturating_add(1))?;
    agree
        .contains(&i64::from(progress.percent))
        .then_some((done, of))
}
