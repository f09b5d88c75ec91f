//! Which pools a step may use. Nobody catches other people's prompts by publishing a popular name: a model is looked up in the
//! job's own namespace, then in those that the fleet's owner lists as catalog; any other pool must be named, and must let the job in.

use std::collections::{BTreeMap, BTreeSet};

use framewright_crds::ModelPool;
use framewright_crds::aijob::PoolRef;
use framewright_crds::conditions::{get, pool, pool_reason};
use framewright_crds::modelpool::Access;
use kube_core::{ResourceExt, Selector, SelectorExt};

use crate::jobs::snapshot::{NotProvided, PoolProblem, Resolution};
use crate::names::PoolName;
use crate::schedule::Requires;

/// What is known about a pool.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolFacts {
    pub name: PoolName,
    /// Its models by name; for each why no worker takes tasks for it, if so.
    pub models: BTreeMap<String, Option<PoolProblem>>,
    /// The pipelines that it does; none if that is not known, since it has never had a worker.
    pub pipelines: Option<BTreeSet<String>>,
    /// Why no worker takes tasks without a model, if so.
    pub problem: Option<PoolProblem>,
    pub access: Vec<Access>,
}

impl PoolFacts {
    /// What a step asks for and the pool does not have.
    fn lacks(&self, requires: &Requires) -> Option<NotProvided> {
        let mut models = requires.models.iter().map(|(_, model)| model);
        if let Some(model) = models.find(|model| !self.models.contains_key(*model)) {
            return Some(NotProvided::Model(model.clone()));
        }
        let does = |pipelines: &BTreeSet<String>| pipelines.contains(&requires.pipeline);
        let lacks = self.pipelines.as_ref().is_some_and(|known| !does(known));
        lacks.then(|| NotProvided::Pipeline(requires.pipeline.clone()))
    }

    /// Why no worker takes tasks that require this, if so.
    fn problem_for(&self, requires: &Requires) -> Option<&PoolProblem> {
        if requires.models.is_empty() {
            return self.problem.as_ref();
        }
        let models = requires.models.iter();
        let mut problems = models.map(|(_, model)| self.models.get(model)?.as_ref());
        problems.find_map(|problem| problem)
    }
}

/// What jobs need to know about one pool.
#[must_use]
pub fn facts(pool: &ModelPool) -> PoolFacts {
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

/// Labels of each namespace.
pub type NamespaceLabels = BTreeMap<String, BTreeMap<String, String>>;

/// Where a step can run.
#[must_use]
pub fn resolve(
    namespace: &str,
    pool_ref: Option<&PoolRef>,
    requires: &Requires,
    pools: &[PoolFacts],
    catalog: &[String],
    labels: &NamespaceLabels,
) -> Resolution {
    if let Some(reference) = pool_ref {
        let place = reference.namespace.as_deref().unwrap_or(namespace);
        let name = PoolName::new(place, &reference.name);
        return named(namespace, requires, pools, name, labels);
    }
    let catalog = catalog.iter().filter(|listed| listed.as_str() != namespace);
    let searched: Vec<String> = std::iter::once(namespace.to_owned())
        .chain(catalog.cloned())
        .collect();
    let mut refused = None;
    let mut has_the_models = false;
    for place in &searched {
        let here = pools.iter().filter(|pool| &pool.name.namespace == place);
        let mut allowed = Vec::new();
        for pool in here {
            match pool.lacks(requires) {
                None if is_allowed(namespace, pool, labels) => allowed.push(pool),
                None => refused = refused.or_else(|| Some(pool.name.clone())),
                Some(NotProvided::Pipeline(_)) => has_the_models = true,
                Some(NotProvided::Model(_)) => {}
            }
        }
        if !allowed.is_empty() {
            return usable(&allowed, requires);
        }
    }
    if let Some(pool) = refused {
        return Resolution::NotAllowed { pool };
    }
    let model = requires.models.first().filter(|_| !has_the_models);
    let what = match model {
        Some((_, model)) => NotProvided::Model(model.clone()),
        None => NotProvided::Pipeline(requires.pipeline.clone()),
    };
    Resolution::NotFound { what, searched }
}

fn named(
    namespace: &str,
    requires: &Requires,
    pools: &[PoolFacts],
    name: PoolName,
    labels: &NamespaceLabels,
) -> Resolution {
    let Some(pool) = pools.iter().find(|pool| pool.name == name) else {
        return Resolution::PoolNotFound { pool: name };
    };
    if !is_allowed(namespace, pool, labels) {
        return Resolution::NotAllowed { pool: name };
    }
    match pool.lacks(requires) {
        None => usable(&[pool], requires),
        Some(what) => {
            let has = match &what {
                NotProvided::Model(_) => pool.models.keys().cloned().collect(),
                NotProvided::Pipeline(_) => pool.pipelines.iter().flatten().cloned().collect(),
            };
            Resolution::NotInPool {
                pool: name,
                what,
                has,
            }
        }
    }
}

fn usable(pools: &[&PoolFacts], requires: &Requires) -> Resolution {
    let problems = || pools.iter().map(|pool| pool.problem_for(requires));
    let is_one_fine = problems().any(|problem| problem.is_none());
    let problem = problems().flatten().next().filter(|_| !is_one_fine);
    Resolution::Pools {
        pools: pools.iter().map(|pool| pool.name.clone()).collect(),
        problem: problem.cloned(),
    }
}

fn is_allowed(namespace: &str, pool: &PoolFacts, labels: &NamespaceLabels) -> bool {
    if pool.name.namespace == namespace {
        return true;
    }
    let Some(labels) = labels.get(namespace) else {
        return false;
    };
    pool.access.iter().any(|access| {
        Selector::try_from(access.namespaces.selector.clone())
            .is_ok_and(|selector| selector.matches(labels))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use framewright_crds::modelpool::NamespaceAccess;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

    fn upscale() -> Requires {
        Requires {
            pipeline: "upscale".into(),
            models: vec![("base".into(), "x2".into())],
        }
    }

    fn pool(namespace: &str, name: &str, models: &[&str], open: bool) -> PoolFacts {
        let everybody = Access {
            name: "everybody".into(),
            namespaces: NamespaceAccess {
                selector: LabelSelector::default(),
            },
        };
        PoolFacts {
            name: PoolName {
                namespace: namespace.into(),
                name: name.into(),
            },
            models: models
                .iter()
                .map(|&model| (model.to_owned(), None))
                .collect(),
            pipelines: None,
            problem: None,
            access: if open { vec![everybody] } else { Vec::new() },
        }
    }

    fn check(pool_ref: Option<&PoolRef>, pools: &[PoolFacts], expected: &str) {
        check_for(&upscale(), pool_ref, pools, expected);
    }

    fn check_for(
        requires: &Requires,
        pool_ref: Option<&PoolRef>,
        pools: &[PoolFacts],
        expected: &str,
    ) {
        let labels = BTreeMap::from([("studio".to_owned(), BTreeMap::new())]);
        let catalog = ["fleet".to_owned()];
        let found = match resolve("studio", pool_ref, requires, pools, &catalog, &labels) {
            Resolution::Pools { pools, .. } => pools
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" "),
            Resolution::NotFound { what, searched } => {
                format!("no {what:?} in {}", searched.join(" "))
            }
            Resolution::PoolNotFound { pool } => format!("no pool {pool}"),
            Resolution::NotInPool { pool, what, .. } => format!("no {what:?} in pool {pool}"),
            Resolution::NotAllowed { pool } => format!("not allowed by {pool}"),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn a_step_runs_where_its_pipeline_is_done() {
        let mut pool = pool("studio", "a", &["x2"], false);
        let transcode = Requires {
            pipeline: "transcode".into(),
            models: Vec::new(),
        };
        // A pool that has never had a worker may do anything.
        check_for(&transcode, None, std::slice::from_ref(&pool), "studio/a");
        pool.pipelines = Some(BTreeSet::from(["upscale".to_owned()]));
        let pools = [pool];
        check(None, &pools, "studio/a");
        check_for(
            &transcode,
            None,
            &pools,
            "no Pipeline(\"transcode\") in studio fleet",
        );
        let other = Requires {
            pipeline: "interpolate".into(),
            ..upscale()
        };
        check_for(
            &other,
            None,
            &pools,
            "no Pipeline(\"interpolate\") in studio fleet",
        );
    }

    #[test]
    fn the_own_namespace_comes_before_the_catalog() {
        let pools = [
            pool("fleet", "a", &["x2"], true),
            pool("studio", "b", &["x2"], false),
        ];
        check(None, &pools, "studio/b");
    }

    #[test]
    fn a_popular_name_in_a_strange_namespace_catches_nothing() {
        check(
            None,
            &[pool("stranger", "trap", &["x2"], true)],
            "no Model(\"x2\") in studio fleet",
        );
    }

    #[test]
    fn a_catalog_pool_must_still_allow_the_namespace() {
        check(
            None,
            &[pool("fleet", "a", &["x2"], false)],
            "not allowed by fleet/a",
        );
        check(None, &[pool("fleet", "a", &["x2"], true)], "fleet/a");
    }

    #[test]
    fn a_named_pool_elsewhere_must_exist_allow_and_have_the_model() {
        let reference = PoolRef {
            namespace: Some("other".into()),
            name: "p".into(),
        };
        let reference = Some(&reference);
        check(reference, &[], "no pool other/p");
        check(
            reference,
            &[pool("other", "p", &["x2"], false)],
            "not allowed by other/p",
        );
        check(
            reference,
            &[pool("other", "p", &["x4"], true)],
            "no Model(\"x2\") in pool other/p",
        );
        check(reference, &[pool("other", "p", &["x2"], true)], "other/p");
    }
}
