//! What workers are told about a job. Follows from the status that is already durable, and from nothing newer.

use framewright_crds::aijob::{Step, StepStatus};
use framewright_crds::names::TaskId;
use framewright_crds::wire::{OutputFile, Pipeline, TaskState};

use super::inputs::{self, Present};
use super::{attempt, is_finished};
use crate::jobs::seen::{Held, Observed, Presence};
use crate::names::WorkerRef;

/// An order, and the worker that it is for.
#[derive(Clone, Debug, PartialEq)]
pub struct Addressed {
    pub worker: WorkerRef,
    pub order: Order,
}

/// An order before its grants are signed.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Do this.
    Run {
        task: TaskId,
        model: String,
        /// Of the weights that the status says, which others must not take the place of.
        weights_digest: String,
        pipeline: Pipeline,
        inputs: Vec<Present>,
    },
    /// The output may be uploaded.
    Upload { task: TaskId, output: OutputFile },
    /// The outcome is recorded.
    Settle { task: TaskId },
    /// Stop, and forget it.
    Cancel { task: TaskId },
}

/// All orders that are due.
#[must_use]
pub fn orders(seen: &Observed) -> Vec<Addressed> {
    let answers = seen.held.iter().filter_map(|held| answer(seen, held));
    let runs = seen.spec.steps.iter().filter_map(|step| run(seen, step));
    answers.chain(runs).collect()
}

/// The answer to a task that a worker holds, if it needs one.
fn answer(seen: &Observed, held: &Held) -> Option<Addressed> {
    if is_newer(seen, &held.task) {
        return None;
    }
    let task = held.task.clone();
    let is_bound = bound(seen, &held.task, &held.worker);
    let order = match (&held.state, is_bound) {
        // Either recorded, or of no interest: in both cases the worker may forget it.
        (TaskState::Finished { .. }, false) => Order::Settle { task },
        (TaskState::Finished { .. }, true) => return None,
        (_, false) => Order::Cancel { task },
        (_, true) if held.wants_grants && !seen.is_held_back() => return again(seen, held),
        (TaskState::Uploading { output }, true) => Order::Upload {
            task,
            output: output.clone(),
        },
        (TaskState::Starting | TaskState::Running { .. }, true) => return None,
    };
    Some(Addressed {
        worker: held.worker.clone(),
        order,
    })
}

/// Whether the task was sent on a later status than the observed one: an order follows from a durable binding, so this one will be
/// seen. Until then it is neither settled nor stopped.
fn is_newer(seen: &Observed, task: &TaskId) -> bool {
    let Some(step) = seen.status.steps.iter().find(|step| step.name == task.step) else {
        return !is_finished(&seen.status);
    };
    !step.state.is_terminal() && task.attempt > step.attempts_made
}

/// Whether the durable status says that this very attempt is open on this very pod.
fn bound(seen: &Observed, task: &TaskId, worker: &WorkerRef) -> bool {
    let Some(step) = seen.status.steps.iter().find(|step| step.name == task.step) else {
        return false;
    };
    !step.state.is_terminal()
        && attempt::open(step)
            .is_some_and(|open| open.number == task.attempt && open.pod_uid == worker.uid)
}

/// The order to run a step's open attempt, if its worker is there and does not hold it.
fn run(seen: &Observed, step: &Step) -> Option<Addressed> {
    if seen.is_held_back() {
        return None;
    }
    let status: &StepStatus = seen
        .status
        .steps
        .iter()
        .find(|status| status.name == step.name)?;
    if status.state.is_terminal() {
        return None;
    }
    let open = attempt::open(status)?;
    // One that has computed and lost the task is not asked again: that attempt has failed.
    if attempt::held(seen, &step.name, open).is_some()
        || attempt::started_at(seen, &step.name, open).is_some()
    {
        return None;
    }
    match seen.steps.get(&step.name)?.presence.as_ref()? {
        Presence::Connected => {}
        Presence::Away { .. } | Presence::Gone(_) => return None,
    }
    let order = order(seen, step, open.number)?;
    let worker = WorkerRef {
        namespace: open.namespace.clone(),
        name: open.worker.clone(),
        uid: open.pod_uid.clone(),
    };
    Some(Addressed { worker, order })
}

/// The same order with new grants.
fn again(seen: &Observed, held: &Held) -> Option<Addressed> {
    let step = seen
        .spec
        .steps
        .iter()
        .find(|step| step.name == held.task.step)?;
    Some(Addressed {
        worker: held.worker.clone(),
        order: order(seen, step, held.task.attempt)?,
    })
}

fn order(seen: &Observed, step: &Step, attempt: i32) -> Option<Order> {
    let statuses = &seen.status.steps;
    let status = statuses.iter().find(|status| status.name == step.name)?;
    Some(Order::Run {
        weights_digest: status.weights_digest.clone().unwrap_or_default(),
        task: attempt::task_id(&seen.uid, &step.name, attempt),
        model: step.model.clone(),
        pipeline: Pipeline::Upscale(step.upscale.clone()?),
        inputs: inputs::present(step, statuses, &seen.status.uploads)?,
    })
}
