//! Which ModelPools are refused, in which words.

use anyhow::{Context, Result, ensure};
use framewright_crds::names::digest;
use serde_json::{Value, json};

use crate::{cluster, refusal};

/// What a digest of the wrong form is told.
const DIGEST: &str = "spec.models[0].files[0].digest";

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_pool_is_refused_with_the_field_and_the_way_out() -> Result<()> {
    let file = |path: &str| json!({"path": path, "digest": digest(&"a".repeat(64)), "bytes": 1});
    let with_digest =
        |digest: String| json!({"path": "m.safetensors", "digest": digest, "bytes": 1});
    let model =
        |source: Value, file: Value| json!({"name": "m", "source": source, "files": [file]});
    let upload = json!({"upload": {}});
    let pool = |model: Value| json!({"device": "cpu", "models": [model]});
    let with_template = |template: Value| json!({"device": "cpu", "models": [model(upload.clone(), file("m.safetensors"))], "template": template});
    let cases = [
        (
            "a good one",
            pool(model(upload.clone(), file("unet/m.safetensors"))),
            "",
        ),
        (
            "no device",
            json!({"models": [model(upload.clone(), file("m.safetensors"))]}),
            "spec.device: Required value",
        ),
        (
            "a pickle",
            pool(model(upload.clone(), file("m.pth"))),
            "files[].path m.pth must end in .safetensors, .json, .txt or .model; convert other weights first, in a checkout of Framewright: python3 worker/tools/convert.py m.pth m.pth.safetensors",
        ),
        ("no model", json!({"device": "cpu", "models": []}), ""),
        (
            "no list of models, and the pipelines",
            json!({"device": "cpu", "pipelines": ["transcode"]}),
            "",
        ),
        (
            "a pipeline twice",
            json!({"device": "cpu", "pipelines": ["upscale", "upscale"]}),
            "Duplicate value",
        ),
        (
            "a model of a folder",
            pool(json!({"name": "m", "source": upload, "files": [
                file("model_index.json"), file("tokenizer/merges.txt"), file("tokenizer/spiece.model"),
                file("unet/diffusion_pytorch_model.safetensors"),
            ]})),
            "",
        ),
        (
            "a pickle in a folder",
            pool(model(
                upload.clone(),
                file("unet/diffusion_pytorch_model.bin"),
            )),
            "files[].path unet/diffusion_pytorch_model.bin must end in .safetensors, .json, .txt or .model",
        ),
        (
            "an empty part of a path",
            pool(model(upload.clone(), file("unet//m.safetensors"))),
            "files[].path must not contain '..'",
        ),
        (
            "a digest without its algorithm",
            pool(model(upload.clone(), with_digest("a".repeat(64)))),
            DIGEST,
        ),
        (
            "a digest of another algorithm",
            pool(model(
                upload.clone(),
                with_digest(format!("sha512:{}", "a".repeat(64))),
            )),
            DIGEST,
        ),
        (
            "the field of earlier versions",
            pool(model(
                upload.clone(),
                json!({"path": "m.safetensors", "sha256": "a".repeat(64), "bytes": 1}),
            )),
            "unknown field \"spec.models[0].files[0].sha256\"",
        ),
        (
            "a path out of the model",
            pool(model(upload.clone(), file("a/../../m.safetensors"))),
            "must not contain '..'",
        ),
        (
            "two sources",
            pool(model(
                json!({"upload": {}, "volume": {"claimName": "c"}}),
                file("m.safetensors"),
            )),
            "source must set exactly one of upload and volume",
        ),
        (
            "a size that is none",
            json!({"device": "cpu", "models": [model(upload.clone(), file("m.safetensors"))], "scratch": {"sizeLimit": "lots"}}),
            "sizeLimit must be a quantity, such as 20Gi",
        ),
        (
            "an absolute folder",
            pool(model(
                json!({"volume": {"claimName": "c", "path": "/etc"}}),
                file("m.safetensors"),
            )),
            "source.volume.path must be relative",
        ),
        (
            "another container",
            with_template(json!({"spec": {"containers": [{"name": "sidecar"}]}})),
            "must hold one container, named worker",
        ),
        (
            "a label of the operator's",
            with_template(json!({"metadata": {"labels": {"framewright.dev/pool": "x"}}})),
            "the operator sets those",
        ),
        (
            "claims that no pod of ours has",
            with_template(
                json!({"spec": {"containers": [{"name": "worker", "resources": {"claims": [{"name": "gpu"}]}}]}}),
            ),
            "resources.claims cannot be used",
        ),
        (
            "host access",
            with_template(json!({"spec": {"hostNetwork": true}})),
            "unknown field \"spec.template.spec.hostNetwork\"",
        ),
    ];
    let cluster = cluster().await?;
    let long = "x".repeat(64);
    let cases = cases.map(|(what, spec, expected)| (what, "case", spec, expected));
    let long_name = (
        "a name that is no label",
        long.as_str(),
        pool(model(upload.clone(), file("m.safetensors"))),
        "metadata.name: at most 63 characters",
    );
    for (what, name, spec, expected) in cases.into_iter().chain([long_name]) {
        let pool = json!({"apiVersion": "framewright.dev/v1alpha1", "kind": "ModelPool", "metadata": {"name": name}, "spec": spec});
        let create = ["create", "--dry-run=server", "--validate=strict", "-f", "-"];
        let answer = cluster.kubectl_with_input(&create, &pool.to_string()).await;
        if expected.is_empty() {
            answer.with_context(|| what.to_owned())?;
            continue;
        }
        let said = refusal(answer).with_context(|| what.to_owned())?;
        ensure!(said.contains(expected), "{what}: {said}");
    }
    Ok(())
}
