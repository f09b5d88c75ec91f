//! What becomes of a task that a queue has started: it fetches, computes and uploads, or fails, hangs or is stopped.

use super::*;

/// A task at work.
pub(crate) struct Work {
    /// Which start of it this is.
    start: u64,
    /// What was planned for an earlier turn does not happen.
    turn: u64,
    digest: String,
    percent: i32,
    output: Option<OutputFile>,
    has_trouble: bool,
    waits_for_grants: bool,
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
    pub(super) fn start(&mut self, pod: &str, order: &TaskOrder) {
        let id = order.task.clone();
        self.starts(pod, order);
        let start = self.serial();
        let worker = self.worker(pod);
        let has_weights = worker.shelf.has(&order.digest);
        let work = Work {
            start,
            turn: start,
            digest: order.digest.clone(),
            percent: 0,
            output: None,
            has_trouble: false,
            waits_for_grants: false,
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

    fn news(&mut self, pod: &str, id: &TaskId, news: News) {
        let task = id.clone();
        self.tell(pod, Event::Task { task, news });
    }

    /// A task's last news.
    fn last_news(&mut self, pod: &str, id: &TaskId, news: News) {
        let work = self.worker(pod).work.remove(id);
        if let News::Ended(outcome) = &news
            && work.is_some_and(|work| !work.is_stopping)
        {
            self.ended(pod, id, outcome);
        }
        self.news(pod, id, news);
    }

    pub(super) fn renewed(&mut self, pod: &str, id: &TaskId) {
        let work = self.worker(pod).work.get_mut(id);
        if work.is_some_and(|work| std::mem::take(&mut work.waits_for_grants)) {
            self.next(pod, id, 100, 2000, Then::Fetch);
        }
    }

    pub(super) fn granted(&mut self, pod: &str, id: &TaskId, sha256: &str) {
        let Some(work) = self.worker(pod).work.get_mut(id) else {
            return;
        };
        let is_it = work
            .output
            .as_ref()
            .is_some_and(|output| output.sha256 == sha256);
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
            self.does_not_stop(pod, id);
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
                self.news(pod, id, News::Started);
                self.compute(pod, id);
            }
            Then::Progress => {
                work.percent = (work.percent + 30).min(99);
                let progress = Progress {
                    percent: work.percent,
                    ..Progress::default()
                };
                self.news(pod, id, News::Progress(progress));
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
            Then::Stop => self.last_news(pod, id, News::Stopped),
            Then::Hang => self.news(pod, id, News::Hangs),
        }
    }

    fn fetch(&mut self, pod: &str, id: &TaskId) {
        let is_refused = self.is_stormy() && self.chance.percent(5);
        let is_up = self.store.is_up;
        let Some(work) = self.worker(pod).work.get_mut(id) else {
            return;
        };
        if is_refused {
            work.waits_for_grants = true;
            self.news(pod, id, News::GrantsExpired);
            return self.next(pod, id, 15_000, 15_000, Then::Fetch);
        }
        work.waits_for_grants = false;
        let had_trouble = std::mem::replace(&mut work.has_trouble, !is_up);
        if !is_up {
            let trouble = Some("input video: the store is away".to_owned());
            self.news(pod, id, News::StoreTrouble(trouble));
            return self.next(pod, id, 500, 15_000, Then::Fetch);
        }
        if had_trouble {
            self.news(pod, id, News::StoreTrouble(None));
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
            sha256: format!("{:064x}", self.serial()),
            bytes: 7,
            media_type: "video/mp4".to_owned(),
        };
        self.made(pod, id, &output.sha256);
        output
    }

    fn ask_for_upload(&mut self, pod: &str, id: &TaskId) {
        let work = self.worker(pod).work.get(id);
        if let Some(output) = work.and_then(|work| work.output.clone()) {
            self.news(pod, id, News::Computed(output));
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
            self.store.put(&id.job_uid, &output.sha256);
        }
        if self.store.is_up && !loses_answer {
            let outcome = Outcome::Succeeded { output, units: 12 };
            return self.last_news(pod, id, News::Ended(outcome));
        }
        let trouble = Some("the output waits for the store".to_owned());
        self.news(pod, id, News::StoreTrouble(trouble));
        self.next(pod, id, 500, 15_000, Then::AskForUpload);
    }

    fn fail(&mut self, pod: &str, id: &TaskId, cause: Cause) {
        let message = self.complaint(cause);
        let is_lost = cause == Cause::DeviceError && self.chance.percent(50);
        if is_lost {
            return self.last_news(pod, id, News::DeviceLost { message });
        }
        let work = self.worker(pod).work.get(id);
        let digest = work.map(|work| work.digest.clone()).unwrap_or_default();
        if cause == Cause::WeightsFailed {
            self.doubt(pod, &digest);
        }
        self.last_news(pod, id, News::Ended(Outcome::Failed { cause, message }));
    }

    fn complaint(&mut self, cause: Cause) -> String {
        let length = if self.chance.percent(10) { 300 } else { 1 };
        format!("{cause:?}: {}", "it hurts – ".repeat(length))
    }
}
