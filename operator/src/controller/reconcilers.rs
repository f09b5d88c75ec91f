//! Runs the reconcilers of jobs and pools, each object with a backoff of its own.

use std::any::Any;
use std::fmt::Debug;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use framewright_crds::{AIJob, ModelPool};
use futures::channel::mpsc::UnboundedReceiver;
use futures::{FutureExt, Stream, StreamExt};
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};
use tokio::sync::watch;

use super::watches::Changes;
use crate::context::{Context, Guarded};
use crate::{jobs, pools};
use framewright_core::backoff::Backoff;

/// Objects that somebody wants looked at though they did not change.
pub(super) struct Woken {
    pub(super) jobs: UnboundedReceiver<ObjectRef<Guarded<AIJob>>>,
    pub(super) pools: UnboundedReceiver<ObjectRef<Guarded<ModelPool>>>,
}

/// Why a look failed.
#[derive(Debug, thiserror::Error)]
enum Failure<E: std::error::Error + 'static> {
    #[error(transparent)]
    Round(E),
    #[error("the operator has a defect that this object meets, please report it: {0}")]
    Panicked(String),
}

/// What a look comes to: a panic costs the object that was looked at, and no other.
async fn caught<E: std::error::Error + 'static>(
    look: impl Future<Output = Result<Action, E>>,
) -> Result<Action, Failure<E>> {
    match AssertUnwindSafe(look).catch_unwind().await {
        Ok(outcome) => outcome.map_err(Failure::Round),
        Err(panic) => Err(Failure::Panicked(said(&*panic))),
    }
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("it panicked")
        .to_owned()
}

/// Reconciles for ever: what changed, what was woken, and all of it when leadership comes.
pub(super) async fn run(context: Arc<Context>, changes: Changes, woken: Woken) {
    let limits = Config::default().concurrency(context.args.concurrency);
    let leads = || each_change(context.leadership.changes());
    // Both caches are shared ones, so both have changes.
    let (Some(jobs_changed), Some(pools_changed)) = (changes.jobs, changes.pools) else {
        return;
    };
    let jobs = Controller::for_shared_stream(jobs_changed, context.caches.jobs.clone())
        .with_config(limits.clone())
        .reconcile_on(woken.jobs)
        .reconcile_all_on(leads());
    let pools = Controller::for_shared_stream(pools_changed, context.caches.pools.clone())
        .with_config(limits)
        .reconcile_on(woken.pools)
        .reconcile_all_on(leads());
    futures::future::join(
        drain("aijob", jobs, Arc::clone(&context), jobs::reconcile),
        drain("modelpool", pools, Arc::clone(&context), pools::reconcile),
    )
    .await;
}

/// A stream of units, one for each change of leadership.
fn each_change(changes: watch::Receiver<Option<u64>>) -> impl Stream<Item = ()> + Send + 'static {
    futures::stream::unfold(changes, |mut changes| async move {
        changes.changed().await.ok()?;
        Some(((), changes))
    })
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
            let outcome = caught(reconcile(object, Arc::clone(&context))).await;
            context
                .metrics
                .reconciled(kind, started.elapsed(), outcome.is_err());
            if outcome.is_ok() {
                successes.succeeded(&key);
            }
            outcome
        }
    };
    let on_error = move |object: Arc<Guarded<K>>, error: &Failure<E>, _: Arc<Context>| {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_failure_of_the_object_that_was_looked_at() {
        let count = i32::MAX;
        let look = async {
            let more = count
                .checked_add(1)
                .unwrap_or_else(|| panic!("{count} is too many"));
            Ok::<_, std::io::Error>(Action::requeue(std::time::Duration::from_secs(
                more.unsigned_abs().into(),
            )))
        };
        let failure = caught(look).await.expect_err("it panics").to_string();
        assert!(failure.ends_with("2147483647 is too many"), "{failure}");
    }
}
