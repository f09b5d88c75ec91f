//! What is known about one pool at one moment: the whole input of the plan. Plain data.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use framewright_crds::ModelPool;
use framewright_crds::deletion::kept_by;
use framewright_crds::modelpool::{ModelPoolSpec, ModelPoolStatus};
use framewright_crds::protocol::ModelState;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube_core::ResourceExt;

use super::pod::{pod_snapshot, pool_of};
use super::pod_failures::{Failing, Refusal};
use super::template::Template;
use crate::clock::Jumps;
use crate::engine::interface::Now;
use crate::engine::term::Term;
use crate::engine::world::World;
use crate::jobs::attempt::AWAY_LIMIT;
use crate::links::renewal;
use crate::names::WorkerRef;

/// One pool and what surrounds it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub generation: Option<i64>,
    pub spec: ModelPoolSpec,
    /// The newest status that the API server has confirmed.
    pub status: ModelPoolStatus,
    /// Value of the annotation that asks for new links.
    pub renew_links: Option<String>,
    pub now: Timestamp,
    /// How the clock has jumped.
    pub jumps: Jumps,
    /// Since when this replica leads: workers get a while from then on to dial in.
    pub leads_since: Timestamp,
    /// What the workers' pods are made from, besides the spec.
    pub revision: String,
    /// The pods that the pool owns.
    pub pods: Vec<PodSnapshot>,
    /// Digests of the weights that are in the store.
    pub received: BTreeSet<String>,
    /// Why the store could not be asked whether the others have come, if so.
    pub store_error: Option<String>,
    /// What the API server said when it last refused a pod of this pool.
    pub refused: Option<Refusal>,
    /// Why requests about its pods fail, if several did in a row.
    pub failing: Failing,
    /// That others delete its pods before they run, if so.
    pub deleted: Option<Refusal>,
    /// The pool is being deleted, and these finalizers keep it; none if it is not.
    pub kept_by: Vec<String>,
}

/// One pod.
#[derive(Clone, Debug, PartialEq)]
pub struct PodSnapshot {
    pub worker: WorkerRef,
    pub revision: String,
    pub phase: Phase,
    /// Why it does not run, in the kubelet's or the scheduler's words.
    pub problem: Option<PodProblem>,
    /// What it waits for, if that may end by itself; of a pod that is being deleted, who deletes it, if the pod says so.
    pub waits_for: Option<PodProblem>,
    pub protection: Protection,
    pub stream: Option<StreamSnapshot>,
    /// Attempts that are open on it, or about to be, as the jobs' statuses say: its work, though its stream may not be there yet.
    pub bound: usize,
}

/// What a pod asks of node autoscalers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// What the pool's template says, or a person: it is not the operator's to change.
    Given,
    /// To be left where it is.
    On,
    /// Nothing.
    Off,
}

/// Where a pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not running yet.
    Pending,
    /// Its container runs.
    Running,
    /// It ended for good, at that time.
    Ended { at: Timestamp },
    /// It is being deleted.
    Ending,
}

/// Why a pod does not run: a reason of the pool's Ready condition, and a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodProblem {
    pub reason: &'static str,
    pub message: String,
}

/// What a pod's worker says on its stream.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamSnapshot {
    pub is_connected: bool,
    /// Whether it gets no new task.
    pub is_drained: bool,
    /// Tasks that it holds.
    pub tasks: usize,
    /// When its last task ended, if that was observed.
    pub last_busy: Option<Timestamp>,
    /// Why it has no device, if so.
    pub device_error: Option<String>,
    /// Its models: their digest, and their state.
    pub models: BTreeMap<String, (String, ModelState)>,
    /// The pipelines that it does.
    pub pipelines: Vec<String>,
}

impl Snapshot {
    /// How many workers there should be.
    #[must_use]
    pub fn wanted(&self) -> usize {
        if !self.kept_by.is_empty() {
            return 0;
        }
        usize::try_from(self.spec.replicas).unwrap_or(0)
    }

    /// Until when no pod is made, if the last ones were refused or deleted by others.
    #[must_use]
    pub fn pods_wait_until(&self) -> Option<Timestamp> {
        let refused = self.refused.as_ref();
        let refused = refused.filter(|refused| refused.holds_back(self.generation, self.now));
        let deleted = self.deleted.as_ref();
        let deleted = deleted.filter(|deleted| deleted.holds_back(None, self.now));
        let waits = refused.into_iter().chain(deleted);
        waits.map(|wait| wait.retry_at).max()
    }

    /// How long ago that was, whatever the clock showed then.
    #[must_use]
    pub fn elapsed(&self, since: Timestamp) -> SignedDuration {
        self.now.duration_since(self.jumps.shifted(since))
    }

    /// Whether every worker that is there has had the time to dial in.
    #[must_use]
    pub fn is_all_heard(&self) -> bool {
        self.elapsed(self.leads_since) >= AWAY_LIMIT
    }

    /// How long the status of an earlier term still holds, because workers that served then may be about to dial in.
    #[must_use]
    pub fn inherits_status_for(&self) -> Option<SignedDuration> {
        // A worker that has just dialled in has not said yet which models it has.
        let has_said_all = |pod: &PodSnapshot| {
            let mut models = self.spec.models.iter();
            let stream = pod.stream.as_ref();
            stream.is_some_and(|stream| models.all(|model| stream.models.contains_key(&model.name)))
        };
        let mut running = self.pods.iter().filter(|pod| pod.phase == Phase::Running);
        let is_one_expected = running.any(|pod| !has_said_all(pod));
        let is_of_spec =
            self.generation.is_some() && self.status.observed_generation == self.generation;
        let left = AWAY_LIMIT.checked_sub(self.elapsed(self.leads_since))?;
        (is_one_expected && is_of_spec && self.kept_by.is_empty() && left.is_positive())
            .then_some(left)
    }
}

impl PodSnapshot {
    /// Whether it counts as one of the replicas.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        match self.phase {
            Phase::Pending | Phase::Running => true,
            Phase::Ended { .. } | Phase::Ending => false,
        }
    }

    /// Whether it holds no task, and none is on its way. A worker that has not dialled in yet may hold what nobody knows of.
    #[must_use]
    pub fn is_idle(&self, is_all_heard: bool) -> bool {
        let is_silent = self.phase == Phase::Running && self.stream.is_none() && !is_all_heard;
        let tasks = self.stream.as_ref().map_or(0, |stream| stream.tasks);
        tasks == 0 && self.bound == 0 && !is_silent
    }

    /// Whether its worker tries in vain to get the weights of a model.
    #[must_use]
    pub fn waits_for_weights(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| {
            let mut states = stream.models.values().map(|(_, state)| state);
            states.any(|state| matches!(state, ModelState::Loading { error: Some(_) }))
        })
    }

    /// Whether its worker takes tasks for any of these models, or tasks without one where there are none.
    #[must_use]
    pub fn takes_tasks(&self, models: &[framewright_crds::modelpool::Model]) -> bool {
        self.phase == Phase::Running
            && self.stream.as_ref().is_some_and(|stream| {
                let mut states = stream.models.values().map(|(_, state)| state);
                stream.is_connected
                    && stream.device_error.is_none()
                    && (models.is_empty() || states.any(|state| *state == ModelState::Ready))
            })
    }

    /// Whether its worker takes tasks for all these models.
    #[must_use]
    pub fn is_ready(&self, models: &[framewright_crds::modelpool::Model]) -> bool {
        self.phase == Phase::Running
            && self.stream.as_ref().is_some_and(|stream| {
                stream.is_connected
                    && stream.device_error.is_none()
                    && models.iter().all(|model| {
                        matches!(stream.models.get(&model.name), Some((_, ModelState::Ready)))
                    })
            })
    }
}

/// Takes the snapshot of one pool. Also notes which of its pods are gone.
pub(crate) fn take(
    world: &World,
    term: &mut Term,
    pool: &ModelPool,
    template: &Template,
    (now, jumps): (Now, &Jumps),
) -> Snapshot {
    let namespace = pool.namespace().unwrap_or_default();
    let uid = pool.uid().unwrap_or_default();
    let state = term.pools.get(&uid);
    let pods = match state.and_then(|state| state.live.as_ref()) {
        Some(live) => live
            .iter()
            .filter(|pod| is_of(pod, &namespace, &uid))
            .cloned()
            .collect(),
        None => world.pods_of(&uid),
    };
    let annotations = template.pod.metadata.annotations.as_ref();
    let see = |pod: &Arc<Pod>| {
        let uid = pod.uid().unwrap_or_default();
        let bound = term.scheduler.bound(&uid).map_or(0, BTreeSet::len);
        pod_snapshot(
            pod,
            annotations,
            term.sessions.stream_seen(&uid),
            bound,
            now.wall,
        )
    };
    let mut pods: Vec<PodSnapshot> = pods.iter().map(see).collect();
    pods.sort_by(|a, b| a.worker.cmp(&b.worker));
    match state {
        Some(state) if state.live.is_some() => {
            if state.is_list_new {
                term.deleted.listed(&uid, &pods, now.wall);
            }
        }
        Some(_) | None => term.deleted.observe(&uid, &pods),
    }
    let status = pool.status.clone().unwrap_or_default();
    let received = term.files.received(&uid, &status.files);
    let awaits = status
        .files
        .iter()
        .any(|file| !received.contains(file.sha256()));
    Snapshot {
        name: pool.name_any(),
        generation: pool.metadata.generation,
        spec: pool.spec.clone(),
        renew_links: renewal(pool.annotations()),
        now: now.wall,
        jumps: jumps.clone(),
        leads_since: term.since,
        revision: template.revision.clone(),
        refused: term.refusals.get(&uid),
        failing: term.failures.get(&uid),
        deleted: term.deleted.get(&uid),
        kept_by: kept_by(&pool.metadata),
        store_error: term.files.error().filter(|_| awaits).cloned(),
        namespace,
        uid,
        status,
        pods,
        received,
    }
}

fn is_of(pod: &Pod, namespace: &str, pool_uid: &str) -> bool {
    pod.namespace().as_deref() == Some(namespace)
        && pool_of(pod).is_some_and(|(_, uid)| uid == pool_uid)
}
