//! What follows from news of a model or a task?

use framewright_crds::aijob::{Cause, Progress};
use framewright_crds::names::TaskId;
use framewright_crds::wire::{ModelState, TaskState, ToOperator};

use super::Queue;
use super::event::{Effect, News};
use super::held::{HeldTask, Stage, failed};

impl Queue {
    pub(super) fn model_changed(
        &mut self,
        name: String,
        digest: String,
        state: ModelState,
    ) -> Vec<Effect> {
        let held = self
            .models
            .iter_mut()
            .find(|held| held.name == name && held.digest == digest);
        match held {
            Some(held) if held.state != state => {
                held.state = state;
                vec![held.report()]
            }
            Some(_) | None => Vec::new(),
        }
    }

    pub(super) fn task_news(&mut self, task: &TaskId, news: News) -> Vec<Effect> {
        let Some(held) = self.held_mut(task) else {
            return Vec::new();
        };
        let is_active = matches!(held.stage, Stage::Active(_));
        let task = task.clone();
        match news {
            News::Ended(outcome) if is_active => {
                held.stage = Stage::Over(outcome);
                held.finished().into_iter().collect()
            }
            News::Ended(_) | News::Stopped => {
                self.stopped(&task);
                Vec::new()
            }
            News::DeviceLost { message } => {
                let mut effects = Vec::new();
                if is_active {
                    held.stage = Stage::Over(failed(Cause::DeviceError, message.clone()));
                    effects.extend(held.finished());
                } else {
                    self.stopped(&task);
                }
                effects.extend(self.device_lost(message));
                effects
            }
            News::Hangs => vec![Effect::Abort],
            News::Started
            | News::Progress(_)
            | News::Computed(_)
            | News::GrantsExpired
            | News::StoreTrouble(_)
                if !is_active =>
            {
                Vec::new()
            }
            News::Started => {
                held.stage = Stage::Active(TaskState::Running {
                    progress: Progress::default(),
                });
                vec![Effect::Say(ToOperator::Started { task })]
            }
            News::Progress(progress) => {
                held.stage = Stage::Active(TaskState::Running { progress });
                vec![Effect::Say(ToOperator::Progress { task, progress })]
            }
            News::Computed(output) => {
                held.stage = Stage::Active(TaskState::Uploading {
                    output: output.clone(),
                });
                vec![Effect::Say(ToOperator::UploadRequest { task, output })]
            }
            News::GrantsExpired => {
                vec![Effect::Say(ToOperator::RenewGrants { task: Some(task) })]
            }
            News::StoreTrouble(trouble) => {
                vec![Effect::Say(ToOperator::StoreTrouble { task, trouble })]
            }
        }
    }

    fn stopped(&mut self, task: &TaskId) {
        let again = self.held_mut(task).and_then(|held| match &mut held.stage {
            Stage::Stopping(again) => again.take(),
            Stage::Waiting | Stage::Active(_) | Stage::Over(_) => None,
        });
        self.tasks.retain(|held| held.order.task != *task);
        if let Some(order) = again {
            self.tasks.push(HeldTask {
                order: *order,
                stage: Stage::Waiting,
            });
        }
    }
}
