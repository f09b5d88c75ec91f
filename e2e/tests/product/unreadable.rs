//! Objects that the operator cannot read, as another version of it may leave them: each says so, and the rest goes on.

use anyhow::{Result, ensure};
use framewright_crds::names::digest;
use framewright_e2e::eventually;
use serde_json::{Value, json};

use crate::fleet::{Fleet, PATIENCE, with_fleet};
use crate::installation::root;

#[tokio::test(flavor = "multi_thread")]
async fn a_job_and_a_pool_that_cannot_be_read_say_so_and_the_others_go_on() -> Result<()> {
    with_fleet("unreadable", async |fleet| {
        fleet.ready_pool(1).await?;
        fleet.clip("clip.mp4", 1).await?;
        let tested = tested(fleet).await;
        let crds = root().join("crds/yaml").display().to_string();
        let apply = ["apply", "--server-side", "--force-conflicts", "-f", &crds];
        fleet.cluster.kubectl(&apply).await?;
        tested
    })
    .await
}

async fn tested(fleet: &Fleet<'_>) -> Result<()> {
    loosen(fleet, "aijobs", "backoffLimit").await?;
    loosen(fleet, "modelpools", "device").await?;
    let steps = json!([{
        "name": "a", "model": "m", "upscale": {},
        "inputs": [{"name": "video", "upload": {"digest": digest(&"a".repeat(64)), "bytes": 1}}],
    }]);
    let models = json!([{
        "name": "m", "source": {"upload": {}},
        "files": [{"path": "m.safetensors", "digest": digest(&"a".repeat(64)), "bytes": 1}],
    }]);
    let strange = [
        ("AIJob", json!({"steps": steps, "backoffLimit": "many"})),
        (
            "ModelPool",
            json!({"device": "quantum", "replicas": 1, "models": models}),
        ),
    ];
    for (kind, spec) in &strange {
        let object = json!({
            "apiVersion": "framewright.dev/v1alpha1", "kind": kind, "metadata": {"name": "strange"}, "spec": spec,
        });
        // The API server sees the looser schema a moment after it was written.
        eventually(PATIENCE, &format!("{kind} is taken"), async || {
            let create = ["--namespace", fleet.namespace, "apply", "-f", "-"];
            let text = object.to_string();
            fleet.cluster.kubectl_with_input(&create, &text).await
        })
        .await?;
    }
    for (kind, _) in &strange {
        eventually(PATIENCE, &format!("{kind} has an Event"), async || {
            let about = format!("--field-selector=involvedObject.kind={kind},reason=Unreadable");
            let events = fleet
                .kubectl(&["get", "events", &about, "--output=json"])
                .await?;
            let events: Value = serde_json::from_str(&events)?;
            let message = &events["items"][0]["message"];
            let said = message.as_str().unwrap_or_default();
            ensure!(said.contains("cannot read the object"), "{events}");
            println!("{kind}: {said}");
            Ok(())
        })
        .await?;
    }
    fleet.submit("job", "clip.mp4", "").await?;
    fleet.succeeded("job").await?;
    fleet
        .kubectl(&["delete", "aijob/strange", "modelpool/strange"])
        .await
        .map(drop)
}

/// Has the API server take any value for a field.
async fn loosen(fleet: &Fleet<'_>, plural: &str, field: &str) -> Result<()> {
    let schema = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    let path = format!("{schema}/properties/{field}");
    let anything = json!({"x-kubernetes-preserve-unknown-fields": true});
    // Rules know the types of what they are about.
    let rules = format!("{schema}/x-kubernetes-validations");
    let patch = json!([
        {"op": "replace", "path": path, "value": anything},
        {"op": "add", "path": rules, "value": [{"rule": "true"}]},
    ]);
    let crd = format!("{plural}.framewright.dev");
    let patch = patch.to_string();
    let arguments = ["patch", "crd", &crd, "--type=json", "--patch", &patch];
    fleet.cluster.kubectl(&arguments).await.map(drop)
}
