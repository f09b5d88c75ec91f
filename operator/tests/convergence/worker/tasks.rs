//! What a fake worker does with its tasks.

use super::*;

impl World {
    pub(super) fn run(&mut self, pod: &str, order: TaskOrder) {
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

    pub(super) fn forget(&mut self, pod: &str, epoch: u64, id: &TaskId, is_settled: bool) {
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

    pub(super) fn granted(&mut self, pod: &str, id: &TaskId, sha256: &str) {
        let Some(held) = self.worker(pod).task(id) else {
            return;
        };
        let is_wanted = matches!(&held.stage, Stage::Active(TaskState::Uploading { output }) if output.sha256 == sha256);
        if is_wanted && !std::mem::replace(&mut held.is_storing, true) {
            self.next(pod, id, 20, 1500, Then::Store);
        }
    }

    pub(super) fn start_what_can_start(&mut self, pod: &str) {
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

    pub(super) fn next(&mut self, pod: &str, id: &TaskId, low: Millis, high: Millis, then: Then) {
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
    pub(super) fn compute(&mut self, pod: &str, id: &TaskId) {
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

    pub(super) fn complaint(&mut self, cause: Cause) -> String {
        let length = if self.chance.percent(10) { 300 } else { 1 };
        format!("{cause:?}: {}", "it hurts – ".repeat(length))
    }

    pub(super) fn new_output(&mut self, pod: &str, id: &TaskId) -> OutputFile {
        let output = OutputFile {
            sha256: format!("{:064x}", self.serial()),
            bytes: 7,
            media_type: "video/mp4".to_owned(),
        };
        self.made(pod, id, &output.sha256);
        output
    }

    pub(super) fn over(&mut self, pod: &str, id: &TaskId, outcome: Outcome) {
        self.said_over(pod, id, &outcome);
        if let Some(held) = self.worker(pod).task(id) {
            held.stage = Stage::Over(outcome);
        }
        self.say_if_over(pod, id);
        self.start_what_can_start(pod);
    }

    pub(super) fn say_if_over(&mut self, pod: &str, id: &TaskId) {
        let Some(held) = self.worker(pod).task(id) else {
            return;
        };
        if let Stage::Over(outcome) = &held.stage {
            let (task, outcome) = (id.clone(), outcome.clone());
            self.said_over(pod, id, &outcome);
            self.say(pod, ToOperator::Finished { task, outcome });
        }
    }

    pub(super) fn stopped(&mut self, pod: &str, id: &TaskId) {
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

    pub(super) fn exit_if_done(&mut self, pod: &str) {
        let worker = self.worker(pod);
        if worker.is_draining && worker.tasks.is_empty() {
            self.process_ends(pod, "Completed");
        }
    }
}

pub(super) fn drained() -> Outcome {
    Outcome::Failed {
        cause: Cause::WorkerDrained,
        message: "the worker ends and takes no new task".to_owned(),
    }
}
