//! What does the API server refuse at admission by rules beyond the schema? The CEL rules of the CRDs, in their words. Pure.
//!
//! The schema itself is [`framewright_crds::schema`]'s, which looks at a document before this does.

use framewright_crds::aijob::{AIJob, MAX_OUTPUTS, Step};
use framewright_crds::modelpool::{ModelPool, ModelSource, WorkerTemplate};
use framewright_crds::quantity;

use super::plan::{PlanError, name_of};

/// # Errors
/// The first rule that the pool breaks.
pub(super) fn check_pool(pool: &ModelPool) -> Result<(), PlanError> {
    let name = name_of(&pool.metadata.name);
    let spec = &pool.spec;
    let cache = spec.weights_cache.as_ref();
    let limits = [
        cache.and_then(|cache| cache.size_limit.as_ref()),
        spec.scratch
            .as_ref()
            .and_then(|scratch| scratch.size_limit.as_ref()),
    ];
    let wrong_limit = || {
        let mut limits = limits.into_iter().flatten();
        limits
            .any(|limit| quantity::bytes(&limit.0).is_none())
            .then(|| "sizeLimit must be a quantity, such as 20Gi".to_owned())
    };
    let wrong_name = || {
        (name.len() > 63).then(|| {
            "metadata.name: at most 63 characters, since the pool's pods carry it as a label"
                .to_owned()
        })
    };
    let wrong_model = || {
        spec.models.iter().find_map(|model| {
            let mut paths = model.files.iter().map(|file| file.path.as_str());
            let wrong = wrong_source(&model.source).or_else(|| paths.find_map(wrong_path))?;
            Some(format!("model {}: {wrong}", model.name))
        })
    };
    let wrong = wrong_name()
        .or_else(wrong_limit)
        .or_else(wrong_model)
        .or_else(|| spec.template.as_ref().and_then(wrong_template));
    refused(wrong.map(|wrong| format!("ModelPool {name}: {wrong}")))
}

fn wrong_source(source: &ModelSource) -> Option<String> {
    let path = match (&source.upload, &source.volume) {
        (Some(_), None) => None,
        (None, Some(volume)) => volume.path.as_deref(),
        (None, None) | (Some(_), Some(_)) => {
            return Some("source must set exactly one of upload and volume".to_owned());
        }
    };
    let leaves = |path: &str| path.starts_with('/') || path.split('/').any(|part| part == "..");
    path.is_some_and(leaves).then(|| {
        "source.volume.path must be relative to the volume and must not contain '..'".to_owned()
    })
}

fn wrong_path(path: &str) -> Option<String> {
    if path.split('/').any(|part| ["..", ".", ""].contains(&part)) {
        return Some("files[].path must not contain '..', '.' or empty parts".to_owned());
    }
    (!path.ends_with(".safetensors")).then(|| {
        format!(
            "files[].path {path} must end in .safetensors; convert another format first, in a checkout of Framewright: python3 worker/tools/convert.py {path} {path}.safetensors"
        )
    })
}

fn wrong_template(template: &WorkerTemplate) -> Option<String> {
    let ours = ["framewright.dev/", "app.kubernetes.io/"];
    let metadata = template.metadata.as_ref();
    let mut labels = metadata.iter().flat_map(|metadata| metadata.labels.keys());
    if labels.any(|label| ours.iter().any(|ours| label.starts_with(ours))) {
        return Some("template.metadata.labels must not set labels under framewright.dev or app.kubernetes.io; the operator sets those".to_owned());
    }
    let containers = template.spec.as_ref()?.containers.as_ref()?;
    let first = containers.first();
    if first.is_some_and(|worker| {
        let resources = worker.resources.as_ref();
        resources.is_some_and(|resources| resources.claims.is_some())
    }) {
        return Some("template.spec.containers[0].resources.claims cannot be used, since workers have no resourceClaims; ask for devices in limits, such as nvidia.com/gpu: 1".to_owned());
    }
    let is_worker = containers
        .first()
        .is_some_and(|container| container.name == "worker");
    (!is_worker)
        .then(|| "template.spec.containers must hold one container, named worker".to_owned())
}

/// # Errors
/// The first rule that the job breaks.
pub(super) fn check_job(job: &AIJob) -> Result<(), PlanError> {
    let steps = &job.spec.steps;
    let wrong_step = || {
        let mut steps_with_earlier = steps.iter().enumerate();
        steps_with_earlier.find_map(|(position, step)| wrong_step(step, &steps[..position]))
    };
    let wrong_output = || {
        let mut outputs = job.spec.outputs.iter().flatten();
        let wrong =
            outputs.find(|output| !steps.iter().any(|step| step.name == output.from_step.name))?;
        Some(format!(
            "spec.outputs: output {} names a step that spec.steps does not have; correct outputs[].fromStep.name",
            wrong.name
        ))
    };
    let too_many = || {
        (job.spec.published().len() > MAX_OUTPUTS).then(|| {
            format!("spec.steps: more than {MAX_OUTPUTS} steps have results that no other step takes; list in spec.outputs the {MAX_OUTPUTS} or fewer that you want")
        })
    };
    refused(wrong_step().or_else(wrong_output).or_else(too_many))
}

fn wrong_step(step: &Step, earlier: &[Step]) -> Option<String> {
    let name = &step.name;
    let Some(upscale) = &step.upscale else {
        return Some(format!(
            "step {name} must set exactly one pipeline; available: upscale"
        ));
    };
    let [input] = step.inputs.as_slice() else {
        return Some(wrong_inputs(name));
    };
    if input.name != "video" && input.name != "image" {
        return Some(wrong_inputs(name));
    }
    if upscale.frames.is_some() && input.name == "image" {
        return Some(format!(
            "step {name}: upscale.frames counts the frames of a video, and the input is an image; leave frames out"
        ));
    }
    match (&input.from_step, &input.upload) {
        (Some(from), None) => (!earlier.iter().any(|step| step.name == from.name)).then(|| {
            format!(
                "spec.steps: step {name} takes an input from a step that does not come before it in the list; a step may refer to earlier steps only, so move that step up or correct inputs[].fromStep.name"
            )
        }),
        (None, Some(_)) => None,
        (None, None) | (Some(_), Some(_)) => Some(format!(
            "input {} must set exactly one of fromStep and upload",
            input.name
        )),
    }
}

fn wrong_inputs(step: &str) -> String {
    format!("step {step}: upscale takes exactly one input, named video or image; correct inputs")
}

fn refused(wrong: Option<String>) -> Result<(), PlanError> {
    wrong.map_or(Ok(()), |wrong| Err(PlanError::Refused(wrong)))
}

#[cfg(test)]
mod tests {
    use framewright_crds::schema::{self, CustomResourceExt};
    use serde_json::{Value, json};

    use super::*;

    /// Place, value as JSON, and the words of the rule that this breaks.
    const POOLS: &str = r#"
/spec/models/0/source | {} | model twice: source must set exactly one of upload and volume
/spec/models/0/source | {"upload": {}, "volume": {"claimName": "w"}} | model twice: source must set exactly one of upload and volume
/spec/models/0/source | {"volume": {"claimName": "w", "path": "/x"}} | source.volume.path must be relative to the volume and must not contain '..'
/spec/models/0/source | {"volume": {"claimName": "w", "path": "a/../.."}} | source.volume.path must be relative
/spec/models/0/files/0/path | "a/../b.safetensors" | files[].path must not contain '..', '.' or empty parts
/spec/models/0/files/0/path | "a//b.safetensors" | files[].path must not contain
/spec/models/0/files/0/path | "x.pth" | files[].path x.pth must end in .safetensors
/spec/scratch | {"sizeLimit": "10Gb"} | sizeLimit must be a quantity, such as 20Gi
/spec/weightsCache | {"sizeLimit": ""} | sizeLimit must be a quantity, such as 20Gi
/spec/template | {"metadata": {"labels": {"framewright.dev/pool": "x"}}} | template.metadata.labels must not set labels under framewright.dev or app.kubernetes.io; the operator sets those
/spec/template | {"spec": {"containers": [{"name": "main"}]}} | template.spec.containers must hold one container, named worker
/spec/template | {"spec": {"containers": [{"name": "worker", "resources": {"claims": [{"name": "gpu"}]}}]}} | template.spec.containers[0].resources.claims cannot be used, since workers have no resourceClaims; ask for devices in limits, such as nvidia.com/gpu: 1
/metadata/name | "a234567890123456789012345678901234567890123456789012345678901234" | metadata.name: at most 63 characters, since the pool's pods carry it as a label
"#;

    const JOBS: &str = r#"
/spec/steps/0/upscale | null | step large must set exactly one pipeline; available: upscale
/spec/steps/0/inputs/0/name | "sound" | step large: upscale takes exactly one input, named video or image; correct inputs
/spec/steps/0 | {"name": "large", "model": "twice", "upscale": {"frames": 2}, "inputs": [{"name": "image", "upload": {"sha256": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "bytes": 3}}]} | step large: upscale.frames counts the frames of a video
/spec/steps/0/inputs/0/upload | null | input video must set exactly one of fromStep and upload
/spec/steps/0/inputs/0/fromStep | {"name": "other"} | input video must set exactly one of fromStep and upload
/spec/steps/0/inputs/0 | {"name": "video", "fromStep": {"name": "large"}} | step large takes an input from a step that does not come before it
/spec/outputs | [{"name": "o", "fromStep": {"name": "other"}}] | spec.outputs: output o names a step that spec.steps does not have
"#;

    #[test]
    fn each_rule_of_a_pool_is_kept_and_said() {
        assert!(check_pool(&read(pool())).is_ok());
        for row in POOLS.trim().lines() {
            let (document, words) = changed(pool(), row);
            schema::check::<ModelPool>(&document).expect(row);
            let refused = check_pool(&read(document)).expect_err(row).to_string();
            assert!(refused.contains(words), "{row}: {refused}");
        }
    }

    #[test]
    fn each_rule_of_a_job_is_kept_and_said() {
        assert!(check_job(&read(job(1))).is_ok());
        for row in JOBS.trim().lines() {
            let (document, words) = changed(job(1), row);
            schema::check::<AIJob>(&document).expect(row);
            let refused = check_job(&read(document)).expect_err(row).to_string();
            assert!(refused.contains(words), "{row}: {refused}");
        }
        assert!(check_job(&read(job(16))).is_ok());
        let many = check_job(&read(job(17))).expect_err("many").to_string();
        assert!(
            many.contains("spec.steps: more than 16 steps have results that no other step takes"),
            "{many}"
        );
    }

    /// The CRDs' rules are CEL, which nothing here understands: a new one is to be written a second time, here.
    #[test]
    fn there_are_no_other_rules_than_these() {
        let said = [POOLS, JOBS].concat();
        let definitions = json!([AIJob::crd(), ModelPool::crd()]);
        let mut rules = Vec::new();
        collect(&definitions, &mut rules);
        // Those that compare with the old object say nothing about a new one.
        rules.retain(|rule| !rule["rule"].to_string().contains("oldSelf"));
        assert_eq!(rules.len(), 17);
        let unexpressed = rules.iter().filter_map(|rule| rule["message"].as_str());
        for message in
            unexpressed.filter(|message| !message.starts_with("spec.steps: more than 16"))
        {
            assert!(said.contains(message), "{message}");
        }
    }

    fn collect<'a>(schema: &'a Value, rules: &mut Vec<&'a Value>) {
        match schema {
            Value::Object(members) => {
                let own = members.get("x-kubernetes-validations");
                rules.extend(own.and_then(Value::as_array).into_iter().flatten());
                members.values().for_each(|member| collect(member, rules));
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, rules)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn changed(mut document: Value, row: &str) -> (Value, &str) {
        let cells: Vec<&str> = row.split(" | ").collect();
        let [place, value, words] = cells[..] else {
            panic!("{row} has not three cells");
        };
        let (parent, name) = place.rsplit_once('/').expect(row);
        let value = serde_json::from_str(value).expect(row);
        match name.parse::<usize>() {
            Ok(index) => document.pointer_mut(parent).expect(row)[index] = value,
            Err(_) => document.pointer_mut(parent).expect(row)[name] = value,
        }
        (document, words)
    }

    fn read<T: serde::de::DeserializeOwned>(document: Value) -> T {
        serde_json::from_value(document).expect("of its kind")
    }

    fn job(steps: usize) -> Value {
        let step = |name: String| {
            let upload = json!({"sha256": "a".repeat(64), "bytes": 3});
            json!({"name": name, "model": "twice", "upscale": {}, "inputs": [{"name": "video", "upload": upload}]})
        };
        let more = (1..steps).map(|number| step(format!("more-{number}")));
        let steps: Vec<Value> = std::iter::once(step("large".to_owned()))
            .chain(more)
            .collect();
        json!({"apiVersion": "framewright.dev/v1alpha1", "kind": "AIJob", "metadata": {"name": "demo"}, "spec": {"steps": steps}})
    }

    fn pool() -> Value {
        let file = json!({"path": "x.safetensors", "sha256": "a".repeat(64), "bytes": 5});
        let model = json!({"name": "twice", "source": {"upload": {}}, "files": [file]});
        json!({"apiVersion": "framewright.dev/v1alpha1", "kind": "ModelPool", "metadata": {"name": "cpu"}, "spec": {"device": "cpu", "models": [model]}})
    }
}
