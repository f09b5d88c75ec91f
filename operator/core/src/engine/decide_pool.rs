//! From one pool to its effects.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use framewright_crds::ModelPool;
use framewright_crds::deletion::goes_by_itself;
use framewright_crds::modelpool::ModelPoolStatus;
use framewright_crds::names::{ArtifactRole, OwnerKind};
use framewright_crds::protocol::FileSource;
use kube_core::ResourceExt;

use super::Engine;
use super::deadlines::Cause;
use super::guard::{guarded, report};
use super::interface::{Effect, Now, Request, StatusWrite};
use super::store_files::Doubt;
use super::term::{Object, Open, PodWork, PoolState, Term, Urgency};
use crate::links::{Place, WORKER_LINK_LIFE, is_renewal_due};
use crate::names::PoolName;
use crate::pools::plan::{self, Plan};
use crate::pools::pod_failures::{Outcome, Request as PodRequest};
use crate::pools::scaling::another_name;
use crate::pools::snapshot::{self, PodSnapshot, Snapshot};
use crate::pools::template::{self, Template};
use crate::pools::{model_configs, status};

/// How often the status of a pool is written while only counts of its workers change.
const COUNTS_EVERY: Duration = Duration::from_secs(1);
/// How long what was done about a pod is not done again.
pub(super) const DONE_FOR: Duration = Duration::from_secs(2);
/// The same after a request that was refused, or not answered: a deletion may still arrive, and until then its worker gets no task.
pub(super) const OPEN_FOR: Duration = Duration::from_secs(20);

impl Engine {
    /// Decides about one pool.
    pub(super) fn decide_pool(&mut self, name: &PoolName, now: Now, effects: &mut Vec<Effect>) {
        let Some(term) = &mut self.term else {
            return;
        };
        let Some(pool) = self.world.pool(name).cloned() else {
            return;
        };
        // Its pods go with it: they are owned. One that a finalizer keeps gives them back before.
        if goes_by_itself(&pool.metadata) {
            return;
        }
        let uid = pool.uid().unwrap_or_default();
        let cause = || Cause::Pool(name.clone());
        let state = term.pools.entry(uid.clone()).or_default();
        state.done.retain(|_, until| *until > now.monotonic);
        if state.is_unknown && state.request.is_none() {
            if let Some(until) = state.backoff.waits(now.monotonic) {
                return term.deadlines.set(cause(), until);
            }
            return self.read_pool(name, &uid, effects);
        }
        if state.is_working && state.work.is_empty() && state.pod_request.is_none() {
            state.is_working = false;
            state.live = None;
            state.tried.clear();
        }
        let Some((snapshot, plan)) = self.plan_pool(name, &pool, now, effects) else {
            return;
        };
        self.drain(name, &snapshot, &plan);
        // Links are signed before anything is changed, so that a panic leaves nothing half done.
        if let Err(error) = guarded(|| self.configure(name, &snapshot)) {
            if let Some(term) = &mut self.term {
                let state = term.pools.entry(uid.clone()).or_default();
                state.panicked = pool.resource_version();
            }
            let version = pool.resource_version().unwrap_or_default();
            return report(OwnerKind::ModelPools, (name, uid, version), error, effects);
        }
        self.work_on_pods(name, &uid, (&snapshot, &plan), now, effects);
        let Some(term) = &mut self.term else {
            return;
        };
        if plan.create.is_empty() {
            term.failures
                .note(&uid, PodRequest::List, Outcome::Answered);
            term.failures
                .note(&uid, PodRequest::Create, Outcome::Answered);
            if snapshot.pods_wait_until().is_none() {
                term.refusals.clear(&uid);
            }
        }
        if plan.delete.is_empty() {
            term.failures
                .note(&uid, PodRequest::Delete, Outcome::Answered);
        }
        let place = Place {
            namespace: &snapshot.namespace,
            kind: OwnerKind::ModelPools,
            uid: &uid,
        };
        let doubt = Doubt {
            worker: snapshot.pods.iter().any(PodSnapshot::waits_for_weights),
            renewal: snapshot.renew_links.clone().filter(|asked| {
                is_renewal_due(Some(asked), snapshot.status.links_renewed_for.as_deref())
            }),
        };
        term.files.watch(&place, &plan.status.files, doubt, effects);
        let object = Object::Pool(name.clone());
        let state = term.pools.entry(uid.clone()).or_default();
        let next_counts = state.written.map(|at| at.saturating_add(COUNTS_EVERY));
        let next_counts =
            next_counts.filter(|next| now.monotonic < *next && is_only_counts(&pool, &plan));
        if pool.status.as_ref() == Some(&plan.status) || next_counts.is_some() {
            term.writes.clear(&object);
        } else if is_pruned(term, &uid, &pool, &plan.status) {
            // A CRD of another version drops fields. To write them again would change nothing.
            term.writes.clear(&object);
        } else {
            term.writes.due(object, Urgency::Links);
        }
        if let Some(wait) = plan
            .requeue_after
            .and_then(|wait| Duration::try_from(wait).ok())
        {
            let mut at = now.monotonic.saturating_add(wait);
            let state = term.pools.entry(uid).or_default();
            if let Some(until) = state.pod_backoff.waits(now.monotonic) {
                at = at.min(until);
            }
            at = next_counts.map_or(at, |next| at.min(next));
            // A worker whose deletion failed takes tasks again then.
            at = state.done.values().fold(at, |at, until| at.min(*until));
            term.deadlines.set(cause(), at);
        }
    }

    /// The write of a pool's status, if there still is something to write.
    pub(super) fn write_pool(&mut self, name: &PoolName, now: Now) -> Option<StatusWrite> {
        let term = self.term.as_mut()?;
        let pool = self.world.pool(name).cloned()?;
        if goes_by_itself(&pool.metadata) {
            return None;
        }
        let uid = pool.uid().unwrap_or_default();
        let state = term.pools.entry(uid.clone()).or_default();
        if state.request.is_some()
            || state.is_unknown
            || state.backoff.waits(now.monotonic).is_some()
            || self.world.is_unreadable(&uid)
        {
            return None;
        }
        let mut effects = Vec::new();
        let planned = self.plan_pool(name, &pool, now, &mut effects);
        self.outbox.append(&mut effects);
        let (_, plan) = planned?;
        let is_new = pool.status.as_ref() != Some(&plan.status);
        if !is_new || is_pruned(self.term.as_ref()?, &uid, &pool, &plan.status) {
            return None;
        }
        let term = self.term.as_mut()?;
        let state = term.pools.entry(uid.clone()).or_default();
        state.written = Some(now.monotonic);
        let wanted = ModelPool {
            status: Some(plan.status.clone()),
            ..(*pool).clone()
        };
        let open = Open::WritePool {
            name: name.clone(),
            uid,
            before: pool,
            wanted: Box::new(plan.status),
        };
        let (id, epoch) = self.open_request(open)?;
        Some(StatusWrite {
            id,
            epoch,
            request: Request::WritePool(Box::new(wanted)),
        })
    }

    /// What is known about a pool, and its plan. A panic costs this object an Event, and leaves it alone until it changes.
    fn plan_pool(
        &mut self,
        name: &PoolName,
        pool: &ModelPool,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Option<(Snapshot, Plan)> {
        let term = self.term.as_mut()?;
        let uid = pool.uid().unwrap_or_default();
        let version = pool.resource_version();
        let state = term.pools.entry(uid.clone()).or_default();
        if version.is_some() && state.panicked == version {
            return None;
        }
        let known = state.template.take();
        let (world, settings, jumps) = (&self.world, &self.settings, self.clock.jumps());
        let decided = guarded(|| {
            let template = template(known, pool, &settings.template);
            let snapshot = snapshot::take(world, term, pool, &template, (now, jumps));
            let plan = plan::plan(&snapshot, settings.signer.as_ref());
            (template, snapshot, plan)
        });
        let state = term.pools.entry(uid.clone()).or_default();
        state.is_list_new = false;
        match decided {
            Ok((template, snapshot, plan)) => {
                state.template = Some((pool.metadata.generation, template));
                Some((snapshot, plan))
            }
            Err(error) => {
                state.panicked.clone_from(&version);
                let version = version.unwrap_or_default();
                report(OwnerKind::ModelPools, (name, uid, version), error, effects);
                None
            }
        }
    }

    fn read_pool(&mut self, name: &PoolName, uid: &str, effects: &mut Vec<Effect>) {
        let open = Open::ReadPool {
            name: name.clone(),
            uid: uid.to_owned(),
            known: self.world.pool_version(name),
        };
        self.request(open, Request::ReadPool(name.clone()), effects);
    }

    /// Says which workers get no new task: those that the pool gives up, and those whose pod was taken from it.
    fn drain(&mut self, name: &PoolName, snapshot: &Snapshot, plan: &Plan) {
        let Some(term) = &mut self.term else {
            return;
        };
        let given_up: BTreeSet<&str> = plan
            .drain
            .iter()
            .map(|worker| worker.uid.as_str())
            .collect();
        let own: BTreeSet<&str> = snapshot
            .pods
            .iter()
            .map(|pod| pod.worker.uid.as_str())
            .collect();
        // A deletion that is on its way, or was answered a moment ago, is not taken back.
        let deleting = |work: &PodWork| match work {
            PodWork::Delete(worker) => Some(worker.uid.clone()),
            PodWork::Protect { .. } | PodWork::Create { .. } => None,
        };
        let open = term.requests.values().filter_map(|open| match open {
            Open::Pod { work, .. } => deleting(work),
            Open::ReadJob { .. }
            | Open::WriteJob { .. }
            | Open::WriteOutcome { .. }
            | Open::DeleteJob { .. }
            | Open::ReadPool { .. }
            | Open::WritePool { .. }
            | Open::ListPods { .. }
            | Open::PodOwner { .. }
            | Open::CheckPod { .. }
            | Open::Orphans { .. } => None,
        });
        let state = term.pools.get(&snapshot.uid);
        let done = state
            .into_iter()
            .flat_map(|state| state.done.keys())
            .filter_map(deleting);
        let deleting: BTreeSet<String> = open.chain(done).collect();
        for uid in term.sessions.workers_of(name) {
            let is_drained = given_up.contains(uid.as_str())
                || !own.contains(uid.as_str())
                || deleting.contains(&uid);
            if term.sessions.drain(&uid, is_drained) {
                term.dirty.worker(&uid);
            }
        }
    }

    /// Tells each connected worker the models, once for each change.
    fn configure(&mut self, name: &PoolName, snapshot: &Snapshot) {
        let Some(term) = &mut self.term else {
            return;
        };
        let signer = self.settings.signer.as_ref();
        let expires = snapshot
            .now
            .checked_add(WORKER_LINK_LIFE)
            .unwrap_or(snapshot.now);
        let place = Place {
            namespace: &snapshot.namespace,
            kind: OwnerKind::ModelPools,
            uid: &snapshot.uid,
        };
        // The key is the command without its signatures, which differ each time.
        let key = serde_json::to_string(&model_configs::configs(snapshot, &|_| {
            FileSource::Url(String::new())
        }))
        .unwrap_or_default();
        let sign = |sha256: &str| {
            let url = signer.worker_get(&place, (ArtifactRole::Model, sha256), expires);
            url.map_or(FileSource::AwaitingUpload, FileSource::Url)
        };
        for uid in term.sessions.of_pool(name) {
            term.sessions
                .configure(&uid, &key, || model_configs::configs(snapshot, &sign));
            term.dirty.worker(&uid);
        }
    }

    /// Makes, deletes and protects pods, one after the other. Before any is made, or one is deleted whose
    /// worker was not heard, the API server itself lists those that are there.
    fn work_on_pods(
        &mut self,
        name: &PoolName,
        uid: &str,
        (snapshot, plan): (&Snapshot, &Plan),
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let Some(term) = &mut self.term else {
            return;
        };
        let state = term.pools.entry(uid.to_owned()).or_default();
        if state.pod_request.is_some() || state.pod_backoff.waits(now.monotonic).is_some() {
            return;
        }
        if !state.work.is_empty() {
            return self.go_on_with_pods(name, uid, plan, effects);
        }
        // A worker that has not been heard in this term may have begun to run since the watch showed its pod.
        let is_unheard = plan.delete.iter().any(|worker| {
            let pod = snapshot.pods.iter().find(|pod| pod.worker == *worker);
            pod.is_none_or(|pod| pod.stream.is_none())
        });
        if (!plan.create.is_empty() || is_unheard) && state.live.is_none() {
            return self.list_pods(name, uid, effects);
        }
        let Plan {
            create,
            drain: _,
            delete,
            protection,
            status: _,
            requeue_after: _,
        } = plan;
        let protect = |is_protected| {
            move |worker: &crate::names::WorkerRef| PodWork::Protect {
                worker: worker.clone(),
                is_protected,
            }
        };
        // Autoscalers' annotations come last: they hold up no pod.
        let made = create
            .iter()
            .map(|name| PodWork::Create { name: name.clone() });
        let deleted = delete.iter().cloned().map(PodWork::Delete);
        state.work.extend(deleted.chain(made));
        state
            .work
            .extend(protection.protect.iter().map(protect(true)));
        state
            .work
            .extend(protection.unprotect.iter().map(protect(false)));
        let PoolState { work, done, .. } = state;
        work.retain(|work| !done.contains_key(work));
        state.tried.clone_from(create);
        state.made = 0;
        if state.work.is_empty() {
            state.live = None;
            return;
        }
        state.is_working = true;
        self.go_on_with_pods(name, uid, plan, effects);
    }

    fn list_pods(&mut self, name: &PoolName, uid: &str, effects: &mut Vec<Effect>) {
        let open = Open::ListPods {
            pool: name.clone(),
            uid: uid.to_owned(),
        };
        self.request(open, Request::ListPods(name.clone()), effects);
    }

    /// Does the next thing about a pool's pods that the plan of this moment still has; when all is done, the pool is decided about again.
    fn go_on_with_pods(
        &mut self,
        name: &PoolName,
        uid: &str,
        plan: &Plan,
        effects: &mut Vec<Effect>,
    ) {
        let Some(term) = &mut self.term else {
            return;
        };
        let state = term.pools.entry(uid.to_owned()).or_default();
        let made = state.made;
        let is_wanted = |work: &PodWork| match work {
            PodWork::Delete(worker) => plan.delete.contains(worker),
            PodWork::Protect {
                worker,
                is_protected: true,
            } => plan.protection.protect.contains(worker),
            PodWork::Protect {
                worker,
                is_protected: false,
            } => plan.protection.unprotect.contains(worker),
            // The pods that were listed do not show those that were made since, so the plan still asks for all of them.
            PodWork::Create { .. } => made < plan.create.len(),
        };
        while state.work.front().is_some_and(|work| !is_wanted(work)) {
            state.work.pop_front();
        }
        let template = state
            .template
            .as_ref()
            .map(|(_, template)| Arc::clone(template));
        let (Some(work), Some(template)) = (state.work.pop_front(), template) else {
            term.dirty.pool(name);
            return;
        };
        let request = match &work {
            PodWork::Delete(worker) => {
                term.deleted.forget(uid, &worker.uid);
                Request::DeletePod(worker.clone())
            }
            PodWork::Protect {
                worker,
                is_protected,
            } => Request::ProtectPod {
                worker: worker.clone(),
                is_protected: *is_protected,
            },
            PodWork::Create { name } => Request::CreatePod(Box::new(template.named(name))),
        };
        let open = Open::Pod {
            pool: name.clone(),
            uid: uid.to_owned(),
            work,
        };
        self.request(open, request, effects);
    }

    /// The name of a new pod is taken by a stranger's: the next free one is tried.
    pub(super) fn try_another_name(&mut self, now: Now, name: &PoolName, uid: &str) {
        let Some(pool) = self.world.pool(name).cloned() else {
            return;
        };
        let Some(term) = &mut self.term else {
            return;
        };
        let known = term
            .pools
            .get(uid)
            .and_then(|state| state.template.as_ref());
        let Some((_, template)) = known.cloned() else {
            return;
        };
        let clock = (now, self.clock.jumps());
        let snapshot = snapshot::take(&self.world, term, &pool, &template, clock);
        let state = term.pools.entry(uid.to_owned()).or_default();
        if let Some(name) = another_name(&snapshot, &state.tried) {
            state.tried.push(name.clone());
            state.work.push_back(PodWork::Create { name });
        }
    }
}

/// Whether nothing but counts of workers and messages is new.
fn is_only_counts(pool: &ModelPool, plan: &Plan) -> bool {
    let old = pool.status.as_ref();
    old.is_some_and(|old| status::is_only_counts(old, &plan.status))
}

/// Whether the API server made the present status of this one when it was written last.
fn is_pruned(term: &Term, uid: &str, pool: &ModelPool, status: &ModelPoolStatus) -> bool {
    let sent = term.pools.get(uid).and_then(|state| state.sent.as_deref());
    sent.is_some_and(|(wanted, made)| {
        without_links(wanted) == without_links(status) && Some(made) == pool.status.as_ref()
    })
}

/// What a pool's pods look like; made once for each generation of its spec.
fn template(
    known: Option<(Option<i64>, Arc<Template>)>,
    pool: &ModelPool,
    settings: &template::Settings,
) -> Arc<Template> {
    let generation = pool.metadata.generation;
    match known {
        Some((of, template)) if of == generation && generation.is_some() => template,
        Some(_) | None => Arc::new(template::build(pool, settings)),
    }
}

/// Ignores links: a link that is signed later has another expiry.
fn without_links(status: &ModelPoolStatus) -> ModelPoolStatus {
    let mut status = status.clone();
    for file in &mut status.files {
        file.link = None;
        file.expires_at = None;
    }
    status
}
