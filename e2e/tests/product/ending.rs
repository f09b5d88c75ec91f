//! How a job stops before its work is done: deleted, suspended, or out of time.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use framewright_crds::conditions::{job, job_reason, pool_reason};
use framewright_e2e::eventually;
use kube::ResourceExt;

use crate::fleet::{Fleet, PATIENCE, condition, is_state, steps, uid, with_fleet};
use crate::installation::SYSTEM;

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_running_job_frees_its_worker_and_its_artifacts() -> Result<()> {
    with_fleet("deleted", async |fleet| {
        fleet.ready_pool(1).await?;
        let worker = uid(&fleet.only_pod().await?)?;
        fleet.clip("clip.mp4", 1).await?;
        fleet.clip("long.mp4", 60).await?;
        fleet.submit("long", "long.mp4", "").await?;
        fleet.running("long").await?;
        let began = Instant::now();
        fleet
            .job_until("long", "at 2 %", |job| {
                let progress = job
                    .status
                    .as_ref()
                    .and_then(|status| status.progress.as_deref());
                let percent =
                    progress.and_then(|progress| progress.strip_suffix('%')?.parse().ok());
                percent >= Some(2)
            })
            .await?;
        let rest = began.elapsed() * 49;
        let owner = fleet.jobs.get("long").await?.uid().context("no UID")?;
        ensure!(
            !artifacts(fleet, &owner).await?.is_empty(),
            "the store has nothing of the job"
        );

        fleet.kubectl(&["delete", "aijob/long"]).await?;
        let started = Instant::now();
        fleet.submit_steps("short", SHORT, "").await?;
        fleet.succeeded("short").await?;
        let taken = started.elapsed();
        println!("the next job was done {taken:?} later; the deleted one had {rest:?} to go");
        ensure!(taken < rest / 2, "the worker computed on");
        ensure!(
            uid(&fleet.only_pod().await?)? == worker,
            "the worker was replaced"
        );
        eventually(PATIENCE, "the artifacts leave the store", async || {
            let left = artifacts(fleet, &owner).await?;
            ensure!(left.is_empty(), "{left}");
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_job_stops_and_a_resumed_one_is_done() -> Result<()> {
    with_fleet("suspended", async |fleet| {
        fleet.ready_pool(1).await?;
        fleet.clip("clip.mp4", 5).await?;
        fleet.submit("job", "clip.mp4", "").await?;
        fleet.running("job").await?;
        suspend(fleet, true).await?;
        fleet
            .job_until("job", "suspended", |job| {
                is_state(job, job_reason::SUSPENDED)
                    && condition(job, job::RUNNING).is_some_and(|running| running.status == "False")
            })
            .await?;
        fleet.submit_steps("short", SHORT, "").await?;
        fleet.succeeded("short").await?;
        ensure!(is_state(
            &fleet.jobs.get("job").await?,
            job_reason::SUSPENDED
        ));

        suspend(fleet, false).await?;
        let done = fleet.succeeded("job").await?;
        let failures = steps(&done).first().map(|step| step.failures);
        ensure!(failures == Some(0), "{failures:?} failures");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_with_an_unknown_model_waits_until_its_deadline() -> Result<()> {
    with_fleet("unknown-model", async |fleet| {
        fleet.clip("clip.mp4", 1).await?;
        fleet
            .submit("job", "clip.mp4", "  queueDeadlineSeconds: 5\n")
            .await?;
        fleet
            .job_until("job", "waiting for a model", |job| {
                is_state(job, job_reason::MODEL_NOT_FOUND)
            })
            .await?;
        let failed = fleet.finished("job").await?;
        let outcome = condition(&failed, job::SUCCEEDED).context("no condition Succeeded")?;
        ensure!(outcome.status == "False");
        ensure!(
            outcome.reason == job_reason::QUEUE_DEADLINE_EXCEEDED,
            "{}: {}",
            outcome.reason,
            outcome.message
        );
        ensure!(
            outcome.message.contains("framewright-x2"),
            "{} does not name the model",
            outcome.message
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_and_kept_by_a_finalizer_stops_working_and_says_what_keeps_it() -> Result<()>
{
    with_fleet("kept", async |fleet| {
        fleet.ready_pool(1).await?;
        fleet.clip("clip.mp4", 20).await?;
        fleet.clip("short.mp4", 1).await?;
        fleet.submit("kept", "clip.mp4", "").await?;
        fleet.running("kept").await?;
        fleet.submit("next", "short.mp4", "").await?;

        keep(fleet, "aijob/kept", true).await?;
        fleet
            .kubectl(&["delete", "aijob/kept", "--wait=false"])
            .await?;
        let kept = fleet.finished("kept").await?;
        let outcome = condition(&kept, job::SUCCEEDED).context("no condition Succeeded")?;
        ensure!(
            outcome.reason == job_reason::DELETED && outcome.message.contains(KEEPER),
            "{}: {}",
            outcome.reason,
            outcome.message
        );
        fleet.succeeded("next").await?;
        let again = fleet.submit("kept", "short.mp4", "").await;
        let again = again.err().map(|error| format!("{error:#}"));
        let again = again.context("a job is taken up that is being deleted")?;
        ensure!(again.contains(KEEPER), "{again}");
        keep(fleet, "aijob/kept", false).await?;

        keep(fleet, "modelpool/upscale", true).await?;
        fleet
            .kubectl(&["delete", "modelpool/upscale", "--wait=false"])
            .await?;
        let told = fleet
            .pool_until("being deleted", |condition| {
                condition.reason == pool_reason::DELETING
            })
            .await?;
        ensure!(told.message.contains(KEEPER), "{}", told.message);
        fleet.no_pods().await?;
        keep(fleet, "modelpool/upscale", false).await?;
        eventually(PATIENCE, "the pool is gone", async || {
            ensure!(
                fleet.pools.get_opt("upscale").await?.is_none(),
                "it is there"
            );
            Ok(())
        })
        .await
    })
    .await
}

const KEEPER: &str = "example.com/keeper";

/// Puts somebody's finalizer on an object, or takes it away.
async fn keep(fleet: &Fleet<'_>, object: &str, is_kept: bool) -> Result<()> {
    let finalizers = if is_kept {
        format!("{KEEPER:?}")
    } else {
        String::new()
    };
    let patch = format!(r#"{{"metadata": {{"finalizers": [{finalizers}]}}}}"#);
    let arguments = ["patch", object, "--type=merge", "--patch", &patch];
    fleet.kubectl(&arguments).await.map(drop)
}

async fn suspend(fleet: &Fleet<'_>, is_suspended: bool) -> Result<()> {
    let patch = format!(r#"{{"spec": {{"suspend": {is_suspended}}}}}"#);
    let arguments = ["patch", "aijob/job", "--type=merge", "--patch", &patch];
    fleet.kubectl(&arguments).await.map(drop)
}

/// The files of a job on the store's volume.
async fn artifacts(fleet: &Fleet<'_>, owner: &str) -> Result<String> {
    let pattern = format!("*/{owner}/*");
    let exec = ["--namespace", SYSTEM, "exec", "deploy/framewright-store"];
    let find = [
        "--",
        "find",
        "/var/lib/framewright/store",
        "-path",
        &pattern,
    ];
    fleet
        .cluster
        .kubectl(&[&exec[..], &find[..]].concat())
        .await
}

const SHORT: &str = r"
  - {name: large, model: framewright-x2, upscale: {frames: 2}, inputs: [{name: video, upload: {file: clip.mp4}}]}
";
