//! Clears what outlived its object: tasks of jobs that are gone, artifacts whose owner is gone, and memories of both.
//!
//! A cache that does not show an object proves nothing: before anything is stopped or deleted, a live read says that it is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use framewright_crds::names::OwnerKind;
use framewright_crds::wire::Order;
use framewright_crds::{AIJob, ModelPool};
use kube::api::{Api, ListParams};
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::context::Context;
use crate::stream::fleet::Stray;
use framewright_store::client::StoreError;
use framewright_store::key::Owner;

const EVERY: Duration = Duration::from_secs(2);
/// The store is swept every so many rounds, and whenever something was deleted.
const SWEEP_EVERY: u32 = 150;
/// The most rounds between two tries of a sweep that fails.
const LONGEST_WAIT: u32 = 30;

/// Why something was not cleared; it is tried again.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot list owners of artifacts in namespace {namespace}")]
    List {
        namespace: String,
        source: Box<kube::Error>,
    },
    #[error("the store does not help")]
    Store(#[source] StoreError),
}

/// Clears for ever.
pub async fn run(context: Arc<Context>) {
    let mut round: u32 = 0;
    let mut known = BTreeSet::new();
    // Rounds to wait before a failed sweep is tried again, and how many it was the last time.
    let (mut wait, mut last_wait) = (0_u32, 0);
    loop {
        tokio::time::sleep(EVERY).await;
        if context.leadership.epoch().is_none() {
            continue;
        }
        let now_known = known_owners(&context);
        let is_one_gone = known.iter().any(|uid| !now_known.contains(uid));
        forget(&context, &now_known);
        stop_strays(&context).await;
        wait = wait.saturating_sub(1);
        let is_due = is_one_gone || round.is_multiple_of(SWEEP_EVERY);
        round = round.wrapping_add(1);
        if !is_due {
            known = now_known;
        } else if wait == 0 {
            match sweep(&context, &now_known).await {
                Ok(()) => {
                    known = now_known;
                    last_wait = 0;
                }
                Err(error) => {
                    last_wait = (last_wait * 2).clamp(1, LONGEST_WAIT);
                    wait = last_wait;
                    tracing::warn!(error = %crate::chain(&error), again_in = ?(EVERY * wait), "cannot sweep the store");
                }
            }
        }
    }
}

/// UIDs of all jobs and pools in the caches.
fn known_owners(context: &Context) -> BTreeSet<String> {
    let jobs = context
        .caches
        .jobs
        .state()
        .into_iter()
        .filter_map(|job| job.uid());
    let pools = context
        .caches
        .pools
        .state()
        .into_iter()
        .filter_map(|pool| pool.uid());
    jobs.chain(pools).collect()
}

fn forget(context: &Context, known: &BTreeSet<String>) {
    let now = context.now();
    let is_known = |uid: &str| known.contains(uid);
    context.recent_jobs.forget_old(now);
    context.recent_pools.forget_old(now);
    context.leaving.forget_old(now);
    context.received.retain(is_known);
    context.refusals.retain(is_known);
    context.failures.retain(is_known);
    context.deleted.retain(is_known);
    context.placements.retain(is_known);
    let pods = &context.caches.pods;
    context.fleet.retain(now, |worker| {
        pods.get(&ObjectRef::new(&worker.name).within(&worker.namespace))
            .is_some_and(|pod| pod.uid().as_deref() == Some(worker.uid.as_str()))
    });
}

/// Has workers stop tasks of jobs that are gone, or going: a finalizer may keep a deleted job for as long as it likes, but no worker.
/// One that cannot be looked up holds up no other.
async fn stop_strays(context: &Context) {
    let known: BTreeSet<String> = context
        .caches
        .jobs
        .state()
        .into_iter()
        .filter(|job| job.meta().deletion_timestamp.is_none())
        .filter_map(|job| job.uid())
        .collect();
    for Stray { task, job, worker } in context.fleet.strays(|uid| known.contains(uid)) {
        let Some((namespace, name)) = job.split_once('/') else {
            continue;
        };
        let jobs: Api<AIJob> = Api::namespaced(context.client.clone(), namespace);
        let found = match jobs.get_metadata_opt(name).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%job, error = %crate::chain(&error), "cannot tell whether a task's job is deleted");
                continue;
            }
        };
        let is_wanted = found.is_some_and(|found| {
            found.uid().as_deref() == Some(task.job_uid.as_str())
                && found.metadata.deletion_timestamp.is_none()
        });
        if is_wanted {
            continue;
        }
        tracing::info!(%job, %task, worker = %worker.name, "task cancelled, its job is deleted");
        if context
            .fleet
            .send(&worker.uid, Order::Cancel { task: task.clone() })
        {
            context.fleet.forget(&worker.uid, &task, context.now());
            context.wake.scheduler.notify_one();
        }
    }
}

/// Deletes artifacts whose owner is gone. What stands in the way of one namespace or owner holds up no other; the first such trouble
/// is told at the end.
async fn sweep(context: &Context, known: &BTreeSet<String>) -> Result<(), Error> {
    let stored = context.store.owners().await.map_err(Error::Store)?;
    let mut suspects: BTreeMap<(String, OwnerKind), Vec<Owner>> = BTreeMap::new();
    let owners = stored
        .iter()
        .filter_map(|stored| Owner::parse(&stored.owner).ok());
    for owner in owners.filter(|owner| !known.contains(owner.uid())) {
        suspects
            .entry((owner.namespace().to_owned(), owner.kind()))
            .or_default()
            .push(owner);
    }
    let mut trouble = None;
    for ((namespace, kind), owners) in suspects {
        let live = match kind {
            OwnerKind::AIJobs => live_uids::<AIJob>(context, &namespace).await,
            OwnerKind::ModelPools => live_uids::<ModelPool>(context, &namespace).await,
        };
        let live = match live {
            Ok(live) => live,
            Err(error) => {
                trouble.get_or_insert(error);
                continue;
            }
        };
        for owner in owners.iter().filter(|owner| !live.contains(owner.uid())) {
            match context.store.delete(owner).await {
                Ok(deleted) => {
                    tracing::info!(%namespace, owner = owner.uid(), artifacts = deleted, "artifacts deleted with their owner");
                }
                Err(error) => {
                    trouble.get_or_insert(Error::Store(error));
                }
            }
        }
    }
    trouble.map_or(Ok(()), Err)
}

async fn live_uids<K>(context: &Context, namespace: &str) -> Result<BTreeSet<String>, Error>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(context.client.clone(), namespace);
    let failed = |source| Error::List {
        namespace: namespace.to_owned(),
        source: Box::new(source),
    };
    let mut uids = BTreeSet::new();
    let mut params = ListParams::default().limit(500);
    loop {
        let page = api.list_metadata(&params).await.map_err(failed)?;
        uids.extend(page.items.iter().filter_map(ResourceExt::uid));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(uids),
        }
    }
}
