//! A fleet with nothing to do: its operators look, and write nothing but who leads.

use std::time::Duration;

use anyhow::{Result, ensure};
use framewright_e2e::eventually;

use crate::fleet::{Fleet, PATIENCE, with_fleet};
use crate::ledger;

/// How often a pool and a job are reconciled though nothing happens.
const RECONCILED_AFTER: Duration = Duration::from_secs(60);
const FOR_A_MODEL: &str = r"
  - {name: large, model: nobody-has-it, upscale: {}, inputs: [{name: video, upload: {file: clip.mp4}}]}
";

#[tokio::test(flavor = "multi_thread")]
async fn a_settled_fleet_makes_no_writes() -> Result<()> {
    with_fleet("settled", async |fleet| {
        fleet.ready_pool(1).await?;
        fleet.clip("clip.mp4", 1).await?;
        fleet.submit("done", "clip.mp4", "").await?;
        fleet.succeeded("done").await?;
        fleet
            .submit("suspended", "clip.mp4", "  suspend: true\n")
            .await?;
        fleet.submit_steps("waiting", FOR_A_MODEL, "").await?;
        eventually(PATIENCE, "the fleet settles", async || {
            let writes = writes(fleet, Duration::from_secs(5)).await?;
            ensure!(writes.is_empty(), "{writes:?}");
            Ok(())
        })
        .await?;
        let mut writes = writes(fleet, RECONCILED_AFTER + Duration::from_secs(10)).await?;
        // A minute after its last task, a worker that was protected from eviction is not any more: that is one write.
        if let Some(patch) = writes
            .iter()
            .position(|write| write.starts_with("patch pods "))
        {
            writes.remove(patch);
        }
        ensure!(writes.is_empty(), "{writes:?}");
        Ok(())
    })
    .await
}

/// What the operators have written in that time.
async fn writes(fleet: &Fleet<'_>, time: Duration) -> Result<Vec<String>> {
    let before = ledger::done(fleet.cluster)?.len();
    tokio::time::sleep(time).await;
    let ledger = ledger::done(fleet.cluster)?;
    let writes: Vec<String> = ledger
        .iter()
        .skip(before)
        .filter(|done| done.pod.starts_with("framewright-operator") && done.is_write())
        .filter(|done| done.what != "update leases")
        .map(|done| format!("{} {}", done.what, done.name))
        .collect();
    let renewals = ledger.iter().skip(before).filter(|done| {
        done.what == "update leases" && done.pod.starts_with("framewright-operator")
    });
    ensure!(renewals.count() > 0, "nobody leads");
    Ok(writes)
}
