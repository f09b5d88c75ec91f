//! A worker as the operator knows it: what it says and does on the wire, with the guarantees that `wire` promises for it.

mod tasks;

use framewright_crds::aijob::{Cause, Progress};
use framewright_crds::modelpool::Device;
use framewright_crds::names::TaskId;
use framewright_crds::wire::{
    ModelOrder, ModelState, Order, Outcome, OutputFile, PROTOCOL, TaskOrder, TaskReport, TaskState,
    ToOperator, ToWorker,
};
use framewright_operator::names::{PoolName, WorkerRef};

use crate::api::Millis;
use crate::world::{Happening, World};
use tasks::drained;

/// A request for a grant is repeated this often.
const ASK_AGAIN: Millis = 10_000;

pub(crate) struct Worker {
    pub me: WorkerRef,
    pub pool: PoolName,
    pub slots: u32,
    /// Counts the starts of its container.
    pub process: u64,
    pub is_up: bool,
    pub stream: Option<u64>,
    pub is_draining: bool,
    pub tasks: Vec<Task>,
    pub models: Vec<(String, String, ModelState)>,
    epoch: u64,
}

pub(crate) struct Task {
    pub order: TaskOrder,
    pub stage: Stage,
    /// Which start of it; what was planned for an earlier one finds nothing.
    start: u64,
    waits_for_grants: bool,
    is_storing: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Stage {
    Waiting,
    Active(TaskState),
    /// With the order, if the same task was ordered again since.
    Stopping(Option<Box<TaskOrder>>),
    Over(Outcome),
}

/// What happens next to a task.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Then {
    AskForGrants,
    Start,
    Progress,
    Compute,
    AskForUpload,
    Store,
    Fail(Cause),
    Stop,
}

impl Worker {
    pub(crate) fn new(me: WorkerRef, pool: PoolName, slots: u32) -> Worker {
        Worker {
            me,
            pool,
            slots,
            process: 0,
            is_up: false,
            stream: None,
            is_draining: false,
            tasks: Vec::new(),
            models: Vec::new(),
            epoch: 0,
        }
    }

    /// A new process: it remembers nothing.
    pub(crate) fn start(&mut self) {
        self.process += 1;
        self.is_up = true;
        self.stream = None;
        self.is_draining = false;
        self.tasks.clear();
        self.models.clear();
        self.epoch = 0;
    }

    /// Whether it could take a task now.
    pub(crate) fn is_free(&self, model: &str) -> bool {
        let is_ready = |(name, _, state): &(String, String, ModelState)| {
            name == model && *state == ModelState::Ready
        };
        self.is_up
            && self.stream.is_some()
            && !self.is_draining
            && self.tasks.is_empty()
            && self.models.iter().any(is_ready)
    }

    fn task(&mut self, id: &TaskId) -> Option<&mut Task> {
        self.tasks.iter_mut().find(|task| task.order.task == *id)
    }
}

impl Task {
    fn report(&self) -> Option<TaskReport> {
        let state = match &self.stage {
            Stage::Waiting | Stage::Stopping(Some(_)) => TaskState::Starting,
            Stage::Active(state) => state.clone(),
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
}

impl World {
    fn worker(&mut self, pod: &str) -> &mut Worker {
        self.workers.get_mut(pod).expect("it was found before")
    }

    /// A stream is open: the worker says who it is and what it holds.
    pub(crate) fn connected(&mut self, pod: &str, stream: u64) {
        let worker = self.worker(pod);
        worker.stream = Some(stream);
        let is_draining = worker.is_draining;
        let hello = ToOperator::Hello {
            protocol: PROTOCOL,
            version: "0".to_owned(),
            device: Device::Cpu,
            device_trouble: None,
            slots: worker.slots,
            tasks: worker.tasks.iter().filter_map(Task::report).collect(),
            epoch: None,
        };
        self.say(pod, hello);
        if is_draining {
            self.say(pod, ToOperator::Draining);
        }
    }

    /// An order has arrived.
    pub(crate) fn hear(&mut self, pod: &str, said: ToWorker) {
        let ToWorker { epoch, order } = said;
        let worker = self.worker(pod);
        if epoch < worker.epoch {
            let stream = worker.stream;
            self.note(|| format!("worker {pod} refuses epoch {epoch}: {order:?}"));
            if let Some(stream) = stream {
                self.hang_up(stream);
            }
            return;
        }
        worker.epoch = epoch;
        self.note(|| format!("worker {pod} takes {order:?}"));
        match order {
            Order::Welcome { models } => self.welcomed(pod, &models),
            Order::Refused { .. } => {}
            Order::Run(order) => self.run(pod, *order),
            Order::Cancel { task } => self.forget(pod, epoch, &task, false),
            Order::Settled { task } => self.forget(pod, epoch, &task, true),
            Order::Upload { task, sha256, .. } => self.granted(pod, &task, &sha256),
        }
        self.start_what_can_start(pod);
    }

    fn welcomed(&mut self, pod: &str, orders: &[ModelOrder]) {
        let worker = self.worker(pod);
        let process = worker.process;
        let held = std::mem::take(&mut worker.models);
        worker.models = orders
            .iter()
            .map(|order| {
                let known = held
                    .iter()
                    .find(|(name, digest, _)| *name == order.name && *digest == order.digest);
                let state = known.map_or(ModelState::Loading { trouble: None }, |(_, _, state)| {
                    state.clone()
                });
                (order.name.clone(), order.digest.clone(), state)
            })
            .collect();
        for (name, digest, state) in self.worker(pod).models.clone() {
            if state == (ModelState::Loading { trouble: None }) {
                let wait = self.chance.between(50, 3000);
                let (pod, name) = (pod.to_owned(), name.clone());
                self.after(wait, Happening::Loaded { pod, process, name });
            }
            let report = ToOperator::Model {
                name,
                digest,
                state,
            };
            self.say(pod, report);
        }
    }

    /// A model is verified.
    pub(crate) fn loaded(&mut self, pod: &str, process: u64, model: &str) {
        let Some(worker) = self.workers.get_mut(pod) else {
            return;
        };
        let is_same = worker.is_up && worker.process == process;
        let held = worker.models.iter_mut().find(|(name, _, _)| name == model);
        let Some((name, digest, state)) = held.filter(|_| is_same) else {
            return;
        };
        *state = ModelState::Ready;
        let report = ToOperator::Model {
            name: name.clone(),
            digest: digest.clone(),
            state: ModelState::Ready,
        };
        self.say(pod, report);
        self.start_what_can_start(pod);
    }

    /// SIGTERM.
    pub(crate) fn drain(&mut self, pod: &str) {
        let Some(worker) = self.workers.get_mut(pod) else {
            return;
        };
        if !worker.is_up || std::mem::replace(&mut worker.is_draining, true) {
            return;
        }
        let mut over = Vec::new();
        for held in &mut worker.tasks {
            match &mut held.stage {
                Stage::Waiting => {
                    held.stage = Stage::Over(drained());
                    over.push(held.order.task.clone());
                }
                Stage::Stopping(again) => *again = None,
                Stage::Active(_) | Stage::Over(_) => {}
            }
        }
        self.say(pod, ToOperator::Draining);
        for id in over {
            self.say_if_over(pod, &id);
        }
        self.exit_if_done(pod);
    }
}
