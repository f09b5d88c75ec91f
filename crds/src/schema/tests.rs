//! A document that is fine, one value of it changed, and what is said of that.

use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::{AIJob, ModelPool};

/// Place, value as JSON (`"@41"` stands for 41 letters), words of what is said.
const JOBS: &str = r#"
/spec/priority | -1000 | fine
/spec/outputs | null | fine
/spec/steps/0/inputs/0/upload/bytes | 1099511627776 | fine
/status | {"what": "ever"} | fine
/metadata/name | "a.b-c.9" | fine
/metadata/name | "@253" | fine
/metadata/name | null | metadata.name: is required
/metadata/name | "../x" | metadata.name: "../x" must consist of lower-case letters
/metadata/name | "/tmp/x" | metadata.name: "/tmp/x" must
/metadata/name | "a..b" | metadata.name: "a..b" must
/metadata/name | "-a" | metadata.name: "-a" must
/metadata/name | "a_b" | metadata.name: "a_b" must
/metadata/name | 7 | metadata.name: 7 must
/metadata/name | "@254" | have at most 253 characters
/apiVersion | "framewright.dev/v1" | apiVersion: "framewright.dev/v1" should be framewright.dev/v1alpha1
/apiVersion | null | apiVersion: null should be
/sepc | {} | unknown field sepc
/spec/steps | [] | spec.steps: has 0 items and should have at least 1
/spec/steps/- | {"name": "large", "model": "m", "inputs": [{"name": "video"}]} | spec.steps[1]: duplicate value {"name":"large"}
/spec/steps/0/name | "Large" | spec.steps[0].name: "Large" should match ^[a-z0-9]
/spec/steps/0/name | "a\n" | should match ^[a-z0-9]
/spec/steps/0/name | "@41" | has 41 characters and should have at most 40
/spec/steps/0/name | 7 | spec.steps[0].name: 7 must be of type string
/spec/steps/0/upscale/scale | 9 | spec.steps[0].upscale.scale: 9 should be at most 4
/spec/steps/0/upscale/frames | 0 | spec.steps[0].upscale.frames: 0 should be at least 1
/spec/steps/0/upscale/frames | 1.5 | 1.5 must be of type integer
/spec/steps/0/upscale/scael | 2 | unknown field spec.steps[0].upscale.scael
/spec/steps/0/inputs | [] | fine
/spec/steps/0/inputs/0/upload | {"bytes": 1} | upload.digest: is required
/spec/steps/0/inputs/0/upload/bytes | 1099511627777 | should be at most 1099511627776
/spec/steps/0/inputs/0/upload/bytes | -1 | should be at least 0
/spec/steps/0/poolRef | {"name": "@64"} | poolRef.name: has 64 characters
/spec/queueDeadlineSeconds | 0 | spec.queueDeadlineSeconds: 0 should be at least 1
/spec/priority | -1001 | spec.priority: -1001 should be at least -1000
/spec/ttlSecondsAfterFinished | 60 | fine
/spec/ttlSecondsAfterFinished | 0 | spec.ttlSecondsAfterFinished: 0 should be at least 60
/spec/suspend | "no" | spec.suspend: "no" must be of type boolean
/spec/outputs | [] | spec.outputs: has 0 items
"#;

const POOLS: &str = r#"
/spec/replicas | 0 | fine
/spec/scratch/sizeLimit | 5 | fine
/spec/device | "gpu" | spec.device: "gpu" should be one of "cpu", "cuda"
/spec/replicas | 3000000000 | should be at most 1000
/spec/models/0/name | "a_b" | should match ^[a-z0-9]
/spec/models/0/files | [] | spec.models[0].files: has 0 items
/spec/models/0/files/0/digest | "aa" | spec.models[0].files[0].digest: has 2 characters
/spec/models/0/files/0/digest | "@71" | should match ^sha256:
/spec/models/0/files/0/digest | "@72" | has 72 characters
/spec/models | [] | fine
/spec/pipelines | ["upscale", "interpolate"] | fine
/spec/pipelines | ["upscale", "upscale"] | spec.pipelines[1]: duplicate value "upscale"
/spec/models/0/files/0/bytes | 0 | 0 should be at least 1
/spec/models/0/files/0/path | "-x" | should match ^[A-Za-z0-9_]
/spec/models/0/source/volume | {"claimName": ""} | has 0 characters
/spec/scratch/sizeLimit | true | must be of type integer or string
/spec/template/metadata/labels/queue | 1 | labels.queue: 1 must be of type string
/spec/template/spec/tolerations/0/tolerationSeconds | "1" | must be of type integer
/spec/template/spec/containers | [] | containers: has 0 items
"#;

#[test]
fn each_bound_of_a_job_is_kept_and_named() {
    for row in JOBS.trim().lines() {
        judge::<AIJob>(&job(), row);
    }
    let mut long = job();
    let steps = (0..51).map(|number| json!({"name": number.to_string()}));
    long["spec"]["steps"] = steps.collect();
    assert_eq!(
        said::<AIJob>(&long),
        "spec.steps: has 51 items and should have at most 50"
    );
}

#[test]
fn each_bound_of_a_pool_is_kept_and_named() {
    for row in POOLS.trim().lines() {
        judge::<ModelPool>(&pool(), row);
    }
    let mut labelled = pool();
    for number in 0..32 {
        labelled["spec"]["template"]["metadata"]["labels"][number.to_string()] = json!("");
    }
    assert_eq!(
        said::<ModelPool>(&labelled),
        "spec.template.metadata.labels: has 33 entries and should have at most 32"
    );
}

/// A keyword that only the API server knew would be a bound that only it kept.
#[test]
fn every_keyword_of_the_schemas_is_known_here() {
    const KNOWN: &str = "additionalProperties default description enum format items maxItems maxLength maxProperties \
        maximum minItems minLength minimum nullable pattern properties required type x-kubernetes-int-or-string \
        x-kubernetes-list-map-keys x-kubernetes-list-type x-kubernetes-validations";
    let known: BTreeSet<&str> = KNOWN.split_whitespace().collect();
    for definition in [AIJob::crd(), ModelPool::crd()] {
        let definition = serde_json::to_value(definition).expect("JSON");
        let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
        let mut left = vec![definition.pointer(spec).expect("a schema")];
        while let Some(schema) = left.pop() {
            for (keyword, inner) in schema.as_object().expect("a schema") {
                assert!(known.contains(keyword.as_str()), "{keyword}: {schema}");
                match keyword.as_str() {
                    "properties" => left.extend(inner.as_object().expect("schemas").values()),
                    "items" | "additionalProperties" => left.push(inner),
                    "format" => assert!(inner == "int32" || inner == "int64", "{inner}"),
                    "x-kubernetes-list-type" => {
                        assert!(inner == "map" || inner == "set", "{inner}")
                    }
                    _ => {}
                }
            }
        }
    }
}

fn judge<K: CustomResourceExt>(fine: &Value, row: &str) {
    let cells: Vec<&str> = row.split(" | ").collect();
    let [place, value, words] = cells[..] else {
        panic!("{row} has not three cells");
    };
    let (parent, name) = place.rsplit_once('/').expect("a place");
    let mut document = fine.clone();
    let value = long(serde_json::from_str(value).expect(row));
    match document.pointer_mut(parent).expect(row) {
        Value::Object(members) => drop(members.insert(name.to_owned(), value)),
        Value::Array(items) => items.push(value),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            panic!("{row}: {parent} has no members")
        }
    }
    let said = said::<K>(&document);
    assert!(said.contains(words), "{row}: {said}");
}

fn said<K: CustomResourceExt>(document: &Value) -> String {
    check::<K>(document).map_or_else(|breach| breach.to_string(), |()| "fine".to_owned())
}

fn long(value: Value) -> Value {
    match value {
        Value::String(text) => match text.strip_prefix('@').map(str::parse) {
            Some(count) => "a".repeat(count.expect("a count")).into(),
            None => text.into(),
        },
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| (name, long(value)))
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => value,
    }
}

fn job() -> Value {
    json!({
        "apiVersion": "framewright.dev/v1alpha1",
        "kind": "AIJob",
        "metadata": {"name": "demo"},
        "spec": {"steps": [{
            "name": "large",
            "model": "twice",
            "upscale": {"scale": 2},
            "inputs": [{"name": "video", "upload": {"digest": format!("sha256:{}", "a".repeat(64)), "bytes": 3}}],
        }]},
    })
}

fn pool() -> Value {
    json!({
        "apiVersion": "framewright.dev/v1alpha1",
        "kind": "ModelPool",
        "metadata": {"name": "cpu"},
        "spec": {
            "device": "cpu",
            "models": [{
                "name": "twice",
                "source": {"upload": {}},
                "files": [{"path": "x.safetensors", "digest": format!("sha256:{}", "a".repeat(64)), "bytes": 5}],
            }],
            "scratch": {"sizeLimit": "1Gi"},
            "template": {
                "metadata": {"labels": {"queue": "video"}},
                "spec": {
                    "tolerations": [{"key": "gpu", "operator": "Exists"}],
                    "containers": [{"name": "worker", "resources": {"limits": {"cpu": 4, "memory": "2Gi"}}}],
                },
            },
        },
    })
}
