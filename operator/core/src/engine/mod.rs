//! All decisions as one value: an event goes in, effects come out. No I/O, no clock: the time is an argument.
//!
//! # Flow
//! The shell tells what happened ([`Engine::handle`]), has it decided ([`Engine::decide`]), does the effects, and whenever it has a
//! permit for a status write, asks for the most urgent one ([`Engine::next_write`]), which is computed then, from the newest state.
//! Each request is answered by one event. At [`Engine::next_deadline`] time alone changes something.
//!
//! # Guarantees
//! - Nothing is decided before all lists are complete and this replica leads.
//! - At most one request is on its way about a job, a pool's status, or a pool's pods.
//! - A command follows only from a status that the API server itself has returned in this term.
//! - After a request whose outcome is not known, the object is read before anything is decided about it.
//!
//! # Layout
//! - [`interface`]: what goes in and what comes out
//! - [`world`]: the objects as last seen; [`term`]: what is true in this term only
//! - `decide_job`, `decide_pool`: from one object to its effects; `answers`: what follows from the answers to requests
//! - [`store_files`]: which files the store has; [`deadlines`]: when time alone changes something
//! - `guard`: decisions that panic

mod answers;
pub mod deadlines;
mod decide_job;
mod decide_pool;
mod guard;
pub mod interface;
pub mod store_files;
pub mod term;
pub mod world;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use framewright_crds::aijob::AIJobStatus;
use framewright_crds::modelpool::ModelPoolStatus;
use framewright_crds::names::OwnerKind;
use framewright_crds::protocol::WorkerMessage;
use framewright_crds::{AIJob, ModelPool};
use k8s_openapi::api::core::v1::Pod;
use kube_core::{Resource, ResourceExt};

use crate::clock::Clock;
use crate::jobs::admission::{Admission, Gate};
use crate::jobs::transitions as job_transitions;
use crate::kubernetes_events::KubernetesEvent;
use crate::links::Signer;
use crate::names::{JobName, ObjectName, PoolName};
use crate::pools::template;
use crate::pools::transitions as pool_transitions;
use crate::schedule::gather::{self, Around, Gathered};
use crate::trim::trim_own;
use crate::workers::sessions::{self, Concerns, Greeting, SessionId};
use deadlines::Cause;
use interface::{Change, Effect, Event, Log, Now, Read, Request, RequestId, StatusWrite};
use term::{Object, Open, PodCheck, Term};
use world::{FactsChange, Job, World, version};

/// Expired entries are removed this often.
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(10);
/// The jobs of orphaned tasks are read this often.
const ORPHANS_EVERY: Duration = Duration::from_secs(2);
/// Jobs whose reason for waiting has changed are decided about this many at a time, this often: 20 a second.
const WAITING_AT_A_TIME: usize = 4;
const WAITING_EVERY: Duration = Duration::from_millis(200);
/// Each of them is decided about at most this often.
const REASON_EVERY: Duration = Duration::from_secs(60);

/// What the engine is set up with.
pub struct Settings {
    /// What worker pods are made from, besides the pool.
    pub template: template::Settings,
    /// Namespaces whose pools anybody may find by a model's name.
    pub catalog: Vec<String>,
    pub signer: Box<dyn Signer + Send>,
    /// Which jobs may start, and which tasks may compute.
    pub gate: Box<dyn Gate + Send>,
}

/// The operator's decisions.
pub struct Engine {
    settings: Settings,
    world: World,
    term: Option<Term>,
    clock: Clock,
    /// Effects of events, until the next decision takes them along.
    outbox: Vec<Effect>,
    last_request: u64,
    /// Why the store cannot be asked, if so: the next term must know it, too.
    store_error: Option<String>,
}

impl Engine {
    #[must_use]
    pub fn new(settings: Settings) -> Engine {
        Engine {
            settings,
            world: World::default(),
            term: None,
            clock: Clock::default(),
            outbox: Vec::new(),
            last_request: 0,
            store_error: None,
        }
    }

    /// The objects as last seen.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The present term, if this replica leads.
    #[must_use]
    pub fn term(&self) -> Option<&Term> {
        self.term.as_ref()
    }

    /// Records what happened and marks what it concerns. Cheap; decides nothing.
    pub fn handle(&mut self, now: Now, event: Event) {
        self.clock.tick(now);
        match event {
            Event::Job(change) => self.job_changed(change),
            Event::Pool(change) => self.pool_changed(change),
            Event::Pod(change) => self.pod_changed(now, change),
            Event::Namespace { name, labels } => {
                let before = self.world.namespaces.get(&name).cloned();
                match &labels {
                    Some(labels) => self.world.namespaces.insert(name.clone(), labels.clone()),
                    None => self.world.namespaces.remove(&name),
                };
                if before != labels {
                    self.offers_changed(Some(&name));
                }
            }
            Event::NamespacesListed(namespaces) => {
                self.world.namespaces_listed(namespaces);
                self.offers_changed(None);
            }
            Event::TermBegan { epoch } => self.begin_term(now, epoch),
            Event::TermEnded => self.end_term(),
            Event::SessionOpened { session, greeting } => {
                self.session_opened(now, session, greeting)
            }
            Event::SessionMessage {
                session,
                worker_uid,
                message,
            } => self.session_message(now, session, &worker_uid, message),
            Event::SessionClosed {
                session,
                worker_uid,
            } => self.session_closed(now, session, &worker_uid),
            Event::File { key, is_present } => {
                if let Some(term) = &mut self.term
                    && term.files.told(&key, is_present)
                {
                    self.owner_changed(key.kind, &key.uid);
                }
            }
            Event::Store { error } => {
                self.store_error.clone_from(&error);
                let owners = self.term.as_mut().map(|term| term.files.store(error));
                for uid in owners.into_iter().flatten() {
                    self.owner_changed(OwnerKind::AIJobs, &uid);
                    self.owner_changed(OwnerKind::ModelPools, &uid);
                }
            }
            Event::Answered { request, answer } => self.answered(now, request, answer),
        }
    }

    fn begin_term(&mut self, now: Now, epoch: u64) {
        self.end_term();
        let mut term = Term::new(epoch, now.wall);
        // Nobody waits for a file yet.
        let _ = term.files.store(self.store_error.clone());
        for name in self.world.job_names() {
            term.dirty.job(&name);
        }
        for name in self.world.pool_names() {
            term.dirty.pool(&name);
        }
        term.deadlines.set(
            Cause::Housekeeping,
            now.monotonic.saturating_add(HOUSEKEEPING_EVERY),
        );
        self.term = Some(term);
        self.read_doubtful();
    }

    /// Has the jobs and pools read that a list has shown in an older version than the one that is known. If what is read is older, too,
    /// the API server's state was restored from a backup.
    fn read_doubtful(&mut self) {
        let Some(term) = &mut self.term else {
            return;
        };
        for uid in self.world.take_doubtful() {
            if let Some(name) = self.world.job_name(&uid) {
                let state = term.jobs.entry(uid).or_default();
                state.is_unknown = true;
                term.dirty.job(name);
            } else if let Some(name) = self.world.pool_name(&uid) {
                let state = term.pools.entry(uid).or_default();
                state.is_unknown = true;
                term.dirty.pool(name);
            }
        }
    }

    /// The end of a term: the one place where all that was true in it goes.
    fn end_term(&mut self) {
        let Some(term) = self.term.take() else {
            return;
        };
        let close = |session| Effect::CloseSession { session };
        self.outbox
            .extend(term.sessions.open_sessions().into_iter().map(close));
    }

    fn job_changed(&mut self, change: Change<AIJob>) {
        match change {
            Change::Applied(read) => self.job_read(read),
            Change::Deleted { name, uid } => self.job_gone(&name, &uid),
            Change::Listed(reads) => {
                let listed: BTreeSet<String> = reads.iter().map(Read::uid).collect();
                for read in reads {
                    if let Read::Object(job) = &read {
                        self.world.doubt_job(job);
                    }
                    self.job_read(read);
                }
                self.read_doubtful();
                for (name, uid) in self.world.jobs_listed(&listed) {
                    self.job_forgotten(&name, &uid);
                }
            }
        }
    }

    fn job_read(&mut self, read: Read<AIJob>) {
        match read {
            Read::Object(job) => drop(self.take_job(*job)),
            Read::Unreadable {
                name,
                uid,
                version,
                error,
            } => {
                if self.world.job_unreadable(&name, &uid, &version) {
                    if let Some(term) = &mut self.term {
                        term.dirty.job(&name);
                    }
                    self.unreadable(OwnerKind::AIJobs, name, uid, version, error);
                }
            }
        }
    }

    /// Takes over a job that a watch shows or the API server has returned, if it is newer than what is known of it.
    fn take_job(&mut self, mut job: AIJob) -> Arc<AIJob> {
        trim_own(&mut job);
        let job = Arc::new(job);
        let name = ObjectName::of(&job.metadata);
        let before = self.world.job(&name).map(|known| known.uid().to_owned());
        if self.world.take_job(&job) {
            // One of that name that was deleted unseen.
            if let Some(before) = before.filter(|before| job.metadata.uid.as_ref() != Some(before))
            {
                self.job_forgotten(&name, &before);
            }
            if let Some(term) = &mut self.term {
                term.dirty.job(&name);
            }
        }
        self.publish_job(name, &job);
        job
    }

    /// Publishes what has changed since the last version of this term, once. What an earlier leader wrote, it has published.
    fn publish_job(&mut self, name: JobName, job: &Arc<AIJob>) {
        let uid = job.uid().unwrap_or_default();
        let state = self.term.as_mut().and_then(|term| term.jobs.get_mut(&uid));
        let Some(old) = state.and_then(|state| newer(&mut state.published, job)) else {
            return;
        };
        let none = AIJobStatus::default();
        let [old, new] = [&old, job].map(|job| job.status.as_ref().unwrap_or(&none));
        let transitions = job_transitions::transitions(old, new);
        for event in job_transitions::kubernetes_events(&transitions) {
            self.publish(&name, &**job, OwnerKind::AIJobs, event);
        }
        if !transitions.is_empty() {
            self.outbox.push(Effect::JobChanged {
                name,
                uid,
                transitions,
            });
        }
    }

    fn publish_pool(&mut self, name: &PoolName, pool: &Arc<ModelPool>) {
        let uid = pool.uid().unwrap_or_default();
        let state = self.term.as_mut().and_then(|term| term.pools.get_mut(&uid));
        let Some(old) = state.and_then(|state| newer(&mut state.published, pool)) else {
            return;
        };
        let none = ModelPoolStatus::default();
        let [old, new] = [&old, pool].map(|pool| pool.status.as_ref().unwrap_or(&none));
        if let Some(event) = pool_transitions::kubernetes_event(old, new) {
            self.publish(name, &**pool, OwnerKind::ModelPools, event);
        }
    }

    fn publish<K: Resource>(
        &mut self,
        name: &ObjectName,
        object: &K,
        kind: OwnerKind,
        event: KubernetesEvent,
    ) {
        let metadata = object.meta();
        self.outbox.push(Effect::Publish {
            kind,
            name: name.clone(),
            uid: metadata.uid.clone().unwrap_or_default(),
            version: metadata.resource_version.clone().unwrap_or_default(),
            event,
        });
    }

    fn job_gone(&mut self, name: &JobName, uid: &str) {
        if self.world.delete_job(name, uid) {
            self.job_forgotten(name, uid);
        }
    }

    /// A job is gone: so is all that was known of it.
    fn job_forgotten(&mut self, name: &JobName, uid: &str) {
        let Some(term) = &mut self.term else {
            return;
        };
        term.jobs.remove(uid);
        term.files.forget(uid, &mut self.outbox);
        term.dirty.workers.extend(term.scheduler.remove(uid));
        term.deadlines.clear(&Cause::Job(name.clone()));
        term.writes.clear(&Object::Job(name.clone()));
        term.dirty.orphans = true;
        // Another job may have the name by now.
        term.dirty.job(name);
    }

    fn pool_changed(&mut self, change: Change<ModelPool>) {
        match change {
            Change::Applied(read) => self.pool_read(read),
            Change::Deleted { name, uid } => {
                if self.world.delete_pool(&name, &uid) {
                    self.pool_forgotten(&name, &uid);
                }
            }
            Change::Listed(reads) => {
                let listed: BTreeSet<String> = reads.iter().map(Read::uid).collect();
                for read in reads {
                    if let Read::Object(pool) = &read {
                        self.world.doubt_pool(pool);
                    }
                    self.pool_read(read);
                }
                self.read_doubtful();
                for (name, uid) in self.world.pools_listed(&listed) {
                    self.pool_forgotten(&name, &uid);
                }
            }
        }
    }

    fn pool_read(&mut self, read: Read<ModelPool>) {
        match read {
            Read::Object(pool) => drop(self.take_pool(*pool)),
            Read::Unreadable {
                name,
                uid,
                version,
                error,
            } => {
                if self.world.pool_unreadable(&name, &uid, &version) {
                    self.unreadable(OwnerKind::ModelPools, name, uid, version, error);
                    self.offers_changed(None);
                }
            }
        }
    }

    /// Takes a pool that a watch shows or the API server returned.
    fn take_pool(&mut self, mut pool: ModelPool) -> Arc<ModelPool> {
        trim_own(&mut pool);
        let pool = Arc::new(pool);
        let name = ObjectName::of(&pool.metadata);
        let before = self.world.pool(&name).and_then(|known| known.uid());
        let uid = pool.uid();
        let change = self.world.take_pool(&pool);
        self.publish_pool(&name, &pool);
        let Some(change) = change else {
            return pool;
        };
        // One of that name that was deleted unseen.
        if let Some(before) = before.filter(|before| uid.as_ref() != Some(before)) {
            self.pool_forgotten(&name, &before);
        }
        if let Some(term) = &mut self.term {
            term.dirty.pool(&name);
            if change == FactsChange::Reason {
                let jobs = term.scheduler.waiting_in(&name);
                let names = jobs.iter().filter_map(|uid| self.world.job_name(uid));
                for name in names {
                    let last = self
                        .world
                        .job(name)
                        .and_then(|job| term.jobs.get(job.uid()));
                    let last = last.and_then(|state| state.reason_changed_at);
                    let due = last.map_or(Duration::ZERO, |last| last.saturating_add(REASON_EVERY));
                    term.waiting.insert(name.clone(), due);
                }
            }
        }
        if change == FactsChange::Offer {
            self.offers_changed(None);
        }
        pool
    }

    fn pool_forgotten(&mut self, name: &PoolName, uid: &str) {
        if let Some(term) = &mut self.term {
            term.pools.remove(uid);
            term.refusals.clear(uid);
            term.failures.forget_pool(uid);
            term.deleted.forget_pool(uid);
            term.files.forget(uid, &mut self.outbox);
            term.deadlines.clear(&Cause::Pool(name.clone()));
            term.writes.clear(&Object::Pool(name.clone()));
            term.dirty.pool(name);
        }
        self.offers_changed(None);
    }

    /// What pools offer, and to whom, has changed: steps that wait may run elsewhere now. Of one namespace, or of all.
    fn offers_changed(&mut self, namespace: Option<&str>) {
        let Some(term) = &mut self.term else {
            return;
        };
        let names = term
            .scheduler
            .job_uids()
            .filter_map(|uid| self.world.job_name(uid));
        let names: Vec<JobName> = names
            .filter(|name| namespace.is_none_or(|namespace| name.namespace == namespace))
            .cloned()
            .collect();
        for name in names {
            term.dirty.job(&name);
        }
    }

    fn pod_changed(&mut self, now: Now, change: Change<Pod>) {
        match change {
            Change::Applied(Read::Object(pod)) => self.pod_seen(now, *pod),
            // Pods are read as they are.
            Change::Applied(Read::Unreadable { .. }) => {}
            Change::Deleted { name, uid } => self.pod_gone(now, &name, &uid),
            Change::Listed(reads) => {
                let listed: BTreeSet<String> = reads.iter().map(Read::uid).collect();
                for read in reads {
                    if let Read::Object(pod) = read {
                        self.pod_seen(now, *pod);
                    }
                }
                for (name, uid) in self.world.pods_listed(&listed) {
                    self.pod_gone(now, &name, &uid);
                }
            }
        }
    }

    fn pod_seen(&mut self, now: Now, pod: Pod) {
        let uid = pod.uid().unwrap_or_default();
        let pools = self.world.take_pod(pod, now.wall);
        self.pod_concerns(&pools, &uid);
    }

    fn pod_gone(&mut self, now: Now, name: &ObjectName, uid: &str) {
        let pools = self.world.pod_deleted(name, uid, now.wall);
        self.pod_concerns(&pools, uid);
    }

    fn pod_concerns(&mut self, pools: &[PoolName], pod_uid: &str) {
        let Some(term) = &mut self.term else {
            return;
        };
        for pool in pools {
            term.dirty.pool(pool);
        }
        for uid in term.jobs_on(pod_uid) {
            if let Some(name) = self.world.job_name(&uid) {
                term.dirty.job(name);
            }
        }
    }

    /// An object that cannot be read gets an Event, and stops nobody else.
    fn unreadable(
        &mut self,
        kind: OwnerKind,
        name: ObjectName,
        uid: String,
        version: String,
        error: String,
    ) {
        self.outbox.push(Effect::Log(Log::Unreadable {
            name: name.clone(),
            error: error.clone(),
        }));
        if self.term.is_some() {
            self.outbox.push(Effect::Publish {
                kind,
                name,
                uid,
                version,
                event: KubernetesEvent {
                    is_warning: true,
                    reason: "Unreadable".to_owned(),
                    message: format!("this operator cannot read the object: {error}"),
                    action: "Reconcile".to_owned(),
                },
            });
        }
    }

    fn session_opened(&mut self, now: Now, session: SessionId, greeting: Greeting) {
        let Some(term) = &mut self.term else {
            self.outbox.push(Effect::CloseSession { session });
            return;
        };
        let uid = greeting.worker.uid.clone();
        let mut jobs = term.jobs_on(&uid);
        if let Some(session) = term.sessions.open(greeting, session, now.wall) {
            self.outbox.push(Effect::CloseSession { session });
        }
        jobs.extend(term.jobs_on(&uid));
        for name in jobs.iter().filter_map(|uid| self.world.job_name(uid)) {
            term.dirty.job(name);
        }
        term.dirty.orphans = true;
        self.worker_changed(&uid);
    }

    fn session_closed(&mut self, now: Now, session: SessionId, uid: &str) {
        let Some(term) = &mut self.term else {
            return;
        };
        if !term.sessions.close(session, uid, now.wall) {
            return;
        }
        for name in term
            .jobs_on(uid)
            .iter()
            .filter_map(|uid| self.world.job_name(uid))
        {
            term.dirty.job(name);
        }
        self.worker_changed(uid);
    }

    fn session_message(&mut self, now: Now, session: SessionId, uid: &str, said: WorkerMessage) {
        // What was said in an earlier session counts for nothing in a newer one.
        let Some(term) = self
            .term
            .as_mut()
            .filter(|term| term.sessions.is_open(session, uid))
        else {
            return;
        };
        match sessions::receive(&mut term.sessions, uid, said, now.wall) {
            Concerns::Nothing => {}
            Concerns::Worker => self.worker_changed(uid),
            Concerns::Job(job) => {
                if let Some(name) = self.world.job_name(&job) {
                    term.dirty.job(name);
                }
                term.dirty.worker(uid);
            }
        }
    }

    /// A worker's free slots may have changed: the worker and its pool are reconciled.
    fn worker_changed(&mut self, uid: &str) {
        if let Some(term) = &mut self.term {
            term.dirty.worker(uid);
            if let Some(pool) = term.sessions.pool(uid).cloned() {
                term.dirty.pool(&pool);
            }
        }
    }

    /// What the store knows of an owner's files has changed.
    fn owner_changed(&mut self, kind: OwnerKind, uid: &str) {
        let Some(term) = &mut self.term else {
            return;
        };
        match kind {
            OwnerKind::AIJobs => {
                if let Some(name) = self.world.job_name(uid) {
                    term.dirty.job(name);
                }
            }
            OwnerKind::ModelPools => {
                if let Some(name) = self.world.pool_name(uid) {
                    term.dirty.pool(name);
                }
            }
        }
    }

    /// Decides about what is marked: placements over all first, then each object. At most `budget` objects; whether some are left.
    pub fn decide(&mut self, now: Now, budget: usize, effects: &mut Vec<Effect>) -> bool {
        self.clock.tick(now);
        effects.append(&mut self.outbox);
        if self.term.is_none() || !self.world.is_complete() {
            return false;
        }
        self.deadlines_come(now);
        let mut left = budget;
        // However many jobs change, some objects are decided about.
        let least = budget.div_ceil(4);
        while left > 0
            && let Some(name) = self
                .term
                .as_mut()
                .and_then(|term| term.dirty.gather.pop_first())
        {
            self.gather(&name, now);
            left -= 1;
        }
        // A job that is not gathered yet may have tasks on a worker that seems to be free.
        let is_gathered = self
            .term
            .as_ref()
            .is_some_and(|term| term.dirty.gather.is_empty());
        if is_gathered {
            self.place();
            self.decide_objects(now, left.max(least), effects);
            self.find_orphans(now, effects);
        }
        let Some(term) = &mut self.term else {
            return false;
        };
        effects.extend(
            term.sessions
                .take_outbox()
                .into_iter()
                .map(|(session, command)| Effect::Send { session, command }),
        );
        !term.dirty.is_empty()
    }

    fn decide_objects(&mut self, now: Now, budget: usize, effects: &mut Vec<Effect>) {
        let mut left = budget;
        while left > 0
            && let Some(name) = self
                .term
                .as_mut()
                .and_then(|term| term.dirty.jobs.pop_first())
        {
            self.decide_job(&name, now, effects);
            left -= 1;
        }
        while left > 0
            && let Some(name) = self
                .term
                .as_mut()
                .and_then(|term| term.dirty.pools.pop_first())
        {
            self.decide_pool(&name, now, effects);
            left -= 1;
        }
    }

    fn deadlines_come(&mut self, now: Now) {
        let Some(term) = &mut self.term else {
            return;
        };
        while let Some(cause) = term.deadlines.take_due(now.monotonic) {
            match cause {
                Cause::Job(name) => term.dirty.job(&name),
                Cause::Pool(name) => term.dirty.pool(&name),
                Cause::Orphans => term.dirty.orphans = true,
                Cause::Waiting => {
                    let waiting = term.waiting.iter();
                    let due = waiting.filter(|(_, due)| **due <= now.monotonic);
                    let due = due.map(|(name, _)| name.clone());
                    for name in due.take(WAITING_AT_A_TIME).collect::<Vec<JobName>>() {
                        term.waiting.remove(&name);
                        if let Some(job) = self.world.job(&name) {
                            let state = term.jobs.entry(job.uid().to_owned()).or_default();
                            state.reason_changed_at = Some(now.monotonic);
                        }
                        term.dirty.jobs.insert(name);
                    }
                }
                Cause::Housekeeping => {
                    let world = &self.world;
                    let clock = (now.wall, self.clock.jumps());
                    term.sessions
                        .forget_gone(clock, |worker| world.pod(worker).is_some());
                    term.deadlines.set(
                        Cause::Housekeeping,
                        now.monotonic.saturating_add(HOUSEKEEPING_EVERY),
                    );
                    let Term {
                        pod_checks,
                        scheduler,
                        ..
                    } = term;
                    pod_checks.retain(|uid, _| scheduler.bound(uid).is_some());
                    self.world.forget_old(now.wall, self.clock.jumps());
                }
            }
        }
        if !term.waiting.is_empty() {
            let at = now.monotonic.saturating_add(WAITING_EVERY);
            term.deadlines.set_earlier(Cause::Waiting, at);
        }
    }

    /// Tells the scheduler what a job wants and has.
    fn gather(&mut self, name: &JobName, now: Now) {
        let Some(term) = &mut self.term else {
            return;
        };
        let Some(entry) = self.world.job(name) else {
            return;
        };
        let uid = entry.uid().to_owned();
        let gathered = match entry {
            Job::Live(job) if gather::is_live(job) => {
                let around = Around {
                    pools: self.world.facts(),
                    catalog: &self.settings.catalog,
                    labels: &self.world.namespaces,
                    now: now.wall,
                    jumps: self.clock.jumps(),
                    may_start: self.settings.gate.may_start(job) == Admission::Admitted,
                };
                let files = job.status.as_ref().map_or(&[][..], |status| &status.files);
                let received = term.files.received(&uid, files);
                let succeeded = term.sessions.succeeded(&uid);
                // If this panics, so does the decision about the job, which says so.
                let mut gathered =
                    guard::guarded(|| gather::gather(job, &around, &received, &succeeded))
                        .unwrap_or_default();
                let state = term.jobs.get(&uid);
                let panicked = state.and_then(|state| state.panicked.as_ref());
                // A job whose decision panicked reserves no slots.
                if panicked.is_some() && panicked == job.metadata.resource_version.as_ref() {
                    gathered.pending.clear();
                }
                // Nor does one that cannot be read any more, and of its tasks only those count that have not ended.
                if self.world.is_unreadable(&uid) {
                    gathered.pending.clear();
                    let sessions = &term.sessions;
                    gathered
                        .tasks
                        .retain(|(pod, task)| sessions.may_hold(pod, task));
                }
                gathered
            }
            Job::Live(_) | Job::Finished(_) => Gathered::default(),
            // What was known of it before stays.
            Job::Unreadable { .. } => return,
        };
        let pods = term.scheduler.update(&uid, &name.namespace, gathered);
        term.dirty.workers.extend(pods);
    }

    /// Places the steps that could run on the workers that have room.
    fn place(&mut self) {
        let Some(term) = &mut self.term else {
            return;
        };
        while let Some(uid) = term.dirty.workers.pop_first() {
            let none = BTreeSet::new();
            let bound = term.scheduler.bound(&uid).unwrap_or(&none);
            let slots = term.sessions.slots(&uid, bound);
            // A write of an earlier leader that came late may have bound a task to a worker that was free until then.
            let mut excess = term.sessions.excess(&uid, bound);
            term.scheduler.set_worker(&uid, slots);
            let unfit = term.scheduler.unfit(&uid);
            for (job, step) in term.scheduler.placed_on(&uid) {
                if excess == 0 && !unfit.iter().any(|(of, name)| (of, name) == (&job, &step)) {
                    continue;
                }
                // One that is being written is taken back when the answer has come.
                let is_busy = term
                    .jobs
                    .get(&job)
                    .is_some_and(|state| state.request.is_some() || state.is_unknown);
                if !is_busy {
                    excess = excess.saturating_sub(1);
                    term.dirty
                        .workers
                        .extend(term.scheduler.withdraw(&job, &step));
                    if let Some(name) = self.world.job_name(&job) {
                        term.dirty.jobs.insert(name.clone());
                    }
                }
            }
        }
        for placement in term.scheduler.place() {
            if let Some(name) = self.world.job_name(&placement.job_uid) {
                term.dirty.jobs.insert(name.clone());
            }
        }
    }

    /// The most urgent status write, computed now from the newest state. The shell asks when it has a free permit.
    pub fn next_write(&mut self, now: Now) -> Option<StatusWrite> {
        self.clock.tick(now);
        loop {
            let object = self.term.as_mut()?.writes.pop()?;
            let write = match object {
                Object::Job(name) => self.write_job(&name, now),
                Object::Pool(name) => self.write_pool(&name, now),
            };
            if write.is_some() {
                return write;
            }
        }
    }

    /// When time alone changes something, or the clock must be read, in monotonic time.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        let deadlines = self.term.as_ref().and_then(|term| term.deadlines.next());
        deadlines.into_iter().chain(self.clock.next_tick()).min()
    }

    fn request_id(&mut self) -> RequestId {
        self.last_request += 1;
        RequestId(self.last_request)
    }

    /// Makes a request, if this replica leads.
    fn request(&mut self, open: Open, request: Request, effects: &mut Vec<Effect>) {
        if let Some((id, epoch)) = self.open_request(open) {
            effects.push(Effect::Request { id, epoch, request });
        }
    }

    /// Opens a request, if this replica leads; its id, and the epoch that it is of. Until it is answered there is no other one about the
    /// same object, or about the pods of the same pool.
    fn open_request(&mut self, open: Open) -> Option<(RequestId, u64)> {
        let id = self.request_id();
        let term = self.term.as_mut()?;
        match &open {
            Open::ReadJob { uid, .. }
            | Open::WriteJob { uid, .. }
            | Open::WriteOutcome { uid, .. }
            | Open::DeleteJob { uid, .. } => {
                term.jobs.entry(uid.clone()).or_default().request = Some(id);
            }
            Open::ReadPool { uid, .. } | Open::WritePool { uid, .. } => {
                term.pools.entry(uid.clone()).or_default().request = Some(id);
            }
            Open::ListPods { uid, .. } | Open::Pod { uid, .. } | Open::PodOwner { uid, .. } => {
                term.pools.entry(uid.clone()).or_default().pod_request = Some(id);
            }
            Open::CheckPod { worker_uid } => {
                term.pod_checks.insert(worker_uid.clone(), PodCheck::Asked);
            }
            Open::Orphans { .. } => {}
        }
        term.requests.insert(id, open);
        Some((id, term.epoch))
    }
}

/// Notes that the transitions up to `new` are published; the version up to which they were, if that is an older one.
fn newer<K: Resource>(published: &mut Option<Arc<K>>, new: &Arc<K>) -> Option<Arc<K>> {
    let old = published.as_mut()?;
    (version(&**old) < version(&**new)).then(|| std::mem::replace(old, Arc::clone(new)))
}

impl<K: Resource> Read<K> {
    fn uid(&self) -> String {
        match self {
            Read::Object(object) => object.meta().uid.clone().unwrap_or_default(),
            Read::Unreadable { uid, .. } => uid.clone(),
        }
    }
}
