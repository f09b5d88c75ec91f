//! What must hold for each decision and order about a job.

use framewright_core::jobs::plan::attempt::AWAY_LIMIT;
use framewright_core::jobs::seen::Binding;
use jiff::SignedDuration;

use super::statuses::{is_bound, words};
use super::*;

impl World {
    // Decisions.

    /// A plan was made.
    pub(crate) fn decided(&mut self, index: usize, seen: &Observed, plan: &Plan) {
        let name = seen.name.clone();
        let is_over = is_finished(&plan.status);
        let wait = plan.look_again.map(|wait| wait.as_millis());
        if !is_over && !wait.is_some_and(|wait| (0..=60_000).contains(&wait)) {
            self.blame(|| format!("job {name} is not over, and is looked at again in {wait:?} ms"));
        }
        let is_idle = plan.status == seen.status && plan.orders.is_empty();
        let is_soon = wait.is_some_and(|wait| wait <= 500);
        let now = self.now;
        let key = (index, seen.uid.clone());
        let (looks, last) = self.ledger.idle_looks.entry(key).or_insert((0, now));
        let is_by_time = now - *last >= 400;
        *last = now;
        *looks = if is_idle && is_soon && is_by_time && !is_over {
            *looks + 1
        } else {
            0
        };
        if *looks > IDLE_LOOKS {
            self.blame(|| format!("job {name} is looked at twice a second for nothing"));
        }
        let changed = plan.status != seen.status;
        self.note(|| {
            let steps = words(&plan.status);
            let orders: Vec<String> = plan.orders.iter().map(|order| format!("{:?} to {}", order.order, order.worker.uid)).collect();
            let version = if changed { "writes" } else { "keeps" };
            format!("operator {index} looks at {name}: {version} {steps}; orders [{}]; again in {wait:?} ms", orders.join("; "))
        });
    }

    /// The closings of attempts that nothing in the world gives a reason for. One who was overthrown and does not know it yet may
    /// give up an attempt in vain: that costs a try, and breaks nothing.
    pub(crate) fn unfounded(&self, index: usize, seen: &Observed, plan: &Plan) -> Option<String> {
        if self.leader() != Some(index) {
            return None;
        }
        plan.status.steps.iter().find_map(|step| {
            let old = seen.status.steps.iter().find(|old| old.name == step.name)?;
            let open = attempt::open(old)?;
            let closed = step
                .attempts
                .iter()
                .find(|closed| closed.number == open.number)?;
            let cause = closed.cause?;
            if self.is_founded(index, seen, &step.name, open, cause) {
                return None;
            }
            let message = closed.message.clone().unwrap_or_default();
            Some(format!(
                "step {} of {}, attempt {} on {}: closed by {cause:?} ({message}) without a reason in the world",
                step.name, seen.name, open.number, open.pod_uid
            ))
        })
    }

    pub(super) fn is_founded(
        &self,
        index: usize,
        seen: &Observed,
        step: &str,
        open: &Attempt,
        cause: Cause,
    ) -> bool {
        let task = attempt::task_id(&seen.uid, step, open.number);
        let pod = &open.pod_uid;
        if self.ledger.failures.contains(&(task, pod.clone(), cause)) {
            return true;
        }
        let is_late_in_calm = self
            .calm_since()
            .is_some_and(|since| open.bound_at.0 > at(since + AFTERMATH));
        let since = |then: jiff::Timestamp| seen.now.duration_since(then).as_secs();
        match cause {
            Cause::Suspended => seen.spec.suspend || self.ledger.suspended.contains(&seen.uid),
            Cause::WorkerLost | Cause::OutOfMemory => {
                self.has_died(pod, open) || (cause == Cause::WorkerLost && self.is_away(index, pod))
            }
            Cause::PreRunningDeadline => {
                (!is_late_in_calm || self.ledger.hangs.contains(pod))
                    && since(open.bound_at.0) >= seen.spec.pre_running_deadline_seconds
            }
            Cause::ActiveDeadline => {
                !is_late_in_calm
                    && open.started_at.as_ref().is_some_and(|started| {
                        since(started.0) >= seen.spec.active_deadline_seconds
                    })
            }
            Cause::Stuck => !is_late_in_calm && since(open.bound_at.0) >= 300,
            // It could not fetch.
            Cause::StoreUnavailable => {
                since(open.bound_at.0) >= seen.spec.pre_running_deadline_seconds
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
    pub(crate) fn placed(&mut self, index: usize, model: &str, binding: &Binding) {
        let Binding {
            worker,
            weights_digest,
            ..
        } = binding;
        let weights = (model.to_owned(), weights_digest.clone());
        let said = self.ledger.models.get(&(index, worker.uid.clone()));
        let said = said.and_then(|models| models.get(&weights)).cloned();
        if said != Some(ModelState::Ready) {
            let uid = worker.uid.clone();
            self.blame(|| {
                format!("a step for weights {weights:?} is placed on {uid}, which has said {said:?} of them")
            });
        }
    }

    // Orders.

    /// An operator is about to send an order.
    pub(crate) fn ordered(&mut self, index: usize, seen: &Observed, addressed: &Addressed) {
        let Order::Run { task, .. } = &addressed.order else {
            return;
        };
        let pod = &addressed.worker.uid;
        if self.ledger.bound.get(task) != Some(pod) {
            let task = task.clone();
            return self
                .blame(|| format!("task {task} is sent to {pod}, and was never bound to it"));
        }
        if seen.spec.suspend || is_finished(&seen.status) {
            let task = task.clone();
            return self
                .blame(|| format!("task {task} is sent though its job is over or suspended"));
        }
        if !self.knows_best(index, &seen.uid) {
            return;
        }
        let Some(job) = self.job(&task.job_uid) else {
            return;
        };
        if !is_bound(&job, task, pod) {
            let (task, steps) = (task.clone(), words(&job.status.clone().unwrap_or_default()));
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
