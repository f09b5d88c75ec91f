//! A worker as the operator knows it: what it says and does on the wire, with the guarantees that `wire` promises for it.

use framewright_crds::aijob::{Cause, Progress};
use framewright_crds::modelpool::Device;
use framewright_crds::names::TaskId;
use framewright_crds::wire::{
    ModelOrder, ModelState, Order, Outcome, OutputFile, PROTOCOL, TaskOrder, TaskReport, TaskState,
    ToOperator, ToWorker,
};
use framewright_operator::jobs::seen::{PoolName, WorkerRef};

use crate::api::Millis;
use crate::world::{Happening, World};

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
                let state = known.map_or(ModelState::Loading, |(_, _, state)| state.clone());
                (order.name.clone(), order.digest.clone(), state)
            })
            .collect();
        for (name, digest, state) in self.worker(pod).models.clone() {
            if state == ModelState::Loading {
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

    fn run(&mut self, pod: &str, order: TaskOrder) {
        let id = order.task.clone();
        let worker = self.worker(pod);
        let is_draining = worker.is_draining;
        let Some(held) = worker.task(&id) else {
            let stage = if is_draining {
                Stage::Over(drained())
            } else {
                Stage::Waiting
            };
            worker.tasks.push(Task {
                order,
                stage: stage.clone(),
                start: 0,
                waits_for_grants: false,
                is_storing: false,
            });
            if stage == Stage::Waiting {
                self.accepted(pod, &id);
            }
            return self.say_if_over(pod, &id);
        };
        match &mut held.stage {
            Stage::Waiting => held.order = order,
            Stage::Active(_) => {
                held.order = order;
                if std::mem::take(&mut held.waits_for_grants) {
                    self.next(pod, &id, 100, 2000, Then::Start);
                }
            }
            Stage::Stopping(again) => *again = Some(Box::new(order)),
            Stage::Over(_) => self.say_if_over(pod, &id),
        }
    }

    fn forget(&mut self, pod: &str, epoch: u64, id: &TaskId, is_settled: bool) {
        self.told_to_forget(pod, epoch, id, is_settled);
        let worker = self.worker(pod);
        let Some(held) = worker.task(id) else {
            return;
        };
        match &mut held.stage {
            Stage::Waiting | Stage::Over(_) => {
                worker.tasks.retain(|held| held.order.task != *id);
                self.exit_if_done(pod);
            }
            Stage::Active(_) => {
                held.stage = Stage::Stopping(None);
                self.next(pod, id, 0, 3000, Then::Stop);
            }
            Stage::Stopping(again) => *again = None,
        }
    }

    fn granted(&mut self, pod: &str, id: &TaskId, sha256: &str) {
        let Some(held) = self.worker(pod).task(id) else {
            return;
        };
        let is_wanted = matches!(&held.stage, Stage::Active(TaskState::Uploading { output }) if output.sha256 == sha256);
        if is_wanted && !std::mem::replace(&mut held.is_storing, true) {
            self.next(pod, id, 20, 1500, Then::Store);
        }
    }

    fn start_what_can_start(&mut self, pod: &str) {
        let start = self.serial();
        let worker = self.worker(pod);
        let is_busy = |task: &&Task| matches!(task.stage, Stage::Active(_) | Stage::Stopping(_));
        let busy = worker.tasks.iter().filter(is_busy).count();
        let mut free = usize::try_from(worker.slots).expect("few") - busy;
        let mut started = Vec::new();
        let mut over = Vec::new();
        for held in &mut worker.tasks {
            if held.stage != Stage::Waiting {
                continue;
            }
            let model = worker
                .models
                .iter()
                .find(|(name, _, _)| *name == held.order.model);
            match model {
                None => {
                    let message = "the pool does not hold the model any more".to_owned();
                    let cause = Cause::WeightsFailed;
                    held.stage = Stage::Over(Outcome::Failed { cause, message });
                    over.push(held.order.task.clone());
                }
                Some((_, _, ModelState::Ready)) if free > 0 => {
                    free -= 1;
                    held.stage = Stage::Active(TaskState::Starting);
                    held.start = start;
                    started.push(held.order.task.clone());
                }
                Some(_) => {}
            }
        }
        for id in over {
            self.say_if_over(pod, &id);
        }
        for id in started {
            let asks = self.is_stormy() && self.chance.percent(5);
            let then = if asks {
                Then::AskForGrants
            } else {
                Then::Start
            };
            self.next(pod, &id, 50, 3000, then);
        }
    }

    fn next(&mut self, pod: &str, id: &TaskId, low: Millis, high: Millis, then: Then) {
        let wait = self.chance.between(low, high);
        let worker = self.worker(pod);
        let process = worker.process;
        let start = worker.task(id).map_or(0, |task| task.start);
        self.after(
            wait,
            Happening::Task {
                pod: pod.to_owned(),
                process,
                task: id.clone(),
                start,
                then,
            },
        );
    }

    /// A task's next step.
    pub(crate) fn task(&mut self, pod: &str, process: u64, id: &TaskId, start: u64, then: Then) {
        let Some(worker) = self.workers.get_mut(pod) else {
            return;
        };
        if !worker.is_up || worker.process != process {
            return;
        }
        let Some(held) = worker.task(id).filter(|task| task.start == start) else {
            return;
        };
        let Stage::Active(state) = &mut held.stage else {
            if matches!(then, Then::Stop) {
                self.stopped(pod, id);
            }
            return;
        };
        match then {
            Then::Stop => {}
            Then::AskForGrants => {
                if *state == TaskState::Starting && !held.waits_for_grants {
                    held.waits_for_grants = true;
                }
                if held.waits_for_grants {
                    let task = Some(id.clone());
                    self.say(pod, ToOperator::RenewGrants { task });
                    self.next(pod, id, 5000, 5000, Then::AskForGrants);
                }
            }
            Then::Start => {
                if *state != TaskState::Starting {
                    return;
                }
                let progress = Progress::default();
                *state = TaskState::Running { progress };
                let started = ToOperator::Started { task: id.clone() };
                self.say(pod, started);
                self.compute(pod, id);
            }
            Then::Progress => {
                if let TaskState::Running { progress } = state {
                    progress.percent = (progress.percent + 30).min(99);
                    let progress = *progress;
                    let task = id.clone();
                    self.say(pod, ToOperator::Progress { task, progress });
                    self.compute(pod, id);
                }
            }
            Then::Compute => {
                let output = self.new_output(pod, id);
                if let Some(held) = self.worker(pod).task(id) {
                    held.stage = Stage::Active(TaskState::Uploading { output });
                }
                self.task(pod, process, id, start, Then::AskForUpload);
            }
            Then::AskForUpload => {
                if let TaskState::Uploading { output } = state
                    && !held.is_storing
                {
                    let output = output.clone();
                    let task = id.clone();
                    self.say(pod, ToOperator::UploadRequest { task, output });
                    self.next(pod, id, ASK_AGAIN, ASK_AGAIN, Then::AskForUpload);
                }
            }
            Then::Store => {
                if let TaskState::Uploading { output } = state.clone() {
                    if self.store.is_up {
                        self.store.put(&id.job_uid, &output.sha256);
                        let units = 12;
                        self.over(pod, id, Outcome::Succeeded { output, units });
                    } else {
                        self.next(pod, id, 1000, 5000, Then::Store);
                    }
                }
            }
            Then::Fail(cause) => {
                let message = self.complaint(cause);
                self.over(pod, id, Outcome::Failed { cause, message });
            }
        }
    }

    /// What the computation does next: goes on, ends, fails or hangs.
    fn compute(&mut self, pod: &str, id: &TaskId) {
        if self.people.is_bad(id) {
            return self.next(pod, id, 100, 1000, Then::Fail(Cause::InvalidInput));
        }
        if self.is_stormy() {
            if self.chance.percent(self.weather.failure) {
                let cause = *self.chance.of(&[
                    Cause::OutOfMemory,
                    Cause::ScratchFull,
                    Cause::WeightsFailed,
                    Cause::StoreUnavailable,
                    Cause::DeviceError,
                    Cause::Internal,
                ]);
                return self.next(pod, id, 100, 4000, Then::Fail(cause));
            }
            if self.chance.percent(2) {
                return self.note(|| format!("task {id} on {pod} hangs"));
            }
        }
        let goes_on = self.chance.percent(50);
        let then = if goes_on {
            Then::Progress
        } else {
            Then::Compute
        };
        self.next(pod, id, 200, 4000, then);
    }

    fn complaint(&mut self, cause: Cause) -> String {
        let length = if self.chance.percent(10) { 300 } else { 1 };
        format!("{cause:?}: {}", "it hurts – ".repeat(length))
    }

    fn new_output(&mut self, pod: &str, id: &TaskId) -> OutputFile {
        let output = OutputFile {
            sha256: format!("{:064x}", self.serial()),
            bytes: 7,
            media_type: "video/mp4".to_owned(),
        };
        self.made(pod, id, &output.sha256);
        output
    }

    fn over(&mut self, pod: &str, id: &TaskId, outcome: Outcome) {
        self.said_over(pod, id, &outcome);
        if let Some(held) = self.worker(pod).task(id) {
            held.stage = Stage::Over(outcome);
        }
        self.say_if_over(pod, id);
        self.start_what_can_start(pod);
    }

    fn say_if_over(&mut self, pod: &str, id: &TaskId) {
        let Some(held) = self.worker(pod).task(id) else {
            return;
        };
        if let Stage::Over(outcome) = &held.stage {
            let (task, outcome) = (id.clone(), outcome.clone());
            self.said_over(pod, id, &outcome);
            self.say(pod, ToOperator::Finished { task, outcome });
        }
    }

    fn stopped(&mut self, pod: &str, id: &TaskId) {
        let worker = self.worker(pod);
        let again = worker.task(id).and_then(|held| match &mut held.stage {
            Stage::Stopping(again) => again.take(),
            Stage::Waiting | Stage::Active(_) | Stage::Over(_) => None,
        });
        worker.tasks.retain(|held| held.order.task != *id);
        if let Some(order) = again {
            worker.tasks.push(Task {
                order: *order,
                stage: Stage::Waiting,
                start: 0,
                waits_for_grants: false,
                is_storing: false,
            });
        }
        self.start_what_can_start(pod);
        self.exit_if_done(pod);
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

    fn exit_if_done(&mut self, pod: &str) {
        let worker = self.worker(pod);
        if worker.is_draining && worker.tasks.is_empty() {
            self.process_ends(pod, "Completed");
        }
    }
}

fn drained() -> Outcome {
    Outcome::Failed {
        cause: Cause::WorkerDrained,
        message: "the worker ends and takes no new task".to_owned(),
    }
}
