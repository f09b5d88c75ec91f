//! A pool whose template or number changes while its workers are busy.

use anyhow::{Result, ensure};
use framewright_crds::conditions::pool_reason;
use framewright_e2e::eventually;
use kube::ResourceExt;
use kube::api::ListParams;

use crate::fleet::{PATIENCE, last_attempt, steps, uid, with_fleet};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_taken_from_its_pool_by_its_label_is_replaced() -> Result<()> {
    with_fleet("isolated", async |fleet| {
        fleet.ready_pool(1).await?;
        let taken = fleet.only_pod().await?.name_any();
        fleet
            .kubectl(&["label", "pod", &taken, "framewright.dev/pool-"])
            .await?;
        eventually(PATIENCE, "another worker is there", async || {
            let pods = fleet
                .pods
                .list(&ListParams::default().labels("framewright.dev/pool"))
                .await?;
            ensure!(pods.items.len() == 1, "{} pods", pods.items.len());
            Ok(())
        })
        .await?;
        fleet.clip("clip.mp4", 1).await?;
        fleet.submit("job", "clip.mp4", "").await?;
        let job = fleet.succeeded("job").await?;
        ensure!(last_attempt(steps(&job).first())?.worker.name != taken);
        fleet.pods.get(&taken).await.map(drop)?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_template_replaces_a_worker_when_its_step_is_done_and_zero_replicas_leave_none()
-> Result<()> {
    with_fleet("rollout", async |fleet| {
        fleet.ready_pool(1).await?;
        let old = uid(&fleet.only_pod().await?)?;
        fleet.clip("clip.mp4", 8).await?;
        fleet.submit("job", "clip.mp4", "").await?;
        fleet.running("job").await?;
        eventually(
            PATIENCE,
            "node autoscalers are told to stay away",
            async || {
                let annotations = fleet.only_pod().await?.metadata.annotations;
                let annotations = annotations.unwrap_or_default();
                ensure!(
                    annotations
                        .get("karpenter.sh/do-not-disrupt")
                        .map(String::as_str)
                        == Some("true"),
                    "{annotations:?}"
                );
                Ok(())
            },
        )
        .await?;

        let label = r#"{"spec": {"template": {"metadata": {"labels": {"team": "two"}}}}}"#;
        let patch = |patch| {
            [
                "patch",
                "modelpool/upscale",
                "--type=merge",
                "--patch",
                patch,
            ]
        };
        fleet.kubectl(&patch(label)).await?;
        let done = fleet.succeeded("job").await?;
        let attempts: Vec<_> = steps(&done).iter().map(|step| step.attempts_made).collect();
        ensure!(attempts == [1], "{attempts:?} attempts");
        eventually(PATIENCE, "a new worker has taken the place", async || {
            let pod = fleet.only_pod().await?;
            ensure!(uid(&pod)? != old, "it is the old one");
            ensure!(pod.metadata.labels.unwrap_or_default()["team"] == "two");
            Ok(())
        })
        .await?;
        fleet
            .pool_until("ready again", |condition| condition.status == "True")
            .await?;

        fleet
            .kubectl(&["scale", "modelpool/upscale", "--replicas=0"])
            .await?;
        fleet.no_pods().await?;
        fleet
            .pool_until("at zero, and ready so", |condition| {
                condition.reason == pool_reason::SCALED_TO_ZERO && condition.status == "True"
            })
            .await?;
        let events = fleet
            .kubectl(&[
                "get",
                "events",
                "--field-selector=involvedObject.kind=ModelPool",
            ])
            .await?;
        for reason in [pool_reason::READY, pool_reason::SCALED_TO_ZERO] {
            ensure!(events.contains(reason), "no event {reason} in\n{events}");
        }
        Ok(())
    })
    .await
}
