//! An API server that refuses, delays and loses: what was applied is done all the same, once.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use kube::api::DeleteParams;

use crate::fleet::{Fleet, steps, with_fleet};
use crate::ledger::{self, never_go_back, statuses};
use crate::outside::with_operator_outside;
use crate::weather::KINDS;

/// More are submitted until each kind of trouble has been met.
const JOBS_AT_LEAST: usize = 12;
const JOBS_AT_MOST: usize = 40;

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_refuses_delays_and_loses_requests_costs_no_attempt_and_no_pod()
-> Result<()> {
    with_fleet("storm", async |fleet| {
        with_operator_outside(fleet.cluster, async |outside| {
            let weather = outside.gate.storm();
            outside.start(None).await?;
            fleet.ready_pool(2).await?;
            fleet.clip("clip.mp4", 1).await?;
            let before = pods(fleet).await?;
            ensure!(
                before.len() == 2 && before.values().all(|(made, _)| *made == 1),
                "the pods and how often each was made: {before:?}"
            );
            for number in 1..=JOBS_AT_MOST {
                let name = format!("job-{number}");
                fleet.submit_steps(&name, TWO_STEPS, "").await?;
                done_at_once(fleet, &name).await?;
                if number >= JOBS_AT_LEAST && weather.met().len() == KINDS.len() {
                    break;
                }
            }
            println!("what requests met: {:?}", weather.met());
            ensure!(
                weather.met().len() == KINDS.len(),
                "not every kind of trouble was met"
            );
            ensure!(
                pods(fleet).await? == before,
                "the pool has other pods than before"
            );
            let ledger = ledger::done(fleet.cluster)?;
            let made = ledger
                .iter()
                .filter(|done| done.what == "create pods" && done.namespace == fleet.namespace);
            ensure!(made.count() == 2, "more pods were made than there are");
            let pool = DeleteParams::default();
            fleet.pools.delete("upscale", &pool).await?;
            fleet.no_pods().await
        })
        .await
    })
    .await
}

/// The job ends well, each step after one attempt, and nothing that its status said is taken back.
async fn done_at_once(fleet: &Fleet<'_>, name: &str) -> Result<()> {
    let job = fleet.succeeded(name).await?;
    for step in steps(&job) {
        ensure!(
            step.attempts_made == 1 && step.failures == 0,
            "{name}: {step:?}"
        );
    }
    let ledger = ledger::done(fleet.cluster)?;
    never_go_back(&statuses(&ledger, fleet.namespace, name)?).with_context(|| name.to_owned())
}

/// The pool's pods by name, with how often each was made and their UIDs.
async fn pods(fleet: &Fleet<'_>) -> Result<BTreeMap<String, (usize, String)>> {
    let ledger = ledger::done(fleet.cluster)?;
    let made = |name: &str| {
        let its = ledger.iter().filter(|done| {
            done.what == "create pods" && done.namespace == fleet.namespace && done.name == name
        });
        its.count()
    };
    let pods = fleet.pods.list(&kube::api::ListParams::default()).await?;
    let pods = pods.items.iter().map(|pod| {
        let name = pod.name_any();
        let its = (made(&name), pod.uid().unwrap_or_default());
        (name, its)
    });
    Ok(pods.collect())
}

const TWO_STEPS: &str = r"
  - {name: large, model: framewright-x2, upscale: {frames: 2}, inputs: [{name: video, upload: {file: clip.mp4}}]}
  - {name: larger, model: framewright-x2, upscale: {frames: 2}, inputs: [{name: video, fromStep: {name: large}}]}
";
