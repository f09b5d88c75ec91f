//! What jobs need to know about a pool.

use framewright_crds::ModelPool;
use framewright_crds::conditions::{get, pool, pool_reason};
use kube_core::ResourceExt;

use crate::jobs::plan::resolve::PoolFacts;
use crate::jobs::snapshot::PoolProblem;
use crate::names::PoolName;

/// Facts about one pool.
#[must_use]
pub fn of(pool: &ModelPool) -> PoolFacts {
    let name = PoolName {
        namespace: pool.namespace().unwrap_or_default(),
        name: pool.name_any(),
    };
    let status = pool.status.as_ref();
    let known = status.map_or(&[][..], |status| &status.pipelines);
    let pipelines = match &pool.spec.pipelines {
        Some(asked) if known.is_empty() => Some(asked.iter().cloned().collect()),
        None if known.is_empty() => None,
        // What the workers do counts, once it is known: the spec may ask for what they cannot do.
        Some(_) | None => Some(known.iter().cloned().collect()),
    };
    let models = pool
        .spec
        .models
        .iter()
        .map(|model| (model.name.clone(), problem(pool, &name, &model.name)));
    PoolFacts {
        models: models.collect(),
        pipelines,
        problem: status
            .is_none_or(|status| status.ready_replicas == 0)
            .then(|| not_ready(pool, &name)),
        access: pool.spec.access.clone().unwrap_or_default(),
        name,
    }
}

/// Why no worker of the pool takes tasks for the model: the model's own reason, or else the pool's.
fn problem(pool: &ModelPool, name: &PoolName, model: &str) -> Option<PoolProblem> {
    let models = pool.status.iter().flat_map(|status| &status.models);
    let known = models.into_iter().find(|known| known.name == model);
    if known.is_some_and(|known| known.ready_workers > 0) {
        return None;
    }
    if let Some((reason, message)) =
        known.and_then(|known| Some((known.reason.clone()?, known.message.clone()?)))
    {
        return Some(PoolProblem {
            pool: name.clone(),
            reason,
            message,
        });
    }
    Some(not_ready(pool, name))
}

/// The pool's own reason.
fn not_ready(pool: &ModelPool, name: &PoolName) -> PoolProblem {
    let conditions = pool.status.as_ref().map(|status| &status.conditions[..]);
    let ready = get(conditions.unwrap_or_default(), pool::READY);
    PoolProblem {
        pool: name.clone(),
        reason: ready
            .map_or(pool_reason::PROGRESSING, |ready| &ready.reason)
            .to_owned(),
        message: ready.map_or("it is new", |ready| &ready.message).to_owned(),
    }
}
