//! What follows from a command of the operator?

use framewright_crds::aijob::Cause;
use framewright_crds::names::{ArtifactRole, TaskId};
use framewright_crds::protocol::{
    Command, ModelConfig, ModelState, Outcome, RunTask, TaskState, WorkerMessage,
};

use super::Queue;
use super::event::Effect;
use super::holdings::{Model, Stage, Task, drained, failed};

impl Queue {
    pub(super) fn obey(&mut self, command: Command) -> Vec<Effect> {
        match command {
            Command::Configure { models } => self.configure(models),
            Command::Run(run) => self.run(*run),
            Command::Proceed { task } => self.proceed(task),
            Command::Cancel { task } => self.cancel(task),
            Command::Ack { task } => self.ack(&task),
            Command::Upload {
                task,
                role,
                name,
                digest,
                url,
            } => self.upload(task, role, name, digest, url),
            // The code that keeps the stream deals with a refusal: it concerns no task.
            Command::Refused { .. } | Command::Unknown => Vec::new(),
        }
    }

    fn configure(&mut self, models: Vec<ModelConfig>) -> Vec<Effect> {
        let held = std::mem::take(&mut self.models);
        self.models = models
            .iter()
            .map(|model| Model {
                name: model.name.clone(),
                digest: model.digest.clone(),
                state: held
                    .iter()
                    .find(|held| held.name == model.name && held.digest == model.digest)
                    .map_or(ModelState::Loading { error: None }, |held| {
                        held.state.clone()
                    }),
            })
            .collect();
        let mut effects: Vec<Effect> = self.models.iter().map(Model::report).collect();
        effects.push(Effect::Hold(models));
        effects
    }

    fn run(&mut self, run: RunTask) -> Vec<Effect> {
        let Some(held) = self.task_mut(&run.task) else {
            let stage = match self.refusal(&run) {
                Some(refusal) => Stage::Over(refusal),
                None => Stage::Waiting,
            };
            let task = Task { run, stage };
            let effects = task.finished().into_iter().collect();
            self.tasks.push(task);
            return effects;
        };
        match &mut held.stage {
            Stage::Waiting => {
                held.run = run;
                Vec::new()
            }
            Stage::Active(_) => {
                // What was begun goes on as it was begun: only the links are new.
                held.run.inputs = run.inputs;
                vec![Effect::Renew(Box::new(held.run.clone()))]
            }
            Stage::Stopping(again) => {
                *again = Some(Box::new(run));
                Vec::new()
            }
            Stage::Over(_) => held.finished().into_iter().collect(),
        }
    }

    /// Why a task cannot be taken.
    fn refusal(&self, run: &RunTask) -> Option<Outcome> {
        if self.is_draining {
            return Some(drained());
        }
        if let Some(error) = &self.identity.device_error {
            return Some(failed(Cause::DeviceError, error.clone(), None));
        }
        let pipeline = run.pipeline.spec().name;
        let pipelines = &self.identity.pipelines;
        if pipelines.iter().any(|name| name == pipeline) {
            return None;
        }
        let message = format!(
            "this worker cannot do the pipeline {pipeline}, only {}",
            pipelines.join(", ")
        );
        Some(failed(Cause::Internal, message, None))
    }

    fn proceed(&mut self, task: TaskId) -> Vec<Effect> {
        let Some(held) = self.task_mut(&task) else {
            return Vec::new();
        };
        if !matches!(held.stage, Stage::Active(TaskState::Prepared { .. })) {
            return Vec::new();
        }
        // It waits for the device now.
        held.stage = Stage::Active(TaskState::Starting);
        vec![Effect::Proceed(task)]
    }

    /// One that is not over was ended by the operator: it stops.
    fn ack(&mut self, task: &TaskId) -> Vec<Effect> {
        match self.task_mut(task).map(|held| &held.stage) {
            Some(Stage::Over(_)) => {
                self.tasks.retain(|held| held.run.task != *task);
                Vec::new()
            }
            Some(Stage::Waiting | Stage::Active(_) | Stage::Stopping(_)) => {
                self.cancel(task.clone())
            }
            None => Vec::new(),
        }
    }

    /// What is not held has stopped; what is at work is told to stop, and says so when it has.
    fn cancel(&mut self, task: TaskId) -> Vec<Effect> {
        match self.task_mut(&task).map(|held| &mut held.stage) {
            Some(Stage::Active(_)) => {
                if let Some(held) = self.task_mut(&task) {
                    held.stage = Stage::Stopping(None);
                }
                vec![Effect::Stop(task)]
            }
            Some(Stage::Stopping(again)) => {
                *again = None;
                Vec::new()
            }
            Some(Stage::Waiting | Stage::Over(_)) | None => {
                self.tasks.retain(|held| held.run.task != task);
                vec![Effect::Send(WorkerMessage::Stopped { task })]
            }
        }
    }

    fn upload(
        &mut self,
        task: TaskId,
        role: ArtifactRole,
        name: String,
        digest: String,
        url: String,
    ) -> Vec<Effect> {
        let is_requested = role == ArtifactRole::Output
            && self.task_mut(&task).is_some_and(|held| match &held.stage {
                Stage::Active(TaskState::Uploading { outputs }) => outputs
                    .iter()
                    .any(|output| output.name == name && output.digest == digest),
                Stage::Waiting | Stage::Active(_) | Stage::Stopping(_) | Stage::Over(_) => false,
            });
        if !is_requested {
            return Vec::new();
        }
        vec![Effect::Upload {
            task,
            role,
            name,
            digest,
            url,
        }]
    }
}
