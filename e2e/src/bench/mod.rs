//! What the control plane costs, as ratios to a reference that is measured in the same run on the same API server.
//!
//! The operator and the store are the real programs. Workers are the bench's own: they prove who they are and speak the wire
//! protocol as real ones do, and say that a task is done the moment they get it, so that nothing but the control plane is measured.
//! A figure and its reference are taken turn by turn, so that whatever else the machine does meets both.
//!
//! # Layout
//! - [`stage`]: the API server, the operator and the store
//! - [`fleet`]: a pool and its workers
//! - [`worker`]: one of them
//! - [`desk`]: submits jobs as a user does, and sees them end
//! - [`raw`]: what the same writes cost
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

use self::batch::Batch;
use self::desk::{Desk, Input, Story};
use self::raw::Raw;
use self::stage::Stage;
use self::table::{Table, percentile, rate};
use crate::progress::Progress;

/// Jobs whose way to a worker is measured, unless somebody says another number.
pub const JOBS: usize = 1000;
/// Rounds of jobs at once; each figure is the median.
const ROUNDS: usize = 3;
/// Jobs whose writes are counted.
const COUNTED: usize = 20;
/// Namespaces that jobs are submitted to.
const ONE_STEP: &str = "bench-1";
const THREE_STEPS: &str = "bench-3";
const ONE_BY_ONE: &str = "bench-latency";
const AT_ONCE: &str = "bench-crowd";

/// Measures, and prints a table: the way of so many jobs to a worker, one after the other, and half as many at once.
///
/// # Errors
/// What did not work.
pub async fn run(dist: &Path, jobs: usize, with_torch: bool) -> Result<()> {
    let progress = Progress::new("bench");
    progress.say(&format!(
        "this takes about {} minutes, once the tools of the cluster are built{}",
        jobs / 150 + 1,
        if with_torch {
            "; then PyTorch takes 5 more, and some GB the first time"
        } else {
            ""
        }
    ));
    let mut table = Table::default();
    let stage = Stage::set(dist).await?;
    for namespace in [ONE_STEP, THREE_STEPS, ONE_BY_ONE, AT_ONCE] {
        stage.namespace(namespace).await?;
    }
    let stage = stage.perform(dist).await?;
    progress.say("API server, operator and store run");
    let (begun, workers) = fleet::gather(&stage).await?;
    progress.say("the workers have dialled in");
    let desk = Desk::open(&stage, begun);

    let story = counted(&desk, ONE_STEP, 1).await?;
    let single = ledger::count(&stage, ONE_STEP, COUNTED)?;
    counted(&desk, THREE_STEPS, 3).await?;
    let triple = ledger::count(&stage, THREE_STEPS, COUNTED)?;
    progress.say("writes are counted");
    let bytes = bytes(&story)?;
    let wanted = desk::manifest("bench", 1, Input::Upload);
    let mut raw = Raw::open(&stage.client, &wanted, story.statuses).await?;

    one_by_one(&desk, &mut raw, Input::Upload, jobs, &mut table).await?;
    progress.say(&format!("{jobs} jobs, one after the other"));
    if desk.takes_jobs_without_input(ONE_BY_ONE).await? {
        one_by_one(&desk, &mut raw, Input::None, jobs, &mut table).await?;
        progress.say(&format!("{jobs} jobs without input, one after the other"));
    }
    let crowd = Crowd::measure(&desk, &mut raw, &stage, (jobs / 2).max(1), &progress).await?;
    let crowded = ledger::count(&stage, AT_ONCE, ROUNDS * crowd.count)?;
    crowd.show(&raw, crowded.each(), &mut table);
    drop((desk, workers, raw));
    stage.cluster.stop().await?;

    table.row(
        "writes of a job of one step, create included",
        &format!("{:.2}", single.each()),
        "",
        "",
        "",
    );
    table.row("its status at the end", &format!("{bytes} B"), "", "", "");
    sizes::measure(dist, &mut table).await?;
    table.print();
    println!();
    single.print("A job of one step");
    triple.print("A job of three steps");
    crowded.print("A job of one step among many");
    println!("\n{}", torch::measure(with_torch, &progress).await?);
    Ok(())
}

/// Runs jobs whose writes are counted, one after the other; the last one's story.
async fn counted(desk: &Desk, namespace: &str, steps: usize) -> Result<Story> {
    for index in 1..COUNTED {
        let name = format!("job-{index}");
        desk.run(namespace, &name, steps, Input::Upload).await?;
    }
    desk.run(namespace, "job-0", steps, Input::Upload).await
}

/// What the status of a job weighs when it is over.
fn bytes(story: &Story) -> Result<usize> {
    let status = story.statuses.last().context("the job had no status")?;
    Ok(serde_json::to_vec(status)?.len())
}

/// From the create request to the worker that has begun, on an idle pool; after each job one status write.
async fn one_by_one(
    desk: &Desk,
    raw: &mut Raw,
    input: Input,
    jobs: usize,
    table: &mut Table,
) -> Result<()> {
    let (mut whole, mut placed, mut writes) = (Vec::new(), Vec::new(), Vec::new());
    for index in 0..jobs {
        let name = match input {
            Input::Upload => format!("job-{index}"),
            Input::None => format!("bare-{index}"),
        };
        let story = desk.run(ONE_BY_ONE, &name, 1, input).await?;
        whole.push(story.begun.duration_since(story.asked));
        let uploaded = story.uploaded;
        placed.extend(uploaded.map(|uploaded| story.begun.duration_since(uploaded)));
        writes.push(raw.write().await?);
    }
    let kind = match input {
        Input::Upload => "with an upload",
        Input::None => "without one",
    };
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        table.durations(
            &format!("job created to task begun, {kind}, {name}"),
            percentile(&whole, share),
            &format!("one status write, {name}"),
            percentile(&writes, share),
        );
    }
    if input == Input::Upload {
        table.durations(
            "input uploaded to task begun, p50",
            percentile(&placed, 0.5),
            "one status write, p50",
            percentile(&writes, 0.5),
        );
    }
    Ok(())
}

/// Jobs at once, a second, in each round.
struct Crowd {
    count: usize,
    jobs: Vec<f64>,
    batch: Vec<f64>,
    raw: Vec<f64>,
}

impl Crowd {
    /// Batch Jobs, jobs, and the writes of jobs alone, in turn.
    async fn measure(
        desk: &Desk,
        raw: &mut Raw,
        stage: &Stage,
        count: usize,
        progress: &Progress,
    ) -> Result<Crowd> {
        let mut batch = Batch::open(&stage.client).await?;
        let mut crowd = Crowd {
            count,
            jobs: Vec::new(),
            batch: Vec::new(),
            raw: Vec::new(),
        };
        // The first Jobs in a namespace meet a controller manager that has never made a pod in it.
        batch.crowd(count.div_ceil(10)).await?;
        for round in 0..ROUNDS {
            crowd.batch.push(batch.crowd(count).await?);
            crowd.jobs.push(jobs_at_once(desk, round, count).await?);
            crowd.raw.push(raw.crowd(count).await?);
            progress.say(&format!(
                "{count} at once: batch Jobs {}, jobs {}, their writes alone {}",
                rate(crowd.batch[round]),
                rate(crowd.jobs[round]),
                rate(crowd.raw[round]),
            ));
        }
        Ok(crowd)
    }

    fn show(&self, raw: &Raw, writes_each: f64, table: &mut Table) {
        let count = self.count;
        table.rates(
            &format!("jobs of one step, {count} at once"),
            &self.jobs,
            "batch Jobs with instant pods",
            &self.batch,
        );
        table.rates(
            "the same",
            &self.jobs,
            "an operator without cost: the same writes alone",
            &self.raw,
        );
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        let raw_each = raw.writes_each() as f64;
        let times = |rates: &[f64], each: f64| -> Vec<f64> {
            rates.iter().map(|rate| rate * each).collect()
        };
        table.rates(
            &format!("their writes, {writes_each:.2} a job"),
            &times(&self.jobs, writes_each),
            &format!("raw writes by {} clients", raw::CLIENTS),
            &times(&self.raw, raw_each),
        );
    }
}

/// Jobs a second through the control plane.
async fn jobs_at_once(desk: &Desk, round: usize, count: usize) -> Result<f64> {
    let started = Instant::now();
    stream::iter(0..count)
        .map(|index| async move {
            let name = format!("job-{round}-{index}");
            desk.run(AT_ONCE, &name, 1, Input::Upload)
                .await
                .with_context(|| format!("job {name}"))
        })
        .buffer_unordered(count)
        .try_for_each(|_| async { Ok(()) })
        .await?;
    Ok(per_second(count, started.elapsed()))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of some hundred are exact"
)]
fn per_second(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}
