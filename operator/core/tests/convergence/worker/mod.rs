//! A worker: the product's own queue, and around it what a queue does not know: time, chance, a device, the store.

mod shelf;
mod tasks;

use std::collections::BTreeMap;

use framewright_core::names::{PoolName, WorkerRef};
use framewright_crds::aijob::{Cause, OutputRole, Progress, Usage};
use framewright_crds::modelpool::Device;
use framewright_crds::names::{self, TaskId};
use framewright_crds::protocol::{
    Command, ModelState, OperatorMessage, Outcome, OutputFile, RunTask, TaskModel, TaskRecord,
    TaskReport, WorkerMessage,
};
use framewright_queue::{Effect, Event, Identity, Queue, TaskEvent};

use crate::api::Millis;
use crate::world::{Happening, World};
pub(crate) use shelf::Shelf;
pub(crate) use tasks::{Then, Work};

pub(crate) struct Worker {
    pub me: WorkerRef,
    pub pool: PoolName,
    pub slots: usize,
    /// Counts the starts of its container.
    pub process: u64,
    pub is_up: bool,
    pub stream: Option<u64>,
    queue: Queue,
    /// The tasks that were started and have not stopped.
    pub work: BTreeMap<TaskId, Work>,
    pub shelf: Shelf,
    is_end_due: bool,
}

impl Worker {
    pub(crate) fn new(me: WorkerRef, pool: PoolName, slots: usize) -> Worker {
        Worker {
            me,
            pool,
            slots,
            process: 0,
            is_up: false,
            stream: None,
            queue: queue(slots),
            work: BTreeMap::new(),
            shelf: Shelf::default(),
            is_end_due: false,
        }
    }

    pub(crate) fn start(&mut self) {
        self.process += 1;
        self.is_up = true;
    }

    /// Its process is gone, and all that it knew; the stream that it leaves behind.
    pub(crate) fn end(&mut self) -> Option<u64> {
        self.is_up = false;
        self.queue = queue(self.slots);
        self.work.clear();
        self.shelf = Shelf::default();
        self.is_end_due = false;
        self.stream.take()
    }

    /// The tasks that it holds, as its next Hello will say.
    pub(crate) fn held(&self) -> Vec<TaskReport> {
        for effect in self.greets() {
            if let Effect::Send(WorkerMessage::Hello(hello)) = effect {
                return hello.tasks;
            }
        }
        unreachable!("whoever dials in says Hello");
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.greets()
            .contains(&Effect::Send(WorkerMessage::Draining))
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.work.is_empty() && self.held().is_empty()
    }

    /// Whether it could take a task now.
    pub(crate) fn is_free(&self, model: &str) -> bool {
        self.is_up
            && self.stream.is_some()
            && self.shelf.is_ready(model)
            && !self.is_draining()
            && self.is_idle()
    }

    fn greets(&self) -> Vec<Effect> {
        self.queue.clone().handle(Event::Connected)
    }
}

/// The one model of a task.
pub(crate) fn base(run: &RunTask) -> &TaskModel {
    let [base] = run.models.as_slice() else {
        unreachable!("every step here names one model");
    };
    base
}

/// A new process remembers nothing.
fn queue(slots: usize) -> Queue {
    Queue::new(Identity {
        version: "0".to_owned(),
        device: Device::Cpu,
        device_error: None,
        memory: None,
        slots,
        pipelines: vec!["upscale".to_owned()],
    })
}

impl World {
    fn worker(&mut self, pod: &str) -> &mut Worker {
        self.workers.get_mut(pod).expect("it was found before")
    }

    /// The worker, if it is still the process that something was planned for.
    fn process(&mut self, pod: &str, process: u64) -> Option<&mut Worker> {
        let worker = self.workers.get_mut(pod)?;
        (worker.is_up && worker.process == process).then_some(worker)
    }

    pub(crate) fn connected(&mut self, pod: &str, stream: u64) {
        self.worker(pod).stream = Some(stream);
        self.tell(pod, Event::Connected);
    }

    /// An order has arrived.
    pub(crate) fn hear(&mut self, pod: &str, said: OperatorMessage) {
        self.note(|| format!("worker {pod} hears {said:?}"));
        if let Command::Run(order) = &said.command
            && self.is_stormy()
            && self.chance.percent(self.weather.spoiled / 5)
        {
            self.spoil(pod, &base(order).name);
        }
        let Some(worker) = self.workers.get_mut(pod).filter(|worker| worker.is_up) else {
            return;
        };
        let before = worker.held();
        let effects = worker.queue.handle(Event::Received(said.clone()));
        self.heard(pod, &said, &before, &effects);
        self.follow(pod, effects);
    }

    /// SIGTERM.
    pub(crate) fn drain(&mut self, pod: &str) {
        self.tell(pod, Event::Drain);
    }

    /// Something happens to a worker, and its queue says what follows.
    pub(crate) fn tell(&mut self, pod: &str, event: Event) {
        let Some(worker) = self.workers.get_mut(pod).filter(|worker| worker.is_up) else {
            return;
        };
        let effects = worker.queue.handle(event);
        self.follow(pod, effects);
    }

    fn follow(&mut self, pod: &str, effects: Vec<Effect>) {
        for effect in effects {
            if !self.worker(pod).is_up {
                return;
            }
            self.act(pod, effect);
        }
        self.end_some_time(pod);
    }

    fn act(&mut self, pod: &str, effect: Effect) {
        match effect {
            Effect::Send(message) => {
                self.said(pod, &message);
                self.say(pod, message);
            }
            Effect::HangUp => {
                if let Some(stream) = self.worker(pod).stream {
                    self.hang_up(stream);
                }
            }
            Effect::Hold(models) => self.hold(pod, models),
            Effect::Start(order) => self.start(pod, &order),
            Effect::Renew(order) => self.renewed(pod, &order.task),
            Effect::Proceed(_) => unreachable!("no task has a limit"),
            Effect::Upload { task, digest, .. } => self.granted(pod, &task, &digest),
            Effect::Stop(task) => self.stop(pod, &task),
            Effect::Exit => {
                let is_broken = self.worker(pod).queue.lost_device().is_some();
                self.process_ends(pod, if is_broken { "Error" } else { "Completed" });
            }
            Effect::Abort => self.process_ends(pod, "Error"),
        }
    }

    /// A drained worker does not wait for ever until somebody records what it finished.
    fn end_some_time(&mut self, pod: &str) {
        let worker = self.worker(pod);
        if worker.is_end_due || !worker.is_up || !worker.queue.is_drained() {
            return;
        }
        worker.is_end_due = true;
        let process = worker.process;
        let wait = self.chance.between(30_000, 60_000);
        let pod = pod.to_owned();
        self.after(wait, Happening::Unsettled { pod, process });
    }

    /// Nobody has recorded what a drained worker finished: it ends all the same.
    pub(crate) fn left_unsettled(&mut self, pod: &str, process: u64) {
        if self.process(pod, process).is_some() {
            self.process_ends(pod, "Completed");
        }
    }
}
