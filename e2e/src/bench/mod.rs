//! What the control plane costs, as ratios to a reference that is measured in the same run on the same API server.
//!
//! The operator and the store are the real programs. Workers are the bench's own: they prove who they are and speak the protocol
//! as real ones do, and finish each task as soon as they get it, so that nothing but the control plane is measured. Jobs without
//! an upload are of the pipeline noop, which only the bench's CRD has. A figure and its reference are measured turn by turn, so
//! that other work on the machine slows both.
//!
//! # Layout
//! - [`stage`]: the API server, the operator and the store
//! - [`crd`]: the CRD with noop, and a copy of it
//! - [`fleet`]: a pool and its workers
//! - [`worker`]: one of them
//! - [`submitter`]: submits jobs as a user does, and follows them
//! - [`raw`]: what the same writes cost
//! - [`batch`]: what `batch/v1` Jobs cost
//! - [`ledger`]: how many writes a job costs, by whom
//! - [`sizes`]: what the images weigh
//! - [`scale`]: memory and takeover with a thousand workers
//! - [`torch`]: the upscaler beside PyTorch's
//! - [`table`]: how figures are shown

mod batch;
mod crd;
mod fleet;
mod ledger;
mod raw;
mod scale;
mod sizes;
mod stage;
mod submitter;
mod table;
mod torch;
mod worker;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};

use self::batch::Batch;
use self::ledger::Ledger;
use self::raw::{Raw, Writes};
use self::stage::Stage;
use self::submitter::{Input, Submitter};
use self::table::{Table, percentile, rate};
use crate::progress::Progress;

pub use self::scale::run as scale;

/// Jobs whose way to a worker is measured, unless somebody says another number.
pub const JOBS: usize = 1000;
/// Rounds of jobs at once; each figure is the median.
const ROUNDS: usize = 3;
/// Jobs whose writes are counted.
const COUNTED: usize = 20;
/// Namespaces that jobs are submitted to.
const ONE_STEP: &str = "bench-1";
const ONE_STEP_NO_UPLOAD: &str = "bench-1-no-upload";
const THREE_STEPS: &str = "bench-3";
const ONE_BY_ONE: &str = "bench-latency";
const AT_ONCE: &str = "bench-crowd";
const AT_ONCE_NO_UPLOAD: &str = "bench-crowd-no-upload";

/// Measures, and prints a table: the way of so many jobs to a worker, one after the other, and half as many at once.
///
/// # Errors
/// What did not work.
pub async fn run(dist: &Path, jobs: usize, with_torch: bool) -> Result<()> {
    let progress = Progress::new("bench");
    progress.say(&format!(
        "this takes about {} minutes, once the tools of the cluster are built{}",
        jobs / 90 + 1,
        if with_torch {
            "; then PyTorch takes 5 more, and some GB the first time"
        } else {
            ""
        }
    ));
    let mut table = Table::default();
    let stage = Stage::set(dist).await?;
    for namespace in [
        ONE_STEP,
        ONE_STEP_NO_UPLOAD,
        THREE_STEPS,
        ONE_BY_ONE,
        AT_ONCE,
        AT_ONCE_NO_UPLOAD,
    ] {
        stage.namespace(namespace).await?;
    }
    let stage = stage.perform().await?;
    progress.say("API server, operator and store run");
    let (begun, workers) = fleet::gather(&stage).await?;
    progress.say("the workers have connected");
    let submitter = Submitter::open(&stage, begun);

    let upload = counted(&submitter, ONE_STEP, 1, Input::Upload).await?;
    let single = ledger::count(&stage, ONE_STEP, COUNTED)?;
    let no_upload = counted(&submitter, ONE_STEP_NO_UPLOAD, 1, Input::None).await?;
    let single_no_upload = ledger::count(&stage, ONE_STEP_NO_UPLOAD, COUNTED)?;
    counted(&submitter, THREE_STEPS, 3, Input::Upload).await?;
    let triple = ledger::count(&stage, THREE_STEPS, COUNTED)?;
    progress.say("writes are counted");
    let mut raw = Raw::open(&stage.client, &upload).await?;

    for input in [Input::Upload, Input::None] {
        one_by_one(&submitter, &mut raw, &upload, input, jobs, &mut table).await?;
        let label = input.label();
        progress.say(&format!("{jobs} jobs {label}, one after the other"));
    }
    let mut crowds = [
        Crowd::new(Input::Upload, AT_ONCE, &upload),
        Crowd::new(Input::None, AT_ONCE_NO_UPLOAD, &no_upload),
    ];
    let count = (jobs / 2).max(1);
    at_once(&submitter, &mut raw, &stage, count, &mut crowds, &progress).await?;
    let mut crowded = Vec::new();
    for crowd in &crowds {
        let writes = ledger::count(&stage, crowd.namespace, ROUNDS * count)?;
        crowd.show(count, &writes, &mut table);
        crowded.push((crowd.input, writes));
    }
    drop((submitter, workers, raw));
    stage.cluster.stop().await?;

    for (input, ledger, writes) in [
        (Input::Upload, &single, &upload),
        (Input::None, &single_no_upload, &no_upload),
    ] {
        let label = input.label();
        let each = format!("{:.2}", ledger.each());
        let what = format!("writes of a job of one step {label}, create included");
        table.row(&what, &each, "", "", "");
        let bytes = format!("{} B", writes.last_bytes()?);
        table.row("its status at the end", &bytes, "", "", "");
    }
    sizes::measure(dist, &mut table).await?;
    table.print();
    println!();
    single.print("A job of one step");
    single_no_upload.print("A job of one step without an upload");
    triple.print("A job of three steps");
    for (input, writes) in &crowded {
        let label = input.label();
        writes.print(&format!("A job of one step {label} among many"));
    }
    println!("\n{}", torch::measure(with_torch, &progress).await?);
    Ok(())
}

/// Runs jobs whose writes are counted, one after the other; what was written of the last one.
async fn counted(
    submitter: &Submitter,
    namespace: &str,
    steps: usize,
    input: Input,
) -> Result<Writes> {
    for index in 1..COUNTED {
        let name = format!("job-{index}");
        submitter.run(namespace, &name, steps, input).await?;
    }
    Writes::of(submitter.run(namespace, "job-0", steps, input).await?)
}

/// From the create request to the worker that has begun, on an idle pool; after each job one status write, of `reference`.
async fn one_by_one(
    submitter: &Submitter,
    raw: &mut Raw,
    reference: &Writes,
    input: Input,
    jobs: usize,
    table: &mut Table,
) -> Result<()> {
    let (mut whole, mut placed, mut writes) = (Vec::new(), Vec::new(), Vec::new());
    for index in 0..jobs {
        let name = match input {
            Input::Upload => format!("job-{index}"),
            Input::None => format!("no-upload-{index}"),
        };
        let record = submitter.run(ONE_BY_ONE, &name, 1, input).await?;
        whole.push(record.begun.duration_since(record.created));
        let uploaded = record.uploaded;
        placed.extend(uploaded.map(|uploaded| record.begun.duration_since(uploaded)));
        writes.push(raw.write(reference).await?);
    }
    let label = input.label();
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        table.durations(
            &format!("job created to task begun, {label}, {name}"),
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

/// Batch Jobs, and then jobs of each kind and the writes of those jobs alone, in turn.
async fn at_once(
    submitter: &Submitter,
    raw: &mut Raw,
    stage: &Stage,
    count: usize,
    crowds: &mut [Crowd<'_>],
    progress: &Progress,
) -> Result<()> {
    let mut batch = Batch::open(&stage.client).await?;
    // The first Jobs in a namespace meet a controller manager that has never made a pod in it.
    batch.crowd(count.div_ceil(10)).await?;
    for round in 0..ROUNDS {
        let batch = batch.crowd(count).await?;
        progress.say(&format!("{count} at once: batch Jobs {}", rate(batch)));
        for crowd in &mut *crowds {
            let jobs = jobs_at_once(submitter, crowd, round, count).await?;
            let writes = raw.crowd(crowd.of_one, count).await?;
            progress.say(&format!(
                "{count} at once {}: jobs {}, their writes alone {}",
                crowd.input.label(),
                rate(jobs),
                rate(writes),
            ));
            crowd.batch.push(batch);
            crowd.jobs.push(jobs);
            crowd.raw.push(writes);
        }
    }
    Ok(())
}

/// Jobs of one kind at once: how many a second in each round.
struct Crowd<'a> {
    input: Input,
    namespace: &'static str,
    /// What is written of one such job when it runs alone.
    of_one: &'a Writes,
    jobs: Vec<f64>,
    batch: Vec<f64>,
    raw: Vec<f64>,
}

impl Crowd<'_> {
    fn new<'a>(input: Input, namespace: &'static str, of_one: &'a Writes) -> Crowd<'a> {
        Crowd {
            input,
            namespace,
            of_one,
            jobs: Vec::new(),
            batch: Vec::new(),
            raw: Vec::new(),
        }
    }

    fn show(&self, count: usize, writes: &Ledger, table: &mut Table) {
        let label = self.input.label();
        table.rates(
            &format!("jobs of one step {label}, {count} at once"),
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
        let times = |rates: &[f64], each: f64| -> Vec<f64> {
            rates.iter().map(|rate| rate * each).collect()
        };
        table.rates(
            &format!("their writes, {:.2} a job", writes.each()),
            &times(&self.jobs, writes.each()),
            &format!("raw writes by {} clients", raw::CLIENTS),
            &times(&self.raw, self.of_one.count()),
        );
    }
}

/// Jobs a second through the control plane.
async fn jobs_at_once(
    submitter: &Submitter,
    crowd: &Crowd<'_>,
    round: usize,
    count: usize,
) -> Result<f64> {
    let started = Instant::now();
    stream::iter(0..count)
        .map(|index| async move {
            let name = format!("job-{round}-{index}");
            submitter
                .run(crowd.namespace, &name, 1, crowd.input)
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
