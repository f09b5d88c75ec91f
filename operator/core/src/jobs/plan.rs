//! The plan of one job: its next status, the commands to workers, and when to reconcile again. No I/O, no clock.

use framewright_crds::aijob::{AIJobSpec, AIJobStatus, StepState, Usage};
use framewright_crds::conditions::{get, is_true, job};
use framewright_crds::names::TaskId;
use jiff::{SignedDuration, Timestamp};

use super::commands::Addressed;
use super::{attempt, commands, conditions, links, status_size, steps};
use crate::clock::Jumps;
use crate::jobs::snapshot::Snapshot;
use crate::links::Signer;

/// Progress alone is written at most this often.
pub const PROGRESS_INTERVAL: SignedDuration = SignedDuration::from_secs(5);

/// All that is to be done about a job now.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The job is past its time: delete it, and do nothing else.
    pub delete: bool,
    /// The status to write; the same as the observed one if there is nothing to write.
    pub status: AIJobStatus,
    /// What to tell workers. Follows from the observed status alone, so that nothing is sent before it is durable.
    pub commands: Vec<Addressed>,
    /// What the job has used, which must be recorded before the status may say that the job is over.
    pub outcome: Option<Outcome>,
    /// When to decide again though nothing happened.
    pub requeue_after: Option<SignedDuration>,
}

/// The whole decision.
#[must_use]
pub fn plan(snapshot: &Snapshot, signer: &dyn Signer) -> Plan {
    let commands = commands::commands(snapshot);
    if is_finished(&snapshot.status) {
        return finished(snapshot, signer, commands);
    }
    let mut status = snapshot.status.clone();
    status.steps = steps::next(snapshot);
    links::files(snapshot, &mut status, signer);
    conditions::summarize(snapshot, &mut status);
    let outcome = is_finished(&status).then(|| outcome(snapshot, &status));
    if outcome.is_some() && outcome != snapshot.recorded {
        return Plan {
            delete: false,
            outcome,
            status: snapshot.status.clone(),
            commands,
            requeue_after: Some(SignedDuration::from_secs(60)),
        };
    }
    if is_finished(&status) {
        links::results(snapshot, &mut status, signer);
    }
    status_size::shrink(&mut status);
    let requeue_after = requeue_after(snapshot, &status);
    let waits = only_progress_differs(&snapshot.status, &status)
        .then(|| progress_due_in(snapshot))
        .flatten();
    let requeue_after = match waits {
        Some(wait) if status != snapshot.status => requeue_after.min(wait),
        Some(_) | None => requeue_after,
    };
    if waits.is_some() {
        status = snapshot.status.clone();
    }
    Plan {
        delete: false,
        outcome: None,
        status,
        commands,
        requeue_after: Some(requeue_after),
    }
}

/// What a job that ends has used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The reason of its Succeeded condition.
    pub reason: String,
    /// What each step has used, over all its attempts.
    pub steps: Vec<(String, Usage)>,
    /// The tasks that have used something, of those that the status still knows.
    pub tasks: Vec<(TaskId, Usage)>,
}

fn outcome(snapshot: &Snapshot, status: &AIJobStatus) -> Outcome {
    let reason = get(&status.conditions, job::SUCCEEDED);
    let attempts = status
        .steps
        .iter()
        .flat_map(|step| step.attempts.iter().map(move |attempt| (step, attempt)));
    let tasks = attempts.filter_map(|(step, attempt)| {
        let task = attempt::task_id(&snapshot.uid, &step.name, attempt.number);
        Some((task, attempt.usage.clone()?))
    });
    let used = status.steps.iter();
    let used = used.filter_map(|step| Some((step.name.clone(), step.usage.clone()?)));
    Outcome {
        steps: used.collect(),
        reason: reason.map_or_else(String::new, |reason| reason.reason.clone()),
        tasks: tasks.collect(),
    }
}

/// Whether the job is over.
#[must_use]
pub fn is_finished(status: &AIJobStatus) -> bool {
    is_true(&status.conditions, job::FINISHED)
}

/// How long a finished job is kept.
#[must_use]
pub fn ttl(spec: &AIJobSpec) -> SignedDuration {
    SignedDuration::from_secs(spec.ttl_seconds_after_finished)
}

/// How much of a finished job's time is left. If the clock was ahead when the job ended, the time counts from now at the latest.
#[must_use]
pub fn time_left(
    finished_at: Timestamp,
    ttl: SignedDuration,
    (now, jumps): (Timestamp, &Jumps),
) -> Option<SignedDuration> {
    let end = jumps.shifted(finished_at).min(now).checked_add(ttl).ok()?;
    Some(end.duration_since(now))
}

/// A job that is over: only its links change, and it leaves in time.
fn finished(snapshot: &Snapshot, signer: &dyn Signer, commands: Vec<Addressed>) -> Plan {
    let finished = snapshot.status.finished_at.as_ref();
    let clock = (snapshot.now, &snapshot.jumps);
    let left = finished.and_then(|finished| time_left(finished.0, ttl(&snapshot.spec), clock));
    let mut status = snapshot.status.clone();
    if crate::links::is_renewal_due(
        snapshot.renew_links.as_deref(),
        status.links_renewed_for.as_deref(),
    ) {
        links::renew(snapshot, &mut status, signer);
    }
    let is_past = left.is_some_and(|left| !left.is_positive());
    let delete = is_past && snapshot.kept_by.is_empty();
    Plan {
        delete,
        outcome: None,
        status,
        commands,
        requeue_after: left.filter(|_| snapshot.kept_by.is_empty()),
    }
}

/// The next moment at which time alone changes something, not sooner than in half a second nor later than in a minute.
fn requeue_after(snapshot: &Snapshot, status: &AIJobStatus) -> SignedDuration {
    let deadlines = status
        .steps
        .iter()
        .filter_map(|step| steps::next_deadline(snapshot, step, &status.steps))
        .min()
        .map(|at| at.duration_since(snapshot.now));
    let soonest = SignedDuration::from_millis(500);
    let latest = SignedDuration::from_secs(60);
    deadlines.unwrap_or(latest).clamp(soonest, latest)
}

/// How long progress must wait before it is written; none if it need not.
fn progress_due_in(snapshot: &Snapshot) -> Option<SignedDuration> {
    let passed = snapshot.elapsed(snapshot.written_at?);
    let left = PROGRESS_INTERVAL - passed;
    // A clock that was set back delays nothing.
    (left.is_positive() && !passed.is_negative()).then_some(left)
}

fn only_progress_differs(old: &AIJobStatus, new: &AIJobStatus) -> bool {
    without_progress(old) == without_progress(new)
}

fn without_progress(status: &AIJobStatus) -> AIJobStatus {
    let mut status = status.clone();
    status.progress = None;
    for step in &mut status.steps {
        step.progress = None;
        // What a worker says of its problem is worth no more writes than how far it is.
        if matches!(step.state, StepState::Starting | StepState::Running) {
            step.message = None;
        }
    }
    // The conditions' messages tell frames too.
    for condition in &mut status.conditions {
        if condition.reason == framewright_crds::conditions::job_reason::RUNNING {
            condition.message.clear();
        }
    }
    status
}
