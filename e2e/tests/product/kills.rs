//! The operator is killed at each of its writes in turn, before the API server has it or before the operator knows that it has.

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use framewright_crds::AIJob;
use jiff::SignedDuration;
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::fleet::{Fleet, steps, uid, with_fleet};
use crate::gate::{Lost, Trap};
use crate::ledger::{self, never_go_back, statuses};
use crate::outside::{Outside, with_operator_outside};

/// How long the operator waits for a worker that does not dial in.
const AWAY_LIMIT: SignedDuration = SignedDuration::from_secs(20);
/// What an operator writes from its start until a job is done.
const JOB_WRITES: [&str; 3] = ["/leases", "/endpointslices", "/aijobs/"];
/// What it writes until a pool is ready and gone again.
const POOL_WRITES: [&str; 4] = ["/leases", "/endpointslices", "/modelpools/", "/pods"];
/// More writes than a job or a pool of this size takes.
const MANY: usize = 40;

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_operator_is_killed_at_each_of_its_writes_is_done_once() -> Result<()> {
    with_fleet("killed-in-jobs", async |fleet| {
        with_operator_outside(fleet.cluster, async |outside: &Outside| {
            outside.start(None).await?;
            fleet.ready_pool(1).await?;
            fleet.clip("clip.mp4", 1).await?;
            let worker = uid(&fleet.only_pod().await?)?;
            let mut done = Vec::new();
            for lost in [Lost::Request, Lost::Answer] {
                done.extend(
                    kill_in_turn(outside, lost, &JOB_WRITES, async |name: &str| {
                        fleet.submit_steps(name, TWO_STEPS, "").await?;
                        let job = fleet.succeeded(name).await?;
                        sent_soon(&job)?;
                        Ok(ending(&job))
                    })
                    .await?,
                );
            }
            ensure!(uid(&fleet.only_pod().await?)? == worker, "another worker");
            let log = fleet
                .kubectl(&["logs", &fleet.only_pod().await?.name_any()])
                .await?;
            let ledger = ledger::done(fleet.cluster)?;
            let (_, untouched) = done.last().context("no job was done")?;
            for (name, end) in &done {
                ensure!(
                    end == untouched,
                    "{name} ended as {end:#}\nand another one as {untouched:#}"
                );
                never_go_back(&statuses(&ledger, fleet.namespace, name)?)
                    .with_context(|| name.clone())?;
                computed_once(&log, fleet, name)?;
            }
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_whose_operator_is_killed_at_each_of_its_writes_makes_each_pod_once() -> Result<()> {
    with_fleet("killed-in-pools", async |fleet| {
        with_operator_outside(fleet.cluster, async |outside: &Outside| {
            for lost in [Lost::Request, Lost::Answer] {
                kill_in_turn(outside, lost, &POOL_WRITES, async |_: &str| {
                    let before = ledger::done(fleet.cluster)?.len();
                    fleet.ready_pool(1).await?;
                    let pod = fleet.only_pod().await?.name_any();
                    let ledger = ledger::done(fleet.cluster)?;
                    let its: Vec<&str> = ledger
                        .iter()
                        .skip(before)
                        .filter(|done| done.namespace == fleet.namespace && done.name == pod)
                        .map(|done| done.what.as_str())
                        .filter(|what| ["create pods", "delete pods"].contains(what))
                        .collect();
                    ensure!(its == ["create pods"], "{its:?} of {pod}");
                    fleet
                        .pools
                        .delete("upscale", &DeleteParams::default())
                        .await?;
                    fleet.no_pods().await?;
                    Ok(json!(pod))
                })
                .await?;
            }
            Ok(())
        })
        .await
    })
    .await
}

/// Does the work again and again, with an operator that is killed at its first write, its second and so on, until one is through
/// before its turn has come; another operator goes on after each. Gives what came of each. `kinds` are parts of the paths of writes
/// that there must be: who counts none would kill none.
async fn kill_in_turn(
    outside: &Outside,
    lost: Lost,
    kinds: &[&str],
    work: impl AsyncFn(&str) -> Result<Value>,
) -> Result<Vec<(String, Value)>> {
    let mut done = Vec::new();
    for write in 1..MANY {
        let began = Instant::now();
        outside.start(Some(Trap { write, lost })).await?;
        let name = format!("{lost:?}-{write}").to_lowercase();
        let mut last = String::new();
        let rescue = async {
            outside.gate.sprung().await;
            last = outside.gate.writes().pop().unwrap_or_default();
            outside.start(None).await?;
            std::future::pending::<Result<Value>>().await
        };
        let end = tokio::select! {
            end = work(&name) => end,
            never = rescue => never,
        };
        done.push((name.clone(), end.with_context(|| name.clone())?));
        if last.is_empty() && outside.gate.is_shut() {
            // The work was over before anybody saw that its operator was killed.
            last = outside.gate.writes().pop().unwrap_or_default();
            outside.start(None).await?;
        }
        if last.is_empty() {
            let writes = outside.gate.writes();
            for kind in kinds {
                let is_there = writes.iter().any(|write| write.contains(kind));
                ensure!(is_there, "no write to {kind} among {writes:#?}");
            }
            println!("{name}: untouched, {} writes: {writes:#?}", writes.len());
            return Ok(done);
        }
        println!("{name}: killed at {last}, done after {:?}", began.elapsed());
    }
    bail!("the operator writes more than {MANY} times")
}

/// What was bound was sent as soon as an operator was there again, and not when patience with the worker ran out.
fn sent_soon(job: &AIJob) -> Result<()> {
    for attempt in steps(job).iter().flat_map(|step| &step.attempts) {
        // One that computed while no operator was there has told nobody when it began, only that it has ended.
        let known = attempt.started_at.as_ref().or(attempt.finished_at.as_ref());
        let known = known.context("it neither began nor ended")?.0;
        let waited = known.duration_since(attempt.bound_at.0);
        ensure!(
            waited < AWAY_LIMIT,
            "it was under way {waited:?} after it was bound"
        );
    }
    Ok(())
}

/// What is left of a job when it is over, without what differs from job to job.
fn ending(job: &AIJob) -> Value {
    let status = job.status.clone().unwrap_or_default();
    let steps = steps(job).iter().map(|step| {
        json!({
            "name": step.name, "state": step.state, "message": step.message,
            "attempts": step.attempts_made, "failures": step.failures,
            "outputs": step.outputs, "usage": step.usage, "models": step.models, "pool": step.pool,
            "causes": step.attempts.iter().map(|attempt| (attempt.number, attempt.cause)).collect::<Vec<_>>(),
        })
    });
    let conditions = status.conditions.iter().map(|condition| {
        json!([
            condition.type_,
            condition.status,
            condition.reason,
            condition.message
        ])
    });
    let outputs = status.outputs.iter();
    json!({
        "steps": steps.collect::<Vec<_>>(),
        "conditions": conditions.collect::<Vec<_>>(),
        "outputs": outputs.map(|output| (&output.name, &output.digest, output.bytes)).collect::<Vec<_>>(),
        "attempts": status.attempts_made,
        "worker": status.worker,
    })
}

/// The worker's log has each step of the job once.
fn computed_once(log: &str, fleet: &Fleet<'_>, name: &str) -> Result<()> {
    let job = format!("{}/{name}\"", fleet.namespace);
    for step in ["large", "larger"] {
        let step = format!("step=\"{step}\"");
        let lines: Vec<&str> = log
            .lines()
            .filter(|line| {
                line.contains(&job) && line.contains(&step) && line.contains(" computed ")
            })
            .collect();
        ensure!(lines.len() == 1, "{name}, {step}: {lines:#?}");
    }
    Ok(())
}

const TWO_STEPS: &str = r"
  - {name: large, model: framewright-x2, upscale: {frames: 2}, inputs: [{name: video, upload: {file: clip.mp4}}]}
  - {name: larger, model: framewright-x2, upscale: {frames: 2}, inputs: [{name: video, fromStep: {name: large}}]}
";
