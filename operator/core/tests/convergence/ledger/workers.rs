//! What must hold for each order that a worker hears, and for what it does and says then.

use framewright_crds::deletion::goes_by_itself;
use framewright_crds::protocol::{
    Command, OperatorMessage, RunTask, TaskModel, TaskReport, TaskState, WorkerMessage,
};
use framewright_queue::Effect;

use super::statuses::is_bound;
use super::*;
use crate::worker::base;

impl World {
    /// A worker has heard an order, and does this.
    pub(crate) fn heard(
        &mut self,
        pod: &str,
        said: &OperatorMessage,
        before: &[TaskReport],
        effects: &[Effect],
    ) {
        let after = self.workers[pod].held();
        let highest = self.ledger.epochs.entry(pod.to_owned()).or_default();
        let (epoch, newest) = (said.epoch, *highest);
        *highest = epoch.max(newest);
        if epoch < newest {
            if effects != [Effect::HangUp] || after != before {
                self.blame(|| {
                    format!("{pod} obeys epoch {epoch}, though it has heard epoch {newest}")
                });
            }
            return;
        }
        match &said.command {
            Command::Run(order) => {
                let is_known = find(before, &order.task).is_some()
                    || self.workers[pod].work.contains_key(&order.task);
                if !is_known && find(&after, &order.task).is_some_and(is_alive) {
                    self.accepted(pod, &order.task);
                }
            }
            Command::Cancel { task } => self.told_to_forget(pod, epoch, task, before, "cancelled"),
            Command::Ack { task } => self.told_to_forget(pod, epoch, task, before, "settled"),
            Command::Configure { .. }
            | Command::Refused { .. }
            | Command::Proceed { .. }
            | Command::Upload { .. }
            | Command::Unknown => {}
        }
    }

    /// A worker has taken a task that it did not hold.
    fn accepted(&mut self, pod: &str, task: &TaskId) {
        if self.ledger.bound.get(task).map(String::as_str) != Some(pod) {
            return self.blame(|| format!("{pod} takes task {task}, which was never bound to it"));
        }
        let elsewhere = self
            .workers
            .values()
            .any(|worker| worker.me.uid != pod && find(&worker.held(), task).is_some_and(is_alive));
        if elsewhere {
            self.blame(|| format!("task {task} is alive twice, on {pod} and elsewhere"));
        }
        let Some(job) = self.job(&task.job_uid) else {
            return;
        };
        let steps = job.status.iter().flat_map(|status| &status.steps);
        let has_computed = steps
            .filter(|step| step.name == task.step)
            .filter_map(attempt::open)
            .any(|open| open.number == task.attempt && open.started_at.is_some());
        if has_computed {
            self.blame(|| format!("task {task} has computed on {pod}, and is taken there again"));
        }
    }

    /// A worker was told to forget a task.
    fn told_to_forget(
        &mut self,
        pod: &str,
        epoch: u64,
        task: &TaskId,
        before: &[TaskReport],
        how: &str,
    ) {
        if let Some(outcomes) = self.ledger.outcomes.get_mut(pod) {
            outcomes.remove(task);
        }
        if find(before, task).is_none() {
            return;
        }
        let is_open = self.job(&task.job_uid).is_some_and(|job| {
            // The work of a job that is about to go stops, whatever its status says.
            !goes_by_itself(&job.metadata) && is_bound(&job, task, pod)
        });
        if is_open {
            self.blame(|| {
                format!("task {task} on {pod} is {how} (epoch {epoch}), though its attempt is open and its outcome not recorded")
            });
        }
    }

    /// A worker's queue starts a task.
    pub(crate) fn starts(&mut self, pod: &str, order: &RunTask) {
        let RunTask { task, .. } = order;
        let TaskModel {
            name: model,
            digest,
            ..
        } = base(order);
        let worker = &self.workers[pod];
        let (work, slots) = (worker.work.len(), worker.slots);
        let is_at_work = worker.work.contains_key(task);
        let held = worker.shelf.digest(model).map(str::to_owned);
        if is_at_work {
            self.blame(|| format!("{pod} starts task {task}, which is at work there"));
        }
        if work >= slots {
            self.blame(|| format!("{pod} starts task {task} with {work} of {slots} slots taken"));
        }
        if held.as_ref() != Some(digest) {
            self.blame(|| {
                format!("{pod} starts task {task} for weights {digest} of {model}, and is to hold {held:?}")
            });
        }
    }

    /// A task ends on its worker, and nobody had told it to stop.
    pub(crate) fn ended(&mut self, pod: &str, task: &TaskId, outcome: &Outcome) {
        let outcomes = self.ledger.outcomes.entry(pod.to_owned()).or_default();
        outcomes.insert(task.clone(), outcome.clone());
    }

    /// A worker says something: each outcome in each Hello, until somebody has recorded it, and always the same; and no weights
    /// that it has not verified.
    pub(crate) fn said(&mut self, pod: &str, message: &WorkerMessage) {
        match message {
            WorkerMessage::Finished { task, outcome } => self.said_over(pod, task, outcome),
            WorkerMessage::Hello(hello) => {
                let tasks = &hello.tasks;
                for report in tasks {
                    if let TaskState::Finished { outcome } = &report.state {
                        self.said_over(pod, &report.task, outcome);
                    }
                }
                let outcomes = self.ledger.outcomes.get(pod);
                let mut kept = outcomes.into_iter().flat_map(BTreeMap::keys);
                let forgotten = kept.find(|task| find(tasks, task).is_none_or(is_alive));
                if let Some(task) = forgotten.cloned() {
                    self.blame(|| format!("{pod} says Hello and not how task {task} ended"));
                }
            }
            WorkerMessage::Model {
                name,
                digest,
                state: ModelState::Ready,
            } if !self.workers[pod].shelf.has_ever_had(digest) => {
                self.blame(|| {
                    format!("{pod} says that {name} {digest} is ready, and it never was")
                });
            }
            WorkerMessage::Model { .. }
            | WorkerMessage::Loaded { .. }
            | WorkerMessage::Prepared { .. }
            | WorkerMessage::Stopped { .. }
            | WorkerMessage::Unknown
            | WorkerMessage::Started { .. }
            | WorkerMessage::Progress { .. }
            | WorkerMessage::UploadRequest { .. }
            | WorkerMessage::RenewLinks { .. }
            | WorkerMessage::StoreError { .. }
            | WorkerMessage::Draining => {}
        }
    }

    fn said_over(&mut self, pod: &str, task: &TaskId, outcome: &Outcome) {
        if let Outcome::Failed { cause, .. } = outcome {
            let failure = (task.clone(), pod.to_owned(), *cause);
            self.ledger.failures.insert(failure);
        }
        let outcomes = self.ledger.outcomes.entry(pod.to_owned()).or_default();
        let first = outcomes.entry(task.clone()).or_insert(outcome.clone());
        if first != outcome {
            let first = first.clone();
            self.blame(|| {
                format!("task {task} on {pod} ended with {first:?}, and now with {outcome:?}")
            });
        }
    }
}

fn find<'a>(held: &'a [TaskReport], task: &TaskId) -> Option<&'a TaskReport> {
    held.iter().find(|report| report.task == *task)
}

fn is_alive(report: &TaskReport) -> bool {
    !matches!(report.state, TaskState::Finished { .. })
}
