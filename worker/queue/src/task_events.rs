//! What follows from an event of a model or a task?

use framewright_crds::aijob::{Cause, Progress};
use framewright_crds::names::{ArtifactRole, TaskId};
use framewright_crds::protocol::{LoadedModel, ModelState, TaskState, WorkerMessage};

use super::Queue;
use super::event::{Effect, TaskEvent};
use super::holdings::{Stage, Task, failed};

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

    pub(super) fn loaded_changed(
        &mut self,
        models: Vec<LoadedModel>,
        free: Option<u64>,
    ) -> Vec<Effect> {
        if self.loaded == models {
            return Vec::new();
        }
        self.loaded.clone_from(&models);
        vec![Effect::Send(WorkerMessage::Loaded { models, free })]
    }

    pub(super) fn task_event(&mut self, task: &TaskId, event: TaskEvent) -> Vec<Effect> {
        let Some(held) = self.task_mut(task) else {
            return Vec::new();
        };
        let is_active = matches!(held.stage, Stage::Active(_));
        let is_over = matches!(held.stage, Stage::Over(_));
        let task = task.clone();
        match event {
            TaskEvent::Ended(outcome) if is_active => {
                held.stage = Stage::Over(outcome);
                held.finished().into_iter().collect()
            }
            // Its outcome was decided before it had stopped, and is kept until it is acknowledged.
            TaskEvent::Ended(_) | TaskEvent::Stopped if is_over => Vec::new(),
            TaskEvent::Ended(_) | TaskEvent::Stopped => self.stopped(task),
            TaskEvent::DeviceLost { message, usage } => {
                let mut effects = Vec::new();
                if is_active {
                    held.stage = Stage::Over(failed(Cause::DeviceError, message.clone(), usage));
                    effects.extend(held.finished());
                } else if !is_over {
                    effects.extend(self.stopped(task));
                }
                effects.extend(self.device_lost(message));
                effects
            }
            TaskEvent::Hangs => vec![Effect::Abort],
            TaskEvent::Prepared { .. }
            | TaskEvent::Started
            | TaskEvent::Progress(_)
            | TaskEvent::Computed(_)
            | TaskEvent::UploadRequested(_)
            | TaskEvent::LinksExpired
            | TaskEvent::StoreError(_)
                if !is_active =>
            {
                Vec::new()
            }
            TaskEvent::Prepared { units } => {
                if held.run.max_units.is_some() {
                    held.stage = Stage::Active(TaskState::Prepared { units });
                }
                vec![Effect::Send(WorkerMessage::Prepared { task, units })]
            }
            TaskEvent::Started => {
                held.stage = Stage::Active(TaskState::Running {
                    progress: Progress::default(),
                });
                vec![Effect::Send(WorkerMessage::Started { task })]
            }
            TaskEvent::Progress(progress) => {
                held.stage = Stage::Active(TaskState::Running {
                    progress: progress.clone(),
                });
                vec![Effect::Send(WorkerMessage::Progress { task, progress })]
            }
            TaskEvent::Computed(outputs) => {
                held.stage = Stage::Active(TaskState::Uploading { outputs });
                Vec::new()
            }
            TaskEvent::UploadRequested(file) => {
                vec![Effect::Send(WorkerMessage::UploadRequest {
                    task,
                    role: ArtifactRole::Output,
                    file,
                })]
            }
            TaskEvent::LinksExpired => {
                vec![Effect::Send(WorkerMessage::RenewLinks { task: Some(task) })]
            }
            TaskEvent::StoreError(error) => {
                vec![Effect::Send(WorkerMessage::StoreError { task, error })]
            }
        }
    }

    /// Forgets a task that has stopped, unless it was sent again.
    fn stopped(&mut self, task: TaskId) -> Vec<Effect> {
        let again = self.task_mut(&task).and_then(|held| match &mut held.stage {
            Stage::Stopping(again) => again.take(),
            Stage::Waiting | Stage::Active(_) | Stage::Over(_) => None,
        });
        self.tasks.retain(|held| held.run.task != task);
        let Some(run) = again else {
            return vec![Effect::Send(WorkerMessage::Stopped { task })];
        };
        self.tasks.push(Task {
            run: *run,
            stage: Stage::Waiting,
        });
        Vec::new()
    }
}
