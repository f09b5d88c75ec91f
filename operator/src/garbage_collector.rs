//! Deletes artifacts whose owner is gone.
//!
//! A watch that does not show an object proves nothing: before anything is deleted, a live list says that its owner is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use framewright_crds::names::OwnerKind;
use framewright_crds::{AIJob, ModelPool};
use kube::api::{Api, ListParams};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use crate::context::Context;
use crate::event_loop::Input;
use framewright_store::client::StoreError;
use framewright_store::key::Owner;

const EVERY: Duration = Duration::from_secs(2);
/// The store is looked through every so many rounds, and whenever something was deleted.
const SWEEP_EVERY: u32 = 150;
/// The most rounds between two tries that fail.
const LONGEST_WAIT: u32 = 30;

/// Why something was not cleared; it is tried again.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot list owners of artifacts in namespace {namespace}")]
    List {
        namespace: String,
        source: Box<kube::Error>,
    },
    #[error("the store did not do what was asked")]
    Store(#[source] StoreError),
}

/// Runs the garbage collector until the process ends.
pub async fn run(context: Arc<Context>) {
    // Rounds to wait before a failed try is repeated, and how many it was the last time.
    let mut last_wait = 0;
    let mut due = Instant::now();
    loop {
        let is_deleted = tokio::select! {
            () = context.deleted.notified() => true,
            () = tokio::time::sleep_until(due.into()) => false,
        };
        // Of many deletions at once one round clears them all.
        tokio::time::sleep(EVERY).await;
        if context.leadership.epoch().is_none() || (is_deleted && last_wait > 0) {
            due = due.max(Instant::now() + EVERY);
            continue;
        }
        let Some(known) = known_owners(&context).await else {
            due = Instant::now() + EVERY;
            continue;
        };
        match sweep(&context, &known).await {
            Ok(()) => {
                last_wait = 0;
                due = Instant::now() + EVERY * SWEEP_EVERY;
            }
            Err(error) => {
                last_wait = (last_wait * 2).clamp(1, LONGEST_WAIT);
                due = Instant::now() + EVERY * last_wait;
                tracing::warn!(error = %crate::chain(&error), again_in = ?(EVERY * last_wait), "cannot delete artifacts of owners that are gone");
            }
        }
    }
}

/// UIDs of all jobs and pools that the watches show; none while they are not complete.
async fn known_owners(context: &Context) -> Option<BTreeSet<String>> {
    let (ask, answer) = oneshot::channel();
    context.send(Input::KnownOwners(ask)).await;
    answer.await.ok().flatten()
}

/// Deletes artifacts whose owner is gone. What stands in the way of one namespace or owner holds up no other; the first such problem
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
    let mut problem = None;
    for ((namespace, kind), owners) in suspects {
        let live = match kind {
            OwnerKind::AIJobs => live_uids::<AIJob>(context, &namespace).await,
            OwnerKind::ModelPools => live_uids::<ModelPool>(context, &namespace).await,
        };
        let live = match live {
            Ok(live) => live,
            Err(error) => {
                problem.get_or_insert(error);
                continue;
            }
        };
        for owner in owners.iter().filter(|owner| !live.contains(owner.uid())) {
            match context.store.delete(owner).await {
                Ok(deleted) => {
                    tracing::info!(%namespace, owner = owner.uid(), artifacts = deleted, "artifacts deleted with their owner");
                }
                Err(error) => {
                    problem.get_or_insert(Error::Store(error));
                }
            }
        }
    }
    problem.map_or(Ok(()), Err)
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
