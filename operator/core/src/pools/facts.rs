//! What jobs need to know about a pool.

use framewright_crds::ModelPool;
use framewright_crds::conditions::{get, pool, pool_reason};
use kube_core::ResourceExt;

use crate::jobs::plan::resolve::PoolFacts;
use crate::jobs::seen::Trouble;
use crate::names::PoolName;

/// Facts about one pool.
#[must_use]
pub fn of(pool: &ModelPool) -> PoolFacts {
    let name = PoolName {
        namespace: pool.namespace().unwrap_or_default(),
        name: pool.name_any(),
    };
    let models = pool
        .spec
        .models
        .iter()
        .map(|model| (model.name.clone(), trouble(pool, &name, &model.name)));
    PoolFacts {
        models: models.collect(),
        access: pool.spec.access.clone().unwrap_or_default(),
        name,
    }
}

/// Why no worker of the pool takes tasks for the model: the model's own reason, or else the pool's.
fn trouble(pool: &ModelPool, name: &PoolName, model: &str) -> Option<Trouble> {
    let status = pool.status.clone().unwrap_or_default();
    let known = status.models.iter().find(|known| known.name == model);
    if known.is_some_and(|known| known.ready_workers > 0) {
        return None;
    }
    if let Some((reason, message)) =
        known.and_then(|known| Some((known.reason.clone()?, known.message.clone()?)))
    {
        return Some(Trouble {
            pool: name.clone(),
            reason,
            message,
        });
    }
    let ready = get(&status.conditions, pool::READY);
    Some(Trouble {
        pool: name.clone(),
        reason: ready
            .map_or(pool_reason::PROGRESSING, |ready| &ready.reason)
            .to_owned(),
        message: ready.map_or("it is new", |ready| &ready.message).to_owned(),
    })
}
