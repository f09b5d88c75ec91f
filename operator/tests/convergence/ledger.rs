//! What must hold whatever happens: DESIGN's invariants, looked at with each decision, order, write and acceptance.

use std::collections::{BTreeMap, BTreeSet};

use framewright_crds::aijob::{AIJobStatus, Attempt, Cause, StepState, StepStatus};
use framewright_crds::conditions::{get, job, job_reason};
use framewright_crds::names::TaskId;
use framewright_crds::wire::Outcome;
use framewright_crds::{AIJob, ModelPool};
use framewright_operator::jobs::plan::orders::{Addressed, Order};
use framewright_operator::jobs::plan::size::{STATUS_LIMIT, weight};
use framewright_operator::jobs::plan::{Plan, attempt, inputs, is_finished, retry};
use framewright_operator::jobs::seen::{Observed, WorkerRef};
use framewright_operator::pools::plan as pool_plan;
use framewright_operator::pools::seen as pool_seen;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::api::{Millis, at};
use crate::kubelet::phase;
use crate::worker::Stage;
use crate::world::World;

/// A worker may be silent for so long before it counts as lost.
const AWAY: Millis = 20_000;
/// What was on its way when the weather turned calm has ended by then.
const AFTERMATH: Millis = 120_000;
/// A step that could run waits no longer than this beside a free worker.
const STARVES: Millis = 30_000;
/// Looks at a job in a row that are due by time alone and change nothing.
const IDLE_LOOKS: usize = 20;

/// What has happened, as far as the invariants are about it.
#[derive(Default)]
pub(crate) struct Ledger {
    pub violation: Option<String>,
    /// Writes of operators: statuses, and pods made or deleted.
    pub writes: usize,
    /// The pod that each attempt was ever bound to.
    bound: BTreeMap<TaskId, String>,
    /// Who wrote a job's status last, by epoch, and when.
    writer: BTreeMap<String, (u64, Millis)>,
    /// Who made which output.
    outputs: BTreeMap<String, (TaskId, String)>,
    /// How tasks failed on their workers.
    failures: BTreeSet<(TaskId, String, Cause)>,
    deaths: BTreeMap<String, Millis>,
    gone: BTreeSet<String>,
    suspended: BTreeSet<String>,
    /// When the last stream of a pod to an operator ended.
    parted: BTreeMap<(usize, String), Millis>,
    /// How often in a row a job was looked at by time alone, and when it was last.
    idle_looks: BTreeMap<(usize, String), (usize, Millis)>,
    /// Pods made by one who no longer led.
    late_pods: BTreeSet<String>,
    waiting_since: BTreeMap<(String, String), Millis>,
}

impl World {
    // Facts.

    pub(crate) fn made(&mut self, pod: &str, task: &TaskId, sha256: &str) {
        let maker = (task.clone(), pod.to_owned());
        self.ledger.outputs.insert(sha256.to_owned(), maker);
    }

    pub(crate) fn said_over(&mut self, pod: &str, task: &TaskId, outcome: &Outcome) {
        if let Outcome::Failed { cause, .. } = outcome {
            let failure = (task.clone(), pod.to_owned(), *cause);
            self.ledger.failures.insert(failure);
        }
    }

    pub(crate) fn process_over(&mut self, pod: &str) {
        self.ledger.deaths.insert(pod.to_owned(), self.now);
    }

    pub(crate) fn pod_gone(&mut self, pod: &str) {
        self.ledger.gone.insert(pod.to_owned());
    }

    pub(crate) fn suspended(&mut self, name: &str) {
        let uid = self.api.jobs.live.get(name).and_then(|job| job.uid());
        self.ledger.suspended.extend(uid);
    }

    pub(crate) fn parted(&mut self, index: usize, pod: &str) {
        self.ledger.parted.insert((index, pod.to_owned()), self.now);
    }

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

    fn is_founded(
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
                !is_late_in_calm && since(open.bound_at.0) >= seen.spec.pre_running_deadline_seconds
            }
            Cause::ActiveDeadline => {
                !is_late_in_calm
                    && open.started_at.as_ref().is_some_and(|started| {
                        since(started.0) >= seen.spec.active_deadline_seconds
                    })
            }
            Cause::Stuck => !is_late_in_calm && since(open.bound_at.0) >= 300,
            Cause::StoreUnavailable => !is_late_in_calm && since(open.bound_at.0) >= 3600,
            Cause::InvalidInput
            | Cause::WorkerDrained
            | Cause::ScratchFull
            | Cause::WeightsFailed
            | Cause::DeviceError
            | Cause::Internal => false,
        }
    }

    /// Whether a worker's process ended since an attempt was bound to it, in whole seconds.
    fn has_died(&self, pod: &str, open: &Attempt) -> bool {
        let died = self.ledger.deaths.get(pod);
        self.ledger.gone.contains(pod)
            || died.is_some_and(|died| at(died + 1000) >= open.bound_at.0)
    }

    fn is_away(&self, index: usize, pod: &str) -> bool {
        let is_open = self
            .streams
            .values()
            .any(|stream| stream.operator == index && stream.is_heard_from(pod));
        let parted = self.ledger.parted.get(&(index, pod.to_owned()));
        let leads = self.operators[index].term.map(|term| term.since);
        let long = |then: jiff::Timestamp| {
            at(self.now).duration_since(then).as_millis() >= i128::from(AWAY - 1000)
        };
        !is_open && parted.is_none_or(|parted| long(at(*parted))) && leads.is_none_or(long)
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
    fn knows_best(&self, index: usize, uid: &str) -> bool {
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

    fn job(&self, uid: &str) -> Option<std::rc::Rc<AIJob>> {
        let jobs = self.api.jobs.live.values();
        jobs.into_iter()
            .find(|job| job.uid().as_deref() == Some(uid))
            .cloned()
    }

    /// A worker has taken a task that it did not hold.
    pub(crate) fn accepted(&mut self, pod: &str, task: &TaskId) {
        if self.ledger.bound.get(task).map(String::as_str) != Some(pod) {
            return self.blame(|| format!("{pod} takes task {task}, which was never bound to it"));
        }
        let is_held = |stage: &Stage| matches!(stage, Stage::Waiting | Stage::Active(_));
        let elsewhere = self.workers.values().any(|worker| {
            worker.me.uid != pod
                && worker
                    .tasks
                    .iter()
                    .any(|held| held.order.task == *task && is_held(&held.stage))
        });
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
    pub(crate) fn told_to_forget(
        &mut self,
        pod: &str,
        epoch: u64,
        task: &TaskId,
        is_settled: bool,
    ) {
        let holds = self.workers.get(pod).is_some_and(|worker| {
            worker.tasks.iter().any(|held| {
                held.order.task == *task && !matches!(held.stage, Stage::Stopping(None))
            })
        });
        let Some(job) = self.job(&task.job_uid).filter(|_| holds) else {
            return;
        };
        if is_bound(&job, task, pod) {
            let how = if is_settled { "settled" } else { "cancelled" };
            self.blame(|| {
                format!("task {task} on {pod} is {how} (epoch {epoch}), though its attempt is open and its outcome not recorded")
            });
        }
    }

    // Writes.

    /// A job's status has become durable.
    pub(crate) fn durable(&mut self, index: usize, life: u64, before: &AIJob, after: &AIJob) {
        self.ledger.writes += 1;
        let uid = after.uid().unwrap_or_default();
        let name = after.name_any();
        let epoch = self.operators[index]
            .epoch()
            .filter(|_| self.operators[index].life == life)
            .unwrap_or(0);
        self.ledger.writer.insert(uid, (epoch, self.now));
        let (old, new) = (
            before.status.clone().unwrap_or_default(),
            after.status.clone().unwrap_or_default(),
        );
        let version = after.resource_version().unwrap_or_default();
        self.note(|| {
            format!(
                "durable by operator {index}: {name} is {} (version {version})",
                words(&new)
            )
        });
        if weight(&new) > STATUS_LIMIT {
            self.blame(|| format!("the status of {name} weighs {} bytes", weight(&new)));
        }
        if is_finished(&old) && story_of(&old) != story_of(&new) {
            self.blame(|| {
                format!(
                    "job {name} was over ({}), and is now {}",
                    story_of(&old),
                    story_of(&new)
                )
            });
        }
        for step in &new.steps {
            let known = old.steps.iter().find(|known| known.name == step.name);
            self.step_written(after, known, step);
        }
        if is_finished(&new) && !is_finished(&old) {
            self.job_over(after, &new);
        }
    }

    fn step_written(&mut self, job: &AIJob, old: Option<&StepStatus>, new: &StepStatus) {
        let uid = job.uid().unwrap_or_default();
        let name = format!("step {} of {}", new.name, job.name_any());
        let made = old.map_or(0, |old| old.attempts_made);
        if let Some(old) = old.filter(|old| old.state.is_terminal())
            && (old.state, &old.output, old.attempts_made, old.failures)
                != (new.state, &new.output, new.attempts_made, new.failures)
        {
            return self
                .blame(|| format!("{name} was {:?}, and is now {:?}", old.state, new.state));
        }
        let failures = old.map_or(0, |old| old.failures);
        if new.attempts_made < made || new.failures < failures || new.failures > new.attempts_made {
            return self.blame(|| {
                format!(
                    "{name} had {made} attempts and {failures} failures, and now {} and {}",
                    new.attempts_made, new.failures
                )
            });
        }
        if new.attempts_made > made {
            self.step_bound(job, &uid, &name, old, new);
        }
        if new.state == StepState::Succeeded && old.is_none_or(|old| old.state != new.state) {
            self.step_succeeded(&uid, &name, new);
        }
    }

    fn step_bound(
        &mut self,
        job: &AIJob,
        uid: &str,
        name: &str,
        old: Option<&StepStatus>,
        new: &StepStatus,
    ) {
        let Some(open) = attempt::open(new).filter(|open| open.number == new.attempts_made) else {
            return self.blame(|| format!("{name}: a new attempt that is not open"));
        };
        if job.spec.suspend {
            self.blame(|| format!("{name} is bound while its job is suspended"));
        }
        if let Some(before) = old.and_then(attempt::open) {
            let number = before.number;
            let is_closed = new
                .attempts
                .iter()
                .any(|other| other.number == number && other.finished_at.is_some());
            if !is_closed {
                self.blame(|| format!("{name}: attempt {number} is open beside a newer one"));
            }
        }
        let task = attempt::task_id(uid, &new.name, open.number);
        let pod = open.pod_uid.clone();
        if let Some(other) = self.ledger.bound.insert(task.clone(), pod.clone())
            && other != pod
        {
            self.blame(|| format!("{task} was bound to {other}, and now to {pod}"));
        }
    }

    fn step_succeeded(&mut self, uid: &str, name: &str, step: &StepStatus) {
        let Some(output) = &step.output else {
            return self.blame(|| format!("{name} succeeded without an output"));
        };
        let sha256 = inputs::sha256_of(output);
        let last = step.attempts.last();
        let expected = last.map(|last| {
            let task = attempt::task_id(uid, &step.name, last.number);
            (task, last.pod_uid.clone())
        });
        if self.ledger.outputs.get(sha256) != expected.as_ref() {
            let maker = self.ledger.outputs.get(sha256).cloned();
            self.blame(|| {
                format!("{name} takes an output of {maker:?}, but {expected:?} is bound")
            });
        }
        if !self.store.has(uid, sha256) {
            self.blame(|| format!("{name} takes an output that is not in the store"));
        }
    }

    /// A job that fails has a reason that the world confirms.
    fn job_over(&mut self, over: &AIJob, status: &AIJobStatus) {
        let name = over.name_any();
        let uid = over.uid().unwrap_or_default();
        let told = get(&status.conditions, job::SUCCEEDED).cloned();
        let Some(told) = told.filter(|told| told.status == "False") else {
            let all = status
                .steps
                .iter()
                .all(|step| step.state == StepState::Succeeded);
            if !all || status.steps.len() != over.spec.steps.len() {
                self.blame(|| format!("{name} succeeded, but: {}", words(status)));
            }
            return;
        };
        let failed = status
            .steps
            .iter()
            .find(|step| step.state == StepState::Failed);
        let is_founded = match (told.reason.as_str(), failed) {
            (job_reason::INVALID_INPUT, Some(_)) => self.people.has_bad_step(&uid),
            (job_reason::BACKOFF_LIMIT_EXCEEDED, Some(step)) => {
                step.failures == over.spec.backoff_limit + 1
            }
            (job_reason::QUEUE_DEADLINE_EXCEEDED, Some(step)) => {
                let limit = over.spec.queue_deadline_seconds;
                let created = over.metadata.creation_timestamp.as_ref().map(|time| time.0);
                let since = step.queued_at.as_ref().map(|time| time.0).or(created);
                since.is_some_and(|since| at(self.now).duration_since(since).as_secs() >= limit)
            }
            _ => false,
        };
        if !is_founded {
            self.blame(|| {
                format!(
                    "{name} failed with {}: {}, but: {}",
                    told.reason,
                    told.message,
                    words(status)
                )
            });
        }
    }

    // Pods.

    pub(crate) fn pool_decided(
        &mut self,
        index: usize,
        seen: &pool_seen::Observed,
        plan: &pool_plan::Plan,
    ) {
        let name = seen.name.clone();
        if plan.look_again.is_none() {
            self.blame(|| format!("pool {name} is never looked at again"));
        }
        let names = |workers: &[WorkerRef]| -> Vec<String> {
            workers.iter().map(|worker| worker.uid.clone()).collect()
        };
        self.note(|| {
            let pods: Vec<String> = seen.pods.iter().map(|pod| format!("{} {:?} {:?}", pod.worker.uid, pod.phase, pod.stream.as_ref().map(|stream| stream.tasks))).collect();
            format!(
                "operator {index} looks at {name} of {} ({}): makes {:?}, drains {:?}, deletes {:?}",
                seen.spec.replicas, pods.join(", "), plan.create, names(&plan.drain), names(&plan.delete)
            )
        });
    }

    pub(crate) fn pool_written(&mut self, index: usize, pool: &ModelPool) {
        self.ledger.writes += 1;
        let name = pool.name_any();
        self.note(|| format!("durable by operator {index}: pool {name}"));
    }

    /// A leader never has more pods than the pool asks for. Those that end are not counted, nor those that one made at the same time
    /// who no longer leads and does not know it yet.
    pub(crate) fn pod_made(&mut self, index: usize, made: &Pod, pool: &ModelPool) {
        self.ledger.writes += 1;
        let is_alive = |pod: &&std::rc::Rc<Pod>| {
            pod.metadata.deletion_timestamp.is_none() && phase(pod) != Some("Failed")
        };
        if self.leader() != Some(index) {
            self.ledger.late_pods.extend(made.uid());
            return;
        }
        let owners = made.owner_references().to_vec();
        let alive = self
            .api
            .pods
            .live
            .values()
            .filter(|pod| pod.owner_references() == owners.as_slice())
            .filter(is_alive)
            .filter(|pod| {
                !pod.uid()
                    .is_some_and(|uid| self.ledger.late_pods.contains(&uid))
            })
            .count();
        let wanted = usize::try_from(pool.spec.replicas).unwrap_or(0);
        if alive > wanted {
            let name = pool.name_any();
            self.blame(|| format!("pool {name} of {wanted} has {alive} pods"));
        }
    }

    /// A leader deletes no pod whose worker works on something. What is bound and was never sent is bound anew elsewhere.
    pub(crate) fn pod_given_up(&mut self, index: usize, worker: &WorkerRef) {
        self.ledger.writes += 1;
        let works = self
            .workers
            .get(&worker.uid)
            .is_some_and(|worker| worker.is_up && !worker.is_draining && !worker.tasks.is_empty());
        if !works || self.leader() != Some(index) {
            return;
        }
        let jobs = self.api.jobs.live.values();
        let busy = jobs
            .flat_map(|job| job.status.iter().flat_map(|status| &status.steps))
            .filter_map(attempt::open)
            .find(|open| open.pod_uid == worker.uid)
            .map(|open| open.number);
        if let Some(number) = busy {
            let uid = worker.uid.clone();
            self.blame(|| format!("the pod of worker {uid} is deleted while attempt {number} of a step is open on it"));
        }
    }

    // The end.

    /// What keeps the world from being settled.
    pub(crate) fn unsettled(&self) -> Option<String> {
        for job in self.api.jobs.live.values() {
            let status = job.status.clone().unwrap_or_default();
            let is_at_rest = job.spec.suspend
                && !status.steps.is_empty()
                && status
                    .steps
                    .iter()
                    .all(|step| attempt::open(step).is_none());
            if !is_finished(&status) && !is_at_rest {
                return Some(format!("job {}: {}", job.name_any(), words(&status)));
            }
        }
        for worker in self.workers.values() {
            if let Some(task) = worker.tasks.first() {
                return Some(format!(
                    "worker {} holds {}",
                    worker.me.uid, task.order.task
                ));
            }
        }
        let Some(leader) = self.leader() else {
            return Some("nobody leads".to_owned());
        };
        let placed = self.operators[leader].placements.snapshot();
        if !placed.is_empty() {
            return Some(format!("placements are left: {placed:?}"));
        }
        for pool in self.api.pools.live.values() {
            let ready = pool
                .status
                .as_ref()
                .map_or(0, |status| status.ready_replicas);
            let alive = pool.status.as_ref().map_or(0, |status| status.replicas);
            if ready != pool.spec.replicas || alive != pool.spec.replicas {
                return Some(format!(
                    "pool {}: {ready} of {alive} pods ready, {} wanted",
                    pool.name_any(),
                    pool.spec.replicas
                ));
            }
        }
        None
    }

    /// In calm weather nothing that could run waits for long beside a free worker.
    pub(crate) fn look_for_the_starving(&mut self) {
        let mut waiting = BTreeMap::new();
        let jobs: Vec<_> = self.api.jobs.live.values().cloned().collect();
        for job in jobs.iter().filter(|job| !job.spec.suspend) {
            let status = job.status.clone().unwrap_or_default();
            let uid = job.uid().unwrap_or_default();
            for step in status
                .steps
                .iter()
                .filter(|step| step.state == StepState::Queued)
            {
                let is_due = retry::not_before(step).is_none_or(|due| due <= at(self.now));
                let model = job
                    .spec
                    .steps
                    .iter()
                    .find(|spec| spec.name == step.name)
                    .map(|spec| spec.model.clone())
                    .unwrap_or_default();
                let is_room = self
                    .workers
                    .values()
                    .any(|worker| worker.is_free(&model) && self.is_kept(&worker.me));
                if is_due && is_room {
                    let key = (uid.clone(), step.name.clone());
                    let since = self
                        .ledger
                        .waiting_since
                        .get(&key)
                        .copied()
                        .unwrap_or(self.now);
                    waiting.insert(key, since);
                }
            }
        }
        let starving = waiting
            .iter()
            .find(|(_, since)| self.now - **since > STARVES);
        if let Some(((uid, step), _)) = starving {
            let told = format!("step {step} of {uid} waits beside a free worker");
            self.blame(|| told);
        }
        self.ledger.waiting_since = waiting;
    }

    fn is_kept(&self, worker: &WorkerRef) -> bool {
        let pod = self.api.pods.live.get(&worker.name);
        pod.is_some_and(|pod| pod.metadata.deletion_timestamp.is_none())
    }
}

/// Whether the status says that this attempt is open on this pod.
fn is_bound(job: &AIJob, task: &TaskId, pod: &str) -> bool {
    let steps = job.status.iter().flat_map(|status| &status.steps);
    steps
        .filter(|step| step.name == task.step && !step.state.is_terminal())
        .filter_map(attempt::open)
        .any(|open| open.number == task.attempt && open.pod_uid == pod)
}

/// What a terminal job must keep.
fn story_of(status: &AIJobStatus) -> String {
    let told = |type_| {
        let condition = get(&status.conditions, type_);
        condition.map(|condition| (condition.status.clone(), condition.reason.clone()))
    };
    format!(
        "{:?} {:?} {:?}",
        told(job::SUCCEEDED),
        told(job::FINISHED),
        status.finished_at
    )
}

/// A status in short.
fn words(status: &AIJobStatus) -> String {
    let steps = status.steps.iter().map(|step| {
        let last = step.attempts.last().map(|last| {
            let end = match (&last.finished_at, last.cause) {
                (None, _) if last.started_at.is_some() => " started".to_owned(),
                (None, _) => String::new(),
                (Some(_), None) => " done".to_owned(),
                (Some(_), Some(cause)) => format!(" {cause:?}"),
            };
            format!(" #{} {}{end}", last.number, last.pod_uid)
        });
        format!("{} {:?}{}", step.name, step.state, last.unwrap_or_default())
    });
    format!("[{}]", steps.collect::<Vec<_>>().join(", "))
}
