//! Writes a pool's status, if it changed, on top of the version that the plan was made from and no other.

use std::time::Duration;

use framewright_crds::ModelPool;
use framewright_crds::conditions::{get, pool};
use kube::ResourceExt;
use kube::api::{Api, PostParams};

use super::plan::Plan;
use crate::context::Context;

const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// What could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot write the status")]
    Write(#[source] Box<kube::Error>),
    #[error("the API server did not take the status in {} s", WRITE_LIMIT.as_secs())]
    Late,
    #[error("this replica no longer leads")]
    NotLeading,
}

/// # Errors
/// [`Error`], a conflict included: somebody wrote in between, so the plan is made anew.
pub async fn report(context: &Context, pool: &ModelPool, plan: &Plan) -> Result<(), Error> {
    if pool.status.as_ref() == Some(&plan.status) {
        return Ok(());
    }
    if context.leadership.epoch().is_none() {
        return Err(Error::NotLeading);
    }
    let namespace = pool.namespace().unwrap_or_default();
    let pools: Api<ModelPool> = Api::namespaced(context.client.clone(), &namespace);
    let mut wanted = pool.clone();
    wanted.metadata.managed_fields = None;
    wanted.status = Some(plan.status.clone());
    let name = pool.name_any();
    let params = PostParams::default();
    let writing = pools.replace_status(&name, &params, &wanted);
    let written = match tokio::time::timeout(WRITE_LIMIT, writing).await {
        Ok(Ok(written)) => written,
        Ok(Err(kube::Error::Api(status))) if status.is_not_found() => return Ok(()),
        Ok(Err(error)) => {
            context.recent_pools.forget(&pool.uid().unwrap_or_default());
            return Err(Error::Write(Box::new(error)));
        }
        Err(_) => return Err(Error::Late),
    };
    context.recent_pools.wrote(&written, context.now());
    log(pool, plan);
    // Jobs that wait tell what for in the words of the pool.
    context.wake_waiting_jobs();
    context.wake.scheduler.notify_one();
    Ok(())
}

fn log(pool: &ModelPool, plan: &Plan) {
    let before = pool
        .status
        .as_ref()
        .and_then(|status| get(&status.conditions, pool::READY));
    let after = get(&plan.status.conditions, pool::READY);
    if before.map(|ready| &ready.reason) != after.map(|ready| &ready.reason)
        && let Some(ready) = after
    {
        let pool = format!(
            "{}/{}",
            pool.namespace().unwrap_or_default(),
            pool.name_any()
        );
        tracing::info!(%pool, reason = %ready.reason, message = %ready.message, "pool");
    }
}
