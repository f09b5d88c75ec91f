//! What the control plane costs, as ratios to a reference that is measured in the same run on the same API server.
//!
//! The operator and the store are the real programs. Workers are the bench's own: they prove who they are and speak the wire
//! protocol as real ones do, and say that a task is done the moment they get it, so that nothing but the control plane is measured.
//!
//! # Layout
//! - [`stage`]: the API server, the operator and the store
//! - [`fleet`]: a pool and its workers
//! - [`worker`]: one of them
//! - [`desk`]: submits jobs as a user does, and sees them end
//! - [`raw`]: what plain writes cost
//! - [`batch`]: what `batch/v1` Jobs cost
//! - [`ledger`]: how many writes a job costs, by whom
//! - [`sizes`]: what the images weigh
//! - [`torch`]: the upscaler beside PyTorch's
//! - [`table`]: how figures are shown

mod batch;
mod desk;
mod fleet;
mod ledger;
mod raw;
mod sizes;
mod stage;
mod table;
mod torch;
mod worker;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};

use self::desk::Desk;
use self::stage::Stage;
use self::table::{Table, percentile, rate};
use crate::progress::Progress;

/// Jobs whose way to a worker is measured, one after the other.
const LATENCIES: usize = 200;
/// Jobs that are submitted at once.
const CROWD: usize = 500;
/// Batch Jobs that are created at once.
const BATCH: usize = 200;
/// Jobs whose writes are counted.
const COUNTED: usize = 20;

/// Measures, and prints a table.
///
/// # Errors
/// What did not work.
pub async fn run(dist: &Path, with_torch: bool) -> Result<()> {
    let progress = Progress::new("bench");
    progress.say(if with_torch {
        "this takes about 10 minutes, and longer the first time, when PyTorch is installed"
    } else {
        "this takes about 5 minutes, once the tools of the cluster are built"
    });
    let mut table = Table::default();
    let stage = Stage::set(dist).await?;
    progress.say("API server and controller manager run");
    let raw = raw::measure(&stage.client).await?;
    progress.say(&format!("raw writes: {}", rate(raw.per_second)));
    let batch = batch::measure(&stage.client, BATCH).await?;
    progress.say(&format!("batch Jobs: {}", rate(batch.per_second)));
    let stage = stage.perform(dist).await?;
    progress.say("operator and store run");
    let (begun, workers) = fleet::gather(&stage).await?;
    progress.say("the workers have dialled in");
    let desk = Desk::open(&stage, begun).await?;

    let single = ledger::count(&stage, &desk, 1, COUNTED).await?;
    let triple = ledger::count(&stage, &desk, 3, COUNTED).await?;
    progress.say("writes are counted");
    latencies(&desk, &raw, &batch, &mut table).await?;
    progress.say(&format!("{LATENCIES} jobs, one after the other"));
    crowd(&desk, &raw, &batch, &mut table).await?;
    progress.say(&format!("{CROWD} jobs at once"));
    drop((desk, workers));
    stage.cluster.stop().await?;

    sizes::measure(dist, &mut table).await?;
    table.print();
    println!();
    single.print("A job of one step");
    triple.print("A job of three steps");
    println!("\n{}", torch::measure(with_torch, &progress).await?);
    Ok(())
}

/// From the create request to the worker that has begun, on an idle pool.
async fn latencies(
    desk: &Desk,
    raw: &raw::Raw,
    batch: &batch::Batch,
    table: &mut Table,
) -> Result<()> {
    let (mut whole, mut placed) = (Vec::new(), Vec::new());
    for index in 0..LATENCIES {
        let times = desk
            .run("bench-latency", &format!("job-{index}"), 1)
            .await?;
        whole.push(times.begun.duration_since(times.asked));
        placed.push(times.begun.duration_since(times.uploaded));
    }
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        let (pod, write) = (
            percentile(&batch.starts, share),
            percentile(&raw.writes, share),
        );
        let took = percentile(&whole, share);
        table.durations(
            &format!("job created to task begun, idle pool, {name}"),
            took,
            "a batch Job created to its pod bound",
            pod,
        );
        table.durations(
            &format!("the same, {name}"),
            took,
            "one status write",
            write,
        );
        table.durations(
            &format!("input uploaded to task begun, {name}"),
            percentile(&placed, share),
            "one status write",
            write,
        );
    }
    Ok(())
}

/// Jobs a second through the control plane.
async fn crowd(desk: &Desk, raw: &raw::Raw, batch: &batch::Batch, table: &mut Table) -> Result<()> {
    let started = Instant::now();
    stream::iter(0..CROWD)
        .map(|index| async move {
            desk.run("bench-crowd", &format!("job-{index}"), 1)
                .await
                .with_context(|| format!("job {index}"))
        })
        .buffer_unordered(CROWD)
        .try_for_each(|_| async { Ok(()) })
        .await?;
    let per_second = per_second(CROWD, started.elapsed());
    table.rates(
        &format!("jobs of one step, {CROWD} at once"),
        per_second,
        &format!("batch Jobs with instant pods, {BATCH} at once"),
        batch.per_second,
    );
    table.rates(
        "the same",
        per_second,
        "raw writes by 32 clients",
        raw.per_second,
    );
    Ok(())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of some hundred are exact"
)]
fn per_second(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}
