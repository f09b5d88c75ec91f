//! Decides everything about one job: its next status, the orders to workers, and when to look again. No I/O, no clock.
//!
//! # Layout
//! - [`inputs`]: which steps have what they need
//! - [`attempt`]: what has become of a step's open attempt
//! - [`steps`]: each step's next status
//! - [`retry`]: whether and when a failed step is tried again
//! - [`waiting`]: what a step waits for, in words
//! - [`conditions`]: the job's conditions and summary
//! - [`links`]: uploads and results
//! - [`notes`]: what people are told
//! - [`orders`]: what workers are told
//! - [`presence`]: whether an attempt's worker is still there
//! - [`resolve`]: which pools a step may use
//! - [`size`]: keeps the status small

pub mod attempt;
pub mod conditions;
pub mod inputs;
pub mod links;
pub mod notes;
pub mod orders;
pub mod presence;
pub mod resolve;
pub mod retry;
pub mod size;
pub mod steps;
pub mod waiting;

use framewright_crds::aijob::{AIJobSpec, AIJobStatus, StepState};
use framewright_crds::conditions::{is_true, job};
use jiff::{SignedDuration, Timestamp};

use crate::jobs::seen::Observed;
use crate::links::Signer;
use notes::Note;
use orders::Addressed;

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
    pub orders: Vec<Addressed>,
    /// What to tell people, once the status is written.
    pub notes: Vec<Note>,
    /// When to look again though nothing happened.
    pub look_again: Option<SignedDuration>,
}

/// The whole decision.
#[must_use]
pub fn plan(seen: &Observed, signer: &dyn Signer) -> Plan {
    let orders = orders::orders(seen);
    if is_finished(&seen.status) {
        return finished(seen, signer, orders);
    }
    let (steps, mut notes) = steps::next(seen);
    let mut status = seen.status.clone();
    status.steps = steps;
    links::uploads(seen, &mut status, signer);
    conditions::summarize(seen, &mut status);
    notes.splice(0..0, notes::turn(&seen.status, &status));
    if is_finished(&status) {
        links::results(seen, &mut status, signer);
    }
    size::shrink(&mut status);
    let look_again = look_again(seen, &status);
    let waits = only_progress_differs(&seen.status, &status)
        .then(|| progress_due_in(seen))
        .flatten();
    let look_again = match waits {
        Some(wait) if status != seen.status => look_again.min(wait),
        Some(_) | None => look_again,
    };
    if waits.is_some() {
        status = seen.status.clone();
        notes.clear();
    }
    Plan {
        delete: false,
        status,
        orders,
        notes: notes::merged(notes),
        look_again: Some(look_again),
    }
}

/// Whether the job is over.
#[must_use]
pub fn is_finished(status: &AIJobStatus) -> bool {
    is_true(&status.conditions, job::FINISHED)
}

/// When a finished job is deleted.
#[must_use]
pub fn deleted_at(spec: &AIJobSpec, status: &AIJobStatus) -> Option<Timestamp> {
    let finished = status.finished_at.as_ref()?.0;
    finished
        .checked_add(SignedDuration::from_secs(spec.ttl_seconds_after_finished))
        .ok()
}

/// A job that is over: only its links change, and it leaves in time.
fn finished(seen: &Observed, signer: &dyn Signer, orders: Vec<Addressed>) -> Plan {
    let left = deleted_at(&seen.spec, &seen.status).map(|at| at.duration_since(seen.now));
    let mut status = seen.status.clone();
    if crate::uploads::is_renewal_due(
        seen.renew_links.as_deref(),
        status.links_renewed_for.as_deref(),
    ) {
        links::renew(seen, &mut status, signer);
    }
    let is_past = left.is_some_and(|left| !left.is_positive());
    let delete = is_past && seen.kept_by.is_empty();
    Plan {
        delete,
        status,
        orders,
        notes: Vec::new(),
        look_again: left.filter(|_| seen.kept_by.is_empty()),
    }
}

/// The next moment at which time alone changes something, not sooner than in half a second nor later than in a minute.
fn look_again(seen: &Observed, status: &AIJobStatus) -> SignedDuration {
    let deadlines = status
        .steps
        .iter()
        .filter_map(|step| steps::next_deadline(seen, step, &status.steps))
        .min()
        .map(|at| at.duration_since(seen.now));
    let soonest = SignedDuration::from_millis(500);
    let latest = SignedDuration::from_secs(60);
    deadlines.unwrap_or(latest).clamp(soonest, latest)
}

/// How long progress must wait before it is written; none if it need not.
fn progress_due_in(seen: &Observed) -> Option<SignedDuration> {
    let passed = seen.now.duration_since(seen.written_at?);
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
        // What a worker says of its trouble is worth no more writes than how far it is.
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
