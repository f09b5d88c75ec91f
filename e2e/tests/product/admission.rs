//! What admission refuses of a pool's pods. The pool says it in the words of who refused it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use framewright_crds::conditions::pool_reason;
use framewright_crds::names::digest;
use framewright_e2e::eventually;
use serde_json::{Value, json};

use crate::fleet::{Fleet, PATIENCE, digest_of, weights, with_fleet};

/// How soon pods are there when nothing refuses them any more.
const AFTER_A_REFUSAL: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_pool_has_the_api_server_s_words_each_time_and_its_pods_within_a_minute_after()
-> Result<()> {
    with_fleet("refused", async |fleet| {
        let quota = ["create", "quota", "none", "--hard=pods=0"];
        fleet.kubectl(&quota).await?;
        apply_pool(fleet).await?;
        refused(fleet, "exceeded quota: none").await?;

        let limits = json!([{"type": "Container", "max": {"memory": "300Mi"}}]);
        let limits = json!({
            "apiVersion": "v1", "kind": "LimitRange",
            "metadata": {"name": "small"}, "spec": {"limits": limits},
        });
        let apply = ["--namespace", fleet.namespace, "apply", "-f", "-"];
        let text = limits.to_string();
        fleet.cluster.kubectl_with_input(&apply, &text).await?;
        fleet.kubectl(&["delete", "quota", "none"]).await?;
        refused(fleet, "maximum memory usage per Container is 300Mi").await?;
        has_events(fleet).await?;

        fleet.kubectl(&["delete", "limitrange", "small"]).await?;
        let lifted = Instant::now();
        fleet
            .pool_until("ready", |condition| condition.status == "True")
            .await?;
        let took = lifted.elapsed();
        println!("ready {} s after the last refusal", took.as_secs());
        ensure!(took < AFTER_A_REFUSAL, "it took {took:?}");
        Ok(())
    })
    .await
}

async fn refused(fleet: &Fleet<'_>, words: &str) -> Result<()> {
    let said = fleet
        .pool_until(&format!("refused: {words}"), |condition| {
            condition.reason == pool_reason::PODS_REFUSED && condition.message.contains(words)
        })
        .await?;
    println!("the pool: {}", said.message);
    Ok(())
}

/// A job that fails says so in an Event, though its name leaves no room for that of an Event.
async fn has_events(fleet: &Fleet<'_>) -> Result<()> {
    let name = "j".repeat(250);
    let steps = json!([{
        "name": "a", "model": "nobody-has-it", "upscale": {},
        "inputs": [{"name": "video", "upload": {"digest": digest(&"a".repeat(64)), "bytes": 1}}],
    }]);
    let job = json!({
        "apiVersion": "framewright.dev/v1alpha1", "kind": "AIJob",
        "metadata": {"name": name}, "spec": {"steps": steps, "queueDeadlineSeconds": 1},
    });
    let apply = ["--namespace", fleet.namespace, "apply", "-f", "-"];
    let text = job.to_string();
    fleet.cluster.kubectl_with_input(&apply, &text).await?;
    eventually(PATIENCE, "the job has an Event", async || {
        let about = format!("--field-selector=involvedObject.name={name}");
        let events = ["get", "events", &about, "--output=json"];
        let events: Value = serde_json::from_str(&fleet.kubectl(&events).await?)?;
        ensure!(events["items"][0]["message"].is_string(), "{events}");
        Ok(())
    })
    .await?;
    fleet.kubectl(&["delete", "aijob", &name]).await.map(drop)
}

/// The pool of one worker, with its weights.
async fn apply_pool(fleet: &Fleet<'_>) -> Result<()> {
    let digest = digest_of(&weights())?;
    fleet.apply_pool("cpu", 1, &digest, "{memory: 1Gi}").await?;
    fleet.upload_weights().await
}
