//! Which AIJobs are refused, in which words, and what of one may change.

use anyhow::{Context, Result, ensure};
use framewright_crds::names::digest;
use framewright_crds::pipelines::upscale::MAX_FRAMES;
use framewright_e2e::with_namespace;
use serde_json::{Value, json};

use crate::{cluster, path, refusal};

/// What a step of the wrong inputs is told.
const ONE_INPUT: &str =
    "step a: upscale takes exactly one input, named video or image; correct inputs";
/// What a digest of the wrong form is told.
const DIGEST: &str = "spec.steps[0].inputs[0].upload.digest";

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_job_is_refused_with_the_field_and_the_way_out() -> Result<()> {
    let file = |digest: &str| json!({"name": "video", "upload": {"digest": digest, "bytes": 1}});
    let upload = || file(&digest(&"a".repeat(64)));
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
    let output = |step: Value| json!([{"name": "film", "fromStep": step}]);
    let without_model = |mut step: Value| {
        step.as_object_mut().map(|members| members.remove("model"));
        step
    };
    let two = json!([upload(), with(upload(), "name", json!("image"))]);
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
            ONE_INPUT,
        ),
        (
            "an input that upscale does not take",
            json!({"steps": [step("a", with(upload(), "name", json!("clip")))]}),
            ONE_INPUT,
        ),
        (
            "both inputs that upscale can take",
            json!({"steps": [with(step("a", upload()), "inputs", two)]}),
            ONE_INPUT,
        ),
        (
            "more inputs than any step may have",
            json!({"steps": [with(step("a", upload()), "inputs", json!(vec![upload(); 9]))]}),
            "spec.steps[0].inputs: Too many: 9",
        ),
        (
            "no model",
            json!({"steps": [without_model(step("a", upload()))]}),
            "step a: upscale needs a model; set model",
        ),
        (
            "no pipeline",
            json!({"steps": [{"name": "a", "model": "m", "inputs": [upload()]}]}),
            "step a must set exactly one pipeline; available: upscale, interpolate",
        ),
        (
            "a factor and a rate",
            json!({"steps": [{"name": "a", "model": "m", "interpolate": {"factor": 2, "fps": 60}, "inputs": [upload()]}]}),
            "step a: set exactly one of interpolate.factor and interpolate.fps",
        ),
        (
            "a rate that is no fraction",
            json!({"steps": [{"name": "a", "model": "m", "interpolate": {"fps": "23.976"}, "inputs": [upload()]}]}),
            "spec.steps[0].interpolate.fps",
        ),
        (
            "a pipeline that the published CRD does not have",
            json!({"steps": [{"name": "a", "noop": {}}]}),
            "unknown field \"spec.steps[0].noop\"",
        ),
        (
            "a digest without its algorithm",
            json!({"steps": [step("a", file(&"a".repeat(64)))]}),
            DIGEST,
        ),
        (
            "a digest in capital letters",
            json!({"steps": [step("a", file(&digest(&"A".repeat(64))))]}),
            DIGEST,
        ),
        (
            "the field of earlier versions",
            json!({"steps": [step("a", json!({"name": "video", "upload": {"sha256": "a".repeat(64), "bytes": 1}}))]}),
            "unknown field \"spec.steps[0].inputs[0].upload.sha256\"",
        ),
        (
            "a deadline of earlier versions",
            with(chain(1), "preRunningDeadlineSeconds", json!(5)),
            "unknown field \"spec.preRunningDeadlineSeconds\"",
        ),
        (
            "no time to start",
            with(chain(1), "startDeadlineSeconds", json!(0)),
            "spec.startDeadlineSeconds",
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
            with(chain(2), "outputs", output(json!({"name": "nowhere"}))),
            "output film names a step that spec.steps does not have",
        ),
        (
            "one of a step's outputs by name",
            with(
                chain(2),
                "outputs",
                output(json!({"name": "s1", "output": "video"})),
            ),
            "",
        ),
        (
            "an output without a name",
            with(
                chain(2),
                "outputs",
                output(json!({"name": "s1", "output": ""})),
            ),
            "spec.outputs[0].fromStep.output",
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
    let file =
        |number: usize| json!({"digest": digest(&format!("{number:064x}")), "bytes": 1_i64 << 40});
    let step = |number: usize| {
        let input = if number.is_multiple_of(2) {
            json!({"name": "video", "upload": file(number)})
        } else {
            json!({"name": "video", "fromStep": {"name": name(number - 1), "output": longest("v", 40)}})
        };
        json!({"name": name(number), "model": longest("m", 63), "poolRef": pool, "upscale": {"scale": 4, "frames": MAX_FRAMES}, "inputs": [input]})
    };
    let output = |number: usize| json!({"name": format!("{}{number:02}", longest("o", 38)), "fromStep": {"name": name(number), "output": longest("v", 40)}});
    let job = json!({
        "apiVersion": "framewright.dev/v1alpha1",
        "kind": "AIJob",
        "metadata": {"name": longest("j", 253)},
        "spec": {
            "steps": (0..50).map(step).collect::<Vec<_>>(),
            "outputs": (0..16).map(output).collect::<Vec<_>>(),
            "priority": -1000, "queueDeadlineSeconds": 604_800, "startDeadlineSeconds": 86_400, "activeDeadlineSeconds": 604_800,
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
        (
            "spec.steps[7].inputs[0].fromStep.output",
            "/spec/steps/7/inputs/0/fromStep/output",
        ),
        (
            "spec.outputs[3].fromStep.output",
            "/spec/outputs/3/fromStep/output",
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
            (json!({"steps": [{"name": "other", "model": "m", "upscale": {}, "inputs": [{"name": "image", "upload": {"digest": digest(&"a".repeat(64)), "bytes": 1}}]}]}), "spec.steps is fixed at creation"),
            (json!({"outputs": [{"name": "x", "fromStep": {"name": "large"}}]}), "spec.outputs is fixed at creation"),
        ] {
            let said = refusal(patch(spec).await)?;
            ensure!(said.contains(expected), "{said}");
        }
        let free = json!({"suspend": true, "priority": 5, "queueDeadlineSeconds": 5, "startDeadlineSeconds": 5, "activeDeadlineSeconds": 5, "ttlSecondsAfterFinished": 60});
        patch(free).await.map(drop)
    })
    .await
}
