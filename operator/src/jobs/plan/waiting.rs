//! What a queued step waits for, in words.

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
    let Some(resolution) = seen
        .steps
        .get(step)
        .and_then(|step| step.resolution.as_ref())
    else {
        return waiting(
            job_reason::QUEUED,
            format!("waits for a worker with model {model}"),
        );
    };
    match resolution {
        Resolution::Pools {
            trouble:
                Some(Trouble {
                    pool,
                    reason,
                    message,
                }),
            ..
        } => waiting(
            job_reason::POOL_NOT_READY,
            format!("pool {pool} is not ready ({reason}): {message}"),
        ),
        Resolution::Pools {
            pools,
            trouble: None,
        } => {
            let pools: Vec<String> = pools.iter().map(ToString::to_string).collect();
            waiting(
                job_reason::QUEUED,
                format!("all workers of pool {} are busy", pools.join(", ")),
            )
        }
        Resolution::ModelNotFound { searched } => waiting(
            job_reason::MODEL_NOT_FOUND,
            format!(
                "no ModelPool in namespace {} has model {model}; create one, or correct the step's model or poolRef",
                searched.join(", ")
            ),
        ),
        Resolution::PoolNotFound { pool } => waiting(
            job_reason::POOL_NOT_FOUND,
            format!("poolRef names ModelPool {pool}, which does not exist"),
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

fn waiting(reason: &str, message: String) -> Waiting {
    Waiting {
        reason: reason.to_owned(),
        message,
    }
}
