//! Each step's next status: it waits for an input or a worker, is bound to one, or its open attempt has come to something. A step that is
//! over never changes again. Also when time alone changes a step.

use std::collections::{BTreeMap, BTreeSet};

use framewright_crds::aijob::{
    Attempt, AttemptWorker, Cause, Progress, Step, StepOutput, StepState, StepStatus, Usage,
};
use framewright_crds::conditions::shortened;
use framewright_crds::names::{TaskId, bare};
use framewright_crds::protocol::OutputFile;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use ring::digest;

use super::attempt::{self, Verdict};
use super::conditions;
use super::inputs::{self, Missing};
use crate::clock::Jumps;
use crate::jobs::admission::Admission;
use crate::jobs::snapshot::{Binding, Snapshot};
use crate::names::WorkerRef;

/// Attempts that a status remembers.
const ATTEMPTS_KEPT: usize = 4;

/// All steps' next statuses.
#[must_use]
pub fn next(snapshot: &Snapshot) -> Vec<StepStatus> {
    let done = each(snapshot, Bindings::TakenUp);
    let why = match failed(&done) {
        Some(failed) => format!("step {failed} failed"),
        None if !snapshot.kept_by.is_empty() => "the job is deleted".to_owned(),
        None => return done,
    };
    // A job that fails or is deleted binds nothing more, not even in the same write.
    let message = format!("stopped, since {why}");
    let mut done = each(snapshot, Bindings::Left);
    for step in done.iter_mut().filter(|step| !step.state.is_terminal()) {
        skip(step, &message, snapshot.now);
    }
    done
}

/// Whether the scheduler's choices are taken up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bindings {
    TakenUp,
    Left,
}

fn each(snapshot: &Snapshot, bindings: Bindings) -> Vec<StepStatus> {
    let mut done: Vec<StepStatus> = Vec::with_capacity(snapshot.spec.steps.len());
    for step in &snapshot.spec.steps {
        let old = snapshot
            .status
            .steps
            .iter()
            .find(|status| status.name == step.name);
        let new = one(
            snapshot,
            step,
            old.cloned()
                .unwrap_or_else(|| StepStatus::blocked(&step.name)),
            &done,
            bindings,
        );
        done.push(new);
    }
    done
}

fn failed(steps: &[StepStatus]) -> Option<String> {
    let failed = steps.iter().find(|step| step.state == StepState::Failed);
    failed.map(|step| step.name.clone())
}

fn one(
    snapshot: &Snapshot,
    step: &Step,
    mut status: StepStatus,
    done: &[StepStatus],
    bindings: Bindings,
) -> StepStatus {
    // One in a state of a later version is left alone.
    if status.state.is_terminal() || status.state == StepState::Unknown {
        return status;
    }
    set_back(&mut status, snapshot.now);
    if let Some(open) = attempt::open(&status).cloned() {
        take_verdict(snapshot, &mut status, &open);
        if status.state.is_terminal() || attempt::open(&status).is_some() {
            return status;
        }
    }
    if let Some(message) = inputs::wrong_output(&snapshot.spec, step) {
        fail(&mut status, message);
        return status;
    }
    match inputs::missing(step, done, &snapshot.received) {
        Some(Missing::Output { message }) => fail(&mut status, message),
        Some(Missing::FailedStep { name }) => skip(
            &mut status,
            &format!("stopped, since step {name} failed"),
            snapshot.now,
        ),
        Some(Missing::Step { name }) => {
            status.state = StepState::Blocked;
            status.message = Some(format!("waits for step {name}"));
        }
        Some(Missing::Source { input }) => wait_for_input(
            snapshot,
            &mut status,
            format!(
                "waits, since this version of the operator does not know the source of input {input}; upgrade the operator, or delete this job"
            ),
        ),
        Some(Missing::Upload { input, digest }) => {
            wait_for_upload(snapshot, &mut status, &input, &digest)
        }
        None => queue_or_bind(snapshot, step, &mut status, bindings),
    }
    status
}

/// A clock that was set back has left times ahead of it: they become now, or what counts from them would wait for hours.
fn set_back(status: &mut StepStatus, now: Timestamp) {
    let attempt = status.attempts.last_mut().map(|attempt| {
        [
            Some(&mut attempt.bound_at),
            attempt.started_at.as_mut(),
            attempt.finished_at.as_mut(),
        ]
    });
    let times = attempt.into_iter().flatten().flatten();
    for time in times.chain(status.queued_at.as_mut()) {
        time.0 = time.0.min(now);
    }
}

/// The step can never run: what it asks for does not exist.
fn fail(status: &mut StepStatus, message: String) {
    status.state = StepState::Failed;
    status.message = Some(message);
}

fn skip(status: &mut StepStatus, message: &str, now: Timestamp) {
    if attempt::open(status).is_some() {
        close(status, now, None);
    }
    status.state = StepState::Skipped;
    status.message = Some(message.to_owned());
    status.progress = None;
}

// Steps without a worker.

/// Whether the scheduler may place this step now.
#[must_use]
pub fn is_pending(
    step: &Step,
    status: Option<&StepStatus>,
    done: &[StepStatus],
    received: &BTreeSet<String>,
    (now, jumps): (Timestamp, &Jumps),
) -> bool {
    let free = status.is_none_or(|status| {
        !status.state.is_terminal()
            && status.state != StepState::Unknown
            && attempt::open(status).is_none()
            && attempt::retry_not_before(status, jumps).is_none_or(|at| at <= now)
    });
    free && inputs::missing(step, done, received).is_none()
}

/// The steps as the next status will show them: one whose bound worker has succeeded counts as done, so that what follows from
/// it can be placed before it is written, and one write tells both.
#[must_use]
pub fn foreseen(
    job_uid: &str,
    steps: &[StepStatus],
    succeeded: &BTreeMap<(String, TaskId), Vec<OutputFile>>,
) -> Vec<StepStatus> {
    let mut steps = steps.to_vec();
    for step in &mut steps {
        let outputs = attempt::open(step).and_then(|open| {
            let task = attempt::task_id(job_uid, &step.name, open.number);
            succeeded.get(&(open.worker.uid.clone(), task))
        });
        if let Some(outputs) = outputs {
            step.state = StepState::Succeeded;
            step.outputs = outputs.iter().cloned().map(output).collect();
        }
    }
    steps
}

fn wait_for_upload(snapshot: &Snapshot, status: &mut StepStatus, input: &str, digest: &str) {
    let start: String = bare(digest).chars().take(12).collect();
    let mut waits = format!(
        "waits for the upload of input {input} (sha256:{start}…) to the link in status.files"
    );
    if let Some(problem) = &snapshot.store_error {
        waits = shortened(&format!(
            "{waits}; the operator does not know whether the file is there: {problem}"
        ));
    }
    wait_for_input(snapshot, status, waits);
}

/// The step waits for an input, for as long as it may.
fn wait_for_input(snapshot: &Snapshot, status: &mut StepStatus, waits: String) {
    status.message = Some(waits.clone());
    if snapshot.spec.suspend {
        status.state = StepState::Blocked;
        status.queued_at = None;
        return;
    }
    let since = status.queued_at.get_or_insert(Time(snapshot.now)).0;
    if snapshot.elapsed(since) >= queue_limit(snapshot) {
        status.state = StepState::Failed;
        status.message = Some(format!(
            "queueDeadlineSeconds ({} s) passed; it {waits}",
            snapshot.spec.queue_deadline_seconds
        ));
        return;
    }
    status.state = StepState::Blocked;
}

fn queue_or_bind(snapshot: &Snapshot, step: &Step, status: &mut StepStatus, bindings: Bindings) {
    if let Admission::Waits { message, .. } = &snapshot.admission {
        return wait_for_input(snapshot, status, shortened(message));
    }
    if snapshot.spec.suspend {
        // Time spent suspended does not count against the queue deadline.
        status.state = StepState::Queued;
        status.queued_at = None;
        status.message = Some("suspended, since spec.suspend is true".to_owned());
        return;
    }
    if status.state == StepState::Blocked {
        // It has waited for an upload; now it waits for a worker.
        status.queued_at = None;
    }
    let since = status.queued_at.get_or_insert(Time(snapshot.now)).0;
    let around = snapshot.steps.get(&step.name);
    let binding = around
        .and_then(|step| step.binding.as_ref())
        .filter(|_| bindings == Bindings::TakenUp);
    if let Some(binding) = binding.filter(|_| {
        attempt::retry_not_before(status, &snapshot.jumps).is_none_or(|at| at <= snapshot.now)
    }) {
        bind(snapshot, status, binding);
        return;
    }
    let waits = conditions::waiting_reason(snapshot, step);
    if snapshot.elapsed(since) >= queue_limit(snapshot) {
        let waited_for = conditions::waiting_in_detail(snapshot, &step.name, waits);
        status.state = StepState::Failed;
        status.message = Some(shortened(&format!(
            "queueDeadlineSeconds ({} s) passed; last reason for waiting: {waited_for}",
            snapshot.spec.queue_deadline_seconds
        )));
        return;
    }
    status.state = StepState::Queued;
    let retrying = status
        .attempts
        .last()
        .and_then(|attempt| attempt.cause)
        .is_some();
    let is_due =
        attempt::retry_not_before(status, &snapshot.jumps).is_none_or(|at| at <= snapshot.now);
    if !retrying || is_due {
        status.message = Some(shortened(&waits.message));
    }
}

fn bind(snapshot: &Snapshot, status: &mut StepStatus, binding: &Binding) {
    let WorkerRef {
        namespace,
        name,
        uid,
    } = &binding.worker;
    status.attempts_made = attempt::one_more(status.attempts_made);
    let worker = AttemptWorker::pod(namespace, name, uid);
    status
        .attempts
        .push(Attempt::bound(status.attempts_made, worker, snapshot.now));
    let surplus = status.attempts.len().saturating_sub(ATTEMPTS_KEPT);
    status.attempts.drain(..surplus);
    status.state = StepState::Starting;
    status.message = Some(format!("worker {name} prepares"));
    status.pool = Some(binding.pool.to_string());
    status.models.clone_from(&binding.models);
    let first = seed(&snapshot.uid, &status.name);
    status.seed.get_or_insert(first);
    status.progress = None;
}

/// What the random numbers of a step begin with: it differs from job to job, and a repeated decision chooses the same.
fn seed(job_uid: &str, step: &str) -> i64 {
    let name = format!("{job_uid}/{step}");
    let digest = digest::digest(&digest::SHA256, name.as_bytes());
    let first = digest.as_ref().iter().take(4);
    first.fold(0, |seed, byte| seed << 8 | i64::from(*byte))
}

// Steps with an open attempt.

fn take_verdict(snapshot: &Snapshot, status: &mut StepStatus, open: &Attempt) {
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
            record_start(snapshot, status, open, Some(snapshot.now));
        }
        Verdict::Succeeded { outputs, usage } => {
            record_start(snapshot, status, open, None);
            close(status, snapshot.now, None);
            status.state = StepState::Succeeded;
            status.message = None;
            status.progress = status.progress.take().map(|progress| Progress {
                percent: 100,
                done: progress.of.or(progress.done),
                ..progress
            });
            status.outputs = outputs.into_iter().map(output).collect();
            add_usage(status, Some(usage));
        }
        Verdict::Failed {
            cause,
            message,
            usage,
        } => {
            record_start(snapshot, status, open, None);
            close(status, snapshot.now, Some((cause, &message)));
            add_usage(status, usage);
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
    let next = attempt::retry(cause, status);
    if next == attempt::Retry::Again {
        status.failures = attempt::one_more(status.failures);
    }
    if next == attempt::Retry::GiveUp || status.failures > snapshot.spec.backoff_limit {
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

/// Records when the worker began to compute: when it said so, or else `otherwise`.
fn record_start(
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

fn close(status: &mut StepStatus, now: Timestamp, failure: Option<(Cause, &str)>) {
    if let Some(attempt) = status.attempts.last_mut() {
        attempt.finished_at = Some(Time(now));
        attempt.cause = failure.map(|(cause, _)| cause);
        attempt.message = failure.map(|(_, message)| shortened(message));
    }
}

/// Adds what an attempt has used to the step's sum. Work of another unit than before is not added.
fn add_usage(status: &mut StepStatus, usage: Option<Usage>) {
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

fn output(file: OutputFile) -> StepOutput {
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

// Deadlines.

/// The next moment at which time alone changes this step.
#[must_use]
pub fn next_deadline(
    snapshot: &Snapshot,
    step: &StepStatus,
    all: &[StepStatus],
) -> Option<Timestamp> {
    match step.state {
        StepState::Succeeded | StepState::Failed | StepState::Skipped | StepState::Unknown => None,
        StepState::Blocked => {
            // One that waits for an earlier step is as late as that one.
            let spec = snapshot
                .spec
                .steps
                .iter()
                .find(|spec| spec.name == step.name)?;
            match inputs::missing(spec, all, &snapshot.received)? {
                Missing::Upload { .. } => {
                    let since = step.queued_at.as_ref()?.0;
                    snapshot.end(since, queue_limit(snapshot))
                }
                Missing::Source { .. } => {
                    let since = step.queued_at.as_ref()?.0;
                    snapshot.end(since, queue_limit(snapshot))
                }
                Missing::Step { .. } | Missing::FailedStep { .. } | Missing::Output { .. } => None,
            }
        }
        StepState::Queued => {
            let limit = snapshot.end(step.queued_at.as_ref()?.0, queue_limit(snapshot));
            let retry =
                attempt::retry_not_before(step, &snapshot.jumps).filter(|at| *at > snapshot.now);
            [limit, retry].into_iter().flatten().min()
        }
        StepState::Starting | StepState::Running => {
            attempt::deadline(snapshot, &step.name, attempt::open(step)?)
        }
    }
}

/// How long a step may wait.
#[must_use]
pub fn queue_limit(snapshot: &Snapshot) -> SignedDuration {
    SignedDuration::from_secs(snapshot.spec.queue_deadline_seconds)
}
