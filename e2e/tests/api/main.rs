//! What the API server makes of our CRDs, examples and chart, and of the operator's Secrets. No controller runs, no pod starts.

mod keys;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use framewright_crds::aijob::MAX_FRAMES;
use framewright_e2e::tools::{Part, Tools};
use framewright_e2e::{Cluster, Mode, Options, with_namespace};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// One for all tests of this file; it ends with their process.
static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();

pub(crate) async fn cluster() -> Result<&'static Cluster> {
    CLUSTER
        .get_or_try_init(|| async {
            let options = Options {
                mode: Mode::ControlPlane,
                ..Options::default()
            };
            let cluster = Cluster::start("fw-api", options).await?;
            cluster
                .kubectl(&["apply", "--server-side", "-f", &path("crds/yaml")])
                .await
                .context("the API server refuses our CRDs")?;
            let names = [
                "crd/aijobs.framewright.dev",
                "crd/modelpools.framewright.dev",
            ];
            let wait = ["wait", "--for=condition=Established", "--timeout=60s"];
            cluster.kubectl(&[&wait[..], &names[..]].concat()).await?;
            Ok(cluster)
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_is_accepted() -> Result<()> {
    let cluster = cluster().await?;
    let mut count = 0;
    for entry in fs::read_dir(root().join("manifests/examples"))? {
        let file = entry?.path();
        if file.extension().is_none_or(|end| end != "yaml") {
            continue;
        }
        let shown = file.display().to_string();
        cluster
            .kubectl(&["apply", "--validate=strict", "-f", &shown])
            .await
            .with_context(|| shown.clone())?;
        count += 1;
    }
    ensure!(count >= 7, "there were only {count} examples");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manifest_without_helm_is_accepted() -> Result<()> {
    let file = path("manifests/install.yaml");
    let apply = ["apply", "--server-side", "--validate=strict", "-f", &file];
    cluster().await?.kubectl(&apply).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_derived_from_other_files_is_up_to_date() -> Result<()> {
    let tools = Tools::install(&[Part::Helm]).await?;
    let checked = Command::new(root().join("manifests/generate.sh"))
        .arg("--check")
        .env("HELM", tools.path("helm")?)
        .output()
        .context("run manifests/generate.sh")?;
    let said = [checked.stdout, checked.stderr].concat();
    ensure!(
        checked.status.success(),
        "{}",
        String::from_utf8_lossy(&said)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_default_class_is_told_so_before_anything_pends() -> Result<()> {
    let cluster = cluster().await?;
    let chart = path("charts/framewright");
    let install = [
        "install",
        "framewright",
        &chart,
        "--dry-run=server",
        "--take-ownership",
        "--namespace",
        "default",
    ];
    let said = refusal(cluster.helm(&install).await)?;
    ensure!(
        said.contains("this cluster has no default StorageClass"),
        "{said}"
    );
    ensure!(
        said.contains("store.persistence.storageClassName"),
        "{said}"
    );

    let other = [
        &install[..],
        &["--set", "store.persistence.existingClaim=missing"],
    ]
    .concat();
    let said = refusal(cluster.helm(&other).await)?;
    ensure!(said.contains("PersistentVolumeClaim \"missing\""), "{said}");

    let named = [
        &install[..],
        &["--set", "store.persistence.storageClassName=fast"],
    ]
    .concat();
    cluster.helm(&named).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_value_is_refused_by_its_name() -> Result<()> {
    let chart = path("charts/framewright");
    let said = refusal(
        cluster()
            .await?
            .helm(&["template", &chart, "--set", "operator.replica=1"])
            .await,
    )?;
    ensure!(said.contains("'replica' not allowed"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pod_of_the_chart_is_restricted() -> Result<()> {
    let cluster = cluster().await?;
    let chart = path("charts/framewright");
    let text = cluster.helm(&["template", "framewright", &chart]).await?;
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text)?;
    let pods: Vec<Value> = objects.iter().filter_map(pod).collect();
    ensure!(
        pods.len() == 3,
        "operator, store and test, but there are {}",
        pods.len()
    );
    // The namespace enforces it.
    with_namespace(cluster, "restricted", async |namespace: &str| {
        for mut pod in pods {
            pod["metadata"] = json!({"generateName": "pod-", "namespace": namespace});
            let create = ["create", "--dry-run=server", "--validate=strict", "-f", "-"];
            cluster
                .kubectl_with_input(&create, &pod.to_string())
                .await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_job_is_refused_with_the_field_and_the_way_out() -> Result<()> {
    let upload = || json!({"name": "video", "upload": {"sha256": "a".repeat(64), "bytes": 1}});
    let from = |step: &str| json!({"name": "video", "fromStep": {"name": step}});
    let step = |name: &str, input: Value| json!({"name": name, "model": "m", "upscale": {}, "inputs": [input]});
    let with = |mut value: Value, key: &str, field: Value| {
        value[key] = field;
        value
    };
    let chain = |length: usize| {
        let more = (1..length).map(|n| step(&format!("s{n}"), from(&format!("s{}", n - 1))));
        json!({"steps": std::iter::once(step("s0", upload())).chain(more).collect::<Vec<_>>()})
    };
    let both = with(from("a"), "upload", upload()["upload"].clone());
    let wrong_output = json!([{"name": "film", "fromStep": {"name": "nowhere"}}]);
    let many: Vec<Value> = (0..17).map(|n| step(&format!("s{n}"), upload())).collect();
    let long = step(&"x".repeat(300), upload());
    let cases = [
        ("a chain of fifty steps", chain(50), ""),
        ("fifty-one steps", chain(51), "spec.steps: Too many: 51"),
        ("no steps", json!({"steps": []}), "spec.steps"),
        (
            "a cycle",
            json!({"steps": [step("a", from("b")), step("b", from("a"))]}),
            "step a takes an input from a step that does not come before it",
        ),
        (
            "a step of its own result",
            json!({"steps": [step("a", from("a"))]}),
            "step a takes an input from a step that does not come before it",
        ),
        (
            "a later step",
            json!({"steps": [step("a", upload()), step("b", from("c")), step("c", upload())]}),
            "step b takes an input from a step that does not come before it",
        ),
        (
            "two inputs in one",
            json!({"steps": [step("z", upload()), step("b", both)]}),
            "input video must set exactly one of fromStep and upload",
        ),
        (
            "no input",
            json!({"steps": [with(step("a", upload()), "inputs", json!([]))]}),
            "spec.steps[0].inputs",
        ),
        (
            "no pipeline",
            json!({"steps": [{"name": "a", "model": "m", "inputs": [upload()]}]}),
            "step a must set exactly one pipeline; available: upscale",
        ),
        (
            "one name twice",
            json!({"steps": [step("a", upload()), step("a", upload())]}),
            "Duplicate value",
        ),
        (
            "a name of 300 characters",
            json!({"steps": [long]}),
            "spec.steps[0].name: Too long",
        ),
        (
            "a scale out of bounds",
            json!({"steps": [with(step("a", upload()), "upscale", json!({"scale": 9}))]}),
            "spec.steps[0].upscale.scale",
        ),
        (
            "frames out of bounds",
            json!({"steps": [with(step("a", upload()), "upscale", json!({"frames": 0}))]}),
            "spec.steps[0].upscale.frames",
        ),
        (
            "frames of an image",
            json!({"steps": [with(step("a", with(upload(), "name", json!("image"))), "upscale", json!({"frames": 2}))]}),
            "step a: upscale.frames counts the frames of a video",
        ),
        (
            "an output of no step",
            with(chain(2), "outputs", wrong_output),
            "output film names a step that spec.steps does not have",
        ),
        (
            "seventeen results",
            json!({"steps": many}),
            "list in spec.outputs the 16 or fewer that you want",
        ),
    ];
    let cluster = cluster().await?;
    for (what, spec, expected) in cases {
        let job = json!({"apiVersion": "framewright.dev/v1alpha1", "kind": "AIJob", "metadata": {"name": "case"}, "spec": spec});
        let create = ["create", "--dry-run=server", "--validate=strict", "-f", "-"];
        let answer = cluster.kubectl_with_input(&create, &job.to_string()).await;
        if expected.is_empty() {
            answer.with_context(|| what.to_owned())?;
            continue;
        }
        let said = refusal(answer).with_context(|| what.to_owned())?;
        ensure!(said.contains(expected), "{what}: {said}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_of_all_jobs_is_accepted_and_nothing_longer_is() -> Result<()> {
    let longest = |letter: &str, length: usize| letter.repeat(length);
    let name = |number: usize| format!("{}{number:02}", longest("s", 38));
    let pool = json!({"namespace": longest("n", 63), "name": longest("p", 63)});
    let file = |number: usize| json!({"sha256": format!("{number:064x}"), "bytes": 1_i64 << 40});
    let step = |number: usize| {
        let input = if number.is_multiple_of(2) {
            json!({"name": "video", "upload": file(number)})
        } else {
            json!({"name": "video", "fromStep": {"name": name(number - 1)}})
        };
        json!({"name": name(number), "model": longest("m", 63), "poolRef": pool, "upscale": {"scale": 4, "frames": MAX_FRAMES}, "inputs": [input]})
    };
    let output = |number: usize| json!({"name": format!("{}{number:02}", longest("o", 38)), "fromStep": {"name": name(number)}});
    let job = json!({
        "apiVersion": "framewright.dev/v1alpha1",
        "kind": "AIJob",
        "metadata": {"name": longest("j", 253)},
        "spec": {
            "steps": (0..50).map(step).collect::<Vec<_>>(),
            "outputs": (0..16).map(output).collect::<Vec<_>>(),
            "priority": -1000, "queueDeadlineSeconds": 604_800, "preRunningDeadlineSeconds": 86_400, "activeDeadlineSeconds": 604_800,
            "backoffLimit": 10, "ttlSecondsAfterFinished": 31_536_000, "suspend": true,
        },
    });
    let cluster = cluster().await?;
    let create = ["create", "--dry-run=server", "--validate=strict", "-f", "-"];
    cluster
        .kubectl_with_input(&create, &job.to_string())
        .await
        .context("the longest job")?;
    // Each string and each list has its limit, and so has the whole.
    for (field, place) in [
        ("spec.steps[7].model", "/spec/steps/7/model"),
        ("spec.steps[7].poolRef.name", "/spec/steps/7/poolRef/name"),
        (
            "spec.steps[7].poolRef.namespace",
            "/spec/steps/7/poolRef/namespace",
        ),
        (
            "spec.steps[7].inputs[0].fromStep.name",
            "/spec/steps/7/inputs/0/fromStep/name",
        ),
        ("spec.outputs[3].name", "/spec/outputs/3/name"),
    ] {
        for length in [64, 2 << 20] {
            let mut longer = job.clone();
            let value = longer.pointer_mut(place).context(place)?;
            *value = json!(longest("x", length));
            let said = refusal(
                cluster
                    .kubectl_with_input(&create, &longer.to_string())
                    .await,
            )?;
            ensure!(
                said.contains(&format!("{field}: Too long: may not be more than ")),
                "{field}: {said}"
            );
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_fixed_stays_and_what_may_change_does() -> Result<()> {
    let cluster = cluster().await?;
    with_namespace(cluster, "fixed", async |namespace: &str| {
        let example = path("manifests/examples/job-image.yaml");
        cluster.kubectl(&["--namespace", namespace, "apply", "-f", &example]).await?;
        let patch = async |spec: Value| {
            let text = json!({"spec": spec}).to_string();
            cluster.kubectl(&["--namespace", namespace, "patch", "aijob", "poster", "--type=merge", "-p", &text]).await
        };
        for (spec, expected) in [
            (json!({"backoffLimit": 9}), "spec.backoffLimit is fixed at creation"),
            (json!({"steps": [{"name": "other", "model": "m", "upscale": {}, "inputs": [{"name": "image", "upload": {"sha256": "a".repeat(64), "bytes": 1}}]}]}), "spec.steps is fixed at creation"),
            (json!({"outputs": [{"name": "x", "fromStep": {"name": "large"}}]}), "spec.outputs is fixed at creation"),
        ] {
            let said = refusal(patch(spec).await)?;
            ensure!(said.contains(expected), "{said}");
        }
        let free = json!({"suspend": true, "priority": 5, "queueDeadlineSeconds": 5, "preRunningDeadlineSeconds": 5, "activeDeadlineSeconds": 5, "ttlSecondsAfterFinished": 5});
        patch(free).await.map(drop)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_pool_is_refused_with_the_field_and_the_way_out() -> Result<()> {
    let file = |path: &str| json!({"path": path, "sha256": "a".repeat(64), "bytes": 1});
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
            "files[].path m.pth must end in .safetensors; convert another format first, in a checkout of Framewright: python3 worker/tools/convert.py m.pth m.pth.safetensors",
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

/// What was said instead of doing it.
fn refusal(answer: Result<String>) -> Result<String> {
    match answer {
        Ok(done) => anyhow::bail!("it was done: {done}"),
        Err(said) => Ok(format!("{said:#}")),
    }
}

/// The pod that a Deployment would make, or the pod itself.
fn pod(object: &Value) -> Option<Value> {
    let spec = match object["kind"].as_str()? {
        "Deployment" => &object["spec"]["template"]["spec"],
        "Pod" => &object["spec"],
        _ => return None,
    };
    Some(json!({"apiVersion": "v1", "kind": "Pod", "spec": spec}))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn path(inside: &str) -> String {
    root().join(inside).display().to_string()
}
