//! Two operators, and the one that leads is cut off: the other one takes over, and what the first one does afterwards changes nothing.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use framewright_e2e::{Cluster, Component, eventually};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt};

use crate::fleet::{Fleet, PATIENCE, last_attempt, restarts, steps, uid, with_fleet};
use crate::installation::{SYSTEM, said};
use crate::ledger::{self, never_go_back, statuses};
use crate::losses::{leader, signal};

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_cannot_reach_the_api_server_is_replaced_and_changes_nothing_any_more()
-> Result<()> {
    replaced("leader-cut-off", CUT, MEND).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_stands_still_is_replaced_and_changes_nothing_when_it_goes_on() -> Result<()>
{
    let stop = signal("STOP", "framewright-ope");
    let go_on = signal("CONT", "framewright-ope");
    replaced("leader-stopped", &stop, &go_on).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_told_to_stop_hands_over_at_once() -> Result<()> {
    with_fleet("leader-stops", async |fleet| {
        fleet.ready_pool(1).await?;
        fleet.clip("clip.mp4", 4).await?;
        fleet.submit("job", "clip.mp4", "").await?;
        let before = fleet.running("job").await?;
        let old = leader(fleet).await?;
        let from = ledger::done(fleet.cluster)?.len();
        let delete = ["--namespace", SYSTEM, "delete", "pod", &old, "--wait=false"];
        fleet.cluster.kubectl(&delete).await?;
        let job = fleet.succeeded("job").await?;
        let after = last_attempt(steps(&job).first())?;
        ensure!(after.number == 1 && after.started_at == before.started_at);
        eventually(PATIENCE, "another one leads", async || {
            let ledger = ledger::done(fleet.cluster)?;
            let leases = ledger.iter().skip(from);
            let holders: Vec<String> = leases
                .filter(|done| done.what == "update leases" && done.namespace == SYSTEM)
                .map(|done| {
                    let holder = done.object["spec"]["holderIdentity"].as_str();
                    let (pod, _) = holder
                        .unwrap_or_default()
                        .split_once('_')
                        .unwrap_or_default();
                    pod.to_owned()
                })
                .collect();
            let handed_back = holders.iter().position(|holder| holder.is_empty());
            let handed_back = handed_back.context("nobody has handed the lease back")?;
            let (by_old, later) = holders.split_at(handed_back);
            ensure!(by_old.iter().all(|holder| *holder == old), "{holders:?}");
            let next = later.get(1).context("nobody has taken the lease")?;
            ensure!(*next != old && !next.is_empty(), "{holders:?}");
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_away_for_longer_than_a_term_costs_no_attempt() -> Result<()> {
    with_fleet("api-away", async |fleet| {
        fleet.ready_pool(1).await?;
        fleet.clip("clip.mp4", 20).await?;
        fleet.submit("job", "clip.mp4", "").await?;
        let before = fleet.running("job").await?;
        // The leader gives up after ten seconds; nobody else may take over before fifteen.
        fleet.cluster.kill(Component::ApiServer).await?;
        tokio::time::sleep(Duration::from_secs(11)).await;
        fleet.cluster.restart(Component::ApiServer).await?;
        let job = fleet.succeeded("job").await?;
        let after = last_attempt(steps(&job).first())?;
        ensure!(
            after.number == 1 && after.started_at == before.started_at,
            "it was started again: {:?}",
            steps(&job)
        );
        Ok(())
    })
    .await
}

/// `cut` and `mend` are run on the node with the name and the address of the leader's pod.
async fn replaced(test: &str, cut: &str, mend: &str) -> Result<()> {
    with_fleet(test, async |fleet| {
        fleet.ready_pool(1).await?;
        fleet.clip("clip.mp4", 10).await?;
        fleet.submit_steps("job", TWO_STEPS, "").await?;
        let before = fleet.running("job").await?;
        let old = leader(fleet).await?;
        let operators: Api<Pod> = Api::namespaced(fleet.cluster.client().await?, SYSTEM);
        let pod = operators.get(&old).await?;
        let cut_at = ledger::done(fleet.cluster)?.len();
        run(fleet.cluster, cut, &pod).await?;
        let taken_over = taken_over(fleet, &old, cut_at).await;
        run(fleet.cluster, mend, &pod).await?;
        let from = taken_over?;

        let job = fleet.succeeded("job").await?;
        let attempts: Vec<i32> = steps(&job).iter().map(|step| step.attempts_made).collect();
        ensure!(attempts == [1, 1], "attempts: {attempts:?}");
        let worker = fleet.only_pod().await?;
        ensure!(uid(&worker)? == before.worker.uid && restarts(&worker) == 0);
        stands_by(fleet, &old, from).await?;
        ensure!(restarts(&operators.get(&old).await?) == restarts(&pod));
        let ledger = ledger::done(fleet.cluster)?;
        let late: Vec<String> = ledger
            .iter()
            .skip(from)
            // What it has told people stays true, whenever it comes.
            .filter(|done| done.pod == old && done.is_write() && !done.what.ends_with(" events"))
            .map(|done| format!("{} {}", done.what, done.name))
            .collect();
        ensure!(late.is_empty(), "the old leader wrote {late:?}");
        never_go_back(&statuses(&ledger, fleet.namespace, "job")?)
    })
    .await
}

/// Waits until another one leads; gives the place in the ledger where that begins.
async fn taken_over(fleet: &Fleet<'_>, old: &str, cut_at: usize) -> Result<usize> {
    eventually(PATIENCE, "another one leads", async || {
        let now = leader(fleet).await?;
        ensure!(now != old, "{now} leads");
        let ledger = ledger::done(fleet.cluster)?;
        let first = ledger.iter().skip(cut_at).position(|done| {
            done.what == "update leases" && done.namespace == SYSTEM && done.pod == now
        });
        let first = first.context("the audit log does not know of the new leader")?;
        Ok::<_, anyhow::Error>(cut_at + first)
    })
    .await
}

/// The old leader reaches the API server again, and sees that another one leads.
async fn stands_by(fleet: &Fleet<'_>, old: &str, from: usize) -> Result<()> {
    eventually(PATIENCE, "the old leader looks at the lease", async || {
        let ledger = ledger::done(fleet.cluster)?;
        let looks = ledger.iter().skip(from);
        let looks = looks.filter(|done| done.pod == old && done.what == "get leases");
        ensure!(looks.count() >= 2, "it has not");
        Ok(())
    })
    .await
}

async fn run(cluster: &Cluster, script: &str, pod: &Pod) -> Result<()> {
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
    let mut bash = cluster.inside("bash");
    bash.args(["-c", script, "bash", &pod.name_any()])
        .arg(address.context("the leader has no address")?);
    said(&mut bash).await.map(drop)
}

const CUT: &str = "iptables -I INPUT -s $2 -p tcp --dport 6443 -j DROP";
const MEND: &str = "iptables -D INPUT -s $2 -p tcp --dport 6443 -j DROP";
const TWO_STEPS: &str = r"
  - {name: large, model: framewright-x2, upscale: {}, inputs: [{name: video, upload: {file: clip.mp4}}]}
  - {name: larger, model: framewright-x2, upscale: {frames: 2}, inputs: [{name: video, fromStep: {name: large}}]}
";
