//! What workers are told about a job. Follows from the status that is already durable, and from nothing newer.

use framewright_crds::aijob::{Step, StepModel, StepStatus};
use framewright_crds::names::TaskId;
use framewright_crds::pipelines::Pipeline;
use framewright_crds::protocol::{OutputFile, TaskState};

use super::attempt;
use super::inputs::{self, Present};
use super::plan::is_finished;
use crate::jobs::snapshot::{Presence, Snapshot, WorkerTask};
use crate::names::WorkerRef;

/// A command, and the worker that it is for.
#[derive(Clone, Debug, PartialEq)]
pub struct Addressed {
    pub worker: WorkerRef,
    pub command: Command,
}

/// A command before its links are signed.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Do this.
    Run {
        task: TaskId,
        pipeline: Pipeline,
        /// Those that the status says: others must not take their place.
        models: Vec<StepModel>,
        inputs: Vec<Present>,
        seed: i64,
    },
    /// The outputs may be uploaded.
    Upload {
        task: TaskId,
        outputs: Vec<OutputFile>,
    },
    /// The prepared task may compute.
    Proceed { task: TaskId },
    /// The outcome is recorded.
    Ack { task: TaskId },
    /// Stop, and forget it.
    Cancel { task: TaskId },
}

/// All commands that are due.
#[must_use]
pub fn commands(snapshot: &Snapshot) -> Vec<Addressed> {
    let answers = snapshot
        .held
        .iter()
        .filter_map(|held| answer(snapshot, held));
    let runs = snapshot
        .spec
        .steps
        .iter()
        .filter_map(|step| run(snapshot, step));
    answers.chain(runs).collect()
}

/// The answer to a task that a worker holds, if it needs one.
fn answer(snapshot: &Snapshot, held: &WorkerTask) -> Option<Addressed> {
    if is_newer(snapshot, &held.task) {
        return None;
    }
    let task = held.task.clone();
    let is_bound = bound(snapshot, &held.task, &held.worker);
    let command = match (&held.state, is_bound) {
        // Either recorded, or of no interest: in both cases the worker may forget it.
        (TaskState::Finished { .. }, false) => Command::Ack { task },
        (TaskState::Finished { .. }, true) | (TaskState::Stopping, false) => return None,
        (_, false) => Command::Cancel { task },
        (_, true) if held.wants_links && !snapshot.is_held_back() => return again(snapshot, held),
        (TaskState::Uploading { outputs }, true) => Command::Upload {
            task,
            outputs: outputs.clone(),
        },
        (TaskState::Prepared { .. }, true) if held.may_proceed && !snapshot.is_held_back() => {
            Command::Proceed { task }
        }
        (
            TaskState::Starting
            | TaskState::Prepared { .. }
            | TaskState::Running { .. }
            | TaskState::Stopping,
            true,
        ) => return None,
    };
    Some(Addressed {
        worker: held.worker.clone(),
        command,
    })
}

/// Whether the task was sent on a later status than the observed one: a command follows from a durable binding, so this one will be
/// seen. Until then it is neither acknowledged nor stopped.
fn is_newer(snapshot: &Snapshot, task: &TaskId) -> bool {
    let Some(step) = snapshot
        .status
        .steps
        .iter()
        .find(|step| step.name == task.step)
    else {
        return !is_finished(&snapshot.status);
    };
    !step.state.is_terminal() && task.attempt > step.attempts_made
}

/// Whether the durable status says that this very attempt is open on this very pod.
fn bound(snapshot: &Snapshot, task: &TaskId, worker: &WorkerRef) -> bool {
    let Some(step) = snapshot
        .status
        .steps
        .iter()
        .find(|step| step.name == task.step)
    else {
        return false;
    };
    !step.state.is_terminal()
        && attempt::open(step)
            .is_some_and(|open| open.number == task.attempt && open.worker.uid == worker.uid)
}

/// The command to run a step's open attempt, if its worker is there and does not hold it.
fn run(snapshot: &Snapshot, step: &Step) -> Option<Addressed> {
    if snapshot.is_held_back() {
        return None;
    }
    let status: &StepStatus = snapshot
        .status
        .steps
        .iter()
        .find(|status| status.name == step.name)?;
    if status.state.is_terminal() {
        return None;
    }
    let open = attempt::open(status)?;
    // One that has computed and lost the task is not asked again: that attempt has failed.
    if attempt::held(snapshot, &step.name, open).is_some()
        || attempt::started_at(snapshot, &step.name, open).is_some()
    {
        return None;
    }
    match snapshot.steps.get(&step.name)?.presence.as_ref()? {
        Presence::Connected => {}
        Presence::Away { .. } | Presence::Gone(_) => return None,
    }
    let command = command(snapshot, step, open.number)?;
    let worker = WorkerRef::from(&open.worker);
    Some(Addressed { worker, command })
}

/// The same command with new links.
fn again(snapshot: &Snapshot, held: &WorkerTask) -> Option<Addressed> {
    let step = snapshot
        .spec
        .steps
        .iter()
        .find(|step| step.name == held.task.step)?;
    Some(Addressed {
        worker: held.worker.clone(),
        command: command(snapshot, step, held.task.attempt)?,
    })
}

fn command(snapshot: &Snapshot, step: &Step, attempt: i32) -> Option<Command> {
    let statuses = &snapshot.status.steps;
    let status = statuses.iter().find(|status| status.name == step.name)?;
    Some(Command::Run {
        task: attempt::task_id(&snapshot.uid, &step.name, attempt),
        pipeline: step.pipeline()?,
        models: status.models.clone(),
        inputs: inputs::present(step, statuses, &snapshot.status.files)?,
        seed: status.seed.unwrap_or_default(),
    })
}
