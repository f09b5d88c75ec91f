//! What must hold for each decision and order about a job.

use framewright_core::engine::world::Job;
use framewright_core::jobs::attempt::AWAY_LIMIT;
use framewright_core::jobs::transitions::Transition;
use framewright_core::kubernetes_events::KubernetesEvent;
use framewright_crds::protocol::RunTask;
use jiff::SignedDuration;

use framewright_crds::protocol::TaskState;

use super::statuses::{is_bound, words};
use super::*;
use crate::api::{Labels, name_of};

/// The engine compares kubelets' times with its own: with its clock set back, the end of an earlier process seems to be one since an
/// attempt was bound.
const TAKES_KUBELETS_TIMES: bool = true;

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
                step.name, open.number, open.worker.uid
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
        let pod = &open.worker.uid;
        let Some(&bound_at) = self.ledger.bound_at.get(&task) else {
            return false;
        };
        let started_at = self.ledger.started_at.get(&task).copied();
        if self.ledger.failures.contains(&(task, pod.clone(), cause)) {
            return true;
        }
        let is_late_in_calm = self
            .calm_since()
            .is_some_and(|since| bound_at > since + AFTERMATH);
        let is_late = |then: Millis, limit: i64| self.is_late(index, then, limit);
        match cause {
            Cause::Suspended => job.spec.suspend || self.ledger.suspended.contains(&uid),
            Cause::WorkerLost | Cause::OutOfMemory => {
                self.has_died(pod, bound_at)
                    || (cause == Cause::WorkerLost && self.is_away(index, pod))
            }
            Cause::StartDeadline => {
                !is_late_in_calm && is_late(bound_at, job.spec.start_deadline_seconds)
            }
            Cause::ActiveDeadline => {
                let limit = job.spec.active_deadline_seconds;
                !is_late_in_calm && started_at.is_some_and(|started| is_late(started, limit))
            }
            Cause::Stuck => !is_late_in_calm && is_late(bound_at, 300),
            // It could not fetch.
            Cause::StoreUnavailable => {
                is_late(bound_at, job.spec.start_deadline_seconds)
                    && self.store.was_away_since(bound_at)
            }
            Cause::Unknown => false,
            Cause::WorkerDrained => {
                self.ledger.leaving.contains(pod) && self.has_died(pod, bound_at)
            }
            Cause::InvalidInput
            | Cause::ScratchFull
            | Cause::WeightsFailed
            | Cause::WeightsChanged
            | Cause::DeviceError
            | Cause::Internal => false,
        }
    }

    /// Whether so many seconds have passed since then, of which a status counts whole ones. An operator that started after the clocks were
    /// set cannot know how long ago then was.
    pub(super) fn is_late(&self, index: usize, then: Millis, limit: i64) -> bool {
        let started = self.operators[index].started;
        self.now - then >= 1000 * (limit - 1)
            || self.clocks.have_jumped(then, started)
            || self.clocks.is_between_jumps(then)
    }

    /// Whether a worker's process ended since an attempt was bound to it, in whole seconds.
    pub(super) fn has_died(&self, pod: &str, bound_at: Millis) -> bool {
        let died = self.ledger.deaths.get(pod);
        self.ledger.gone.contains(pod)
            || died.is_some_and(|died| {
                died + 1000 >= bound_at
                    || TAKES_KUBELETS_TIMES && self.clocks.have_jumped(0, self.now)
            })
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

    /// A step runs only where its namespace is let in, as its operator knows pools and namespaces.
    pub(crate) fn placed_in(&mut self, index: usize, namespace: &str, pool: &ObjectName) {
        if pool.namespace == namespace {
            return;
        }
        let world = self.operators[index].engine.world();
        let is_allowed = world.pool(pool).is_some_and(|pool| {
            let labels = world.namespaces.get(namespace);
            labels.is_some_and(|labels| lets_in(pool, labels))
        });
        if !is_allowed || pool.namespace != "fleet" {
            self.blame(|| {
                format!("a step of namespace {namespace} is placed in pool {pool}, which does not let it in")
            });
        }
    }

    /// The bindings that a write is about to make durable.
    pub(crate) fn about_to_bind(&mut self, index: usize, wanted: &AIJob) {
        let name = name_of(wanted);
        let Some(Job::Live(known)) = self.operators[index].engine.world().job(&name) else {
            return;
        };
        let old = known.status.clone().unwrap_or_default();
        let made = |step: &StepStatus| {
            let mut known = old.steps.iter().filter(|known| known.name == step.name);
            known.next().map_or(0, |known| known.attempts_made)
        };
        let steps = wanted.status.iter().flat_map(|status| &status.steps);
        let steps = steps.filter(|step| step.attempts_made > made(step));
        let sessions = self.operators[index]
            .engine
            .term()
            .map(|term| &term.sessions);
        let takes_tasks = |pod: &str| {
            let slots = sessions.and_then(|sessions| sessions.slots(pod, &BTreeSet::new()));
            slots.is_some()
        };
        let unfit = steps
            .clone()
            .filter_map(attempt::open)
            .find(|open| !takes_tasks(&open.worker.uid));
        if let Some(pod) = unfit.map(|open| open.worker.uid.clone()) {
            return self.blame(|| {
                format!(
                    "a step of {name} is bound to {pod}, which is away, or gets no tasks any more"
                )
            });
        }
        let mut bound = steps.clone().filter_map(attempt::open);
        let full = bound.find_map(|open| {
            let tasks = self.fills(&open.worker.uid)?;
            Some((open.worker.uid.clone(), tasks))
        });
        if let Some((pod, tasks)) = full.filter(|_| self.leader() == Some(index)) {
            return self
                .blame(|| format!("a step of {name} is bound to {pod}, which is full: {tasks:?}"));
        }
        let pools: Vec<ObjectName> = steps
            .filter_map(|step| ObjectName::parse(step.pool.as_deref()?))
            .collect();
        for pool in pools {
            self.placed_in(index, &name.namespace, &pool);
        }
    }

    /// An operator publishes an Event. About an object that it cannot read or decide about there is one for each version.
    pub(crate) fn told(&mut self, index: usize, uid: &str, version: &str, event: &KubernetesEvent) {
        let is_defect = event.reason == "OperatorDefect";
        if is_defect && !self.people.was_cursed.contains(uid) {
            self.blame(|| format!("deciding about {uid} panicked: {}", event.message));
        }
        if !is_defect && event.reason != "Unreadable" {
            return;
        }
        let key = (index, uid.to_owned(), version.to_owned(), is_defect);
        if !self.ledger.told.insert(key) {
            self.blame(|| format!("of {uid} is told twice: {}", event.message));
        }
    }

    /// An operator publishes what has changed of a job. Each of its processes counts an end once at most.
    pub(crate) fn job_changed(&mut self, index: usize, uid: &str, transitions: &[Transition]) {
        let is_end = |transition: &Transition| matches!(transition, Transition::Finished { .. });
        if !transitions.iter().any(is_end) {
            return;
        }
        let key = (index, self.operators[index].life, uid.to_owned());
        if !self.ledger.counted.insert(key) {
            self.blame(|| format!("operator {index} counts the end of {uid} twice"));
        }
    }

    // Commands.

    /// An operator sends a task.
    pub(crate) fn ordered(&mut self, index: usize, pod: &str, order: &RunTask) {
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
            Some(Job::Live(job)) => !job.spec.suspend && job.metadata.deletion_timestamp.is_none(),
            Some(Job::Finished(_) | Job::Unreadable { .. }) | None => false,
        };
        if !is_wanted {
            return self.blame(|| {
                format!("task {task} is sent though its job is over, deleted, gone or suspended")
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

    /// The tasks that leave a worker no room for another one, if so. What is stopping takes room until it has stopped.
    fn fills(&self, pod: &str) -> Option<BTreeSet<TaskId>> {
        let worker = self.workers.get(pod)?;
        let held = worker.held().into_iter();
        let alive = held.filter(|report| !matches!(report.state, TaskState::Finished { .. }));
        let mut tasks: BTreeSet<TaskId> = alive.map(|report| report.task).collect();
        tasks.extend(worker.work.keys().cloned());
        (tasks.len() >= worker.slots).then_some(tasks)
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
            .is_some_and(|(epoch, sent_at, when)| {
                let is_own = *epoch == term.epoch && at(*sent_at) >= term.since;
                !is_own && at(*when) >= term.since
            });
        term.epoch == self.highest_epoch && !foreign
    }

    pub(super) fn job(&self, uid: &str) -> Option<std::rc::Rc<AIJob>> {
        let jobs = self.api.jobs.live.values();
        jobs.into_iter()
            .find(|job| job.uid().as_deref() == Some(uid))
            .cloned()
    }
}

/// Whether a pool lets a namespace with these labels in.
pub(super) fn lets_in(pool: &ModelPool, labels: &Labels) -> bool {
    pool.spec.access.iter().flatten().any(|access| {
        let wanted = access.namespaces.selector.match_labels.iter().flatten();
        let mut wanted = wanted.into_iter();
        wanted.all(|(name, value)| labels.get(name) == Some(value))
    })
}
