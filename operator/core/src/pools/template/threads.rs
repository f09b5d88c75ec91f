//! How many threads does a worker compute with? As many as its CPU limit or, without one, its CPU request has cores. No I/O.
//!
//! Without either the worker is not told, and takes what it finds. The kubelet rounds up to whole cores, and the worker takes no
//! more threads than there are.

use std::collections::BTreeMap;

use framewright_crds::names::env;
use k8s_openapi::api::core::v1::{
    EnvVar, EnvVarSource, ResourceFieldSelector, ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// The setting, for a container to which the pool gives these resources.
pub(super) fn setting(given: Option<&ResourceRequirements>) -> Option<EnvVar> {
    let given = given?;
    let resource = if has_cpu(given.limits.as_ref()) {
        "limits.cpu"
    } else if has_cpu(given.requests.as_ref()) {
        "requests.cpu"
    } else {
        return None;
    };
    let field = ResourceFieldSelector {
        container_name: None,
        resource: resource.to_owned(),
        divisor: Some(Quantity("1".to_owned())),
    };
    Some(EnvVar {
        name: env::THREADS.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            resource_field_ref: Some(field),
            ..EnvVarSource::default()
        }),
    })
}

fn has_cpu(amounts: Option<&BTreeMap<String, Quantity>>) -> bool {
    amounts.is_some_and(|amounts| amounts.contains_key("cpu"))
}

#[cfg(test)]
mod tests {
    use framewright_crds::ModelPool;
    use framewright_crds::names::env;
    use serde_json::{Value, json};

    use crate::pools::template::{Settings, build};

    #[test]
    fn a_worker_computes_with_the_cores_of_its_limit_else_of_its_request_else_with_all() {
        for (resources, expected) in [
            (json!({"limits": {"cpu": "1500m"}}), Some("limits.cpu")),
            (
                json!({"limits": {"cpu": "4"}, "requests": {"cpu": "1"}}),
                Some("limits.cpu"),
            ),
            (
                json!({"limits": {"memory": "2Gi"}, "requests": {"cpu": "500m"}}),
                Some("requests.cpu"),
            ),
            (json!({"requests": {"memory": "1Gi"}}), None),
            (Value::Null, None),
        ] {
            assert_eq!(threads(&resources).as_deref(), expected, "{resources}");
        }
    }

    /// The field of the container's resources that the setting is read from.
    fn threads(resources: &Value) -> Option<String> {
        let pool: ModelPool = serde_json::from_value(json!({
            "apiVersion": "framewright.dev/v1alpha1",
            "kind": "ModelPool",
            "metadata": {"name": "upscale"},
            "spec": {
                "device": "cpu",
                "models": [],
                "template": {"spec": {"containers": [{"name": "worker", "resources": resources}]}},
            },
        }))
        .unwrap();
        let settings = Settings {
            image: "worker".to_owned(),
            image_cuda: "worker-cuda".to_owned(),
            image_pull_policy: "Always".to_owned(),
            operator: "operator:9443".to_owned(),
            authority: String::new(),
            fixed_user: true,
            log: "info".to_owned(),
        };
        let spec = build(&pool, &settings).pod.spec.unwrap();
        let environment = spec.containers.into_iter().next().unwrap().env.unwrap();
        let setting = environment
            .into_iter()
            .find(|setting| setting.name == env::THREADS)?;
        Some(setting.value_from?.resource_field_ref?.resource)
    }
}
