//! A pool whose template or number changes while its workers are busy.

use anyhow::{Result, ensure};
use framewright_crds::conditions::pool_reason;
use framewright_e2e::eventually;

use crate::fleet::{PATIENCE, steps, uid, with_fleet};

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
            .pool_until("at zero", |condition| {
                condition.reason == pool_reason::SCALED_TO_ZERO
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
