//! What becomes of a task that a queue has started: it fetches, computes and uploads, or fails, hangs or is stopped.

use super::*;

/// A task at work.
pub(crate) struct Work {
    /// Which start of it this is.
    start: u64,
    /// What was planned for an earlier turn does not happen.
    turn: u64,
    digest: String,
    inputs: Vec<String>,
    percent: i32,
    output: Option<OutputFile>,
    has_problem: bool,
    waits_for_links: bool,
    is_storing: bool,
    is_stopping: bool,
}

/// What happens next to a task.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Then {
    Fetch,
    Begin,
    Progress,
    Compute,
    AskForUpload,
    Store,
    Fail(Cause),
    /// It has stopped, as it was told to.
    Stop,
    /// It was told to stop, and does not.
    Hang,
}

impl World {
    pub(super) fn start(&mut self, pod: &str, order: &RunTask) {
        let id = order.task.clone();
        self.starts(pod, order);
        let start = self.serial();
        let worker = self.worker(pod);
        let has_weights = worker.shelf.has(&base(order).digest);
        let work = Work {
            start,
            turn: start,
            digest: base(order).digest.clone(),
            inputs: order
                .inputs
                .iter()
                .map(|input| input.digest.clone())
                .collect(),
            percent: 0,
            output: None,
            has_problem: false,
            waits_for_links: false,
            is_storing: false,
            is_stopping: false,
        };
        worker.work.insert(id.clone(), work);
        // They may have been found wrong a moment ago.
        let then = if has_weights {
            Then::Fetch
        } else {
            Then::Fail(Cause::WeightsFailed)
        };
        self.next(pod, &id, 0, 10, then);
    }

    fn next(&mut self, pod: &str, id: &TaskId, low: Millis, high: Millis, then: Then) {
        let turn = self.serial();
        let Some(work) = self.worker(pod).work.get_mut(id) else {
            return;
        };
        work.turn = turn;
        self.plan(pod, id, turn, (low, high), then);
    }

    fn plan(&mut self, pod: &str, id: &TaskId, turn: u64, within: (Millis, Millis), then: Then) {
        let wait = self.chance.between(within.0, within.1);
        let process = self.worker(pod).process;
        self.after(
            wait,
            Happening::Task {
                pod: pod.to_owned(),
                process,
                task: id.clone(),
                turn,
                then,
            },
        );
    }

    fn task_event(&mut self, pod: &str, id: &TaskId, event: TaskEvent) {
        let task = id.clone();
        self.tell(pod, Event::Task { task, event });
    }

    /// A task's last event.
    fn last_event(&mut self, pod: &str, id: &TaskId, event: TaskEvent) {
        let work = self.worker(pod).work.remove(id);
        if let TaskEvent::Ended(outcome) = &event
            && work.is_some_and(|work| !work.is_stopping)
        {
            self.ended(pod, id, outcome);
        }
        self.task_event(pod, id, event);
    }

    pub(super) fn renewed(&mut self, pod: &str, id: &TaskId) {
        let work = self.worker(pod).work.get_mut(id);
        if work.is_some_and(|work| std::mem::take(&mut work.waits_for_links)) {
            self.next(pod, id, 100, 2000, Then::Fetch);
        }
    }

    pub(super) fn granted(&mut self, pod: &str, id: &TaskId, digest: &str) {
        let Some(work) = self.worker(pod).work.get_mut(id) else {
            return;
        };
        let is_it = work
            .output
            .as_ref()
            .is_some_and(|output| output.digest == digest);
        if is_it && !std::mem::replace(&mut work.is_storing, true) {
            self.next(pod, id, 20, 1500, Then::Store);
        }
    }

    pub(super) fn stop(&mut self, pod: &str, id: &TaskId) {
        let hangs = self.is_stormy() && self.chance.percent(2);
        let is_faster = self.chance.percent(30);
        let serial = self.serial();
        let Some(work) = self.worker(pod).work.get_mut(id) else {
            return;
        };
        work.is_stopping = true;
        // What it was about to do may come before it notices.
        if !is_faster {
            work.turn = serial;
        }
        let start = work.start;
        if hangs {
            self.note(|| format!("task {id} on {pod} does not stop"));
            self.plan(pod, id, start, (300_000, 300_000), Then::Hang);
        } else {
            self.plan(pod, id, start, (0, 3000), Then::Stop);
        }
    }

    /// A task's next step.
    pub(crate) fn task(&mut self, pod: &str, process: u64, id: &TaskId, turn: u64, then: Then) {
        let Some(worker) = self.process(pod, process) else {
            return;
        };
        let Some(work) = worker.work.get_mut(id) else {
            return;
        };
        if work.turn != turn && work.start != turn {
            return;
        }
        match then {
            Then::Fetch => self.fetch(pod, id),
            Then::Begin => {
                self.task_started(id);
                self.task_event(pod, id, TaskEvent::Started);
                self.compute(pod, id);
            }
            Then::Progress => {
                work.percent = (work.percent + 30).min(99);
                let progress = Progress {
                    percent: work.percent,
                    ..Progress::default()
                };
                self.task_event(pod, id, TaskEvent::Progress(progress));
                self.compute(pod, id);
            }
            Then::Compute => {
                let output = self.new_output(pod, id);
                if let Some(work) = self.worker(pod).work.get_mut(id) {
                    work.output = Some(output);
                }
                self.ask_for_upload(pod, id);
            }
            Then::AskForUpload => self.ask_for_upload(pod, id),
            Then::Store => self.store(pod, id),
            Then::Fail(cause) => self.fail(pod, id, cause),
            Then::Stop => self.last_event(pod, id, TaskEvent::Stopped),
            Then::Hang => self.task_event(pod, id, TaskEvent::Hangs),
        }
    }

    fn fetch(&mut self, pod: &str, id: &TaskId) {
        let is_refused = self.is_stormy() && self.chance.percent(5);
        let work = self.worker(pod).work.get(id);
        let inputs = work.map(|work| work.inputs.clone()).unwrap_or_default();
        let has = |input: &String| self.store.has(&id.job_uid, names::bare(input));
        let is_up = self.store.is_up && inputs.iter().all(has);
        let Some(work) = self.worker(pod).work.get_mut(id) else {
            return;
        };
        if is_refused {
            work.waits_for_links = true;
            self.task_event(pod, id, TaskEvent::LinksExpired);
            return self.next(pod, id, 15_000, 15_000, Then::Fetch);
        }
        work.waits_for_links = false;
        let had_problem = std::mem::replace(&mut work.has_problem, !is_up);
        if !is_up {
            let problem = Some("input video: the store does not give it".to_owned());
            self.task_event(pod, id, TaskEvent::StoreError(problem));
            return self.next(pod, id, 500, 15_000, Then::Fetch);
        }
        if had_problem {
            self.task_event(pod, id, TaskEvent::StoreError(None));
        }
        self.next(pod, id, 50, 3000, Then::Begin);
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

    fn new_output(&mut self, pod: &str, id: &TaskId) -> OutputFile {
        let output = OutputFile {
            name: "video".to_owned(),
            role: OutputRole::Result,
            digest: names::digest(&format!("{:064x}", self.serial())),
            bytes: 7,
            media_type: "video/mp4".to_owned(),
            facts: Vec::new(),
        };
        self.made(pod, id, &output.digest);
        output
    }

    fn ask_for_upload(&mut self, pod: &str, id: &TaskId) {
        let work = self.worker(pod).work.get(id);
        if let Some(output) = work.and_then(|work| work.output.clone()) {
            self.task_event(pod, id, TaskEvent::Computed(vec![output.clone()]));
            self.task_event(pod, id, TaskEvent::UploadRequested(output));
            self.next(pod, id, 15_000, 15_000, Then::AskForUpload);
        }
    }

    fn store(&mut self, pod: &str, id: &TaskId) {
        let loses_answer = self.is_stormy() && self.chance.percent(5);
        let Some(work) = self.worker(pod).work.get_mut(id) else {
            return;
        };
        work.is_storing = false;
        let Some(output) = work.output.clone() else {
            return;
        };
        if self.store.is_up {
            self.store.put(&id.job_uid, names::bare(&output.digest));
        }
        if self.store.is_up && !loses_answer {
            let outcome = Outcome::Succeeded {
                outputs: vec![output],
                usage: Usage {
                    unit: "pixels".to_owned(),
                    amount: 12,
                },
                record: TaskRecord::default(),
            };
            return self.last_event(pod, id, TaskEvent::Ended(outcome));
        }
        let problem = Some("the output waits for the store".to_owned());
        self.task_event(pod, id, TaskEvent::StoreError(problem));
        self.next(pod, id, 500, 15_000, Then::AskForUpload);
    }

    fn fail(&mut self, pod: &str, id: &TaskId, cause: Cause) {
        let message = self.complaint(cause);
        let is_lost = cause == Cause::DeviceError && self.chance.percent(50);
        if is_lost {
            return self.last_event(
                pod,
                id,
                TaskEvent::DeviceLost {
                    message,
                    usage: None,
                },
            );
        }
        let work = self.worker(pod).work.get(id);
        let digest = work.map(|work| work.digest.clone()).unwrap_or_default();
        if cause == Cause::WeightsFailed {
            self.doubt(pod, &digest);
        }
        let outcome = Outcome::Failed {
            cause,
            message,
            usage: None,
        };
        self.last_event(pod, id, TaskEvent::Ended(outcome));
    }

    fn complaint(&mut self, cause: Cause) -> String {
        let length = if self.chance.percent(10) { 300 } else { 1 };
        format!("{cause:?}: {}", "it hurts – ".repeat(length))
    }
}
