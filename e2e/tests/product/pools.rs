//! What a pool says when it cannot work: wrong weights, no room, no device.

use std::fs;

use anyhow::{Context, Result, ensure};
use framewright_crds::aijob::StepState;
use framewright_crds::conditions::{job, pool_reason};
use framewright_e2e::eventually;

use crate::fleet::{Fleet, PATIENCE, condition, sha256, steps, weights, with_fleet};
use crate::installation::{SYSTEM, said};

#[tokio::test(flavor = "multi_thread")]
async fn weights_of_another_digest_are_refused_by_the_plugin_and_by_the_store() -> Result<()> {
    with_fleet("wrong-weights", async |fleet| {
        let other = "0".repeat(64);
        fleet.apply_pool("cpu", 1, &other, "{memory: 1Gi}").await?;
        let link = eventually(PATIENCE, "the pool has a link", async || {
            let status = fleet.pools.get("upscale").await?.status;
            let upload = status.and_then(|status| status.uploads.into_iter().next());
            upload.and_then(|upload| upload.link).context("no link")
        })
        .await?;

        let by_plugin = format!("{:#}", fleet.upload_weights().await.unwrap_err());
        println!("the plugin: {by_plugin}");
        ensure!(by_plugin.contains(&sha256(&weights())?) || by_plugin.contains(&other));

        let answer = put(fleet, &link).await?;
        println!("the store: {answer}");
        ensure!(answer.ends_with(" 422") || answer.ends_with(" 400"));
        ensure!(answer.contains(&sha256(&weights())?), "{answer}");
        let status = fleet.pools.get("upscale").await?.status.unwrap_or_default();
        ensure!(status.uploads.iter().all(|upload| !upload.received));
        ensure!(status.ready_replicas == 0);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_for_gpus_says_that_there_are_none_and_then_that_the_image_has_no_cuda() -> Result<()>
{
    with_fleet("gpu", async |fleet| {
        fleet
            .apply_pool(
                "cuda",
                1,
                &sha256(&weights())?,
                "{memory: 1Gi, nvidia.com/gpu: 1}",
            )
            .await?;
        fleet.upload_weights().await?;
        let waiting = fleet
            .pool_until("unschedulable", |condition| {
                condition.reason == pool_reason::UNSCHEDULABLE
            })
            .await?;
        println!("the pool: {}", waiting.message);
        ensure!(waiting.message.contains("nvidia.com/gpu"));

        fleet.clip("clip.mp4", 1).await?;
        fleet.submit("job", "clip.mp4", "").await?;
        job_says(fleet, "nvidia.com/gpu").await?;

        fleet.cluster.pretend_gpus(1).await?;
        let missing = fleet
            .pool_until("without its device", |condition| {
                condition.reason == pool_reason::DEVICE_MISSING
            })
            .await?;
        println!("the pool: {}", missing.message);
        job_says(fleet, &missing.message).await?;
        let job = fleet.jobs.get("job").await?;
        let step = steps(&job).first().context("no step")?;
        ensure!(step.state == StepState::Queued && step.attempts_made == 0);
        let status = fleet.pools.get("upscale").await?.status.unwrap_or_default();
        ensure!(status.replicas == 1 && status.ready_replicas == 0);
        Ok(())
    })
    .await
}

/// Waits until the state of the waiting job tells what the pool's trouble is.
async fn job_says(fleet: &Fleet<'_>, text: &str) -> Result<()> {
    let what = format!("the job says {text}");
    let says = eventually(PATIENCE, &what, async || {
        let job = fleet.jobs.get("job").await?;
        let state = condition(&job, job::SUCCEEDED).context("no condition Succeeded")?;
        let says = format!("{}: {}", state.reason, state.message);
        ensure!(says.contains(text), "it says {says}");
        Ok::<_, anyhow::Error>(says)
    })
    .await?;
    println!("the job: {says}");
    Ok(())
}

/// Sends the weights to a link as it stands in a status, and gives the answer and its code.
async fn put(fleet: &Fleet<'_>, link: &str) -> Result<String> {
    let address = fleet
        .cluster
        .kubectl(&[
            "--namespace",
            SYSTEM,
            "get",
            "service",
            "framewright-store",
            "--output=jsonpath={.spec.clusterIP}",
        ])
        .await?;
    let copy = fleet.file("weights");
    fs::copy(weights(), &copy)?;
    // The store's certificate is from the operator's own authority.
    let mut curl = fleet.cluster.inside("curl");
    curl.args(["--silent", "--show-error", "--insecure", "--max-time", "60"])
        .args(["--connect-to", &format!("::{}:8443", address.trim())])
        .args(["--write-out", " %{http_code}", "--upload-file"])
        .arg(copy)
        .arg(link);
    said(&mut curl).await
}
