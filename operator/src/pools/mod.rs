//! Reconciles one ModelPool: observe → plan → act → report.
//!
//! # Layout
//! - [`observe`]: finds out what is known about the pool
//! - [`act`]: makes, drains, deletes and protects pods, tells workers their models
//! - [`report`]: writes the status

pub mod act;
pub mod observe;
pub mod report;

use std::sync::Arc;
use std::time::Duration;

use framewright_crds::ModelPool;
use framewright_crds::deletion::goes_by_itself;
use kube::runtime::controller::Action;

use framewright_core::pools::failures::{Outcome, Request};
use framewright_core::pools::{plan, template};

use crate::context::{Context, Guarded};

/// Why a round failed. It is tried again, later each time.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot list the pool's pods")]
    List(#[source] crate::writes::Error),
    #[error("cannot act on the pool's pods")]
    Act(#[source] act::Error),
    #[error("cannot report on the pool")]
    Report(#[source] crate::writes::Error),
}

/// Looks at one pool.
///
/// # Errors
/// [`Error`] when the API server does not take a write.
pub async fn reconcile(
    pool: Arc<Guarded<ModelPool>>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    if context.leadership.epoch().is_none() {
        return Ok(Action::await_change());
    }
    let pool = match &pool.0 {
        Ok(pool) => pool,
        Err(invalid) => {
            crate::events::tell_invalid(&context, &pool, invalid).await;
            return Ok(Action::await_change());
        }
    };
    let pool = context.recent_pools.newest(pool);
    // Its pods go with it: they are owned. One that a finalizer keeps gives them back before.
    if goes_by_itself(&pool.metadata) {
        return Ok(Action::await_change());
    }
    let template = template::build(&pool, &context.template_settings());
    let mut seen = observe::observe(&pool, &template, &context);
    let mut plan = plan::plan(&seen, &context.links);
    let mut acted = Ok(());
    if !plan.create.is_empty() {
        // A cache that does not show a pod proves nothing: what is missing is told by the API server itself.
        match observe::live_pods(&seen, &template, &context).await {
            Ok(live) => {
                context
                    .failures
                    .note(&seen.uid, Request::List, Outcome::Answered);
                seen.pods = live;
                seen.deleted = context.deleted.get(&seen.uid);
                plan = plan::plan(&seen, &context.links);
            }
            Err(error) => {
                let error = Error::List(error);
                let told = Outcome::Failed(crate::chain(&error).to_string());
                context.failures.note(&seen.uid, Request::List, told);
                acted = Err(error);
            }
        }
    }
    if acted.is_ok() {
        acted = act::act(&context, &template, &seen, &plan)
            .await
            .map_err(Error::Act);
    }
    let refused = context.refusals.get(&seen.uid);
    let failing = context.failures.get(&seen.uid);
    if (&refused, &failing) != (&seen.refused, &seen.failing) {
        (seen.refused, seen.failing) = (refused, failing);
        plan::after_requests(&mut plan, &seen, &context.links);
    }
    // What was seen is told also when something could not be done: the links for uploads, the reasons of the pods.
    report::report(&context, &pool, &plan)
        .await
        .map_err(Error::Report)?;
    acted?;
    let look_again = plan
        .look_again
        .and_then(|wait| Duration::try_from(wait).ok());
    Ok(look_again.map_or_else(Action::await_change, Action::requeue))
}
