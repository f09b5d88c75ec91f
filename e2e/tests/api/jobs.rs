//! Which AIJobs are refused, in which words, and what of one may change.

use anyhow::{Context, Result, ensure};
use framewright_crds::aijob::MAX_FRAMES;
use framewright_e2e::with_namespace;
use serde_json::{Value, json};

use crate::{cluster, path, refusal};

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
        let free = json!({"suspend": true, "priority": 5, "queueDeadlineSeconds": 5, "preRunningDeadlineSeconds": 5, "activeDeadlineSeconds": 5, "ttlSecondsAfterFinished": 60});
        patch(free).await.map(drop)
    })
    .await
}
