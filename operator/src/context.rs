//! What every part of the running operator shares.

use std::sync::Arc;

use framewright_crds::aijob::StepState;
use framewright_crds::{AIJob, ModelPool};
use futures::channel::mpsc::UnboundedSender;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::events::Recorder;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, ResourceExt};
use tokio::sync::Notify;

use crate::args::RunArgs;
use crate::dispatch::gather;
use crate::dispatch::placements::Placements;
use crate::leadership::Leadership;
use crate::links::Links;
use crate::metrics::Metrics;
use crate::pools::leaving::Leaving;
use crate::pools::refusals::Refusals;
use crate::received::Received;
use crate::recent::Recent;
use crate::store::client::StoreClient;
use crate::stream::fleet::Fleet;

/// An object that may be malformed: it then stops nobody else.
pub type Guarded<K> = DeserializeGuard<K>;

/// Shared by all parts.
pub struct Context {
    pub client: Client,
    pub args: RunArgs,
    /// PEM of the authority that workers trust.
    pub authority: String,
    pub leadership: Leadership,
    pub caches: Caches,
    pub fleet: Fleet,
    pub placements: Placements,
    pub recent_jobs: Recent<AIJob>,
    pub recent_pools: Recent<ModelPool>,
    pub received: Received,
    pub refusals: Refusals,
    pub leaving: Leaving,
    pub links: Links,
    pub store: StoreClient,
    pub recorder: Recorder,
    pub metrics: Arc<Metrics>,
    pub wake: Wake,
}

/// What the watches have seen.
#[derive(Clone)]
pub struct Caches {
    pub jobs: Store<Guarded<AIJob>>,
    pub pools: Store<Guarded<ModelPool>>,
    pub pods: Store<Pod>,
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
}

/// Ways to have something looked at.
pub struct Wake {
    pub jobs: UnboundedSender<ObjectRef<Guarded<AIJob>>>,
    pub pools: UnboundedSender<ObjectRef<Guarded<ModelPool>>>,
    /// Something that the scheduler looks at has changed.
    pub scheduler: Notify,
}

impl Wake {
    /// Has a job looked at.
    pub fn job(&self, namespace: &str, name: &str) {
        // Fails only when the operator is ending.
        let _ = self
            .jobs
            .unbounded_send(ObjectRef::new(name).within(namespace));
    }

    /// Has a pool looked at.
    pub fn pool(&self, namespace: &str, name: &str) {
        let _ = self
            .pools
            .unbounded_send(ObjectRef::new(name).within(namespace));
    }
}

impl Context {
    /// Since when this replica leads; workers get a while from then on to dial in.
    #[must_use]
    pub fn leads_since(&self) -> Timestamp {
        let now = self.now();
        self.leadership.since(now).unwrap_or(now)
    }

    /// The time, as decisions see it.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    /// Has all jobs looked at that have an attempt on this pod, whether its worker knows of the task or not.
    pub fn wake_jobs_on(&self, pod_uid: &str) {
        for job in self.caches.jobs.state() {
            let Ok(job) = &job.0 else { continue };
            if gather::is_bound_to(job, pod_uid) {
                self.wake
                    .job(&job.namespace().unwrap_or_default(), &job.name_any());
            }
        }
    }

    /// Has all jobs looked at that wait for a worker.
    pub fn wake_waiting_jobs(&self) {
        for job in self.caches.jobs.state() {
            let Ok(job) = &job.0 else { continue };
            let waits = job
                .status
                .iter()
                .flat_map(|status| &status.steps)
                .any(|step| step.state == StepState::Queued);
            if waits {
                self.wake
                    .job(&job.namespace().unwrap_or_default(), &job.name_any());
            }
        }
    }
}
