//! Each step's next status. A step that is over never changes again.
//!
//! # Layout
//! - [`pending`]: it has no worker
//! - [`running`]: it has one
//! - [`deadline`]: time alone changes it

mod deadline;
mod pending;
mod running;

use framewright_crds::aijob::{Step, StepState, StepStatus};
use jiff::Timestamp;

pub use deadline::{next_deadline, queue_limit};
pub use pending::{foreseen, is_pending};

use super::attempt;
use super::inputs::{self, Missing};
use crate::jobs::snapshot::Snapshot;

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
        running::judge(snapshot, &mut status, &open);
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
        Some(Missing::Source { input }) => pending::wait_for_input(
            snapshot,
            &mut status,
            format!(
                "waits, since this version of the operator does not know the source of input {input}; upgrade the operator, or delete this job"
            ),
        ),
        Some(Missing::Upload { input, digest }) => {
            pending::wait_for_upload(snapshot, &mut status, &input, &digest)
        }
        None => pending::queue_or_bind(snapshot, step, &mut status, bindings),
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
        running::close(status, now, None);
    }
    status.state = StepState::Skipped;
    status.message = Some(message.to_owned());
    status.progress = None;
}
