//! What a queued step waits for, in words. They name the pool and the reason and no more: a pool's own message changes often, and
//! each change would be a write of every job that waits for it.

use framewright_crds::aijob::Step;
use framewright_crds::conditions::job_reason;

use crate::jobs::snapshot::{Missing, PoolProblem, Resolution, Snapshot};

/// A reason for machines and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub reason: String,
    pub message: String,
}

/// What the step waits for.
#[must_use]
pub fn reason(snapshot: &Snapshot, step: &Step) -> Waiting {
    let around = snapshot.steps.get(&step.name);
    let Some(resolution) = around.and_then(|step| step.resolution.as_ref()) else {
        let Some(pipeline) = step.pipeline() else {
            return waiting(
                job_reason::PIPELINE_NOT_FOUND,
                "this version of the operator does not know the step's pipeline; upgrade it, or delete this job".to_owned(),
            );
        };
        let pipeline = pipeline.spec().name;
        return waiting(
            job_reason::QUEUED,
            format!("waits for a worker that runs {pipeline}"),
        );
    };
    match resolution {
        Resolution::Pools {
            problem: Some(PoolProblem { pool, reason, .. }),
            ..
        } => waiting(
            job_reason::POOL_NOT_READY,
            format!("pool {pool} is not ready ({reason}); the pool's status says why"),
        ),
        Resolution::Pools {
            pools,
            problem: None,
        } => {
            let pools: Vec<String> = pools.iter().map(ToString::to_string).collect();
            let pools = pools.join(", ");
            let message = format!("all workers of pool {pools} are busy");
            waiting(job_reason::QUEUED, message)
        }
        Resolution::NotFound { what, searched } => {
            let searched = searched.join(", ");
            match what {
                Missing::Model(model) => waiting(
                    job_reason::MODEL_NOT_FOUND,
                    format!(
                        "no ModelPool in namespace {searched} has model {model}; create one, or delete this job and submit it with another model or poolRef"
                    ),
                ),
                Missing::Pipeline(pipeline) => waiting(
                    job_reason::PIPELINE_NOT_FOUND,
                    format!(
                        "no ModelPool in namespace {searched} runs {pipeline}{}; create one, or delete this job and submit it with another poolRef",
                        with_model(step)
                    ),
                ),
            }
        }
        Resolution::PoolNotFound { pool } => waiting(
            job_reason::POOL_NOT_FOUND,
            format!(
                "poolRef names ModelPool {pool}, which does not exist; create it, or delete this job and submit it with another poolRef"
            ),
        ),
        Resolution::NotInPool { pool, what, has } => {
            let has = has.join(", ");
            let has = if has.is_empty() { "none" } else { &has };
            match what {
                Missing::Model(model) => waiting(
                    job_reason::MODEL_NOT_FOUND,
                    format!("ModelPool {pool} has no model {model}; it has {has}"),
                ),
                Missing::Pipeline(pipeline) => waiting(
                    job_reason::PIPELINE_NOT_FOUND,
                    format!("ModelPool {pool} does not run {pipeline}; it runs {has}"),
                ),
            }
        }
        Resolution::NotAllowed { pool } => waiting(
            job_reason::NOT_ALLOWED,
            format!(
                "ModelPool {pool} does not allow namespace {}; its owner can add the namespace to spec.access",
                snapshot.namespace
            ),
        ),
    }
}

fn with_model(step: &Step) -> String {
    let model = step.model.as_ref();
    model.map_or_else(String::new, |model| format!(" with model {model}"))
}

/// What the step has waited for, with the pool's own message: for a step that waits no longer, which is written once.
#[must_use]
pub fn in_detail(snapshot: &Snapshot, step: &str, waits: Waiting) -> String {
    let resolution = snapshot
        .steps
        .get(step)
        .and_then(|step| step.resolution.as_ref());
    match resolution {
        Some(Resolution::Pools {
            problem: Some(problem),
            ..
        }) => {
            let PoolProblem {
                pool,
                reason,
                message,
            } = problem;
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
