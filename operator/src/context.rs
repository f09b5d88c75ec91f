//! What every part of the running operator shares.

use std::sync::Arc;

use framewright_crds::aijob::StepState;
use framewright_crds::{AIJob, ModelPool};
use futures::channel::mpsc::UnboundedSender;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, ResourceExt};
use tokio::sync::Notify;

use framewright_core::jobs::plan::resolve::{NamespaceLabels, PoolFacts};
use framewright_core::pools::facts;
use framewright_core::pools::template::Settings;

use crate::args::RunArgs;
use crate::events::Recorder;
use crate::leadership::Leadership;
use crate::links::Links;
use crate::metrics::Metrics;
use crate::received::Received;
use crate::stream::fleet::Fleet;
use framewright_core::pools::deleted::Deleted;
use framewright_core::pools::failures::Failures;
use framewright_core::pools::leaving::Leaving;
use framewright_core::pools::refusals::Refusals;
use framewright_core::recent::Recent;
use framewright_core::schedule::gather;
use framewright_core::schedule::placements::Placements;
use framewright_store::client::StoreClient;

/// An object that may be malformed: it then stops nobody else.
pub type Guarded<K> = DeserializeGuard<K>;

/// Shared by all parts.
pub struct Context {
    pub client: Client,
    /// For requests about pods, which it sends once: an error is told in its own words, and the pool tries again.
    pub pods_client: Client,
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
    pub failures: Failures,
    pub deleted: Deleted,
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

    /// What jobs need to know about all pools, by name.
    #[must_use]
    pub fn pool_facts(&self) -> Vec<PoolFacts> {
        let mut facts: Vec<PoolFacts> = self
            .caches
            .pools
            .state()
            .iter()
            .filter_map(|pool| pool.0.as_ref().ok())
            .filter(|pool| pool.metadata.deletion_timestamp.is_none())
            .map(|pool| facts::of(&self.recent_pools.newest(pool)))
            .collect();
        facts.sort_by(|a, b| a.name.cmp(&b.name));
        facts
    }

    /// Labels of all namespaces.
    #[must_use]
    pub fn namespace_labels(&self) -> NamespaceLabels {
        let namespaces = self.caches.namespaces.state();
        namespaces
            .iter()
            .map(|namespace| (namespace.name_any(), namespace.labels().clone()))
            .collect()
    }

    /// What worker pods are made from, besides the pool.
    #[must_use]
    pub fn template_settings(&self) -> Settings {
        let args = &self.args;
        Settings {
            image: args.worker_image.clone(),
            image_cuda: args
                .worker_image_cuda
                .clone()
                .unwrap_or_else(|| args.worker_image.clone()),
            image_pull_policy: args.worker_image_pull_policy.clone(),
            operator: args.stream_address(),
            authority: self.authority.clone(),
            log: args.worker_log.clone(),
            fixed_user: args.worker_fixed_user,
        }
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
