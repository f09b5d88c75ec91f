//! Which task next, and what to say: the worker's tasks and models as one value. Pure: an [`Event`] in, [`Effect`]s out.
//!
//! # Guarantees
//! No order of a lower epoch than the highest seen has an effect. A task that is held is never started twice. A task's outcome
//! is kept, and repeated in each Hello, until it is settled or cancelled.
//!
//! *Layout*: `event` is what comes in and goes out, `held` what is held, `orders` and `news` what follows from each.

mod event;
mod held;
mod news;
mod orders;

use framewright_crds::aijob::Cause;
use framewright_crds::modelpool::Device;
use framewright_crds::names::TaskId;
use framewright_crds::wire::{ModelState, Order, PROTOCOL, TaskState, ToOperator, ToWorker};

pub use event::{Effect, Event, News};
use held::{HeldModel, HeldTask, Stage, drained, failed};

/// What the worker is, as its Hello says.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// The program's version.
    pub version: String,
    /// What it computes on.
    pub device: Device,
    /// Why it cannot; such a worker takes no task.
    pub device_trouble: Option<String>,
    /// How many tasks it works on at a time, at least 1.
    pub slots: usize,
}

/// The tasks and models that the worker holds.
#[derive(Clone, Debug)]
pub struct Queue {
    identity: Identity,
    epoch: u64,
    is_connected: bool,
    is_draining: bool,
    lost_device: Option<String>,
    models: Vec<HeldModel>,
    tasks: Vec<HeldTask>,
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
            tasks: Vec::new(),
        }
    }

    /// Takes in what happened and says what to do, in this order.
    pub fn handle(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = match event {
            Event::Connected => self.connected(),
            Event::Lost => {
                self.is_connected = false;
                Vec::new()
            }
            Event::Ordered(order) => self.ordered(order),
            Event::Model {
                name,
                digest,
                state,
            } => self.model_changed(name, digest, state),
            Event::WeightGrantsExpired => {
                vec![Effect::Say(ToOperator::RenewGrants { task: None })]
            }
            Event::Task { task, news } => self.task_news(&task, news),
            Event::DeviceLost { message } => self.device_lost(message),
            Event::Drain => self.drain(),
        };
        effects.extend(self.start_what_can_start());
        if self.is_draining && self.tasks.is_empty() {
            effects.push(Effect::Exit);
        }
        if !self.is_connected {
            effects.retain(|effect| !matches!(effect, Effect::Say(_)));
        }
        effects
    }

    /// What is wrong with a device that worked at first; nothing works on it any more, until a new process opens it.
    #[must_use]
    pub fn lost_device(&self) -> Option<&str> {
        self.lost_device.as_deref()
    }

    /// Whether the worker drains and computes nothing any more; what is left waits to be settled.
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
            device_trouble,
            slots,
        } = &self.identity;
        let mut effects = vec![Effect::Say(ToOperator::Hello {
            protocol: PROTOCOL,
            version: version.clone(),
            device: *device,
            device_trouble: device_trouble.clone(),
            slots: u32::try_from(*slots).unwrap_or(u32::MAX),
            tasks: self.tasks.iter().filter_map(HeldTask::report).collect(),
            epoch: (self.epoch > 0).then_some(self.epoch),
        })];
        if self.is_draining {
            effects.push(Effect::Say(ToOperator::Draining));
        }
        effects
    }

    fn ordered(&mut self, said: ToWorker) -> Vec<Effect> {
        let ToWorker { epoch, order } = said;
        if epoch < self.epoch {
            return vec![Effect::HangUp];
        }
        self.epoch = epoch;
        match order {
            Order::Welcome { models } => self.welcomed(models),
            // Whoever keeps the stream has dealt with it: it concerns the stream, not the tasks.
            Order::Refused { .. } => Vec::new(),
            Order::Run(order) => self.run(*order),
            Order::Cancel { task } | Order::Settled { task } => self.forget(&task),
            Order::Upload { task, sha256, url } => self.granted(task, sha256, url),
        }
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
        let mut effects = vec![Effect::Say(ToOperator::Draining)];
        for held in &mut self.tasks {
            match &mut held.stage {
                Stage::Waiting => {
                    held.stage = Stage::Over(drained());
                    effects.extend(held.finished());
                }
                Stage::Stopping(again) => *again = None,
                Stage::Active(_) | Stage::Over(_) => {}
            }
        }
        effects
    }

    /// The tasks in the order of their arrival, as far as there are slots and their models are ready. A task whose model cannot
    /// be had fails without taking a slot; one whose model is still on its way lets others pass.
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
            let name = &held.order.model;
            match self.models.iter().find(|model| model.name == *name) {
                None => {
                    let message =
                        format!("the worker's pool does not hold the model {name} any more");
                    held.stage = Stage::Over(failed(Cause::WeightsChanged, message));
                    effects.extend(held.finished());
                }
                Some(HeldModel {
                    state: ModelState::Failed { message },
                    ..
                }) => {
                    let message = format!("model {name}: {message}");
                    held.stage = Stage::Over(failed(Cause::WeightsFailed, message));
                    effects.extend(held.finished());
                }
                Some(HeldModel { digest, .. }) if *digest != held.order.digest => {
                    let message = format!(
                        "the pool's weights for model {name} are others now than when the step was placed"
                    );
                    held.stage = Stage::Over(failed(Cause::WeightsChanged, message));
                    effects.extend(held.finished());
                }
                Some(HeldModel {
                    state: ModelState::Ready,
                    ..
                }) if free > 0 => {
                    free -= 1;
                    held.stage = Stage::Active(TaskState::Starting);
                    effects.push(Effect::Start(Box::new(held.order.clone())));
                }
                Some(_) => {}
            }
        }
        effects
    }

    fn held_mut(&mut self, task: &TaskId) -> Option<&mut HeldTask> {
        self.tasks.iter_mut().find(|held| held.order.task == *task)
    }
}
