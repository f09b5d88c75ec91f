//! Reconciles one AIJob: observe → plan → act → report.
//!
//! Orders to workers follow only from a status that is durable, so acting comes before reporting: what a report makes durable is
//! acted on in the next round, which follows at once. And they follow only from a status that the API server itself has told this
//! leader: a cache may still show what an earlier leader has changed since.
//!
//! # Layout
//! - [`observe`]: finds out what is known about the job
//! - [`act`]: sends orders, tells people, deletes
//! - [`report`]: writes the status

pub mod act;
pub mod observe;
pub mod report;

use std::sync::Arc;
use std::time::Duration;

use framewright_crds::AIJob;
use framewright_crds::deletion::goes_by_itself;
use jiff::SignedDuration;
use kube::ResourceExt;
use kube::runtime::controller::Action;

use framewright_core::jobs::plan;

use crate::context::{Context, Guarded};

/// Rounds in one go: a live read, a bind, its order, and one for what came in meanwhile.
pub const ROUNDS: usize = 5;

/// Why a round failed. It is tried again, later each time.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the job")]
    Read(#[source] Box<kube::Error>),
    #[error("cannot act on the job")]
    Act(#[source] act::Error),
    #[error("cannot report on the job")]
    Report(#[source] crate::writes::Error),
}

/// Looks at one job.
///
/// # Errors
/// [`Error`] when the API server does not take a write.
pub async fn reconcile(job: Arc<Guarded<AIJob>>, context: Arc<Context>) -> Result<Action, Error> {
    let Some(epoch) = context.leadership.epoch() else {
        return Ok(Action::await_change());
    };
    let job = match &job.0 {
        Ok(job) => job,
        Err(invalid) => {
            crate::events::tell_invalid(&context, &job, invalid).await;
            return Ok(Action::await_change());
        }
    };
    let mut notes = Vec::new();
    let look_again = rounds(job, &context, epoch, &mut notes).await;
    // People are told last: a worker must not wait for an Event.
    act::tell(&context, job, &notes).await;
    let look_again = look_again?.and_then(|wait| Duration::try_from(wait).ok());
    Ok(look_again.map_or_else(Action::await_change, Action::requeue))
}

/// Looks until there is nothing to write; collects what people are to be told of what was written.
async fn rounds(
    job: &AIJob,
    context: &Context,
    epoch: u64,
    notes: &mut Vec<plan::notes::Note>,
) -> Result<Option<SignedDuration>, Error> {
    let uid = job.uid().unwrap_or_default();
    let mut look_again = None;
    for _ in 0..ROUNDS {
        let job = context.recent_jobs.newest(job);
        if goes_by_itself(&job.metadata) {
            return Ok(None);
        }
        let seen = observe::observe(&job, context).await;
        let plan = plan::plan(&seen, &context.links);
        if !plan.orders.is_empty() && !context.recent_jobs.is_known(&uid, epoch) {
            if observe::read_live(&job, context, epoch)
                .await
                .map_err(Error::Read)?
            {
                continue;
            }
            return Ok(None);
        }
        look_again = plan.look_again;
        act::act(context, &job, &seen, &plan)
            .await
            .map_err(Error::Act)?;
        let has_written = !plan.delete
            && report::report(context, &job, &seen, &plan)
                .await
                .map_err(Error::Report)?;
        if !has_written {
            break;
        }
        notes.extend(plan.notes);
    }
    Ok(look_again)
}
