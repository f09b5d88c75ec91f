//! From one job to its effects.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use framewright_crds::AIJob;
use framewright_crds::aijob::{AIJobStatus, StepState};
use framewright_crds::deletion::goes_by_itself;
use framewright_crds::names::{ArtifactRole, OwnerKind, TaskId, bare};
use framewright_crds::protocol::{self, TaskState};
use jiff::Timestamp;
use kube_core::ResourceExt;

use super::Engine;
use super::deadlines::Cause;
use super::guard::{guarded, report};
use super::interface::{Effect, Log, Now, Request, StatusWrite};
use super::store_files::Doubt;
use super::term::{Object, Open, PodCheck, Term, Urgency};
use super::world::{Finished, Job, World, version};
use crate::clock::Jumps;
use crate::jobs::attempt;
use crate::jobs::commands::{Addressed, Command};
use crate::jobs::plan::{self, Outcome, Plan, is_finished};
use crate::jobs::snapshot::{self, Presence, Snapshot};
use crate::links::{Signer, WORKER_LINK_LIFE, is_renewal_due};
use crate::names::{JobName, ObjectName, WorkerRef};

/// Jobs of orphaned tasks that are read at a time: a worker may invent many.
const ORPHANS_AT_A_TIME: usize = 16;
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
            Job::Finished(finished) => {
                match Self::finished(term, finished, name, (now, self.clock.jumps())) {
                    Step::Nothing => return,
                    Step::Read => return self.read_job(name, &uid, effects),
                    Step::Decide(job) => job,
                }
            }
            Job::Unreadable { .. } => return,
        };
        if goes_by_itself(&job.metadata) {
            return;
        }
        let Some((snapshot, plan)) = self.plan_job(name, &job, now, effects) else {
            return;
        };
        let is_confirmed = self
            .term
            .as_ref()
            .is_some_and(|term| term.jobs.get(&uid).is_some_and(|state| state.is_confirmed));
        if (!plan.commands.is_empty() || plan.outcome.is_some()) && !is_confirmed {
            return self.read_job(name, &uid, effects);
        }
        let is_unreadable = self.world.is_unreadable(&uid);
        // A command is signed before anything is changed, so that a panic leaves nothing half done.
        let given = guarded(|| {
            for addressed in &plan.commands {
                // The outcome of a task that starts now could not be written.
                if !(is_unreadable && matches!(addressed.command, Command::Run { .. })) {
                    self.command(&snapshot, addressed, effects);
                }
            }
        });
        let Some(term) = &mut self.term else {
            return;
        };
        if let Err(error) = given {
            let version = job.resource_version();
            term.jobs.entry(uid.clone()).or_default().panicked = version.clone();
            term.dirty.gather.insert(name.clone());
            let version = version.unwrap_or_default();
            return report(OwnerKind::AIJobs, (name, uid, version), error, effects);
        }
        // On top of the version that is known nothing can be written.
        if is_unreadable {
            term.writes.clear(&Object::Job(name.clone()));
            return term.deadlines.clear(&cause());
        }
        if plan.delete {
            return self.delete_job(name, &job, effects);
        }
        if let Some(outcome) = plan.outcome {
            return self.write_outcome(name, uid, outcome, effects);
        }
        let place = snapshot.place();
        let doubt = Doubt {
            worker: snapshot.held.iter().any(|held| held.store_error.is_some()),
            renewal: snapshot.renew_links.clone().filter(|asked| {
                is_renewal_due(Some(asked), snapshot.status.links_renewed_for.as_deref())
            }),
        };
        if is_finished(&plan.status) {
            term.files.forget(&uid, effects);
        } else {
            term.files.watch(&place, &plan.status.files, doubt, effects);
        }
        let object = Object::Job(name.clone());
        if job.status.as_ref() == Some(&plan.status) {
            term.writes.clear(&object);
            if let Some(state) = term.jobs.get_mut(&uid) {
                state.fresh = None;
            }
        } else if is_pruned(term, &uid, &job, &plan.status) {
            // A CRD of another version drops fields. To write them again would change nothing.
            term.writes.clear(&object);
        } else {
            let urgency = urgency(&snapshot.status, &plan.status);
            // One whose reason to wait has changed has its turn: many are not written at once.
            if urgency != Urgency::Rest || !term.waiting.contains_key(name) {
                term.writes.due(object, urgency);
            }
        }
        match plan
            .requeue_after
            .and_then(|wait| Duration::try_from(wait).ok())
        {
            Some(wait) => term
                .deadlines
                .set(cause(), now.monotonic.saturating_add(wait)),
            None => term.deadlines.clear(&cause()),
        }
    }

    /// What is to be done about a job that is over: its tasks are acknowledged, its links are renewed, and it is deleted in time.
    fn finished(
        term: &mut Term,
        finished: &Finished,
        name: &JobName,
        (now, jumps): (Now, &Jumps),
    ) -> Step {
        let Finished {
            uid,
            version: newest,
            finished_at,
            ttl,
            is_renewal_due,
            is_leaving,
        } = finished;
        term.writes.clear(&Object::Job(name.clone()));
        if let Some(fresh) = term.jobs.get(uid).and_then(|state| state.fresh.clone())
            && version(&*fresh) >= *newest
        {
            return Step::Decide(fresh);
        }
        let held = term.sessions.held_by(uid);
        if !held.is_empty() && !term.jobs.get(uid).is_some_and(|state| state.is_confirmed) {
            return Step::Read;
        }
        for held in held {
            match held.state {
                TaskState::Finished { .. } => ack(term, &held.worker, &held.task, now.wall),
                TaskState::Starting
                | TaskState::Prepared { .. }
                | TaskState::Running { .. }
                | TaskState::Uploading { .. } => cancel(term, &held.worker, &held.task, now.wall),
                TaskState::Stopping => {}
            }
        }
        let cause = Cause::Job(name.clone());
        let left = finished_at
            .filter(|_| !is_leaving)
            .and_then(|finished| plan::time_left(finished, *ttl, (now.wall, jumps)));
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
            || self.world.is_unreadable(&uid)
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
            || plan.outcome.is_some()
            || !is_new
            || self
                .term
                .as_ref()
                .is_some_and(|term| is_pruned(term, &uid, &job, &plan.status))
        {
            return None;
        }
        let wanted = AIJob {
            status: Some(plan.status.clone()),
            ..(*job).clone()
        };
        let open = Open::WriteJob {
            name: name.clone(),
            uid,
            before: job,
            wanted: Box::new(plan.status),
        };
        let (id, epoch) = self.open_request(open)?;
        Some(StatusWrite {
            id,
            epoch,
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
    ) -> Option<(Snapshot, Plan)> {
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
        let (world, settings, jumps) = (&self.world, &self.settings, self.clock.jumps());
        let decided = guarded(|| {
            let snapshot = snapshot::take(world, term, settings, job, (now, jumps));
            let plan = plan::plan(&snapshot, settings.signer.as_ref());
            (snapshot, plan)
        });
        match decided {
            Ok(decided) => Some(decided),
            Err(error) => {
                term.jobs.entry(uid.clone()).or_default().panicked = version.clone();
                term.dirty.gather.insert(name.clone());
                let version = version.unwrap_or_default();
                report(OwnerKind::AIJobs, (name, uid, version), error, effects);
                None
            }
        }
    }

    fn read_job(&mut self, name: &JobName, uid: &str, effects: &mut Vec<Effect>) {
        let open = Open::ReadJob {
            name: name.clone(),
            uid: uid.to_owned(),
            known: self.world.job(name).map_or(0, Job::version),
        };
        self.request(open, Request::ReadJob(name.clone()), effects);
    }

    fn write_outcome(
        &mut self,
        name: &JobName,
        uid: String,
        outcome: Outcome,
        effects: &mut Vec<Effect>,
    ) {
        let open = Open::WriteOutcome {
            name: name.clone(),
            uid: uid.clone(),
            outcome: outcome.clone(),
        };
        let request = Request::WriteOutcome {
            name: name.clone(),
            uid,
            outcome,
        };
        self.request(open, request, effects);
    }

    fn delete_job(&mut self, name: &JobName, job: &AIJob, effects: &mut Vec<Effect>) {
        let uid = job.uid().unwrap_or_default();
        let open = Open::DeleteJob {
            name: name.clone(),
            uid: uid.clone(),
            version: version(job),
        };
        let request = Request::DeleteJob {
            name: name.clone(),
            uid,
            version: job.resource_version().unwrap_or_default(),
        };
        self.request(open, request, effects);
    }

    /// A cache that does not show a pod proves nothing: the API server itself says whether it is gone.
    fn check_pod(&mut self, worker: WorkerRef, effects: &mut Vec<Effect>) {
        let WorkerRef {
            namespace,
            name,
            uid,
        } = worker;
        let open = Open::CheckPod { worker_uid: uid };
        self.request(open, Request::ReadPodMetadata { namespace, name }, effects);
    }

    /// Gives one command to its worker.
    fn command(&mut self, snapshot: &Snapshot, addressed: &Addressed, effects: &mut Vec<Effect>) {
        let Some(term) = &mut self.term else {
            return;
        };
        let Addressed { worker, command } = addressed;
        let signer = self.settings.signer.as_ref();
        let place = snapshot.place();
        match command {
            Command::Run { .. } => {
                let Some(run) = run_task(signer, snapshot, command) else {
                    return;
                };
                if term.sessions.run(&worker.uid, run, snapshot.now) == Some(true)
                    && let Some(pool) = term.sessions.pool(&worker.uid).cloned()
                {
                    term.dirty.pool(&pool);
                }
                term.dirty.worker(&worker.uid);
            }
            Command::Upload { task, outputs } => {
                let expires = snapshot
                    .now
                    .checked_add(WORKER_LINK_LIFE)
                    .unwrap_or(snapshot.now);
                for output in outputs {
                    match signer.worker_put(&place, output, expires) {
                        Some(url) => {
                            let upload = protocol::Command::Upload {
                                task: task.clone(),
                                role: ArtifactRole::Output,
                                name: output.name.clone(),
                                digest: output.digest.clone(),
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
            }
            Command::Proceed { task } => {
                let proceed = protocol::Command::Proceed { task: task.clone() };
                term.sessions.send(&worker.uid, proceed);
            }
            Command::Ack { task } => ack(term, worker, task, snapshot.now),
            Command::Cancel { task } => cancel(term, worker, task, snapshot.now),
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
        // The others' turn comes with the next round.
        for (job, tasks) in jobs.into_iter().take(ORPHANS_AT_A_TIME) {
            let Some(name) = ObjectName::parse(&job) else {
                continue;
            };
            let Some(term) = &mut self.term else {
                return;
            };
            if !term.orphans.insert(job.clone()) {
                continue;
            }
            let open = Open::Orphans { job, tasks };
            self.request(open, Request::ReadJobMetadata(name), effects);
        }
    }
}

/// What is to be done about a job that is over.
enum Step {
    Nothing,
    Read,
    Decide(Arc<AIJob>),
}

/// Tells a worker that the outcome of a task is recorded. It is thought to have forgotten the task; if not, its next Hello says so.
fn ack(term: &mut Term, worker: &WorkerRef, task: &TaskId, now: Timestamp) {
    let ack = protocol::Command::Ack { task: task.clone() };
    if term.sessions.send(&worker.uid, ack) {
        term.sessions.forget(&worker.uid, task, now);
        term.dirty.worker(&worker.uid);
    }
}

/// Tells a worker to stop a task.
pub(super) fn cancel(term: &mut Term, worker: &WorkerRef, task: &TaskId, now: Timestamp) {
    let cancel = protocol::Command::Cancel { task: task.clone() };
    if term.sessions.send(&worker.uid, cancel) {
        term.sessions.stopping(&worker.uid, task, now);
        term.dirty.worker(&worker.uid);
    }
}

/// Whether the API server made the present status of this one when it was written last.
fn is_pruned(term: &Term, uid: &str, job: &AIJob, status: &AIJobStatus) -> bool {
    let sent = term.jobs.get(uid).and_then(|state| state.sent.as_deref());
    sent.is_some_and(|(wanted, made)| {
        without_links(wanted) == without_links(status) && Some(made) == job.status.as_ref()
    })
}

/// Ignores links: a link that is signed later has another expiry.
fn without_links(status: &AIJobStatus) -> AIJobStatus {
    let mut status = status.clone();
    for file in &mut status.files {
        file.link = None;
        file.expires_at = None;
    }
    status
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
    } else if old.files != new.files || old.links_renewed_for != new.links_renewed_for {
        Urgency::Links
    } else {
        Urgency::Rest
    }
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
        world.pod(&WorkerRef::from(&open.worker)).is_none()
            && term.sessions.presence(&open.worker.uid) != Some(Presence::Connected)
            && match term.pod_checks.get(&open.worker.uid) {
                None => true,
                Some(PodCheck::There { until }) => *until <= now.monotonic,
                Some(PodCheck::Asked | PodCheck::Gone) => false,
            }
    })
    .map(|open| WorkerRef::from(&open.worker))
    .collect()
}

/// Until when a pod that the API server has just shown is thought to be there.
pub(super) fn believed_until(now: Now) -> Duration {
    now.monotonic.saturating_add(POD_BELIEVED)
}

/// The command to run a task, with its links signed.
fn run_task(
    signer: &dyn Signer,
    snapshot: &Snapshot,
    command: &Command,
) -> Option<protocol::RunTask> {
    let Command::Run {
        task,
        pipeline,
        models,
        inputs,
        seed,
    } = command
    else {
        return None;
    };
    let place = snapshot.place();
    let expires = snapshot.now.checked_add(WORKER_LINK_LIFE).ok()?;
    let inputs = inputs
        .iter()
        .map(|input| {
            let artifact = (input.role, bare(&input.digest));
            Some(protocol::InputFile {
                name: input.name.clone(),
                digest: input.digest.clone(),
                bytes: input.bytes,
                url: signer.worker_get(&place, artifact, expires)?,
            })
        })
        .collect::<Option<Vec<_>>>()?;
    let models = models.iter().map(|model| protocol::TaskModel {
        role: model.role.clone(),
        name: model.name.clone(),
        digest: model.digest.clone(),
        scale: None,
    });
    Some(protocol::RunTask {
        task: task.clone(),
        job: format!("{}/{}", snapshot.namespace, snapshot.name),
        pipeline: pipeline.clone(),
        models: models.collect(),
        inputs,
        seed: *seed,
        resume: None,
        max_units: None,
    })
}
