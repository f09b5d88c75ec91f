//! Finds the field of a pool's template whose value is not a valid quantity. The API server's error does not name it.

use std::collections::BTreeMap;

use framewright_crds::modelpool::ModelPoolSpec;
use framewright_crds::quantity;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// The field and its value, with the way out; none if all of them are quantities.
#[must_use]
pub fn wrong(spec: &ModelPoolSpec) -> Option<String> {
    let template = spec.template.as_ref()?.spec.as_ref()?;
    let resources = template.containers.as_ref()?.first()?.resources.as_ref()?;
    let lists = [
        ("limits", resources.limits.as_ref()),
        ("requests", resources.requests.as_ref()),
    ];
    let mut quantities = lists
        .into_iter()
        .flat_map(|(list, quantities)| of(list, quantities));
    quantities.find_map(|(list, name, Quantity(value))| {
        quantity::bytes(value).is_none().then(|| {
            format!(
                "spec.template.spec.containers[0].resources.{list}.{name}: {value:?} is no quantity; write one such as 2, 500m or 8Gi"
            )
        })
    })
}

fn of<'a>(
    list: &'a str,
    quantities: Option<&'a BTreeMap<String, Quantity>>,
) -> impl Iterator<Item = (&'a str, &'a str, &'a Quantity)> {
    let quantities = quantities.into_iter().flatten();
    quantities.map(move |(name, quantity)| (list, name.as_str(), quantity))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_field_that_holds_no_quantity_is_named() {
        let of = |cpu: &str| {
            let resources =
                json!({"limits": {"memory": "8Gi", "cpu": cpu}, "requests": {"cpu": "500m"}});
            let container = json!({"name": "worker", "resources": resources});
            let spec: ModelPoolSpec = serde_json::from_value(json!({
                "device": "cpu", "replicas": 1, "models": [],
                "template": {"spec": {"containers": [container]}},
            }))
            .expect("is a spec");
            wrong(&spec)
        };
        assert_eq!(of("2"), None);
        let said = of("lots").unwrap_or_default();
        assert!(
            said.starts_with("spec.template.spec.containers[0].resources.limits.cpu: \"lots\""),
            "{said}"
        );
    }
}
