//! Compares the CRDs that the API server serves with those of this version: an older one drops the fields that it does not know.

use std::time::Duration;

use framewright_crds::{AIJob, ModelPool};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::{Api, Client, CustomResourceExt};

/// How often it is tried again to read them.
const RETRY: Duration = Duration::from_secs(30);
/// Fields that are named at most; the others are counted.
const NAMED: usize = 20;

/// Says in the log which fields the API server does not know. Ends when both CRDs were compared.
pub(crate) async fn compare(client: Client) {
    for own in [AIJob::crd(), ModelPool::crd()] {
        let name = own.metadata.name.clone().unwrap_or_default();
        let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
        loop {
            match crds.get(&name).await {
                Ok(served) => {
                    warn(&name, &missing(&own, &served));
                    break;
                }
                Err(error) => {
                    tracing::warn!(crd = name, error = %crate::chain(&error), "cannot compare the CRD with this version's; trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

fn warn(name: &str, missing: &[String]) {
    if missing.is_empty() {
        return;
    }
    let named = missing[..missing.len().min(NAMED)].join(", ");
    let more = missing.len().saturating_sub(NAMED);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    tracing::warn!(
        crd = name,
        "the CRD in the cluster is older than this operator: the API server drops the fields {named}{more}; apply the CRDs of this version, as docs/operations.md says"
    );
}

/// The fields of this version that the served CRD does not have.
fn missing(own: &CustomResourceDefinition, served: &CustomResourceDefinition) -> Vec<String> {
    let mut missing = Vec::new();
    for version in &own.spec.versions {
        let schema = |of: &CustomResourceDefinition| {
            let mut versions = of.spec.versions.iter();
            let same = versions.find(|other| other.name == version.name)?;
            same.schema.clone()?.open_api_v3_schema
        };
        match (schema(own), schema(served)) {
            (Some(own), Some(served)) => collect("", &own, &served, &mut missing),
            (Some(_), None) => missing.push(format!("all of version {}", version.name)),
            (None, _) => {}
        }
    }
    missing
}

fn collect(at: &str, own: &JSONSchemaProps, served: &JSONSchemaProps, missing: &mut Vec<String>) {
    if served.x_kubernetes_preserve_unknown_fields == Some(true) {
        return;
    }
    for (name, own) in own.properties.iter().flatten() {
        let path = format!("{at}.{name}");
        match served.properties.as_ref().and_then(|all| all.get(name)) {
            Some(served) => collect(&path, own, served, missing),
            None => missing.push(path),
        }
    }
    if let (
        Some(JSONSchemaPropsOrArray::Schema(own)),
        Some(JSONSchemaPropsOrArray::Schema(served)),
    ) = (&own.items, &served.items)
    {
        collect(&format!("{at}[]"), own, served, missing);
    }
    if let (Some(JSONSchemaPropsOrBool::Schema(own)), Some(JSONSchemaPropsOrBool::Schema(served))) =
        (&own.additional_properties, &served.additional_properties)
    {
        collect(&format!("{at}{{}}"), own, served, missing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_that_an_older_crd_lacks_is_named_once() {
        let own = AIJob::crd();
        assert_eq!(missing(&own, &own), Vec::<String>::new());
        let mut older = serde_json::to_value(&own).expect("JSON");
        let status = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties";
        let status = older.pointer_mut(status).expect("a status");
        let status = status.as_object_mut().expect("properties");
        status.remove("files");
        let step = status["steps"].pointer_mut("/items/properties");
        step.expect("a step")
            .as_object_mut()
            .expect("properties")
            .remove("seed");
        let older = serde_json::from_value(older).expect("a CRD");
        assert_eq!(
            missing(&own, &older),
            [".status.files", ".status.steps[].seed"]
        );
        // A newer one has all that this version has.
        assert_eq!(missing(&older, &own), Vec::<String>::new());
    }

    #[test]
    fn a_version_that_is_not_served_is_missing_as_a_whole() {
        let own = ModelPool::crd();
        let mut other = own.clone();
        other.spec.versions[0].name = "v1beta1".to_owned();
        assert_eq!(missing(&own, &other), ["all of version v1alpha1"]);
    }
}
