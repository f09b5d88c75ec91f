//! What must hold for each decision and order about a job.

use framewright_core::engine::world::Job;
use framewright_core::jobs::plan::attempt::AWAY_LIMIT;
use framewright_core::names::ObjectName;
use framewright_crds::wire::TaskOrder;
use jiff::SignedDuration;

use super::statuses::{is_bound, words};
use super::*;

impl World {
    // Decisions.

    /// The closings of attempts that nothing in the world gives a reason for. One who was overthrown and does not know it yet may
    /// give up an attempt in vain: that costs a try, and breaks nothing.
    pub(crate) fn unfounded(&self, index: usize, wanted: &AIJob) -> Option<String> {
        if self.leader() != Some(index) {
            return None;
        }
        let name = ObjectName::of(&wanted.metadata);
        let Some(Job::Live(known)) = self.operators[index].engine.world().job(&name) else {
            return None;
        };
        let old = known.status.as_ref()?;
        wanted.status.as_ref()?.steps.iter().find_map(|step| {
            let old = old.steps.iter().find(|old| old.name == step.name)?;
            let open = attempt::open(old)?;
            let closed = step
                .attempts
                .iter()
                .find(|closed| closed.number == open.number)?;
            let cause = closed.cause?;
            if self.is_founded(index, known, &step.name, open, cause) {
                return None;
            }
            let message = closed.message.clone().unwrap_or_default();
            Some(format!(
                "step {} of {name}, attempt {} on {}: closed by {cause:?} ({message}) without a reason in the world",
                step.name, open.number, open.pod_uid
            ))
        })
    }

    pub(super) fn is_founded(
        &self,
        index: usize,
        job: &AIJob,
        step: &str,
        open: &Attempt,
        cause: Cause,
    ) -> bool {
        let uid = job.uid().unwrap_or_default();
        let task = attempt::task_id(&uid, step, open.number);
        let pod = &open.pod_uid;
        if self.ledger.failures.contains(&(task, pod.clone(), cause)) {
            return true;
        }
        let is_late_in_calm = self
            .calm_since()
            .is_some_and(|since| open.bound_at.0 > at(since + AFTERMATH));
        let since = |then: jiff::Timestamp| at(self.now).duration_since(then).as_secs();
        match cause {
            Cause::Suspended => job.spec.suspend || self.ledger.suspended.contains(&uid),
            Cause::WorkerLost | Cause::OutOfMemory => {
                self.has_died(pod, open) || (cause == Cause::WorkerLost && self.is_away(index, pod))
            }
            Cause::PreRunningDeadline => {
                (!is_late_in_calm || self.ledger.hangs.contains(pod))
                    && since(open.bound_at.0) >= job.spec.pre_running_deadline_seconds
            }
            Cause::ActiveDeadline => {
                !is_late_in_calm
                    && open
                        .started_at
                        .as_ref()
                        .is_some_and(|started| since(started.0) >= job.spec.active_deadline_seconds)
            }
            Cause::Stuck => !is_late_in_calm && since(open.bound_at.0) >= 300,
            // It could not fetch.
            Cause::StoreUnavailable => {
                since(open.bound_at.0) >= job.spec.pre_running_deadline_seconds
                    && self.store.was_away_since(open.bound_at.0)
            }
            Cause::WorkerDrained => self.ledger.leaving.contains(pod) && self.has_died(pod, open),
            Cause::InvalidInput
            | Cause::ScratchFull
            | Cause::WeightsFailed
            | Cause::WeightsChanged
            | Cause::DeviceError
            | Cause::Internal => false,
        }
    }

    /// Whether a worker's process ended since an attempt was bound to it, in whole seconds.
    pub(super) fn has_died(&self, pod: &str, open: &Attempt) -> bool {
        let died = self.ledger.deaths.get(pod);
        self.ledger.gone.contains(pod)
            || died.is_some_and(|died| at(died + 1000) >= open.bound_at.0)
    }

    pub(super) fn is_away(&self, index: usize, pod: &str) -> bool {
        let epoch = self.operators[index].epoch();
        let is_open = self
            .streams
            .values()
            .any(|stream| stream.operator == index && stream.is_heard_from(pod, epoch));
        let parted = self.ledger.parted.get(&(index, pod.to_owned()));
        let leads = self.operators[index].term.map(|term| term.since);
        let long = |then: jiff::Timestamp| {
            at(self.now).duration_since(then) >= AWAY_LIMIT - SignedDuration::from_secs(1)
        };
        !is_open && parted.is_none_or(|parted| long(at(*parted))) && leads.is_none_or(long)
    }

    /// A scheduler has placed a step: on a worker that has said to this operator that it holds these very weights.
    pub(crate) fn placed(&mut self, index: usize, worker_uid: &str, weights: (String, String)) {
        let said = self.ledger.models.get(&(index, worker_uid.to_owned()));
        let said = said.and_then(|models| models.get(&weights)).cloned();
        if said != Some(ModelState::Ready) {
            let uid = worker_uid.to_owned();
            self.blame(|| {
                format!("a step for weights {weights:?} is placed on {uid}, which has said {said:?} of them")
            });
        }
    }

    // Commands.

    /// An operator sends a task.
    pub(crate) fn ordered(&mut self, index: usize, pod: &str, order: &TaskOrder) {
        let task = &order.task;
        if self.ledger.bound.get(task).map(String::as_str) != Some(pod) {
            return self
                .blame(|| format!("task {task} is sent to {pod}, and was never bound to it"));
        }
        let world = self.operators[index].engine.world();
        let known = world
            .job_name(&task.job_uid)
            .and_then(|name| world.job(name));
        let is_wanted = match known {
            Some(Job::Live(job)) => !job.spec.suspend,
            Some(Job::Finished(_) | Job::Unreadable { .. }) | None => false,
        };
        if !is_wanted {
            return self.blame(|| {
                format!("task {task} is sent though its job is over, gone or suspended")
            });
        }
        if !self.knows_best(index, &task.job_uid) {
            return;
        }
        let Some(job) = self.job(&task.job_uid) else {
            return;
        };
        if !is_bound(&job, task, pod) {
            let steps = words(&job.status.clone().unwrap_or_default());
            self.blame(|| {
                format!("task {task} is sent to {pod}, but the durable status says: {steps}")
            });
        }
    }

    /// Whether an operator leads, and nobody else has written the job's status since it does.
    pub(super) fn knows_best(&self, index: usize, uid: &str) -> bool {
        let Some(term) = self.operators[index].term else {
            return false;
        };
        let foreign = self
            .ledger
            .writer
            .get(uid)
            .is_some_and(|(epoch, when)| *epoch != term.epoch && at(*when) >= term.since);
        term.epoch == self.highest_epoch && !foreign
    }

    pub(super) fn job(&self, uid: &str) -> Option<std::rc::Rc<AIJob>> {
        let jobs = self.api.jobs.live.values();
        jobs.into_iter()
            .find(|job| job.uid().as_deref() == Some(uid))
            .cloned()
    }
}
