//! The job's conditions and its one-line summary, from its steps.

use framewright_crds::aijob::{AIJobStatus, Cause, StepState, StepStatus};
use framewright_crds::conditions::{Truth, ended_by, job, job_reason, set};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::steps::queue_limit;
use super::{retry, waiting};
use crate::jobs::seen::Observed;

/// The job's state as its Succeeded condition tells it.
struct State {
    truth: Truth,
    reason: String,
    message: String,
}

/// Sets conditions, progress, pool, worker and attempts from `status.steps`.
pub fn summarize(seen: &Observed, status: &mut AIJobStatus) {
    let state = state(seen, &status.steps);
    let is_running = status
        .steps
        .iter()
        .any(|step| step.state == StepState::Running);
    let is_over = state.truth != Truth::Unknown;
    let (generation, now) = (seen.generation, seen.now);
    status.observed_generation = generation;
    let conditions = &mut status.conditions;
    set(
        conditions,
        job::ACCEPTED,
        Truth::True,
        job_reason::VALID,
        "the spec can be worked on",
        generation,
        now,
    );
    let running = if is_running {
        Truth::True
    } else {
        Truth::False
    };
    set(
        conditions,
        job::RUNNING,
        running,
        &state.reason,
        &state.message,
        generation,
        now,
    );
    set(
        conditions,
        job::SUCCEEDED,
        state.truth,
        &state.reason,
        &state.message,
        generation,
        now,
    );
    let finished = if is_over { Truth::True } else { Truth::False };
    set(
        conditions,
        job::FINISHED,
        finished,
        &state.reason,
        &state.message,
        generation,
        now,
    );

    status.progress = Some(format!("{}%", progress(&status.steps)));
    let made = status.steps.iter().map(|step| step.attempts_made.max(0));
    status.attempts = Some(made.fold(0, i32::saturating_add));
    let newest = status
        .steps
        .iter()
        .filter_map(|step| Some((step.attempts.last()?, step.pool.as_ref())))
        .max_by_key(|(attempt, _)| attempt.bound_at.0);
    if let Some((attempt, pool)) = newest {
        status.worker = Some(attempt.worker.clone());
        status.pool = pool.cloned();
        status.started_at.get_or_insert(attempt.bound_at.clone());
    }
    if is_over {
        status.finished_at.get_or_insert(Time(now));
    }
}

/// The mean over the steps, in per cent; 100 only when all are done.
fn progress(steps: &[StepStatus]) -> i64 {
    let count = i64::try_from(steps.len()).unwrap_or(1).max(1);
    let sum: i64 = steps
        .iter()
        .map(|step| match step.state {
            StepState::Succeeded => 100,
            StepState::Running => i64::from(
                step.progress
                    .map_or(0, |progress| progress.percent)
                    .clamp(0, 99),
            ),
            StepState::Blocked
            | StepState::Queued
            | StepState::Starting
            | StepState::Failed
            | StepState::Skipped => 0,
        })
        .sum();
    sum / count
}

fn state(seen: &Observed, steps: &[StepStatus]) -> State {
    if let Some(failed) = steps.iter().find(|step| step.state == StepState::Failed) {
        return failure(seen, failed);
    }
    if steps.iter().all(|step| step.state == StepState::Succeeded) {
        return told(
            Truth::True,
            job_reason::SUCCEEDED,
            "all steps are done".to_owned(),
        );
    }
    if !seen.kept_by.is_empty() {
        let message = format!(
            "the job is being deleted and its work has stopped, but its finalizers keep it: {}; whoever put them there has to remove them",
            seen.kept_by.join(", ")
        );
        return told(Truth::False, job_reason::DELETED, message);
    }
    if seen.spec.suspend {
        return told(
            Truth::Unknown,
            job_reason::SUSPENDED,
            format!(
                "held back, since spec.suspend is true; to go on: kubectl patch aijob {} -n {} --type merge -p '{{\"spec\":{{\"suspend\":false}}}}'",
                seen.name, seen.namespace
            ),
        );
    }
    let first = |wanted: StepState| steps.iter().find(|step| step.state == wanted);
    if let Some(step) = first(StepState::Running) {
        return told(Truth::Unknown, job_reason::RUNNING, running(step));
    }
    if let Some(step) = first(StepState::Starting) {
        let message = step.message.clone().unwrap_or_default();
        return told(
            Truth::Unknown,
            job_reason::STARTING,
            format!("step {}: {message}", step.name),
        );
    }
    if let Some(step) = first(StepState::Queued) {
        return queued(seen, step);
    }
    let blocked = first(StepState::Blocked);
    let message = blocked
        .and_then(|step| step.message.clone())
        .unwrap_or_default();
    let name = blocked.map_or("", |step| step.name.as_str());
    let message = format!("step {name} {message}");
    told(
        Truth::Unknown,
        job_reason::AWAITING_UPLOAD,
        blocked.map_or(message.clone(), |step| until(seen, step, &message)),
    )
}

/// What is waited for, and how long at most.
fn until(seen: &Observed, step: &StepStatus, message: &str) -> String {
    let end = step.queued_at.as_ref();
    let end = end.and_then(|since| since.0.checked_add(queue_limit(seen)).ok());
    // As the status has it, which counts in whole seconds.
    let end = end.and_then(|end| Timestamp::from_second(end.as_second()).ok());
    match end {
        Some(end) => ended_by(message, &format!("; waits until {end} at most")),
        None => message.to_owned(),
    }
}

fn queued(seen: &Observed, step: &StepStatus) -> State {
    let message = step.message.clone().unwrap_or_default();
    let message = format!("step {}: {message}", step.name);
    if retry::not_before(step).is_some_and(|at| at > seen.now) {
        return told(Truth::Unknown, job_reason::RETRYING, message);
    }
    let model = seen
        .spec
        .steps
        .iter()
        .find(|spec| spec.name == step.name)
        .map_or("", |spec| &spec.model);
    let reason = waiting::reason(seen, &step.name, model).reason;
    told(Truth::Unknown, &reason, until(seen, step, &message))
}

fn running(step: &StepStatus) -> String {
    if let Some(trouble) = &step.message {
        return format!("step {}: {trouble}", step.name);
    }
    format!("step {}: {}", step.name, step.progress.unwrap_or_default())
}

fn failure(seen: &Observed, step: &StepStatus) -> State {
    let message = format!(
        "step {}: {}",
        step.name,
        step.message.clone().unwrap_or_default()
    );
    let cause = step.attempts.last().and_then(|attempt| attempt.cause);
    let reason = match cause {
        Some(Cause::InvalidInput) => job_reason::INVALID_INPUT,
        Some(_) if step.failures > seen.spec.backoff_limit => job_reason::BACKOFF_LIMIT_EXCEEDED,
        // No attempt failed for good: time ran out before the next one.
        Some(_) | None => job_reason::QUEUE_DEADLINE_EXCEEDED,
    };
    told(Truth::False, reason, message)
}

fn told(truth: Truth, reason: &str, message: String) -> State {
    State {
        truth,
        reason: reason.to_owned(),
        message,
    }
}
