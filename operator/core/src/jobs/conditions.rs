//! The job's conditions and its one-line summary, from its steps; also what a queued step waits for, in words. These words name the
//! pool and the reason only: a pool's own message changes often, and each change would be a write of every job that waits for it.

use framewright_crds::aijob::{AIJobStatus, Cause, Step, StepState, StepStatus};
use framewright_crds::conditions::{
    RECONCILING, STALLED, Truth, ended_by, job, job_reason, remove, set,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::attempt;
use super::inputs::{self, Missing};
use super::steps::queue_limit;
use crate::jobs::admission::Admission;
use crate::jobs::snapshot::{NotProvided, PoolProblem, Resolution, Snapshot};

/// The job's state as its Succeeded condition tells it.
struct State {
    truth: Truth,
    reason: String,
    message: String,
}

/// Sets conditions, progress, pool, worker and attempts from `status.steps`.
pub fn summarize(snapshot: &Snapshot, status: &mut AIJobStatus) {
    let state = state(snapshot, &status.steps);
    let is_running = status
        .steps
        .iter()
        .any(|step| step.state == StepState::Running);
    let is_over = state.truth != Truth::Unknown;
    let has_succeeded = state.truth == Truth::True;
    let has_failed = state.truth == Truth::False;
    status.observed_generation = snapshot.generation;
    let conditions = &mut status.conditions;
    let mut tell = |type_, truth, reason: &str, message: &str| {
        let (generation, now) = (snapshot.generation, snapshot.now);
        set(conditions, type_, truth, reason, message, generation, now);
    };
    // Only one condition has the message, to keep the status small.
    tell(job::SUCCEEDED, state.truth, &state.reason, &state.message);
    match &snapshot.admission {
        Admission::Admitted => tell(job::ACCEPTED, Truth::True, job_reason::VALID, ""),
        Admission::Waits { reason, .. } => tell(job::ACCEPTED, Truth::False, reason, ""),
    }
    tell(job::RUNNING, is_running.into(), &state.reason, "");
    tell(job::FINISHED, is_over.into(), &state.reason, "");
    tell(job::READY, has_succeeded.into(), &state.reason, "");
    let is_under_way = !is_over && !snapshot.is_held_back();
    for (type_, is_true) in [(RECONCILING, is_under_way), (STALLED, has_failed)] {
        if is_true {
            tell(type_, Truth::True, &state.reason, "");
        }
    }
    if !is_under_way {
        remove(&mut status.conditions, RECONCILING);
    }

    status.progress = Some(format!("{}%", progress(&status.steps)));
    let made = status.steps.iter().map(|step| step.attempts_made.max(0));
    status.attempts_made = Some(made.fold(0, i32::saturating_add));
    let newest = status
        .steps
        .iter()
        .filter_map(|step| Some((step.attempts.last()?, step.pool.as_ref())))
        .max_by_key(|(attempt, _)| attempt.bound_at.0);
    if let Some((attempt, pool)) = newest {
        status.worker = Some(attempt.worker.name.clone());
        status.pool = pool.cloned();
        status.started_at.get_or_insert(attempt.bound_at.clone());
    }
    if is_over {
        status.finished_at.get_or_insert(Time(snapshot.now));
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
                    .as_ref()
                    .map_or(0, |progress| progress.percent)
                    .clamp(0, 99),
            ),
            StepState::Blocked
            | StepState::Queued
            | StepState::Starting
            | StepState::Failed
            | StepState::Skipped
            | StepState::Unknown => 0,
        })
        .sum();
    sum / count
}

fn state(snapshot: &Snapshot, steps: &[StepStatus]) -> State {
    if let Some(failed) = steps.iter().find(|step| step.state == StepState::Failed) {
        return failure(snapshot, steps, failed);
    }
    if steps.iter().all(|step| step.state == StepState::Succeeded) {
        if let Some(missing) = inputs::missing_result(&snapshot.spec, steps) {
            return told(Truth::False, job_reason::INVALID_SPEC, missing);
        }
        return told(
            Truth::True,
            job_reason::SUCCEEDED,
            "all steps are done".to_owned(),
        );
    }
    if !snapshot.kept_by.is_empty() {
        let message = format!(
            "the job is being deleted and its work has stopped, but finalizers keep it: {}; the controllers that added them must remove them",
            snapshot.kept_by.join(", ")
        );
        return told(Truth::False, job_reason::DELETED, message);
    }
    if snapshot.spec.suspend {
        return told(
            Truth::Unknown,
            job_reason::SUSPENDED,
            format!(
                "suspended, since spec.suspend is true; to resume: kubectl patch aijob {} -n {} --type merge -p '{{\"spec\":{{\"suspend\":false}}}}'",
                snapshot.name, snapshot.namespace
            ),
        );
    }
    if let Admission::Waits { reason, message } = &snapshot.admission {
        return told(Truth::Unknown, reason, message.clone());
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
        return queued(snapshot, step);
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
        blocked.map_or(message.clone(), |step| until(snapshot, step, &message)),
    )
}

/// What is waited for, and how long at most.
fn until(snapshot: &Snapshot, step: &StepStatus, message: &str) -> String {
    let end = step.queued_at.as_ref();
    let end = end.and_then(|since| snapshot.end(since.0, queue_limit(snapshot)));
    // As the status has it, which counts in whole seconds.
    let end = end.and_then(|end| Timestamp::from_second(end.as_second()).ok());
    match end {
        Some(end) => ended_by(message, &format!("; waits until {end} at most")),
        None => message.to_owned(),
    }
}

fn queued(snapshot: &Snapshot, step: &StepStatus) -> State {
    let message = step.message.clone().unwrap_or_default();
    let message = format!("step {}: {message}", step.name);
    if attempt::retry_not_before(step, &snapshot.jumps).is_some_and(|at| at > snapshot.now) {
        return told(Truth::Unknown, job_reason::RETRYING, message);
    }
    let spec = snapshot
        .spec
        .steps
        .iter()
        .find(|spec| spec.name == step.name);
    let reason = spec.map_or(job_reason::QUEUED.to_owned(), |spec| {
        waiting_reason(snapshot, spec).reason
    });
    told(Truth::Unknown, &reason, until(snapshot, step, &message))
}

fn running(step: &StepStatus) -> String {
    if let Some(problem) = &step.message {
        return format!("step {}: {problem}", step.name);
    }
    let progress = step.progress.clone().unwrap_or_default();
    format!("step {}: {progress}", step.name)
}

/// Whether the step asks for an output that does not exist.
fn asks_for_nothing(snapshot: &Snapshot, steps: &[StepStatus], step: &StepStatus) -> bool {
    let spec = snapshot
        .spec
        .steps
        .iter()
        .find(|spec| spec.name == step.name);
    spec.is_some_and(|spec| {
        let missing = inputs::missing(spec, steps, &snapshot.received);
        inputs::wrong_output(&snapshot.spec, spec).is_some()
            || matches!(missing, Some(Missing::Output { .. }))
    })
}

fn failure(snapshot: &Snapshot, steps: &[StepStatus], step: &StepStatus) -> State {
    let message = format!(
        "step {}: {}",
        step.name,
        step.message.clone().unwrap_or_default()
    );
    let cause = step.attempts.last().and_then(|attempt| attempt.cause);
    let reason = match cause {
        Some(Cause::InvalidInput) => job_reason::INVALID_INPUT,
        Some(_) if step.failures > snapshot.spec.backoff_limit => {
            job_reason::BACKOFF_LIMIT_EXCEEDED
        }
        None if asks_for_nothing(snapshot, steps, step) => job_reason::INVALID_SPEC,
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

/// A reason for machines and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub reason: String,
    pub message: String,
}

/// What the step waits for.
#[must_use]
pub fn waiting_reason(snapshot: &Snapshot, step: &Step) -> Waiting {
    let around = snapshot.steps.get(&step.name);
    let Some(resolution) = around.and_then(|step| step.resolution.as_ref()) else {
        let Some(pipeline) = step.pipeline() else {
            return waiting(
                job_reason::PIPELINE_NOT_FOUND,
                "this version of the operator does not know the step's pipeline; upgrade it, or delete this job".to_owned(),
            );
        };
        let pipeline = pipeline.spec().name;
        return waiting(
            job_reason::QUEUED,
            format!("waits for a worker that runs {pipeline}"),
        );
    };
    match resolution {
        Resolution::Pools {
            problem: Some(PoolProblem { pool, reason, .. }),
            ..
        } => waiting(
            job_reason::POOL_NOT_READY,
            format!("pool {pool} is not ready ({reason}); the pool's status says why"),
        ),
        Resolution::Pools {
            pools,
            problem: None,
        } => {
            let pools: Vec<String> = pools.iter().map(ToString::to_string).collect();
            let pools = pools.join(", ");
            let message = format!("all workers of pool {pools} are busy");
            waiting(job_reason::QUEUED, message)
        }
        Resolution::NotFound { what, searched } => {
            let searched = searched.join(", ");
            match what {
                NotProvided::Model(model) => waiting(
                    job_reason::MODEL_NOT_FOUND,
                    format!(
                        "no ModelPool in namespace {searched} has model {model}; create one, or delete this job and submit it with another model or poolRef"
                    ),
                ),
                NotProvided::Pipeline(pipeline) => waiting(
                    job_reason::PIPELINE_NOT_FOUND,
                    format!(
                        "no ModelPool in namespace {searched} runs {pipeline}{}; create one, or delete this job and submit it with another poolRef",
                        with_model(step)
                    ),
                ),
            }
        }
        Resolution::PoolNotFound { pool } => waiting(
            job_reason::POOL_NOT_FOUND,
            format!(
                "poolRef names ModelPool {pool}, which does not exist; create it, or delete this job and submit it with another poolRef"
            ),
        ),
        Resolution::NotInPool { pool, what, has } => {
            let has = has.join(", ");
            let has = if has.is_empty() { "none" } else { &has };
            match what {
                NotProvided::Model(model) => waiting(
                    job_reason::MODEL_NOT_FOUND,
                    format!("ModelPool {pool} has no model {model}; it has {has}"),
                ),
                NotProvided::Pipeline(pipeline) => waiting(
                    job_reason::PIPELINE_NOT_FOUND,
                    format!("ModelPool {pool} does not run {pipeline}; it runs {has}"),
                ),
            }
        }
        Resolution::NotAllowed { pool } => waiting(
            job_reason::NOT_ALLOWED,
            format!(
                "ModelPool {pool} does not allow namespace {}; its owner can add the namespace to spec.access",
                snapshot.namespace
            ),
        ),
    }
}

fn with_model(step: &Step) -> String {
    let model = step.model.as_ref();
    model.map_or_else(String::new, |model| format!(" with model {model}"))
}

/// What the step has waited for, with the pool's own message: for a step that waits no longer, which is written once.
#[must_use]
pub fn waiting_in_detail(snapshot: &Snapshot, step: &str, waits: Waiting) -> String {
    let resolution = snapshot
        .steps
        .get(step)
        .and_then(|step| step.resolution.as_ref());
    match resolution {
        Some(Resolution::Pools {
            problem: Some(problem),
            ..
        }) => {
            let PoolProblem {
                pool,
                reason,
                message,
            } = problem;
            format!("pool {pool} is not ready ({reason}): {message}")
        }
        Some(_) | None => waits.message,
    }
}

fn waiting(reason: &str, message: String) -> Waiting {
    Waiting {
        reason: reason.to_owned(),
        message,
    }
}
