//! Who is no worker of a pool gets no work, whatever it looks like.

use anyhow::{Context, Result, ensure};
use framewright_e2e::eventually;
use kube::ResourceExt;
use kube::api::{ObjectMeta, PostParams};

use crate::fleet::{PATIENCE, last_attempt, restarts, steps, uid, with_fleet};

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_no_pool_owns_is_refused_though_it_looks_like_a_worker() -> Result<()> {
    with_fleet("stranger", async |fleet| {
        fleet.ready_pool(1).await?;
        let worker = fleet.only_pod().await?;
        let mut stranger = worker.clone();
        stranger.metadata = ObjectMeta {
            name: Some("stranger".to_owned()),
            labels: worker.metadata.labels.clone(),
            ..ObjectMeta::default()
        };
        stranger.status = None;
        let spec = stranger.spec.as_mut().context("the worker has no spec")?;
        spec.node_name = None;
        fleet.pods.create(&PostParams::default(), &stranger).await?;

        let refusal = eventually(PATIENCE, "the stranger is refused", async || {
            let log = fleet.kubectl(&["logs", "stranger"]).await?;
            let line = log.lines().find(|line| line.contains("HTTP 401"));
            line.map(str::to_owned)
                .with_context(|| format!("it says {log}"))
        })
        .await?;
        println!("{refusal}");

        fleet.clip("clip.mp4", 1).await?;
        fleet.submit_steps("job", SHORT, "").await?;
        let job = fleet.succeeded("job").await?;
        let attempt = last_attempt(steps(&job).first())?;
        ensure!(attempt.pod_uid == uid(&worker)?, "another pod did the work");
        let pool = fleet.pools.get("upscale").await?;
        let status = pool.status.unwrap_or_default();
        ensure!((status.replicas, status.ready_replicas) == (1, 1));
        let still = fleet.pods.get(&worker.name_any()).await?;
        ensure!(restarts(&still) == 0 && uid(&still)? == uid(&worker)?);
        Ok(())
    })
    .await
}

const SHORT: &str = r"
  - {name: large, model: framewright-x2, upscale: {frames: 6}, inputs: [{name: video, upload: {file: clip.mp4}}]}
";
