//! What a worker holds: a model, a task and the stage that it is in, and what the operator is told of them.

use framewright_crds::aijob::Cause;
use framewright_crds::wire::{ModelState, Outcome, TaskOrder, TaskReport, TaskState, ToOperator};

use super::event::Effect;

#[derive(Clone, Debug)]
pub(super) struct HeldModel {
    pub(super) name: String,
    pub(super) digest: String,
    pub(super) state: ModelState,
}

#[derive(Clone, Debug)]
pub(super) struct HeldTask {
    pub(super) order: TaskOrder,
    pub(super) stage: Stage,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Stage {
    Waiting,
    Active(TaskState),
    /// Told to stop, and not stopped yet; with the order, if the same task was ordered again since.
    Stopping(Option<Box<TaskOrder>>),
    Over(Outcome),
}

impl HeldModel {
    pub(super) fn report(&self) -> Effect {
        let HeldModel {
            name,
            digest,
            state,
        } = self.clone();
        Effect::Say(ToOperator::Model {
            name,
            digest,
            state,
        })
    }
}

impl HeldTask {
    /// As it stands in a Hello; nothing for a task that is to be forgotten.
    pub(super) fn report(&self) -> Option<TaskReport> {
        let state = match &self.stage {
            Stage::Waiting => TaskState::Starting,
            Stage::Active(state) => state.clone(),
            Stage::Stopping(Some(_)) => TaskState::Starting,
            Stage::Stopping(None) => return None,
            Stage::Over(outcome) => TaskState::Finished {
                outcome: outcome.clone(),
            },
        };
        Some(TaskReport {
            task: self.order.task.clone(),
            job: self.order.job.clone(),
            state,
        })
    }

    pub(super) fn finished(&self) -> Option<Effect> {
        match &self.stage {
            Stage::Over(outcome) => Some(Effect::Say(ToOperator::Finished {
                task: self.order.task.clone(),
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
    )
}

pub(super) fn failed(cause: Cause, message: String) -> Outcome {
    Outcome::Failed { cause, message }
}
