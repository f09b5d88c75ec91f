//! What a worker holds: models and tasks, the stage that each task is in, and what the operator is told about them.

use framewright_crds::aijob::{Cause, Usage};
use framewright_crds::protocol::{
    ModelState, Outcome, RunTask, TaskReport, TaskState, WorkerMessage,
};

use super::event::Effect;

/// A model of the newest Configure.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) name: String,
    pub(super) digest: String,
    pub(super) state: ModelState,
}

/// A task that the operator has sent.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) run: RunTask,
    pub(super) stage: Stage,
}

/// Where a task is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Stage {
    /// For its models, or for a slot.
    Waiting,
    Active(TaskState),
    /// Told to stop, and not stopped yet; with the command, if the same task was sent again since.
    Stopping(Option<Box<RunTask>>),
    Over(Outcome),
}

impl Model {
    pub(super) fn report(&self) -> Effect {
        let Model {
            name,
            digest,
            state,
        } = self.clone();
        Effect::Send(WorkerMessage::Model {
            name,
            digest,
            state,
        })
    }
}

impl Task {
    /// As it stands in a Hello.
    pub(super) fn report(&self) -> TaskReport {
        let state = match &self.stage {
            Stage::Waiting | Stage::Stopping(Some(_)) => TaskState::Starting,
            Stage::Active(state) => state.clone(),
            Stage::Stopping(None) => TaskState::Stopping,
            Stage::Over(outcome) => TaskState::Finished {
                outcome: outcome.clone(),
            },
        };
        TaskReport {
            task: self.run.task.clone(),
            job: self.run.job.clone(),
            state,
        }
    }

    pub(super) fn finished(&self) -> Option<Effect> {
        match &self.stage {
            Stage::Over(outcome) => Some(Effect::Send(WorkerMessage::Finished {
                task: self.run.task.clone(),
                outcome: outcome.clone(),
            })),
            Stage::Waiting | Stage::Active(_) | Stage::Stopping(_) => None,
        }
    }
}

pub(super) fn drained() -> Outcome {
    failed(
        Cause::WorkerDrained,
        "the worker ends and takes no new task".to_owned(),
        None,
    )
}

pub(super) fn failed(cause: Cause, message: String, usage: Option<Usage>) -> Outcome {
    Outcome::Failed {
        cause,
        message,
        usage,
    }
}
