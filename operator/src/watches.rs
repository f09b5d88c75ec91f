//! The watches: what the API server shows of jobs, pools, pods and namespaces, as events for the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

use framewright_core::engine::interface::{Change, Event, Read};
use framewright_core::trim::{trim, trim_own};
use framewright_crds::names::LABEL_POOL;
use framewright_crds::{AIJob, ModelPool};
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::context::{Context, name_of};
use crate::event_loop::Input;

/// The kinds that are watched.
pub const WATCHED: [&str; 4] = ["aijobs", "modelpools", "pods", "namespaces"];
/// A watch that says nothing for so long is dead.
const WATCH_SECONDS: u32 = 60;

/// The watches that have listed once.
pub type Filled = BTreeSet<&'static str>;

/// An object that may be malformed: it then stops nobody else.
type Guarded<K> = DeserializeGuard<K>;

/// Starts the watches. `fill` tells which have listed once.
pub fn start(context: &Arc<Context>, fill: &watch::Sender<Filled>, background: &mut JoinSet<()>) {
    let client = &context.client;
    let config = || watcher::Config::default().timeout(WATCH_SECONDS);
    let jobs = watcher(Api::<Guarded<AIJob>>::all(client.clone()), config())
        .modify(trim_own)
        .default_backoff();
    let pools = watcher(Api::<Guarded<ModelPool>>::all(client.clone()), config())
        .modify(trim_own)
        .default_backoff();
    let pods =
        watcher(Api::<Pod>::all(client.clone()), config().labels(LABEL_POOL)).default_backoff();
    let around = || (Arc::clone(context), fill.clone());
    background.spawn(drive("aijobs", jobs, around(), read_guarded, |change| {
        vec![Event::Job(change)]
    }));
    background.spawn(drive(
        "modelpools",
        pools,
        around(),
        read_guarded,
        |change| vec![Event::Pool(change)],
    ));
    background.spawn(drive("pods", pods, around(), read_plain, |change| {
        vec![Event::Pod(change)]
    }));
    background.spawn(namespaces(client.clone(), around()));
}

/// Runs one watch for ever.
async fn drive<K, O>(
    what: &'static str,
    watched: impl Stream<Item = watcher::Result<watcher::Event<K>>>,
    (context, fill): (Arc<Context>, watch::Sender<Filled>),
    read: impl Fn(K) -> Read<O>,
    events: impl Fn(Change<O>) -> Vec<Event>,
) where
    K: Resource + Clone + Debug,
{
    let mut watched = std::pin::pin!(watched);
    let mut list = Vec::new();
    while let Some(event) = watched.next().await {
        let changes = match event {
            Ok(watcher::Event::Init) => {
                list.clear();
                continue;
            }
            Ok(watcher::Event::InitApply(object)) => {
                list.push(read(object));
                continue;
            }
            Ok(watcher::Event::InitDone) => vec![Change::Listed(std::mem::take(&mut list))],
            Ok(watcher::Event::Apply(object)) => vec![Change::Applied(read(object))],
            Ok(watcher::Event::Delete(object)) => {
                context.deleted.notify_one();
                let (name, uid) = (name_of(&object), object.uid().unwrap_or_default());
                let is_marked = object.meta().deletion_timestamp.is_some();
                // What it was at last tells that its deletion was asked for.
                let last = is_marked.then(|| Change::Applied(read(object)));
                last.into_iter()
                    .chain([Change::Deleted { name, uid }])
                    .collect()
            }
            Err(error) => {
                tracing::warn!(what, error = %crate::chain(&error), "watch");
                continue;
            }
        };
        let is_list = matches!(changes.as_slice(), [Change::Listed(_)]);
        for event in changes.into_iter().flat_map(&events) {
            context.send(Input::Event(event)).await;
        }
        if is_list {
            fill.send_if_modified(|filled| filled.insert(what));
        }
    }
}

fn read_guarded<K>(object: Guarded<K>) -> Read<K>
where
    Guarded<K>: Resource,
{
    let name = name_of(&object);
    let uid = object.meta().uid.clone().unwrap_or_default();
    let version = object.meta().resource_version.clone().unwrap_or_default();
    match object.0 {
        Ok(object) => Read::Object(Box::new(object)),
        Err(invalid) => Read::Unreadable {
            name,
            uid,
            version,
            error: invalid.error,
        },
    }
}

fn read_plain<K>(object: K) -> Read<K> {
    Read::Object(Box::new(object))
}

/// Namespaces matter by their labels alone.
async fn namespaces(client: Client, (context, fill): (Arc<Context>, watch::Sender<Filled>)) {
    let config = watcher::Config::default().timeout(WATCH_SECONDS);
    let watched = watcher(Api::<PartialObjectMeta<Namespace>>::all(client), config)
        .modify(trim)
        .default_backoff();
    let mut watched = std::pin::pin!(watched);
    let mut list = BTreeMap::new();
    let labels = |namespace: &PartialObjectMeta<Namespace>| namespace.labels().clone();
    while let Some(event) = watched.next().await {
        let event = match event {
            Ok(watcher::Event::Init) => {
                list.clear();
                continue;
            }
            Ok(watcher::Event::InitApply(namespace)) => {
                list.insert(namespace.name_any(), labels(&namespace));
                continue;
            }
            Ok(watcher::Event::InitDone) => Event::NamespacesListed(std::mem::take(&mut list)),
            Ok(watcher::Event::Apply(namespace)) => Event::Namespace {
                name: namespace.name_any(),
                labels: Some(labels(&namespace)),
            },
            Ok(watcher::Event::Delete(namespace)) => Event::Namespace {
                name: namespace.name_any(),
                labels: None,
            },
            Err(error) => {
                tracing::warn!(what = "namespaces", error = %crate::chain(&error), "watch");
                continue;
            }
        };
        let is_list = matches!(event, Event::NamespacesListed(_));
        context.send(Input::Event(event)).await;
        if is_list {
            fill.send_if_modified(|filled| filled.insert("namespaces"));
        }
    }
}
