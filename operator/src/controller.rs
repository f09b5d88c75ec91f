//! Wires watches, caches, reconcilers and the other tasks together, and ends them in order.
//!
//! Every replica watches, so that a standby's caches are warm; only the leader looks at objects, sends and writes.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use framewright_crds::aijob::StepState;
use framewright_crds::names::LABEL_POOL;
use framewright_crds::{AIJob, ModelPool};
use futures::channel::mpsc::{UnboundedReceiver, unbounded};
use futures::{Stream, StreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use kube::core::PartialObjectMeta;
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::{Notify, watch};

use crate::args::RunArgs;
use crate::backoff::Backoff;
use crate::certificates;
use crate::context::{Caches, Context, Guarded, Wake};
use crate::dispatch::placements::Placements;
use crate::jobs::plan::attempt;
use crate::leadership::Candidate;
use crate::link::fleet::Fleet;
use crate::link::{endpoint, server};
use crate::links::Links;
use crate::metrics::Metrics;
use crate::pools::observe::pool_of;
use crate::pools::refusals::Refusals;
use crate::received::Received;
use crate::recent::Recent;
use crate::store::client::StoreClient;
use crate::{dispatch, health, janitor, jobs, pools};

/// The kinds that are watched.
const WATCHED: [&str; 4] = ["aijobs", "modelpools", "pods", "namespaces"];
/// A watch that says nothing for so long is dead.
const WATCH_SECONDS: u32 = 60;
/// Objects that a slow controller may lag behind its watch.
const LAG: usize = 1024;
/// How often certificates are looked at.
const CERTIFICATES_EVERY: Duration = Duration::from_secs(3600);

/// Why the operator cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot find the API server's address")]
    Client(#[source] Box<kube::Error>),
    #[error("cannot prepare keys and certificates")]
    Certificates(#[source] certificates::Error),
    #[error("cannot make a client for the store")]
    Store(#[source] crate::store::client::ClientError),
    #[error("cannot use the link's certificate")]
    Tls(#[source] std::io::Error),
    #[error("cannot listen for {what}")]
    Listen {
        what: &'static str,
        source: std::io::Error,
    },
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// [`Error`] when it cannot start, or a listener fails.
pub async fn run(args: RunArgs) -> Result<(), Error> {
    let client = Client::try_default()
        .await
        .map_err(|error| Error::Client(Box::new(error)))?;
    let metrics = Arc::new(Metrics::default());
    let is_ready = Arc::new(AtomicBool::new(false));
    let health = tokio::spawn(health::serve(Arc::clone(&is_ready), Arc::clone(&metrics)));
    let keys = prepare(&client, &args).await?;
    let tls =
        axum_server::tls_rustls::RustlsConfig::from_pem(keys.link.0.clone(), keys.link.1.clone())
            .await
            .map_err(Error::Tls)?;
    let store = StoreClient::new(
        &args.store_url,
        keys.authority.as_bytes(),
        keys.signing.clone(),
    )
    .map_err(Error::Store)?;
    let links = Links::new(
        keys.signing.clone(),
        args.store_url.clone(),
        args.store_external_url.clone(),
    );

    let watches = Watches::new();
    let (fill, mut filled) = watch::channel(BTreeSet::new());
    let (jobs_wake, jobs_woken) = unbounded();
    let (pools_wake, pools_woken) = unbounded();
    let leases: Api<Lease> = Api::namespaced(client.clone(), &args.namespace);
    let identity = format!("{}_{}", args.pod_name, std::process::id());
    let (candidate, leadership) = Candidate::new(leases, args.lease.clone(), identity);
    let reporter = Reporter {
        controller: "framewright-operator".to_owned(),
        instance: Some(args.pod_name.clone()),
    };
    let context = Arc::new(Context {
        recorder: Recorder::new(client.clone(), reporter),
        authority: keys.authority.clone(),
        leadership: leadership.clone(),
        caches: watches.caches.clone(),
        fleet: Fleet::default(),
        placements: Placements::default(),
        recent_jobs: Recent::default(),
        recent_pools: Recent::default(),
        received: Received::default(),
        refusals: Refusals::default(),
        wake: Wake {
            jobs: jobs_wake,
            pools: pools_wake,
            scheduler: Notify::new(),
        },
        metrics,
        links,
        store,
        client: client.clone(),
        args,
    });

    let mut background = tokio::task::JoinSet::new();
    let controllers = watches.start(&context, &fill, &mut background, jobs_woken, pools_woken);
    background.spawn(dispatch::run(Arc::clone(&context)));
    background.spawn(janitor::run(Arc::clone(&context)));
    background.spawn(lead(Arc::clone(&context)));
    background.spawn(renew_certificates(Arc::clone(&context), tls.clone()));
    let link = tokio::spawn(server::serve(Arc::clone(&context), tls));
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    // A standby that could not serve must not lead: it takes part once its caches are full.
    let caches = context.caches.clone();
    let election = tokio::spawn(async move {
        if filled
            .wait_for(|lists| lists.len() == WATCHED.len())
            .await
            .is_err()
        {
            return;
        }
        tracing::info!(
            jobs = caches.jobs.len(),
            pools = caches.pools.len(),
            "caches are filled"
        );
        is_ready.store(true, Ordering::Release);
        candidate.run(async move { drop(ended.await) }).await;
    });

    let outcome = tokio::select! {
        () = shutdown() => Ok(()),
        ended = link => listener_ended("workers", ended),
        ended = health => listener_ended("health checks", ended),
        () = controllers => Ok(()),
    };
    tracing::info!("ending");
    context.fleet.clear();
    let _ = end.send(());
    let _ = tokio::time::timeout(Duration::from_secs(10), election).await;
    outcome
}

/// Keys and certificates; the API server may not be reachable in the first moments of a pod.
async fn prepare(client: &Client, args: &RunArgs) -> Result<certificates::Keys, Error> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &args.namespace);
    let mut tries = 0;
    loop {
        match certificates::ensure(
            &secrets,
            &args.namespace,
            &args.service,
            jiff::Timestamp::now(),
        )
        .await
        {
            Ok(keys) => return Ok(keys),
            Err(error) if tries < 10 => {
                tracing::warn!(error = %crate::chain(&error), "cannot prepare keys and certificates; trying again");
                tries += 1;
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            Err(error) => return Err(Error::Certificates(error)),
        }
    }
}

/// The watches that have listed once.
type Filled = BTreeSet<&'static str>;

/// The writing ends of the caches.
struct Watches {
    caches: Caches,
    jobs: reflector::store::Writer<Guarded<AIJob>>,
    pools: reflector::store::Writer<Guarded<ModelPool>>,
    pods: reflector::store::Writer<Pod>,
    namespaces: reflector::store::Writer<PartialObjectMeta<Namespace>>,
}

impl Watches {
    fn new() -> Watches {
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

    /// Starts the watches; the future runs both controllers.
    fn start(
        self,
        context: &Arc<Context>,
        fill: &watch::Sender<Filled>,
        background: &mut tokio::task::JoinSet<()>,
        jobs_woken: UnboundedReceiver<ObjectRef<Guarded<AIJob>>>,
        pools_woken: UnboundedReceiver<ObjectRef<Guarded<ModelPool>>>,
    ) -> impl Future<Output = ()> + use<> {
        let Watches {
            caches,
            jobs,
            pools,
            pods,
            namespaces,
        } = self;
        let client = &context.client;
        let jobs_changed = jobs.subscribe();
        let pools_changed = pools.subscribe();
        let config = || watcher::Config::default().timeout(WATCH_SECONDS);

        let watched = watcher(Api::<Guarded<AIJob>>::all(client.clone()), config())
            .modify(prune)
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
            .modify(prune)
            .default_backoff()
            .reflect_shared(pools);
        background.spawn(drive(
            "modelpools",
            watched,
            (Arc::clone(context), fill.clone()),
            |context, _| context.wake.scheduler.notify_one(),
        ));
        let watched = watcher(Api::<Pod>::all(client.clone()), config().labels(LABEL_POOL))
            .modify(prune)
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
                watcher::Event::Init | watcher::Event::InitApply(_) | watcher::Event::InitDone => {}
            },
        ));
        let watched = watcher(
            Api::<PartialObjectMeta<Namespace>>::all(client.clone()),
            config(),
        )
        .modify(prune)
        .default_backoff()
        .reflect(namespaces);
        background.spawn(drive(
            "namespaces",
            watched,
            (Arc::clone(context), fill.clone()),
            |context, _| context.wake.scheduler.notify_one(),
        ));

        let limits = Config::default().concurrency(context.args.concurrency);
        let leads = || each_change(context.leadership.changes());
        let jobs = jobs_changed.map(|changed| {
            let controller = Controller::for_shared_stream(changed, caches.jobs.clone())
                .with_config(limits.clone())
                .reconcile_on(jobs_woken)
                .reconcile_all_on(leads());
            drain("aijob", controller, Arc::clone(context), jobs::reconcile)
        });
        let pools = pools_changed.map(|changed| {
            let controller = Controller::for_shared_stream(changed, caches.pools.clone())
                .with_config(limits)
                .reconcile_on(pools_woken)
                .reconcile_all_on(leads());
            drain(
                "modelpool",
                controller,
                Arc::clone(context),
                pools::reconcile,
            )
        });
        async move {
            // Both stores are shared ones, so both subscriptions exist.
            if let (Some(jobs), Some(pools)) = (jobs, pools) {
                futures::future::join(jobs, pools).await;
            }
        }
    }
}

/// Half of an object's metadata that nobody reads.
fn prune<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
}

/// A stream of units, one for each change of leadership.
fn each_change(changes: watch::Receiver<Option<u64>>) -> impl Stream<Item = ()> + Send + 'static {
    futures::stream::unfold(changes, |mut changes| async move {
        changes.changed().await.ok()?;
        Some(((), changes))
    })
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

/// Runs one controller for ever, with a backoff of its own for each object.
async fn drain<K, E, F>(
    kind: &'static str,
    controller: Controller<Guarded<K>>,
    context: Arc<Context>,
    reconcile: impl Fn(Arc<Guarded<K>>, Arc<Context>) -> F + Copy + Send + Sync + 'static,
) where
    K: Resource<DynamicType = ()>
        + Clone
        + Debug
        + serde::de::DeserializeOwned
        + Send
        + Sync
        + 'static,
    Guarded<K>: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    E: std::error::Error + Send + Sync + 'static,
    F: Future<Output = Result<Action, E>> + Send + 'static,
{
    let backoff = Arc::new(Backoff::default());
    let successes = Arc::clone(&backoff);
    let look = move |object: Arc<Guarded<K>>, context: Arc<Context>| {
        let successes = Arc::clone(&successes);
        async move {
            let key = key_of(&*object);
            let started = Instant::now();
            let outcome = reconcile(object, Arc::clone(&context)).await;
            context
                .metrics
                .reconciled(kind, started.elapsed(), outcome.is_err());
            if outcome.is_ok() {
                successes.succeeded(&key);
            }
            outcome
        }
    };
    let on_error = move |object: Arc<Guarded<K>>, error: &E, _: Arc<Context>| {
        let wait = backoff.failed(&key_of(&*object));
        tracing::warn!(kind, object = %key_of(&*object), error = %crate::chain(error), ?wait, "trying again");
        Action::requeue(wait)
    };
    controller
        .run(look, on_error, context)
        .for_each(|_| futures::future::ready(()))
        .await;
}

fn key_of<K: Resource>(object: &K) -> String {
    format!(
        "{}/{}",
        object.namespace().unwrap_or_default(),
        object.name_any()
    )
}

/// A worker pod has changed: its pool looks, and so do the jobs that it works on.
fn pod_changed(context: &Context, pod: &Pod) {
    let (Some((pool, _)), Some(namespace)) = (pool_of(pod), pod.namespace()) else {
        return;
    };
    context.wake.pool(&namespace, &pool);
    let Some(uid) = pod.uid() else { return };
    for job in context.caches.jobs.state() {
        let Ok(job) = &job.0 else { continue };
        let is_on_it = job
            .status
            .iter()
            .flat_map(|status| &status.steps)
            .any(|step| attempt::open(step).is_some_and(|open| open.pod_uid == uid));
        if is_on_it {
            context
                .wake
                .job(&job.namespace().unwrap_or_default(), &job.name_any());
        }
    }
}

impl Context {
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

/// Leads workers here whenever leadership comes, and lets them go when it goes.
async fn lead(context: Arc<Context>) {
    let mut changes = context.leadership.changes();
    loop {
        let epoch = *changes.borrow_and_update();
        context.metrics.leads(epoch.is_some());
        match epoch {
            Some(epoch) => {
                tracing::info!(epoch, "this replica leads");
                point_here(&context).await;
            }
            None => context.fleet.clear(),
        }
        context.wake.scheduler.notify_one();
        if changes.changed().await.is_err() {
            return;
        }
    }
}

async fn point_here(context: &Context) {
    while context.leadership.epoch().is_some() {
        match endpoint::point_here(context.client.clone(), &context.args).await {
            Ok(()) => return,
            Err(error) => {
                tracing::warn!(error = %crate::chain(&error), "cannot lead the workers' Service here; trying again")
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn renew_certificates(context: Arc<Context>, tls: axum_server::tls_rustls::RustlsConfig) {
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), &context.args.namespace);
    loop {
        tokio::time::sleep(CERTIFICATES_EVERY).await;
        let ensured = certificates::ensure(
            &secrets,
            &context.args.namespace,
            &context.args.service,
            context.now(),
        )
        .await;
        let reloaded = match ensured {
            Ok(keys) => tls
                .reload_from_pem(keys.link.0, keys.link.1)
                .await
                .map_err(Error::Tls),
            Err(error) => Err(Error::Certificates(error)),
        };
        if let Err(error) = reloaded {
            tracing::warn!(error = %crate::chain(&error), "cannot renew certificates; trying again in an hour");
        }
    }
}

async fn shutdown() {
    let mut terminate =
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(terminate) => terminate,
            Err(error) => {
                tracing::warn!(%error, "cannot listen for SIGTERM");
                return std::future::pending().await;
            }
        };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

fn listener_ended(
    what: &'static str,
    ended: Result<std::io::Result<()>, tokio::task::JoinError>,
) -> Result<(), Error> {
    let source = match ended {
        Ok(Ok(())) => std::io::Error::other("it ended"),
        Ok(Err(error)) => error,
        Err(error) => std::io::Error::other(error),
    };
    Err(Error::Listen { what, source })
}
