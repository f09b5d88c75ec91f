//! Which task next, and what to say: the worker's tasks and models as one value. Pure: an [`Event`] in, [`Effect`]s out.
//!
//! # Guarantees
//! No order of a lower epoch than the highest seen has an effect. A task that is held is never started twice. A task's outcome
//! is kept, and repeated in each Hello, until it is settled or cancelled.

use framewright_crds::aijob::{Cause, Progress};
use framewright_crds::modelpool::Device;
use framewright_crds::names::TaskId;
use framewright_crds::wire::{
    ModelOrder, ModelState, Order, Outcome, OutputFile, PROTOCOL, TaskOrder, TaskReport, TaskState,
    ToOperator, ToWorker,
};

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

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A stream to an operator is open; nothing was said on it.
    Connected,
    /// The stream is gone.
    Lost,
    /// The operator said something.
    Ordered(ToWorker),
    /// A model is in another state.
    Model {
        /// Its name.
        name: String,
        /// Its digest.
        digest: String,
        /// The state.
        state: ModelState,
    },
    /// The grants for weights are over.
    WeightGrantsExpired,
    /// A started task has news.
    Task {
        /// Which.
        task: TaskId,
        /// What.
        news: News,
    },
    /// The worker is to end.
    Drain,
}

/// What a started task says of itself.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// It computes.
    Started,
    /// It is further.
    Progress(Progress),
    /// It has computed this, and needs a grant to upload it. Can come again.
    Computed(OutputFile),
    /// The grants for its inputs are over.
    GrantsExpired,
    /// It is over.
    Ended(Outcome),
    /// It has stopped, as it was told to.
    Stopped,
    /// It was told to stop and does not: the device is lost to this process.
    Hangs,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Say this on the stream.
    Say(ToOperator),
    /// Leave the stream: at its other end is an operator that no longer leads.
    HangUp,
    /// Fetch and verify these models, and forget all others.
    Hold(Vec<ModelOrder>),
    /// Work on this task, with these weights.
    Start {
        /// The task.
        order: Box<TaskOrder>,
        /// The digest of its model.
        weights: String,
    },
    /// Hand new grants to a started task.
    Renew(Box<TaskOrder>),
    /// Hand the grant for its upload to a started task.
    Grant {
        /// Which.
        task: TaskId,
        /// The digest that may be uploaded.
        sha256: String,
        /// Where to.
        url: String,
    },
    /// Stop a started task.
    Stop(TaskId),
    /// End: the worker drains, and nothing is left that anybody waits for.
    Exit,
    /// End at once, with an error: only a new process gets the device back.
    Abort,
}

/// The tasks and models that the worker holds.
#[derive(Clone, Debug)]
pub struct Queue {
    identity: Identity,
    epoch: u64,
    is_connected: bool,
    is_draining: bool,
    models: Vec<HeldModel>,
    tasks: Vec<HeldTask>,
}

#[derive(Clone, Debug)]
struct HeldModel {
    name: String,
    digest: String,
    state: ModelState,
}

#[derive(Clone, Debug)]
struct HeldTask {
    order: TaskOrder,
    stage: Stage,
}

#[derive(Clone, Debug, PartialEq)]
enum Stage {
    Waiting,
    Active(TaskState),
    /// Told to stop, and not stopped yet; with the order, if the same task was ordered again since.
    Stopping(Option<Box<TaskOrder>>),
    Over(Outcome),
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

    fn welcomed(&mut self, models: Vec<ModelOrder>) -> Vec<Effect> {
        let held = std::mem::take(&mut self.models);
        self.models = models
            .iter()
            .map(|order| HeldModel {
                name: order.name.clone(),
                digest: order.digest.clone(),
                state: held
                    .iter()
                    .find(|held| held.name == order.name && held.digest == order.digest)
                    .map_or(ModelState::Loading, |held| held.state.clone()),
            })
            .collect();
        let mut effects: Vec<Effect> = self.models.iter().map(HeldModel::report).collect();
        effects.push(Effect::Hold(models));
        effects
    }

    fn run(&mut self, order: TaskOrder) -> Vec<Effect> {
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

    fn forget(&mut self, task: &TaskId) -> Vec<Effect> {
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

    fn granted(&mut self, task: TaskId, sha256: String, url: String) -> Vec<Effect> {
        let is_wanted = self.held_mut(&task).is_some_and(|held| {
            matches!(&held.stage, Stage::Active(TaskState::Uploading { output }) if output.sha256 == sha256)
        });
        if !is_wanted {
            return Vec::new();
        }
        vec![Effect::Grant { task, sha256, url }]
    }

    fn model_changed(&mut self, name: String, digest: String, state: ModelState) -> Vec<Effect> {
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

    fn task_news(&mut self, task: &TaskId, news: News) -> Vec<Effect> {
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
            News::Hangs => vec![Effect::Abort],
            News::Started | News::Progress(_) | News::Computed(_) | News::GrantsExpired
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
                    held.stage = Stage::Over(failed(Cause::WeightsFailed, message));
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
                Some(HeldModel {
                    state: ModelState::Ready,
                    digest,
                    ..
                }) if free > 0 => {
                    free -= 1;
                    held.stage = Stage::Active(TaskState::Starting);
                    effects.push(Effect::Start {
                        order: Box::new(held.order.clone()),
                        weights: digest.clone(),
                    });
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

impl HeldModel {
    fn report(&self) -> Effect {
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
    fn report(&self) -> Option<TaskReport> {
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

    fn finished(&self) -> Option<Effect> {
        match &self.stage {
            Stage::Over(outcome) => Some(Effect::Say(ToOperator::Finished {
                task: self.order.task.clone(),
                outcome: outcome.clone(),
            })),
            Stage::Waiting | Stage::Active(_) | Stage::Stopping(_) => None,
        }
    }
}

fn drained() -> Outcome {
    failed(
        Cause::WorkerDrained,
        "the worker ends and takes no new task".to_owned(),
    )
}

fn failed(cause: Cause, message: String) -> Outcome {
    Outcome::Failed { cause, message }
}
