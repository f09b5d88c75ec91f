//! What a pool says when it cannot work: wrong weights, no room, no device.

use std::fs;

use anyhow::{Context, Result, ensure};
use framewright_crds::aijob::StepState;
use framewright_crds::conditions::{job, job_reason, pool_reason};
use framewright_crds::names::{bare, digest};
use framewright_e2e::eventually;
use kube::ResourceExt;
use serde_json::json;

use crate::fleet::{Fleet, PATIENCE, condition, digest_of, steps, weights, with_fleet};
use crate::installation::{SYSTEM, said};

#[tokio::test(flavor = "multi_thread")]
async fn weights_of_another_digest_are_refused_by_the_plugin_and_by_the_store() -> Result<()> {
    with_fleet("wrong-weights", async |fleet| {
        let other = "0".repeat(64);
        let pinned = digest(&other);
        fleet.apply_pool("cpu", 1, &pinned, "{memory: 1Gi}").await?;
        let link = eventually(PATIENCE, "the pool has a link", async || {
            let status = fleet.pools.get("upscale").await?.status;
            let file = status.and_then(|status| status.files.into_iter().next());
            file.and_then(|file| file.link).context("no link")
        })
        .await?;

        let by_plugin = format!("{:#}", fleet.upload_weights().await.unwrap_err());
        println!("the plugin: {by_plugin}");
        let given = digest_of(&weights())?;
        ensure!(by_plugin.contains(bare(&given)) || by_plugin.contains(&other));

        let answer = put(fleet, &link).await?;
        println!("the store: {answer}");
        ensure!(answer.ends_with(" 422") || answer.ends_with(" 400"));
        ensure!(answer.contains(bare(&given)), "{answer}");
        let status = fleet.pools.get("upscale").await?.status.unwrap_or_default();
        ensure!(status.files.iter().all(|file| !file.is_received()));
        ensure!(status.ready_replicas == 0);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_for_gpus_says_that_there_are_none_gets_one_and_says_that_the_image_has_no_cuda()
-> Result<()> {
    with_fleet("gpu", async |fleet| {
        fleet
            .apply_pool(
                "cuda",
                1,
                &digest_of(&weights())?,
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
        job_says(fleet, pool_reason::UNSCHEDULABLE).await?;

        fleet.cluster.offer_gpus(1).await?;
        let missing = fleet
            .pool_until("without its device", |condition| {
                condition.reason == pool_reason::DEVICE_MISSING
            })
            .await?;
        println!("the pool: {}", missing.message);
        let pod = fleet.only_pod().await?.name_any();
        let device = ["exec", &pod, "--", "printenv", "NVIDIA_VISIBLE_DEVICES"];
        let device = fleet.kubectl(&device).await?;
        ensure!(device.trim() == "GPU-0", "it got {device:?}");
        job_says(fleet, pool_reason::DEVICE_MISSING).await?;
        let job = fleet.jobs.get("job").await?;
        let step = steps(&job).first().context("no step")?;
        ensure!(step.state == StepState::Queued && step.attempts_made == 0);
        let status = fleet.pools.get("upscale").await?.status.unwrap_or_default();
        ensure!(status.replicas == 1 && status.ready_replicas == 0);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_weight_file_is_named_with_the_reason_and_the_other_models_of_the_pool_work()
-> Result<()> {
    with_fleet("bad-weights", async |fleet| {
        let mut lying = fs::read(weights())?;
        // The first eight bytes say how long the header is.
        lying[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        let bad = [
            ("lying", lying, "header"),
            ("pickled", b"\x80\x04\x95 a pickle, whatever it is called".to_vec(), "pickle"),
        ];
        let good = digest_of(&weights())?;
        fleet.apply_pool("cpu", 1, &good, "{memory: 1Gi}").await?;
        for (name, bytes, _) in &bad {
            let file = fleet.file(&format!("{name}.safetensors"));
            fs::write(&file, bytes)?;
            let model = json!({
                "name": name, "source": {"upload": {}},
                "files": [{"path": format!("{name}.safetensors"), "digest": digest_of(&file)?, "bytes": bytes.len()}],
            });
            let patch = json!([{"op": "add", "path": "/spec/models/-", "value": model}]).to_string();
            let arguments = ["patch", "modelpool/upscale", "--type=json", "--patch", &patch];
            fleet.kubectl(&arguments).await?;
        }
        fleet.upload_weights().await?;
        for (name, _, _) in &bad {
            let file = fleet.file(&format!("{name}.safetensors"));
            fleet
                .plugin(&["upload", "pool/upscale", &file.display().to_string()])
                .await?;
        }
        for (name, _, why) in &bad {
            let says = eventually(PATIENCE, &format!("the pool says why {name} is wrong"), async || {
                let status = fleet.pools.get("upscale").await?.status.unwrap_or_default();
                let models: Vec<String> = status
                    .models
                    .iter()
                    .map(|model| format!("{:?} {:?}", model.reason, model.message))
                    .collect();
                // Before that it waits for the upload, and says so with the same name.
                let says = models.iter().find(|model| {
                    model.contains(pool_reason::WEIGHTS_FAILED)
                        && model.contains(&format!("{name}.safetensors"))
                        && model.contains(why)
                });
                says.cloned().with_context(|| format!("it says {models:?}"))
            })
            .await?;
            println!("the pool: {says}");
            ensure!(says.contains(pool_reason::WEIGHTS_FAILED), "{says}");
        }
        fleet
            .pool_until("not ready", |condition| {
                condition.reason == pool_reason::WEIGHTS_FAILED
            })
            .await?;

        fleet.clip("clip.mp4", 1).await?;
        let step = |model: &str| SHORT.replace("MODEL", model);
        fleet.submit_steps("good", &step("framewright-x2"), "").await?;
        for (name, _, _) in &bad {
            let deadline = "  queueDeadlineSeconds: 5\n";
            fleet.submit_steps(name, &step(name), deadline).await?;
        }
        fleet.succeeded("good").await?;
        for (name, _, why) in &bad {
            let failed = fleet.finished(name).await?;
            let outcome = condition(&failed, job::SUCCEEDED).context("no condition Succeeded")?;
            println!("{name}: {}: {}", outcome.reason, outcome.message);
            ensure!(outcome.reason == job_reason::QUEUE_DEADLINE_EXCEEDED);
            ensure!(outcome.message.contains(&format!("{name}.safetensors")) && outcome.message.contains(why));
        }
        Ok(())
    })
    .await
}

/// Waits until the state of the waiting job names the pool and this reason of it.
async fn job_says(fleet: &Fleet<'_>, reason: &str) -> Result<()> {
    let text = format!("upscale is not ready ({reason})");
    let what = format!("the job says {text}");
    let says = eventually(PATIENCE, &what, async || {
        let job = fleet.jobs.get("job").await?;
        let state = condition(&job, job::SUCCEEDED).context("no condition Succeeded")?;
        let says = format!("{}: {}", state.reason, state.message);
        ensure!(says.contains(&text), "it says {says}");
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

const SHORT: &str = r"
  - {name: large, model: MODEL, upscale: {frames: 2}, inputs: [{name: video, upload: {file: clip.mp4}}]}
";
