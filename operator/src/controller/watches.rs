//! The watches that fill the caches, and what each event wakes.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use framewright_crds::names::LABEL_POOL;
use framewright_crds::{AIJob, ModelPool};
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{self, ReflectHandle};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::context::{Caches, Context, Guarded};
use framewright_core::pools::pod::pool_of;
use framewright_core::trim::{trim, trim_own};

/// The kinds that are watched.
pub(super) const WATCHED: [&str; 4] = ["aijobs", "modelpools", "pods", "namespaces"];
/// A watch that says nothing for so long is dead.
const WATCH_SECONDS: u32 = 60;
/// Objects that a slow controller may lag behind its watch.
const LAG: usize = 1024;

/// The watches that have listed once.
pub(super) type Filled = BTreeSet<&'static str>;

/// Objects that changed, after they are in the caches. There is one for each shared cache.
pub(super) struct Changes {
    pub(super) jobs: Option<ReflectHandle<Guarded<AIJob>>>,
    pub(super) pools: Option<ReflectHandle<Guarded<ModelPool>>>,
}

/// The writing ends of the caches.
pub(super) struct Watches {
    pub(super) caches: Caches,
    jobs: reflector::store::Writer<Guarded<AIJob>>,
    pools: reflector::store::Writer<Guarded<ModelPool>>,
    pods: reflector::store::Writer<Pod>,
    namespaces: reflector::store::Writer<PartialObjectMeta<Namespace>>,
}

impl Watches {
    pub(super) fn new() -> Watches {
        let (jobs_store, jobs) = reflector::store_shared(LAG);
        let (pools_store, pools) = reflector::store_shared(LAG);
        let (pods_store, pods) = reflector::store();
        let (namespaces_store, namespaces) = reflector::store();
        let caches = Caches {
            jobs: jobs_store,
            pools: pools_store,
            pods: pods_store,
            namespaces: namespaces_store,
        };
        Watches {
            caches,
            jobs,
            pools,
            pods,
            namespaces,
        }
    }

    /// The changes that reconcilers look at.
    pub(super) fn changes(&self) -> Changes {
        Changes {
            jobs: self.jobs.subscribe(),
            pools: self.pools.subscribe(),
        }
    }

    /// Starts the watches. `fill` tells which have listed once.
    pub(super) fn start(
        self,
        context: &Arc<Context>,
        fill: &watch::Sender<Filled>,
        background: &mut JoinSet<()>,
    ) {
        let Watches {
            caches: _,
            jobs,
            pools,
            pods,
            namespaces,
        } = self;
        let client = &context.client;
        let config = || watcher::Config::default().timeout(WATCH_SECONDS);

        let watched = watcher(Api::<Guarded<AIJob>>::all(client.clone()), config())
            .modify(trim_own)
            .default_backoff()
            .reflect_shared(jobs);
        background.spawn(drive(
            "aijobs",
            watched,
            (Arc::clone(context), fill.clone()),
            |context, event| {
                // The scheduler looks at new jobs, and the room that a deleted one leaves.
                if matches!(
                    event,
                    watcher::Event::Apply(_) | watcher::Event::InitDone | watcher::Event::Delete(_)
                ) {
                    context.wake.scheduler.notify_one();
                }
            },
        ));
        let watched = watcher(Api::<Guarded<ModelPool>>::all(client.clone()), config())
            .modify(trim_own)
            .default_backoff()
            .reflect_shared(pools);
        background.spawn(drive(
            "modelpools",
            watched,
            (Arc::clone(context), fill.clone()),
            |context, _| context.wake.scheduler.notify_one(),
        ));
        let watched = watcher(Api::<Pod>::all(client.clone()), config().labels(LABEL_POOL))
            .modify(trim)
            .default_backoff()
            .reflect(pods);
        background.spawn(drive(
            "pods",
            watched,
            (Arc::clone(context), fill.clone()),
            |context, event| match event {
                watcher::Event::Apply(pod) | watcher::Event::Delete(pod) => {
                    pod_changed(context, pod)
                }
                watcher::Event::InitApply(pod) if pod.metadata.deletion_timestamp.is_some() => {
                    pod_changed(context, pod)
                }
                watcher::Event::Init | watcher::Event::InitApply(_) | watcher::Event::InitDone => {}
            },
        ));
        let watched = watcher(
            Api::<PartialObjectMeta<Namespace>>::all(client.clone()),
            config(),
        )
        .modify(trim)
        .default_backoff()
        .reflect(namespaces);
        background.spawn(drive(
            "namespaces",
            watched,
            (Arc::clone(context), fill.clone()),
            |context, _| context.wake.scheduler.notify_one(),
        ));
    }
}

/// Runs one watch for ever, and shows each event to `look`.
async fn drive<K: Debug>(
    what: &'static str,
    watched: impl Stream<Item = watcher::Result<watcher::Event<K>>>,
    (context, fill): (Arc<Context>, watch::Sender<Filled>),
    look: impl Fn(&Context, &watcher::Event<K>),
) {
    let mut watched = std::pin::pin!(watched);
    while let Some(event) = watched.next().await {
        match event {
            Ok(event) => {
                look(&context, &event);
                if matches!(event, watcher::Event::InitDone) {
                    fill.send_if_modified(|filled| filled.insert(what));
                }
            }
            Err(error) => tracing::warn!(what, error = %crate::chain(&error), "watch"),
        }
    }
}

/// A worker pod has changed: its pool looks, and so do the jobs that it works on.
fn pod_changed(context: &Context, pod: &Pod) {
    let (Some((pool, _)), Some(namespace)) = (pool_of(pod), pod.namespace()) else {
        return;
    };
    context.wake.pool(&namespace, &pool);
    if let Some(uid) = pod.uid() {
        if pod.metadata.deletion_timestamp.is_some() {
            context.leaving.note(&uid, context.now());
        }
        context.wake_jobs_on(&uid);
    }
}
