//! Writes a pool's status, if it changed, and tells people when its Ready condition has another reason.

use framewright_crds::ModelPool;
use framewright_crds::conditions::{get, pool, pool_reason};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::{Event, EventType};
use kube::{Resource, ResourceExt};

use crate::context::Context;
use crate::events;
use crate::status::Writer;
use crate::writes::Error;
use framewright_core::pools::plan::Plan;

/// Reasons that a person must do something about.
const TROUBLE: [&str; 11] = [
    pool_reason::WEIGHTS_FAILED,
    pool_reason::PODS_REFUSED,
    pool_reason::REQUESTS_FAILING,
    pool_reason::DEVICE_MISSING,
    pool_reason::UNSCHEDULABLE,
    pool_reason::IMAGE_PULL_FAILED,
    pool_reason::WORKER_CRASHING,
    pool_reason::CONTAINER_FAILING,
    pool_reason::NODE_NOT_READY,
    pool_reason::PODS_ENDED,
    pool_reason::DELETING,
];

/// # Errors
/// [`Error`]
pub async fn report(context: &Context, pool: &ModelPool, plan: &Plan) -> Result<(), Error> {
    if pool.status.as_ref() == Some(&plan.status) {
        return Ok(());
    }
    let writer = Writer {
        client: &context.client,
        leadership: &context.leadership,
        recent: &context.recent_pools,
    };
    let wanted = ModelPool {
        status: Some(plan.status.clone()),
        ..pool.clone()
    };
    if writer.write(wanted).await?.is_none() {
        return Ok(());
    }
    // Jobs that wait tell what for in the words of the pool.
    context.wake_waiting_jobs();
    context.wake.scheduler.notify_one();
    if let Some(ready) = news(pool, plan) {
        tell(context, pool, ready).await;
    }
    Ok(())
}

/// The Ready condition, if its reason is another one now.
fn news<'a>(pool: &ModelPool, plan: &'a Plan) -> Option<&'a Condition> {
    let old = pool
        .status
        .as_ref()
        .and_then(|status| get(&status.conditions, pool::READY));
    get(&plan.status.conditions, pool::READY)
        .filter(|new| old.map(|old| &old.reason) != Some(&new.reason))
}

async fn tell(context: &Context, pool: &ModelPool, ready: &Condition) {
    let Condition {
        reason, message, ..
    } = ready;
    let name = format!(
        "{}/{}",
        pool.namespace().unwrap_or_default(),
        pool.name_any()
    );
    tracing::info!(pool = %name, %reason, %message, "pool");
    let event = Event {
        type_: if TROUBLE.contains(&reason.as_str()) {
            EventType::Warning
        } else {
            EventType::Normal
        },
        reason: reason.clone(),
        note: Some(message.clone()),
        action: "Reconcile".to_owned(),
        secondary: None,
    };
    events::publish(context, event, &pool.object_ref(&())).await;
}
