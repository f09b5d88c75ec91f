//! What a queued step waits for, in words. They name the pool and the reason and no more: a pool's own message changes often, and
//! each change would be a write of every job that waits for it.

use framewright_crds::conditions::job_reason;

use crate::jobs::seen::{Observed, Resolution, Trouble};

/// A reason for machines and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub reason: String,
    pub message: String,
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
            let message = format!("all workers of pool {pools} are busy");
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
