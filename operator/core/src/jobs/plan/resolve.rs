//! Which pools a step may use. Nobody catches other people's prompts by publishing a popular name: a model is looked up in the
//! job's own namespace, then in those that the fleet's owner lists as catalog; any other pool must be named, and must let the job in.

use std::collections::BTreeMap;

use framewright_crds::aijob::Step;
use framewright_crds::modelpool::Access;
use kube_core::{Selector, SelectorExt};

use crate::jobs::seen::{Resolution, Trouble};
use crate::names::PoolName;

/// What is known about a pool.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolFacts {
    pub name: PoolName,
    /// Its models by name; for each why no worker takes tasks for it, if so.
    pub models: BTreeMap<String, Option<Trouble>>,
    pub access: Vec<Access>,
}

/// Labels of each namespace.
pub type NamespaceLabels = BTreeMap<String, BTreeMap<String, String>>;

/// Where the step can run.
#[must_use]
pub fn resolve(
    namespace: &str,
    step: &Step,
    pools: &[PoolFacts],
    catalog: &[String],
    labels: &NamespaceLabels,
) -> Resolution {
    if let Some(reference) = &step.pool_ref {
        let name = PoolName {
            namespace: reference
                .namespace
                .clone()
                .unwrap_or_else(|| namespace.to_owned()),
            name: reference.name.clone(),
        };
        return named(namespace, step, pools, name, labels);
    }
    let catalog = catalog.iter().filter(|listed| listed.as_str() != namespace);
    let searched: Vec<String> = std::iter::once(namespace.to_owned())
        .chain(catalog.cloned())
        .collect();
    let mut refused = None;
    for place in &searched {
        let here: Vec<&PoolFacts> = pools
            .iter()
            .filter(|pool| &pool.name.namespace == place && pool.models.contains_key(&step.model))
            .collect();
        let (allowed, closed): (Vec<_>, Vec<_>) = here
            .into_iter()
            .partition(|pool| is_allowed(namespace, pool, labels));
        if !allowed.is_empty() {
            return usable(&allowed, &step.model);
        }
        refused = refused.or(closed.first().map(|pool| pool.name.clone()));
    }
    match refused {
        Some(pool) => Resolution::NotAllowed { pool },
        None => Resolution::ModelNotFound { searched },
    }
}

fn named(
    namespace: &str,
    step: &Step,
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
    if !pool.models.contains_key(&step.model) {
        return Resolution::ModelNotInPool {
            pool: name,
            models: pool.models.keys().cloned().collect(),
        };
    }
    usable(&[pool], &step.model)
}

fn usable(pools: &[&PoolFacts], model: &str) -> Resolution {
    let troubles = || pools.iter().filter_map(|pool| pool.models.get(model));
    let is_one_fine = troubles().any(Option::is_none);
    let trouble = troubles()
        .flatten()
        .next()
        .cloned()
        .filter(|_| !is_one_fine);
    Resolution::Pools {
        pools: pools.iter().map(|pool| pool.name.clone()).collect(),
        trouble,
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
    use framewright_crds::aijob::PoolRef;
    use framewright_crds::modelpool::NamespaceAccess;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

    fn step(pool_ref: Option<PoolRef>) -> Step {
        Step {
            name: "large".into(),
            model: "x2".into(),
            pool_ref,
            upscale: None,
            inputs: Vec::new(),
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
            access: if open { vec![everybody] } else { Vec::new() },
        }
    }

    fn check(step: &Step, pools: &[PoolFacts], expected: &str) {
        let labels = BTreeMap::from([("studio".to_owned(), BTreeMap::new())]);
        let found = match resolve("studio", step, pools, &["fleet".to_owned()], &labels) {
            Resolution::Pools { pools, .. } => pools
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" "),
            Resolution::ModelNotFound { searched } => {
                format!("not found in {}", searched.join(" "))
            }
            Resolution::PoolNotFound { pool } => format!("no pool {pool}"),
            Resolution::ModelNotInPool { pool, .. } => format!("not in {pool}"),
            Resolution::NotAllowed { pool } => format!("not allowed by {pool}"),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn the_own_namespace_comes_before_the_catalog() {
        let pools = [
            pool("fleet", "a", &["x2"], true),
            pool("studio", "b", &["x2"], false),
        ];
        check(&step(None), &pools, "studio/b");
    }

    #[test]
    fn a_popular_name_in_a_strange_namespace_catches_nothing() {
        check(
            &step(None),
            &[pool("stranger", "trap", &["x2"], true)],
            "not found in studio fleet",
        );
    }

    #[test]
    fn a_catalog_pool_must_still_allow_the_namespace() {
        check(
            &step(None),
            &[pool("fleet", "a", &["x2"], false)],
            "not allowed by fleet/a",
        );
        check(&step(None), &[pool("fleet", "a", &["x2"], true)], "fleet/a");
    }

    #[test]
    fn a_named_pool_elsewhere_must_exist_allow_and_have_the_model() {
        let reference = || {
            Some(PoolRef {
                namespace: Some("other".into()),
                name: "p".into(),
            })
        };
        check(&step(reference()), &[], "no pool other/p");
        check(
            &step(reference()),
            &[pool("other", "p", &["x2"], false)],
            "not allowed by other/p",
        );
        check(
            &step(reference()),
            &[pool("other", "p", &["x4"], true)],
            "not in other/p",
        );
        check(
            &step(reference()),
            &[pool("other", "p", &["x2"], true)],
            "other/p",
        );
    }
}
