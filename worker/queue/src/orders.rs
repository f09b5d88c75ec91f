//! What follows from an order of the operator?

use framewright_crds::aijob::Cause;
use framewright_crds::names::TaskId;
use framewright_crds::wire::{ModelOrder, ModelState, Outcome, TaskOrder, TaskState};

use super::Queue;
use super::event::Effect;
use super::held::{HeldModel, HeldTask, Stage, drained, failed};

impl Queue {
    pub(super) fn welcomed(&mut self, models: Vec<ModelOrder>) -> Vec<Effect> {
        let held = std::mem::take(&mut self.models);
        self.models = models
            .iter()
            .map(|order| HeldModel {
                name: order.name.clone(),
                digest: order.digest.clone(),
                state: held
                    .iter()
                    .find(|held| held.name == order.name && held.digest == order.digest)
                    .map_or(ModelState::Loading { trouble: None }, |held| {
                        held.state.clone()
                    }),
            })
            .collect();
        let mut effects: Vec<Effect> = self.models.iter().map(HeldModel::report).collect();
        effects.push(Effect::Hold(models));
        effects
    }

    pub(super) fn run(&mut self, order: TaskOrder) -> Vec<Effect> {
        let Some(held) = self.held_mut(&order.task) else {
            let stage = match self.refusal() {
                Some(refusal) => Stage::Over(refusal),
                None => Stage::Waiting,
            };
            let held = HeldTask { order, stage };
            let effects = held.finished().into_iter().collect();
            self.tasks.push(held);
            return effects;
        };
        match &mut held.stage {
            Stage::Waiting => {
                held.order = order;
                Vec::new()
            }
            Stage::Active(_) => {
                held.order = order;
                vec![Effect::Renew(Box::new(held.order.clone()))]
            }
            Stage::Stopping(again) => {
                *again = Some(Box::new(order));
                Vec::new()
            }
            Stage::Over(_) => held.finished().into_iter().collect(),
        }
    }

    /// Why no task can be taken at all.
    fn refusal(&self) -> Option<Outcome> {
        if self.is_draining {
            return Some(drained());
        }
        let trouble = self.identity.device_trouble.as_ref()?;
        Some(failed(Cause::DeviceError, trouble.clone()))
    }

    pub(super) fn forget(&mut self, task: &TaskId) -> Vec<Effect> {
        let Some(held) = self.held_mut(task) else {
            return Vec::new();
        };
        match &mut held.stage {
            Stage::Waiting | Stage::Over(_) => {
                self.tasks.retain(|held| held.order.task != *task);
                Vec::new()
            }
            Stage::Active(_) => {
                held.stage = Stage::Stopping(None);
                vec![Effect::Stop(task.clone())]
            }
            Stage::Stopping(again) => {
                *again = None;
                Vec::new()
            }
        }
    }

    pub(super) fn granted(&mut self, task: TaskId, sha256: String, url: String) -> Vec<Effect> {
        let is_wanted = self.held_mut(&task).is_some_and(|held| {
            matches!(&held.stage, Stage::Active(TaskState::Uploading { output }) if output.sha256 == sha256)
        });
        if !is_wanted {
            return Vec::new();
        }
        vec![Effect::Grant { task, sha256, url }]
    }
}
