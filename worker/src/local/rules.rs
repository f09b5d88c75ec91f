//! What the API server refuses by the CEL rules of the CRDs: the rules themselves are evaluated, and their own messages are shown. Pure.
//!
//! The structural part of the schema comes before: see [`framewright_crds::schema`].

use framewright_crds::schema::CustomResourceExt;
use kube_cel::{ValidationError, Validator};
use serde::Serialize;
use serde_json::Value;

/// # Errors
/// The rules that an object breaks when it is created: for each the path of its field and the rule's message.
pub(super) fn check<K: CustomResourceExt + Serialize>(object: &K) -> Result<(), String> {
    let object = serde_json::to_value(object).map_err(|error| error.to_string())?;
    let versions = K::crd().spec.versions.into_iter();
    let schemas = versions.filter_map(|version| version.schema?.open_api_v3_schema);
    for schema in schemas {
        let schema: Value = serde_json::to_value(schema).map_err(|error| error.to_string())?;
        if let Err(broken) = Validator::new().validate(&schema, &object, None) {
            let messages: Vec<String> = broken.iter().map(message).collect();
            return Err(messages.join("; "));
        }
    }
    Ok(())
}

/// Some messages begin with the path of their field.
fn message(broken: &ValidationError) -> String {
    let ValidationError {
        field_path,
        message,
        ..
    } = broken;
    if field_path.is_empty() || message.starts_with(field_path.as_str()) {
        return message.clone();
    }
    format!("{field_path}: {message}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use framewright_crds::schema;
    use framewright_crds::{AIJob, ModelPool};
    use serde::de::DeserializeOwned;
    use serde_json::json;

    use super::*;

    /// Place, value as JSON, and the words of the rule that this breaks.
    const POOLS: &str = r#"
/spec/models/0/source | {} | spec.models[0].source: source must set exactly one of upload and volume
/spec/models/0/source | {"upload": {}, "volume": {"claimName": "w"}} | spec.models[0].source: source must set exactly one of upload and volume
/spec/models/0/source | {"volume": {"claimName": "w", "path": "/x"}} | spec.models[0].source.volume.path: source.volume.path must be relative to the volume and must not contain '..'
/spec/models/0/source | {"volume": {"claimName": "w", "path": "a/../.."}} | spec.models[0].source.volume.path: source.volume.path must be relative
/spec/models/0/files/0/path | "a/../b.safetensors" | spec.models[0].files[0].path: files[].path must not contain '..', empty parts or parts that begin with '.'
/spec/models/0/files/0/path | "a//b.safetensors" | files[].path must not contain
/spec/models/0/files/0/path | "a/.x.safetensors" | files[].path must not contain
/spec/models/0/files/0/path | "x.pth" | files[].path x.pth must end in .safetensors, .json, .txt or .model; convert other weights first, in a checkout of Framewright: python3 worker/tools/convert.py x.pth x.pth.safetensors
/spec/scratch | {"sizeLimit": "10Gb"} | spec.scratch.sizeLimit: sizeLimit must be a quantity, such as 20Gi
/spec/weightsCache | {"sizeLimit": ""} | spec.weightsCache.sizeLimit: sizeLimit must be a quantity, such as 20Gi
/spec/template | {"metadata": {"labels": {"framewright.dev/pool": "x"}}} | spec.template.metadata.labels: template.metadata.labels must not set labels under framewright.dev or app.kubernetes.io; the operator sets those
/spec/template | {"spec": {"containers": [{"name": "main"}]}} | spec.template.spec.containers: template.spec.containers must hold one container, named worker
/spec/template | {"spec": {"containers": [{"name": "worker", "resources": {"claims": [{"name": "gpu"}]}}]}} | template.spec.containers[0].resources.claims cannot be used, since workers have no resourceClaims; ask for devices in limits, such as nvidia.com/gpu: 1
/metadata/name | "a234567890123456789012345678901234567890123456789012345678901234" | metadata.name: at most 63 characters, since the pool's pods carry it as a label
"#;

    const JOBS: &str = r#"
/spec/steps/0/upscale | null | spec.steps[0]: step large must set exactly one pipeline; available: upscale, interpolate
/spec/steps/0/model | null | spec.steps[0]: step large: upscale needs a model; set model
/spec/steps/0/inputs/0/name | "sound" | spec.steps[0]: step large: upscale takes exactly one input, named video or image; correct inputs
/spec/steps/0/inputs | [] | spec.steps[0]: step large: upscale takes exactly one input, named video or image; correct inputs
/spec/steps/0 | {"name": "large", "model": "twice", "upscale": {"frames": 2}, "inputs": [{"name": "image", "upload": {"digest": "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "bytes": 3}}]} | spec.steps[0]: step large: upscale.frames counts the frames of a video, and the input is an image; leave frames out
/spec/steps/0 | {"name": "large", "interpolate": {"factor": 2}, "inputs": [{"name": "image", "fromStep": {"name": "x"}}]} | spec.steps[0]: step large: interpolate takes exactly one input, named video; correct inputs; spec.steps[0]: step large: interpolate needs a model; set model
/spec/steps/0 | {"name": "large", "model": "twice", "interpolate": {"factor": 2, "fps": "24000/1001"}, "inputs": [{"name": "video", "fromStep": {"name": "x"}}]} | spec.steps[0]: step large: set exactly one of interpolate.factor and interpolate.fps
/spec/steps/0 | {"name": "large", "model": "twice", "interpolate": {"slowdown": 2}, "inputs": [{"name": "video", "fromStep": {"name": "x"}}]} | spec.steps[0]: step large: set exactly one of interpolate.factor and interpolate.fps
/spec/steps/0/inputs/0/upload | null | spec.steps[0].inputs[0]: input video must set exactly one of fromStep and upload
/spec/steps/0/inputs/0/fromStep | {"name": "other"} | move that step up or correct inputs[].fromStep.name; spec.steps[0].inputs[0]: input video must set exactly one of fromStep and upload
/spec/steps/0/inputs/0 | {"name": "video", "fromStep": {"name": "large"}} | spec.steps: step large takes an input from a step that does not come before it in the list; a step may refer to earlier steps only, so move that step up or correct inputs[].fromStep.name
/spec/outputs | [{"name": "o", "fromStep": {"name": "other"}}] | spec.outputs: output o names a step that spec.steps does not have; correct outputs[].fromStep.name
"#;

    #[test]
    fn each_rule_of_a_pool_is_evaluated_and_its_message_shown() {
        assert_eq!(said::<ModelPool>(pool()), "fine");
        for path in ["tokenizer.json", "LICENCE.txt", "deep/spiece.model"] {
            let row = format!("/spec/models/0/files/0/path | {path:?} | fine");
            judge::<ModelPool>(pool(), &row);
        }
        for row in POOLS.trim().lines() {
            judge::<ModelPool>(pool(), row);
        }
        assert_eq!(said::<ModelPool>(pool_of(4, 128)), "fine");
        let said = said::<ModelPool>(pool_of(5, 103));
        assert!(said.contains("at most 512 files in all"), "{said}");
    }

    #[test]
    fn each_rule_of_a_job_is_evaluated_and_its_message_shown() {
        assert_eq!(said::<AIJob>(job(1)), "fine");
        for row in JOBS.trim().lines() {
            judge::<AIJob>(job(1), row);
        }
        assert_eq!(said::<AIJob>(job(16)), "fine");
        assert_eq!(
            said::<AIJob>(job(17)),
            "spec.steps: more than 16 steps have results that no other step takes; list in spec.outputs the 16 or fewer that you want"
        );
    }

    /// A step that refers to the step before it, fifty times: the largest job.
    #[test]
    fn the_longest_chain_of_steps_is_fine_and_its_last_step_is_found() {
        let mut chain = job(50);
        for position in 1..50 {
            let step = &mut chain["spec"]["steps"][position];
            let before = match position {
                1 => "large".to_owned(),
                _ => format!("more-{}", position - 1),
            };
            step["inputs"] = json!([{"name": "video", "fromStep": {"name": before}}]);
        }
        assert_eq!(said::<AIJob>(chain.clone()), "fine");
        chain["spec"]["steps"][49]["inputs"][0]["fromStep"]["name"] = json!("more-49");
        let said = said::<AIJob>(chain);
        assert!(
            said.starts_with("spec.steps: step more-49 takes an input from a step"),
            "{said}"
        );
    }

    /// Whatever rule the CRDs have, it can be evaluated here. A message that no row above has belongs to a rule that is not tested.
    #[test]
    fn every_rule_for_new_objects_is_broken_by_a_row() {
        let shown = [POOLS, JOBS].concat();
        let definitions = json!([AIJob::crd(), ModelPool::crd()]);
        let mut rules = Vec::new();
        collect(&definitions, &mut rules);
        // Those that compare with the old object say nothing about a new one.
        rules.retain(|rule| !rule["rule"].to_string().contains("oldSelf"));
        assert!(rules.len() >= 17, "{}", rules.len());
        let messages = rules.iter().map(|rule| match rule["message"].as_str() {
            Some(message) => message.to_owned(),
            // Of an expression: its last piece of text.
            None => {
                let expression = rule["messageExpression"].as_str().expect("a message");
                let mut pieces = expression.split('\'').filter(|piece| piece.len() > 20);
                pieces.next_back().expect("text").to_owned()
            }
        });
        let unknown: BTreeSet<String> = messages
            .filter(|message| !shown.contains(message.as_str()))
            .filter(|message| !message.starts_with("spec.steps: more than 16"))
            .filter(|message| !message.starts_with("spec.models: at most 512 files"))
            .filter(|message| !message.contains("worker/tools/convert.py"))
            .collect();
        assert!(unknown.is_empty(), "{unknown:?}");
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

    fn judge<K: CustomResourceExt + Serialize + DeserializeOwned>(mut document: Value, row: &str) {
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
        schema::check::<K>(&document).expect(row);
        let said = said::<K>(document);
        assert!(said.contains(words), "{row}: {said}");
    }

    fn said<K: CustomResourceExt + Serialize + DeserializeOwned>(document: Value) -> String {
        let object: K = serde_json::from_value(document).expect("of its kind");
        check(&object).map_or_else(|message| message, |()| "fine".to_owned())
    }

    fn job(steps: usize) -> Value {
        let step = |name: String| {
            let upload = json!({"digest": format!("sha256:{}", "a".repeat(64)), "bytes": 3});
            json!({"name": name, "model": "twice", "upscale": {}, "inputs": [{"name": "video", "upload": upload}]})
        };
        let more = (1..steps).map(|number| step(format!("more-{number}")));
        let steps: Vec<Value> = std::iter::once(step("large".to_owned()))
            .chain(more)
            .collect();
        json!({"apiVersion": "framewright.dev/v1alpha1", "kind": "AIJob", "metadata": {"name": "demo"}, "spec": {"steps": steps}})
    }

    /// A pool of so many models with so many files each.
    fn pool_of(models: usize, files: usize) -> Value {
        let mut pool = pool();
        let model = pool["spec"]["models"][0].clone();
        let file = model["files"][0].clone();
        let files = (0..files).map(|number| {
            let mut file = file.clone();
            file["path"] = json!(format!("{number}.safetensors"));
            file
        });
        let files: Vec<Value> = files.collect();
        let models = (0..models).map(|number| {
            let mut model = model.clone();
            model["name"] = json!(format!("model-{number}"));
            model["files"] = json!(files);
            model
        });
        pool["spec"]["models"] = models.collect();
        pool
    }

    fn pool() -> Value {
        let digest = format!("sha256:{}", "a".repeat(64));
        let file = json!({"path": "x.safetensors", "digest": digest, "bytes": 5});
        let model = json!({"name": "twice", "source": {"upload": {}}, "files": [file]});
        json!({"apiVersion": "framewright.dev/v1alpha1", "kind": "ModelPool", "metadata": {"name": "cpu"}, "spec": {"device": "cpu", "models": [model]}})
    }
}
