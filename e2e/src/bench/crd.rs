//! The CRDs that only the bench has: AIJobs with the pipeline noop, and a copy of AIJobs in a group of its own.

use std::time::Duration;

use anyhow::{Context, Result};
use framewright_crds::AIJob;
use framewright_crds::pipelines::{PIPELINES, noop, rules};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, ObjectMeta, PostParams};
use kube::{Api, Client, Resource};
use serde_json::{Value, json};

use crate::eventually;

/// Where a CRD has the schema of a step.
const STEP: &str = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/steps/items";
const PATIENCE: Duration = Duration::from_secs(60);

/// Adds the pipeline noop to the AIJob's CRD, and waits until the API server takes a job with it.
pub(super) async fn add_noop(client: &Client) -> Result<()> {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let name = name(AIJob::group(&()).as_ref());
    let published = crds.get(&name).await.context("read the AIJob's CRD")?;
    crds.replace(&name, &PostParams::default(), &with_noop(&published)?)
        .await
        .context("add the pipeline noop to the AIJob's CRD")?;
    let jobs: Api<AIJob> = Api::default_namespaced(client.clone());
    let spec = json!({"steps": [{"name": "step", (noop::SPEC.name): {}}]});
    let job = AIJob::new("noop", serde_json::from_value(spec)?);
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    eventually(
        PATIENCE,
        "the API server takes a job with the pipeline noop",
        async || jobs.create(&dry_run, &job).await,
    )
    .await
    .map(drop)
}

/// The AIJob's CRD, with the pipeline noop in a step.
fn with_noop(published: &CustomResourceDefinition) -> Result<CustomResourceDefinition> {
    let mut crd = serde_json::to_value(published)?;
    let step = crd
        .pointer_mut(STEP)
        .context("the AIJob's CRD has no steps")?;
    rules::add_to_step(step, noop::SPEC.name, json!({"type": "object"}), PIPELINES);
    Ok(serde_json::from_value(crd)?)
}

/// Serves AIJobs a second time, in another group.
pub(super) async fn copy(client: &Client, group: &str) -> Result<ApiResource> {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let original = crds
        .get(&name(AIJob::group(&()).as_ref()))
        .await
        .context("read the AIJob's CRD")?;
    let mut spec = original.spec;
    group.clone_into(&mut spec.group);
    let copy = CustomResourceDefinition {
        metadata: ObjectMeta {
            name: Some(name(group)),
            ..ObjectMeta::default()
        },
        spec,
        status: None,
    };
    crds.create(&PostParams::default(), &copy)
        .await
        .context("copy the AIJob's CRD")?;
    let version = AIJob::version(&()).into_owned();
    Ok(ApiResource {
        group: group.to_owned(),
        api_version: format!("{group}/{version}"),
        version,
        kind: AIJob::kind(&()).into_owned(),
        plural: AIJob::plural(&()).into_owned(),
    })
}

/// An object of the copy.
pub(super) fn object(resource: &ApiResource, name: &str, spec: &Value) -> DynamicObject {
    DynamicObject::new(name, resource).data(json!({"spec": spec}))
}

/// The name of the AIJob's CRD in a group.
fn name(group: &str) -> String {
    format!("{}.{group}", AIJob::plural(&()))
}

#[cfg(test)]
mod tests {
    use kube::CustomResourceExt;

    use super::*;

    #[test]
    fn a_step_can_be_a_noop_in_the_crd_of_the_bench_and_not_in_the_published_one() {
        let published = AIJob::crd();
        let changed = with_noop(&published).unwrap();
        let member = format!("{STEP}/properties/noop");
        let has_noop = |crd: &CustomResourceDefinition| {
            let crd = serde_json::to_value(crd).unwrap();
            crd.pointer(&member).is_some()
        };
        assert!(!has_noop(&published) && has_noop(&changed));
        let rules = serde_json::to_string(&changed).unwrap();
        assert!(rules.contains("noop takes no input; leave inputs out"));
        assert!(rules.contains("upscale takes exactly one input"));
    }
}
