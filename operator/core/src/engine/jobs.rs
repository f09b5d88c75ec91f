//! From one job to its effects.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use framewright_crds::AIJob;
use framewright_crds::aijob::{AIJobStatus, Attempt, StepState};
use framewright_crds::deletion::{goes_by_itself, kept_by};
use framewright_crds::names::{OwnerKind, TaskId};
use framewright_crds::wire::{self, TaskState};
use jiff::{SignedDuration, Timestamp};
use kube_core::ResourceExt;

use super::Engine;
use super::deadlines::Cause;
use super::effect::{Effect, Log, Request, StatusWrite};
use super::event::Now;
use super::files::Doubt;
use super::term::{Object, Open, PodCheck, Term, Urgency};
use super::world::{Finished, Job, World};
use crate::jobs::plan::notes::Note;
use crate::jobs::plan::orders::{Addressed, Order};
use crate::jobs::plan::{self, Plan, attempt, is_finished, presence, resolve};
use crate::jobs::seen::{Binding, Ended, Observed, Presence, StepSeen};
use crate::links::{Place, Signer};
use crate::names::{JobName, ObjectName, WorkerRef};
use crate::pools::pod as pods;
use crate::uploads::{is_renewal_due, renewal};

/// How long a worker's links live; it asks for new ones when it needs them longer.
const LINK_LIFE: SignedDuration = SignedDuration::from_hours(6);
/// How long the API server's word that a pod is there is believed, while no watch shows the pod.
const POD_BELIEVED: Duration = Duration::from_secs(2);

impl Engine {
    /// Decides about one job.
    pub(super) fn decide_job(&mut self, name: &JobName, now: Now, effects: &mut Vec<Effect>) {
        let Some(term) = &mut self.term else {
            return;
        };
        let Some(entry) = self.world.job(name) else {
            return;
        };
        let uid = entry.uid().to_owned();
        if term
            .jobs
            .get(&uid)
            .is_some_and(|state| state.request.is_some())
        {
            return;
        }
        let cause = || Cause::Job(name.clone());
        if let Some(until) = term
            .jobs
            .get(&uid)
            .and_then(|state| state.backoff.waits(now.monotonic))
        {
            return term.deadlines.set(cause(), until);
        }
        if term.jobs.get(&uid).is_some_and(|state| state.is_unknown) {
            return self.read_job(name, &uid, effects);
        }
        let job = match entry {
            Job::Live(job) => Arc::clone(job),
            Job::Finished(finished) => match Self::finished(term, finished, name, now) {
                Step::Nothing => return,
                Step::Read => return self.read_job(name, &uid, effects),
                Step::Decide(job) => job,
            },
            Job::Unreadable { .. } => return,
        };
        if goes_by_itself(&job.metadata) {
            return;
        }
        let Some((seen, plan)) = self.plan_job(name, &job, now, effects) else {
            return;
        };
        let is_confirmed = self
            .term
            .as_ref()
            .is_some_and(|term| term.jobs.get(&uid).is_some_and(|state| state.is_confirmed));
        if !plan.orders.is_empty() && !is_confirmed {
            return self.read_job(name, &uid, effects);
        }
        for order in &plan.orders {
            self.command(&seen, order, effects);
        }
        let Some(term) = &mut self.term else {
            return;
        };
        if plan.delete {
            return self.delete_job(name, &job, effects);
        }
        let place = place(&seen);
        let doubt = Doubt {
            worker: seen.held.iter().any(|held| held.store_trouble.is_some()),
            renewal: seen.renew_links.clone().filter(|asked| {
                is_renewal_due(Some(asked), seen.status.links_renewed_for.as_deref())
            }),
        };
        if is_finished(&plan.status) {
            term.files.forget(&uid, effects);
        } else {
            term.files
                .watch(&place, &plan.status.uploads, doubt, effects);
        }
        let object = Object::Job(name.clone());
        if job.status.as_ref() == Some(&plan.status) {
            term.writes.clear(&object);
            if let Some(state) = term.jobs.get_mut(&uid) {
                state.fresh = None;
                state.sent = None;
            }
        } else if is_pruned(term, &uid, &plan.status) {
            // A CRD of another version drops fields. To write them again would change nothing, for ever.
            term.writes.clear(&object);
        } else {
            term.writes.due(object, urgency(&seen.status, &plan.status));
        }
        match plan
            .look_again
            .and_then(|wait| Duration::try_from(wait).ok())
        {
            Some(wait) => term
                .deadlines
                .set(cause(), now.monotonic.saturating_add(wait)),
            None => term.deadlines.clear(&cause()),
        }
    }

    /// What is to be done about a job that is over: its tasks are settled, its links are renewed, and it is deleted in time.
    fn finished(term: &mut Term, finished: &Finished, name: &JobName, now: Now) -> Step {
        let Finished {
            uid,
            version: _,
            deleted_at,
            is_renewal_due,
            is_leaving,
        } = finished;
        term.writes.clear(&Object::Job(name.clone()));
        if let Some(fresh) = term.jobs.get(uid).and_then(|state| state.fresh.clone()) {
            return Step::Decide(fresh);
        }
        let held = term.sessions.held_by(uid);
        if !held.is_empty() && !term.jobs.get(uid).is_some_and(|state| state.is_confirmed) {
            return Step::Read;
        }
        for held in held {
            let order = match held.state {
                TaskState::Finished { .. } => wire::Order::Settled {
                    task: held.task.clone(),
                },
                TaskState::Starting | TaskState::Running { .. } | TaskState::Uploading { .. } => {
                    wire::Order::Cancel {
                        task: held.task.clone(),
                    }
                }
            };
            if term.sessions.send(&held.worker.uid, order) {
                term.sessions.forget(&held.worker.uid, &held.task, now.wall);
                term.dirty.worker(&held.worker.uid);
            }
        }
        let cause = Cause::Job(name.clone());
        let left = deleted_at
            .filter(|_| !is_leaving)
            .map(|at| at.duration_since(now.wall));
        if *is_renewal_due || left.is_some_and(|left| !left.is_positive()) {
            return Step::Read;
        }
        match left.and_then(|left| Duration::try_from(left).ok()) {
            Some(left) => term
                .deadlines
                .set(cause, now.monotonic.saturating_add(left)),
            None => term.deadlines.clear(&cause),
        }
        term.jobs.remove(uid);
        Step::Nothing
    }

    /// The write of a job's status, if there still is something to write.
    pub(super) fn write_job(&mut self, name: &JobName, now: Now) -> Option<StatusWrite> {
        let term = self.term.as_mut()?;
        let entry = self.world.job(name)?;
        let uid = entry.uid().to_owned();
        let state = term.jobs.entry(uid.clone()).or_default();
        if state.request.is_some()
            || state.is_unknown
            || state.backoff.waits(now.monotonic).is_some()
        {
            return None;
        }
        let job = match entry {
            Job::Live(job) => Arc::clone(job),
            Job::Finished(_) => state.fresh.clone()?,
            Job::Unreadable { .. } => return None,
        };
        if goes_by_itself(&job.metadata) {
            return None;
        }
        let mut effects = Vec::new();
        let planned = self.plan_job(name, &job, now, &mut effects);
        self.outbox.append(&mut effects);
        let (_, plan) = planned?;
        let is_new = job.status.as_ref() != Some(&plan.status);
        if plan.delete
            || !is_new
            || self
                .term
                .as_ref()
                .is_some_and(|term| is_pruned(term, &uid, &plan.status))
        {
            return None;
        }
        let id = self.request_id();
        let term = self.term.as_mut()?;
        let state = term.jobs.entry(uid.clone()).or_default();
        state.request = Some(id);
        let wanted = AIJob {
            status: Some(plan.status.clone()),
            ..(*job).clone()
        };
        let open = Open::WriteJob {
            name: name.clone(),
            uid,
            before: job,
            wanted: Box::new(plan.status),
            notes: plan.notes,
        };
        term.requests.insert(id, open);
        Some(StatusWrite {
            id,
            epoch: term.epoch,
            request: Request::WriteJob(Box::new(wanted)),
        })
    }

    /// What is known about a job, and its plan. A panic costs this object an Event, and leaves it alone until it changes.
    fn plan_job(
        &mut self,
        name: &JobName,
        job: &AIJob,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Option<(Observed, Plan)> {
        let term = self.term.as_mut()?;
        let uid = job.uid().unwrap_or_default();
        let version = job.resource_version();
        if version.is_some()
            && term
                .jobs
                .get(&uid)
                .is_some_and(|state| state.panicked == version)
        {
            return None;
        }
        let asked = missing_pods(&self.world, term, job, now);
        for worker in asked {
            self.check_pod(worker, effects);
        }
        let term = self.term.as_mut()?;
        let (world, settings) = (&self.world, &self.settings);
        let decided = catch_unwind(AssertUnwindSafe(|| {
            let seen = snapshot(world, term, &settings.catalog, job, now);
            let plan = plan::plan(&seen, settings.signer.as_ref());
            (seen, plan)
        }));
        match decided {
            Ok(decided) => Some(decided),
            Err(panic) => {
                let error = panic_message(&*panic);
                term.jobs.entry(uid.clone()).or_default().panicked = version.clone();
                let version = version.unwrap_or_default();
                panicked(OwnerKind::AIJobs, (name, uid, version), error, effects);
                None
            }
        }
    }

    fn read_job(&mut self, name: &JobName, uid: &str, effects: &mut Vec<Effect>) {
        let id = self.request_id();
        let Some(term) = &mut self.term else {
            return;
        };
        term.jobs.entry(uid.to_owned()).or_default().request = Some(id);
        let open = Open::ReadJob {
            name: name.clone(),
            uid: uid.to_owned(),
        };
        term.requests.insert(id, open);
        effects.push(Effect::Request {
            id,
            epoch: term.epoch,
            request: Request::ReadJob(name.clone()),
        });
    }

    fn delete_job(&mut self, name: &JobName, job: &AIJob, effects: &mut Vec<Effect>) {
        let id = self.request_id();
        let Some(term) = &mut self.term else {
            return;
        };
        let uid = job.uid().unwrap_or_default();
        term.jobs.entry(uid.clone()).or_default().request = Some(id);
        let open = Open::DeleteJob {
            name: name.clone(),
            uid: uid.clone(),
        };
        term.requests.insert(id, open);
        effects.push(Effect::Request {
            id,
            epoch: term.epoch,
            request: Request::DeleteJob {
                name: name.clone(),
                uid,
                version: job.resource_version().unwrap_or_default(),
            },
        });
    }

    /// A cache that does not show a pod proves nothing: the API server itself says whether it is gone.
    fn check_pod(&mut self, worker: WorkerRef, effects: &mut Vec<Effect>) {
        let id = self.request_id();
        let Some(term) = &mut self.term else {
            return;
        };
        let WorkerRef {
            namespace,
            name,
            uid,
        } = worker;
        term.pod_checks.insert(uid.clone(), PodCheck::Asked);
        term.requests.insert(id, Open::CheckPod { worker_uid: uid });
        effects.push(Effect::Request {
            id,
            epoch: term.epoch,
            request: Request::ReadPodMetadata { namespace, name },
        });
    }

    /// Gives one command to its worker.
    fn command(&mut self, seen: &Observed, addressed: &Addressed, effects: &mut Vec<Effect>) {
        let Some(term) = &mut self.term else {
            return;
        };
        let Addressed { worker, order } = addressed;
        let signer = self.settings.signer.as_ref();
        let place = place(seen);
        match order {
            Order::Run { .. } => {
                let Some(order) = run_order(signer, seen, order) else {
                    return;
                };
                if term.sessions.run(&worker.uid, order, seen.now) == Some(true)
                    && let Some(pool) = term.sessions.pool(&worker.uid).cloned()
                {
                    term.dirty.pool(&pool);
                }
                term.dirty.worker(&worker.uid);
            }
            Order::Upload { task, output } => {
                let expires = seen.now.checked_add(LINK_LIFE).unwrap_or(seen.now);
                match signer.worker_put(&place, output, expires) {
                    Some(url) => {
                        let upload = wire::Order::Upload {
                            task: task.clone(),
                            sha256: output.sha256.clone(),
                            url,
                        };
                        term.sessions.send(&worker.uid, upload);
                    }
                    None => effects.push(Effect::Log(Log::Failed {
                        what: format!("sign a link for the output of task {task}"),
                        error: "its names cannot be part of a key".to_owned(),
                    })),
                }
            }
            Order::Settle { task } => {
                let settled = wire::Order::Settled { task: task.clone() };
                forget(term, worker, task, settled, seen.now);
            }
            Order::Cancel { task } => {
                let cancel = wire::Order::Cancel { task: task.clone() };
                forget(term, worker, task, cancel, seen.now);
            }
        }
    }

    /// Looks up the jobs of tasks that belong to no job which is known here.
    pub(super) fn find_orphans(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Some(term) = &mut self.term else {
            return;
        };
        if !std::mem::take(&mut term.dirty.orphans) {
            return;
        }
        let world = &self.world;
        let orphans = term.sessions.orphans(|uid| world.has_job(uid));
        if orphans.is_empty() {
            return;
        }
        let at = now.monotonic.saturating_add(super::ORPHANS_EVERY);
        term.deadlines.set(Cause::Orphans, at);
        let mut jobs: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for orphan in orphans {
            jobs.entry(orphan.job.clone()).or_default().push(orphan);
        }
        for (job, tasks) in jobs {
            let Some(name) = ObjectName::parse(&job) else {
                continue;
            };
            let Some(term) = &mut self.term else {
                return;
            };
            if !term.orphans.insert(job.clone()) {
                continue;
            }
            self.last_request += 1;
            let id = super::effect::RequestId(self.last_request);
            term.requests.insert(id, Open::Orphans { job, tasks });
            effects.push(Effect::Request {
                id,
                epoch: term.epoch,
                request: Request::ReadJobMetadata(name),
            });
        }
    }
}

/// What is to be done about a job that is over.
enum Step {
    Nothing,
    Read,
    Decide(Arc<AIJob>),
}

/// A worker that is told to forget a task is thought to have; if it has not, its next Hello says so.
pub(super) fn forget(
    term: &mut Term,
    worker: &WorkerRef,
    task: &TaskId,
    order: wire::Order,
    now: Timestamp,
) {
    if term.sessions.send(&worker.uid, order) {
        term.sessions.forget(&worker.uid, task, now);
        term.dirty.worker(&worker.uid);
    }
}

/// An object about which deciding panicked gets an Event.
pub(super) fn panicked(
    kind: OwnerKind,
    (name, uid, version): (&ObjectName, String, String),
    error: String,
    effects: &mut Vec<Effect>,
) {
    effects.push(Effect::Publish {
        kind,
        name: name.clone(),
        uid,
        version,
        note: Note {
            warning: true,
            reason: "OperatorDefect".to_owned(),
            message: format!(
                "the operator has a defect that this object meets, please report it: {error}; the object is left alone until it changes"
            ),
            action: "Reconcile".to_owned(),
        },
    });
    effects.push(Effect::Log(Log::Panicked {
        name: name.clone(),
        error,
    }));
}

pub(super) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("it panicked")
        .to_owned()
}

fn place(seen: &Observed) -> Place<'_> {
    Place {
        namespace: &seen.namespace,
        kind: OwnerKind::AIJobs,
        uid: &seen.uid,
    }
}

/// Whether the API server made another status of this one when it was written last.
fn is_pruned(term: &Term, uid: &str, status: &AIJobStatus) -> bool {
    let state = term.jobs.get(uid);
    state.is_some_and(|state| state.sent.as_deref() == Some(status))
}

/// How urgent it is that a status becomes another one.
fn urgency(old: &AIJobStatus, new: &AIJobStatus) -> Urgency {
    if is_finished(new) {
        return Urgency::Step;
    }
    let is_moved = new.steps.iter().any(|step| {
        let known = old.steps.iter().find(|known| known.name == step.name);
        let made = known.map_or(0, |known| known.attempts_made);
        let was_open = known.is_some_and(|known| attempt::open(known).is_some());
        step.attempts_made != made || was_open != attempt::open(step).is_some()
    });
    if is_moved {
        Urgency::Step
    } else if old.uploads != new.uploads || old.links_renewed_for != new.links_renewed_for {
        Urgency::Links
    } else {
        Urgency::Rest
    }
}

/// All that a plan needs to know about one job.
fn snapshot(world: &World, term: &Term, catalog: &[String], job: &AIJob, now: Now) -> Observed {
    let uid = job.uid().unwrap_or_default();
    let status = job.status.clone().unwrap_or_default();
    let is_over = is_finished(&status);
    let received = if is_over {
        BTreeSet::new()
    } else {
        term.files.received(&uid, &status.uploads)
    };
    let created = job.metadata.creation_timestamp.as_ref();
    Observed {
        namespace: job.namespace().unwrap_or_default(),
        name: job.name_any(),
        generation: job.metadata.generation,
        created: created.map_or(now.wall, |created| created.0),
        spec: job.spec.clone(),
        renew_links: renewal(job.annotations()),
        now: now.wall,
        written_at: term.jobs.get(&uid).and_then(|state| state.written_at),
        received,
        store_trouble: term.files.error().filter(|_| !is_over).cloned(),
        steps: if is_over {
            BTreeMap::new()
        } else {
            steps(world, term, catalog, job, now)
        },
        held: term.sessions.held_by(&uid),
        kept_by: kept_by(&job.metadata),
        uid,
        status,
    }
}

fn steps(
    world: &World,
    term: &Term,
    catalog: &[String],
    job: &AIJob,
    _now: Now,
) -> BTreeMap<String, StepSeen> {
    let uid = job.uid().unwrap_or_default();
    let namespace = job.namespace().unwrap_or_default();
    let known = job.status.as_ref().map_or(&[][..], |status| &status.steps);
    let seen = job.spec.steps.iter().map(|step| {
        let known = known.iter().find(|status| status.name == step.name);
        let is_over = known.is_some_and(|known| known.state.is_terminal());
        if is_over {
            return (step.name.clone(), StepSeen::default());
        }
        let open = known.and_then(attempt::open);
        let (presence, leaves_at, restart) = match open {
            Some(open) => {
                let (presence, leaves_at, restart) = worker(world, term, open);
                (Some(presence), leaves_at, restart)
            }
            None => (None, None, None),
        };
        let placement = term.queue.placement(&uid, &step.name);
        let seen = StepSeen {
            resolution: Some(resolve::resolve(
                &namespace,
                step,
                world.facts(),
                catalog,
                &world.namespaces,
            )),
            binding: placement.map(|placement| Binding {
                worker: placement.worker.clone(),
                pool: placement.pool.clone(),
                weights_digest: placement.weights_digest.clone(),
            }),
            presence,
            leaves_at,
            restart,
            begun_at: open.and_then(|open| {
                let task = attempt::task_id(&uid, &step.name, open.number);
                term.sessions.begun_at(&open.pod_uid, &task)
            }),
        };
        (step.name.clone(), seen)
    });
    seen.collect()
}

/// The worker of an attempt: whether it is there, when its pod ends, if that was asked for, and how its process ended, if it did.
fn worker(
    world: &World,
    term: &Term,
    open: &Attempt,
) -> (Presence, Option<Timestamp>, Option<Ended>) {
    let stream = term.sessions.presence(&open.pod_uid);
    let pod = world.pod(&worker_ref(open));
    let is_gone = pod.is_none()
        && stream != Some(Presence::Connected)
        && term.pod_checks.get(&open.pod_uid) == Some(&PodCheck::Gone);
    let leaves_at = pod.and_then(|pod| pods::leaves_at(pod));
    let restart = pod.and_then(|pod| pods::ended_since(pod, open.bound_at.0));
    let is_leaving = world.is_leaving(&open.pod_uid);
    let presence = presence::presence(
        open,
        stream,
        (!is_gone, is_leaving),
        restart.as_ref(),
        term.since,
    );
    (presence, leaves_at, restart)
}

/// The workers of open attempts whose pods no watch shows, and about which the API server is to be asked.
fn missing_pods(world: &World, term: &Term, job: &AIJob, now: Now) -> Vec<WorkerRef> {
    let steps = job.status.iter().flat_map(|status| &status.steps);
    let open = steps
        .filter(|step| {
            matches!(
                step.state,
                StepState::Starting | StepState::Running | StepState::Queued | StepState::Blocked
            )
        })
        .filter_map(attempt::open);
    open.filter(|open| {
        world.pod(&worker_ref(open)).is_none()
            && term.sessions.presence(&open.pod_uid) != Some(Presence::Connected)
            && match term.pod_checks.get(&open.pod_uid) {
                None => true,
                Some(PodCheck::There { until }) => *until <= now.monotonic,
                Some(PodCheck::Asked | PodCheck::Gone) => false,
            }
    })
    .map(worker_ref)
    .collect()
}

/// Until when a pod that the API server has just shown is thought to be there.
pub(super) fn believed_until(now: Now) -> Duration {
    now.monotonic.saturating_add(POD_BELIEVED)
}

fn worker_ref(open: &Attempt) -> WorkerRef {
    WorkerRef {
        namespace: open.namespace.clone(),
        name: open.worker.clone(),
        uid: open.pod_uid.clone(),
    }
}

/// The order to run a task, with its links signed.
fn run_order(signer: &dyn Signer, seen: &Observed, order: &Order) -> Option<wire::TaskOrder> {
    let Order::Run {
        task,
        model,
        weights_digest,
        pipeline,
        inputs,
    } = order
    else {
        return None;
    };
    let place = place(seen);
    let expires = seen.now.checked_add(LINK_LIFE).ok()?;
    let inputs = inputs
        .iter()
        .map(|input| {
            Some(wire::InputOrder {
                name: input.name.clone(),
                sha256: input.sha256.clone(),
                bytes: input.bytes,
                url: signer.worker_get(&place, (input.role, &input.sha256), expires)?,
            })
        })
        .collect::<Option<Vec<_>>>()?;
    Some(wire::TaskOrder {
        task: task.clone(),
        job: format!("{}/{}", seen.namespace, seen.name),
        model: model.clone(),
        digest: weights_digest.clone(),
        pipeline: pipeline.clone(),
        inputs,
    })
}
