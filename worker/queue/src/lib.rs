//! Which task next, and what to send: the worker's tasks and models as one value. Pure: an [`Event`] in, [`Effect`]s out.
//!
//! # Guarantees
//! No command of a lower epoch than the highest seen has an effect. A task that is held is never started twice. A task's outcome
//! is kept, and repeated in each Hello, until it is acknowledged or cancelled. A task that was told to stop is reported as stopping
//! until it has stopped.
//!
//! *Layout*: `event` is what comes in and goes out, `holdings` the models and tasks, `commands` and `task_events` what follows from each.

mod commands;
mod event;
mod holdings;
mod task_events;

use framewright_crds::aijob::Cause;
use framewright_crds::modelpool::Device;
use framewright_crds::names::TaskId;
use framewright_crds::protocol::{
    Hello, LoadedModel, ModelState, OperatorMessage, Outcome, PROTOCOLS, RunTask, TaskState,
    WorkerMessage,
};

pub use event::{Effect, Event, TaskEvent};
use holdings::{Model, Stage, Task, drained, failed};

/// What the worker is, as its Hello says.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// The program's version.
    pub version: String,
    /// What it computes on.
    pub device: Device,
    /// Why it cannot; such a worker takes no task.
    pub device_error: Option<String>,
    /// The device's memory in bytes, where that is known.
    pub memory: Option<u64>,
    /// How many tasks it works on at a time, at least 1.
    pub slots: usize,
    /// The pipelines that it can do.
    pub pipelines: Vec<String>,
}

/// The tasks and models that the worker holds.
#[derive(Clone, Debug)]
pub struct Queue {
    identity: Identity,
    epoch: u64,
    is_connected: bool,
    is_draining: bool,
    lost_device: Option<String>,
    models: Vec<Model>,
    loaded: Vec<LoadedModel>,
    tasks: Vec<Task>,
}

impl Queue {
    /// A worker that holds nothing.
    #[must_use]
    pub fn new(identity: Identity) -> Queue {
        Queue {
            identity,
            epoch: 0,
            is_connected: false,
            is_draining: false,
            lost_device: None,
            models: Vec::new(),
            loaded: Vec::new(),
            tasks: Vec::new(),
        }
    }

    /// Takes in what happened and says what to do, in this order.
    pub fn handle(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = match event {
            Event::Connected => self.connected(),
            Event::Disconnected => {
                self.is_connected = false;
                Vec::new()
            }
            Event::Received(message) => self.received(message),
            Event::Model {
                name,
                digest,
                state,
            } => self.model_changed(name, digest, state),
            Event::Loaded { models, free } => self.loaded_changed(models, free),
            Event::ModelLinksExpired => {
                vec![Effect::Send(WorkerMessage::RenewLinks { task: None })]
            }
            Event::Task { task, event } => self.task_event(&task, event),
            Event::DeviceLost { message } => self.device_lost(message),
            Event::Drain => self.drain(),
        };
        effects.extend(self.start_what_can_start());
        if self.is_draining && self.tasks.is_empty() {
            effects.push(Effect::Exit);
        }
        if !self.is_connected {
            effects.retain(|effect| !matches!(effect, Effect::Send(_)));
        }
        effects
    }

    /// What is wrong with a device that worked at first; nothing works on it any more, until a new process opens it.
    #[must_use]
    pub fn lost_device(&self) -> Option<&str> {
        self.lost_device.as_deref()
    }

    /// Whether the worker drains and computes nothing any more; what is left waits to be acknowledged.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.is_draining
            && self
                .tasks
                .iter()
                .all(|held| matches!(held.stage, Stage::Over(_)))
    }

    fn connected(&mut self) -> Vec<Effect> {
        self.is_connected = true;
        let Identity {
            version,
            device,
            device_error,
            memory,
            slots,
            pipelines,
        } = &self.identity;
        let hello = Hello {
            protocols: PROTOCOLS,
            version: version.clone(),
            device: *device,
            device_error: device_error.clone(),
            memory: *memory,
            slots: u32::try_from(*slots).unwrap_or(u32::MAX),
            pipelines: pipelines.clone(),
            loaded: self.loaded.clone(),
            tasks: self.tasks.iter().map(Task::report).collect(),
            epoch: (self.epoch > 0).then_some(self.epoch),
        };
        let mut effects = vec![Effect::Send(WorkerMessage::Hello(Box::new(hello)))];
        if self.is_draining {
            effects.push(Effect::Send(WorkerMessage::Draining));
        }
        effects
    }

    fn received(&mut self, message: OperatorMessage) -> Vec<Effect> {
        let OperatorMessage { epoch, command } = message;
        if epoch < self.epoch {
            return vec![Effect::HangUp];
        }
        self.epoch = epoch;
        self.obey(command)
    }

    fn device_lost(&mut self, message: String) -> Vec<Effect> {
        self.lost_device.get_or_insert(message);
        self.drain()
    }

    fn drain(&mut self) -> Vec<Effect> {
        if self.is_draining {
            return Vec::new();
        }
        self.is_draining = true;
        let mut effects = vec![Effect::Send(WorkerMessage::Draining)];
        for held in &mut self.tasks {
            match &mut held.stage {
                Stage::Waiting => {
                    held.stage = Stage::Over(drained());
                    effects.extend(held.finished());
                }
                // It has computed nothing, and the operator may not let it compute for hours.
                Stage::Active(TaskState::Prepared { .. }) => {
                    held.stage = Stage::Over(drained());
                    effects.push(Effect::Stop(held.run.task.clone()));
                    effects.extend(held.finished());
                }
                Stage::Stopping(again) => *again = None,
                Stage::Active(_) | Stage::Over(_) => {}
            }
        }
        effects
    }

    /// The tasks in the order of their arrival, as far as there are slots and their models are ready. A task with a model that is not
    /// available fails without taking a slot; one whose model is still on its way lets others pass.
    fn start_what_can_start(&mut self) -> Vec<Effect> {
        let busy = self
            .tasks
            .iter()
            .filter(|held| matches!(held.stage, Stage::Active(_) | Stage::Stopping(_)))
            .count();
        let mut free = self.identity.slots.saturating_sub(busy);
        let mut effects = Vec::new();
        for held in &mut self.tasks {
            if held.stage != Stage::Waiting {
                continue;
            }
            match models_of(&held.run, &self.models) {
                Models::Unavailable(failure) => {
                    held.stage = Stage::Over(failure);
                    effects.extend(held.finished());
                }
                Models::Ready if free > 0 => {
                    free -= 1;
                    held.stage = Stage::Active(TaskState::Starting);
                    effects.push(Effect::Start(Box::new(held.run.clone())));
                }
                Models::Ready | Models::Awaited => {}
            }
        }
        effects
    }

    fn task_mut(&mut self, task: &TaskId) -> Option<&mut Task> {
        self.tasks.iter_mut().find(|held| held.run.task == *task)
    }
}

/// What the models of a task let it do.
enum Models {
    /// All are ready.
    Ready,
    /// At least one is on its way.
    Awaited,
    /// At least one is not available to this task, which fails.
    Unavailable(Outcome),
}

fn models_of(run: &RunTask, models: &[Model]) -> Models {
    let unavailable = |cause, message: String| Models::Unavailable(failed(cause, message, None));
    let mut are_ready = true;
    for wanted in &run.models {
        let name = &wanted.name;
        let Some(model) = models.iter().find(|model| model.name == *name) else {
            let message = format!("the worker's pool does not hold the model {name} any more");
            return unavailable(Cause::WeightsChanged, message);
        };
        if model.digest != wanted.digest {
            let message = format!(
                "the pool's weights for model {name} have changed since the step was placed"
            );
            return unavailable(Cause::WeightsChanged, message);
        }
        match &model.state {
            ModelState::Failed { message } => {
                let message = format!("model {name}: {message}");
                return unavailable(Cause::WeightsFailed, message);
            }
            ModelState::Ready => {}
            ModelState::Loading { .. } | ModelState::AwaitingUpload => are_ready = false,
        }
    }
    if are_ready {
        Models::Ready
    } else {
        Models::Awaited
    }
}
