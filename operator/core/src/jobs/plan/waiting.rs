//! What a queued step waits for, in words. They name the pool and the reason and no more: a pool's own message changes often, and
//! each change would be a write of every job that waits for it.

use framewright_crds::aijob::{StepState, StepStatus};
use framewright_crds::conditions::job_reason;
use jiff::SignedDuration;

use super::{attempt, retry};
use crate::jobs::seen::{Observed, Resolution, Trouble};

/// How long a status is held back for the scheduler's look, which takes milliseconds.
const LOOK_LIMIT: SignedDuration = SignedDuration::from_secs(2);

/// A reason for machines and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub reason: String,
    pub message: String,
}

/// Whether a step that has just become ready is about to be looked at by the scheduler: one write can then tell both that it is
/// ready and where it goes.
#[must_use]
pub fn is_about_to_be_placed(seen: &Observed, step: &StepStatus) -> bool {
    let since = seen
        .steps
        .get(&step.name)
        .and_then(|step| step.awaits_look)
        .filter(|since| seen.now.duration_since(*since).abs() < LOOK_LIMIT);
    let is_ready = step.state == StepState::Queued
        && !seen.spec.suspend
        && retry::not_before(step).is_none_or(|at| at <= seen.now);
    // The scheduler places only what is not bound in the status that it sees.
    let is_free = seen
        .status
        .steps
        .iter()
        .find(|old| old.name == step.name)
        .is_none_or(|old| attempt::open(old).is_none());
    since.is_some() && is_ready && is_free
}

/// What the step waits for.
#[must_use]
pub fn reason(seen: &Observed, step: &str, model: &str) -> Waiting {
    let around = seen.steps.get(step);
    let Some(resolution) = around.and_then(|step| step.resolution.as_ref()) else {
        return waiting(
            job_reason::QUEUED,
            format!("waits for a worker with model {model}"),
        );
    };
    match resolution {
        Resolution::Pools {
            trouble: Some(Trouble { pool, reason, .. }),
            ..
        } => waiting(
            job_reason::POOL_NOT_READY,
            format!("pool {pool} is not ready ({reason}); the pool's status says why"),
        ),
        Resolution::Pools {
            pools,
            trouble: None,
        } => {
            let pools: Vec<String> = pools.iter().map(ToString::to_string).collect();
            let pools = pools.join(", ");
            let message = match around.and_then(|step| step.awaits_look) {
                None => format!("all workers of pool {pools} are busy"),
                Some(_) => format!("waits to be given to a worker of pool {pools}"),
            };
            waiting(job_reason::QUEUED, message)
        }
        Resolution::ModelNotFound { searched } => waiting(
            job_reason::MODEL_NOT_FOUND,
            format!(
                "no ModelPool in namespace {} has model {model}; create one, or delete this job and submit it with another model or poolRef",
                searched.join(", ")
            ),
        ),
        Resolution::PoolNotFound { pool } => waiting(
            job_reason::POOL_NOT_FOUND,
            format!(
                "poolRef names ModelPool {pool}, which does not exist; create it, or delete this job and submit it with another poolRef"
            ),
        ),
        Resolution::ModelNotInPool { pool, models } => waiting(
            job_reason::MODEL_NOT_FOUND,
            format!(
                "ModelPool {pool} has no model {model}; it has {}",
                models.join(", ")
            ),
        ),
        Resolution::NotAllowed { pool } => waiting(
            job_reason::NOT_ALLOWED,
            format!(
                "ModelPool {pool} does not allow namespace {}; its owner can add the namespace to spec.access",
                seen.namespace
            ),
        ),
    }
}

/// What the step has waited for, with the pool's own message: for a step that waits no longer, which is written once.
#[must_use]
pub fn in_detail(seen: &Observed, step: &str, waits: Waiting) -> String {
    let resolution = seen
        .steps
        .get(step)
        .and_then(|step| step.resolution.as_ref());
    match resolution {
        Some(Resolution::Pools {
            trouble: Some(trouble),
            ..
        }) => {
            let Trouble {
                pool,
                reason,
                message,
            } = trouble;
            format!("pool {pool} is not ready ({reason}): {message}")
        }
        Some(_) | None => waits.message,
    }
}

fn waiting(reason: &str, message: String) -> Waiting {
    Waiting {
        reason: reason.to_owned(),
        message,
    }
}
