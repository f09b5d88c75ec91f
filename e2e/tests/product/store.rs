//! A store that is away or full holds a step up, which says so, and goes on when the store can be used again.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use framewright_e2e::{Cluster, eventually};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::Api;
use kube::api::ListParams;

use crate::fleet::{Fleet, condition, steps, with_fleet};
use crate::installation::{SYSTEM, said};

const DEPLOYMENT: &str = "deployment/framewright-store";
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn a_step_says_that_the_store_is_away_or_full_and_goes_on_when_it_is_not() -> Result<()> {
    let cluster = crate::installation::cluster().await?;
    let folder = small_volume(cluster).await?;
    let tested = with_fleet("store", async |fleet| {
        fleet.ready_pool(1).await?;
        fleet.clip("clip.mp4", 10).await?;
        held_up(
            fleet,
            "away",
            "cannot be reached",
            async || scale(fleet.cluster, 0).await,
            async || scale(fleet.cluster, 1).await,
        )
        .await?;
        let (fill, free) = (format!("{FILL} {folder}"), format!("{FREE} {folder}"));
        held_up(
            fleet,
            "full",
            "507",
            async || on_the_node(fleet.cluster, &fill).await,
            async || on_the_node(fleet.cluster, &free).await,
        )
        .await
    })
    .await;
    let restored = large_volume(cluster, &folder).await;
    tested?;
    restored
}

/// A job computes while the store is hurt, and is done when that is over, without another attempt.
async fn held_up(
    fleet: &Fleet<'_>,
    name: &str,
    trouble: &str,
    hurt: impl AsyncFn() -> Result<()>,
    heal: impl AsyncFn() -> Result<()>,
) -> Result<()> {
    fleet.submit(name, "clip.mp4", "").await?;
    fleet.running(name).await?;
    hurt().await?;
    let what = format!("waiting for the store: {trouble}");
    let says = fleet
        .job_until(name, &what, |job| {
            let state = condition(job, "Succeeded");
            let step = steps(job).first().and_then(|step| step.message.as_ref());
            let texts = [step, state.map(|state| &state.message)];
            texts.iter().all(|text| {
                text.is_some_and(|text| {
                    text.contains("waits for the store") && text.contains(trouble)
                })
            })
        })
        .await;
    heal().await?;
    let step = says.map(|job| steps(&job).first().and_then(|step| step.message.clone()))?;
    println!("{name}: {}", step.unwrap_or_default());

    let done = fleet.succeeded(name).await?;
    let step = steps(&done).first().context("no step")?;
    ensure!(step.attempts_made == 1, "{} attempts", step.attempts_made);
    ensure!(step.message.is_none(), "it still says {:?}", step.message);
    Ok(())
}

/// Puts a volume of a few megabytes in the place of the store's; gives the folder of both.
async fn small_volume(cluster: &Cluster) -> Result<String> {
    let client = cluster.client().await?;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), SYSTEM);
    let claim = claims.get("framewright-store").await?;
    let name = claim.spec.and_then(|spec| spec.volume_name);
    let volumes: Api<PersistentVolume> = Api::all(client);
    let volume = volumes
        .get(&name.context("the claim is not bound")?)
        .await?;
    let local = volume.spec.and_then(|spec| spec.local);
    let folder = local.context("the volume is no folder")?.path;
    scale(cluster, 0).await?;
    on_the_node(
        cluster,
        &format!("mount -t tmpfs -o size=32m tmpfs {folder}"),
    )
    .await?;
    scale(cluster, 1).await?;
    Ok(folder)
}

async fn large_volume(cluster: &Cluster, folder: &str) -> Result<()> {
    scale(cluster, 0).await?;
    on_the_node(cluster, &format!("umount {folder}")).await?;
    scale(cluster, 1).await
}

/// Waits until as many stores are there and ready.
async fn scale(cluster: &Cluster, replicas: usize) -> Result<()> {
    let scale = ["scale", DEPLOYMENT, &format!("--replicas={replicas}")];
    let system = ["--namespace", SYSTEM];
    cluster.kubectl(&[&system[..], &scale].concat()).await?;
    let pods: Api<Pod> = Api::namespaced(cluster.client().await?, SYSTEM);
    let stores = ListParams::default().labels("app.kubernetes.io/component=store");
    eventually(PATIENCE, "the stores are as many", async || {
        let there = pods.list(&stores).await?.items.len();
        ensure!(there == replicas, "there are {there}");
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    let wait = ["rollout", "status", DEPLOYMENT, "--timeout=60s"];
    cluster
        .kubectl(&[&system[..], &wait].concat())
        .await
        .map(drop)
}

async fn on_the_node(cluster: &Cluster, script: &str) -> Result<()> {
    let mut bash = cluster.inside("bash");
    said(bash.args(["-c", script])).await.map(drop)
}

const FILL: &str =
    r#"fill() { dd if=/dev/zero of="$1/filler" bs=1M 2>/dev/null || test -s "$1/filler"; }; fill"#;
const FREE: &str = r#"free() { rm "$1/filler"; }; free"#;
