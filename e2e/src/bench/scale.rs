//! What the operator needs with many workers and ten times as many jobs: memory, and how soon a new one has taken over.
//!
//! Workers never finish a task, so all their slots are taken and the other jobs wait.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use framewright_crds::AIJob;
use futures::{StreamExt, TryStreamExt, stream};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use kube::Api;
use kube::api::PostParams;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::fleet::{self, SLOTS};
use super::ledger;
use super::stage::Stage;
use super::table::{Table, median, milliseconds};
use super::worker::{Stream, Work, Worker};
use crate::eventually;
use crate::progress::Progress;

/// Jobs beside each worker.
const JOBS_PER_WORKER: usize = 10;
/// Namespaces that the jobs are in.
const NAMESPACES: usize = 10;
/// Jobs that are created at one time.
const AT_ONCE: usize = 32;
/// How long a worker waits before it dials again.
const REDIAL: Duration = Duration::from_millis(200);
/// A fleet without writes for so long is settled.
const QUIET: Duration = Duration::from_secs(15);
/// How long the fleet may take to settle, and 50 ms more for each job.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often the metrics are read.
const POLL: Duration = Duration::from_millis(50);
const TAKEOVERS: usize = 3;
const METRICS_PORT: u16 = 8081;

/// Connects the workers, submits ten jobs for each, restarts the operator three times, and prints a table.
///
/// # Errors
/// What did not work.
pub async fn run(dist: &Path, workers: usize) -> Result<()> {
    let progress = Progress::new("bench");
    let jobs = workers * JOBS_PER_WORKER;
    let slots = workers * usize::try_from(SLOTS)?;
    progress.say(&format!(
        "{workers} workers and {jobs} jobs: this takes about {} minutes, once the tools of the cluster are built",
        jobs / 1500 + 3
    ));
    let stage = Stage::set(dist).await?.perform().await?;
    let patience = PATIENCE + Duration::from_millis(50) * u32::try_from(jobs)?;
    let metrics = Metrics { stage: &stage };
    settle(&metrics, 0, patience).await?;
    let empty = resident(stage.operator()?)?;

    let pods = fleet::pods(&stage, workers).await?;
    progress.say(&format!("{workers} pods run"));
    let node = stage.cluster.node_address();
    let mut connections = JoinSet::new();
    for pod in pods {
        let authority = stage.authority.clone();
        connections.spawn(async move {
            let mut worker = Worker::new(SLOTS, Work::Compute);
            loop {
                // Whatever ends a stream, the worker dials again, as a real one does.
                if let Ok(stream) = Stream::dial(node, &authority, &pod.token).await {
                    let _ = worker.serve(stream).await;
                }
                sleep(REDIAL).await;
            }
        });
    }
    eventually(patience, "all workers have connected", async || {
        let connected = metrics.sum("framewright_connected_workers").await?;
        ensure!(connected == workers, "{connected} workers have connected");
        Ok(())
    })
    .await?;
    settle(&metrics, 0, patience).await?;
    let connected = resident(stage.operator()?)?;
    progress.say("the workers have connected");

    submit(&stage, jobs).await?;
    progress.say("the jobs are submitted");
    settle(&metrics, slots, patience).await?;
    let full = resident(stage.operator()?)?;
    progress.say("each job runs or waits");

    let mut takeovers = Vec::new();
    let before = ledger::operators(&stage)?;
    for _ in 0..TAKEOVERS {
        stop(stage.operator()?).await?;
        let started = Instant::now();
        stage.start_operator()?;
        loop {
            let tasks = metrics.sum("framewright_worker_tasks").await;
            if tasks.is_ok_and(|tasks| tasks == slots) {
                break;
            }
            ensure!(
                started.elapsed() < patience,
                "a new operator has not all {slots} tasks after {} s",
                patience.as_secs()
            );
            sleep(POLL).await;
        }
        takeovers.push(started.elapsed().as_secs_f64());
        settle(&metrics, slots, patience).await?;
        progress.say("a new operator has all tasks");
    }
    let written = ledger::operators(&stage)? - before;
    let again = resident(stage.operator()?)?;
    connections.shutdown().await;
    stage.cluster.stop().await?;

    let mut table = Table::default();
    let mut memory = |what: &str, bytes: u64, each: Option<(u64, usize)>| {
        let each = each.and_then(|(less, count)| {
            let bytes = bytes.saturating_sub(less);
            Some(format!(
                "{} KiB each",
                bytes.checked_div(u64::try_from(count).ok()?)? / 1024
            ))
        });
        let bytes = format!("{} MiB", bytes / 1024 / 1024);
        table.row(what, &bytes, "", each.as_deref().unwrap_or_default(), "");
    };
    memory("resident memory of an operator without work", empty, None);
    let what = format!("the same with {workers} connected workers");
    memory(&what, connected, Some((empty, workers)));
    let what = format!("the same with {jobs} live jobs");
    memory(&what, full, Some((connected, jobs)));
    memory("the same after it was started again", again, None);
    let median = Duration::from_secs_f64(median(&takeovers));
    let what = format!("from process start until {slots} tasks are adopted");
    table.row(&what, &milliseconds(median), "", "median of three", "");
    let what = "writes to jobs, pools and pods by three new operators";
    table.row(what, &written.to_string(), "", "", "");
    table.print();
    Ok(())
}

/// Creates jobs of one step that take no input.
async fn submit(stage: &Stage, jobs: usize) -> Result<()> {
    for index in 0..NAMESPACES {
        stage.namespace(&format!("bench-scale-{index}")).await?;
    }
    let spec = json!({"steps": [{"name": "step", "noop": {}}]});
    let job = AIJob::new("", serde_json::from_value(spec)?);
    stream::iter(0..jobs)
        .map(async |index| {
            let namespace = format!("bench-scale-{}", index % NAMESPACES);
            let mut job = job.clone();
            job.metadata.name = Some(format!("job-{index}"));
            let jobs: Api<AIJob> = Api::namespaced(stage.client.clone(), &namespace);
            let created = jobs.create(&PostParams::default(), &job).await;
            created
                .map(drop)
                .with_context(|| format!("create job {index}"))
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// Waits until the workers have this many tasks and no job status has been written for [`QUIET`].
async fn settle(metrics: &Metrics<'_>, tasks: usize, patience: Duration) -> Result<()> {
    let begun = Instant::now();
    let (mut last, mut since) = (None, Instant::now());
    loop {
        // The operator may not listen yet.
        let now = match metrics.read().await {
            Ok(text) => Some((
                sum(&text, "framewright_worker_tasks")?,
                sum(&text, "framewright_job_status_writes_total")?,
            )),
            Err(_) => None,
        };
        if now != last {
            (last, since) = (now, Instant::now());
        }
        if now.is_some_and(|(running, _)| running == tasks) && since.elapsed() >= QUIET {
            return Ok(());
        }
        ensure!(
            begun.elapsed() < patience,
            "the fleet has not settled after {} s; tasks and writes: {now:?}, and {tasks} tasks were expected",
            patience.as_secs()
        );
        sleep(POLL * 4).await;
    }
}

/// Ends a process, and waits until it has ended.
async fn stop(process: Pid) -> Result<()> {
    kill_process(process, Signal::TERM)?;
    eventually(PATIENCE, "the operator has ended", async || {
        ensure!(test_kill_process(process).is_err(), "it runs");
        Ok(())
    })
    .await
}

/// The resident memory of a process, in bytes.
fn resident(process: Pid) -> Result<u64> {
    let path = format!("/proc/{}/status", process.as_raw_nonzero());
    let status = fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB"));
    let kibibytes: u64 = kibibytes
        .with_context(|| format!("{path} has no VmRSS"))?
        .trim()
        .parse()?;
    Ok(kibibytes * 1024)
}

/// The metrics of the operator.
struct Metrics<'a> {
    stage: &'a Stage,
}

impl Metrics<'_> {
    async fn read(&self) -> Result<String> {
        let address = (self.stage.cluster.node_address(), METRICS_PORT);
        let connection = TcpStream::connect(address).await?;
        let (mut sender, driver) =
            hyper::client::conn::http1::handshake(TokioIo::new(connection)).await?;
        tokio::spawn(driver);
        let request = http::Request::get("/metrics")
            .header(http::header::HOST, "operator")
            .body(Empty::<Bytes>::new())?;
        let answer = sender.send_request(request).await?;
        let body = answer.into_body().collect().await?.to_bytes();
        Ok(String::from_utf8(body.to_vec())?)
    }

    async fn sum(&self, name: &str) -> Result<usize> {
        sum(&self.read().await?, name)
    }
}

/// The sum of a metric over its labels; 0 if it is not there.
fn sum(text: &str, name: &str) -> Result<usize> {
    let mut sum = 0;
    for line in text.lines() {
        let value = line.strip_prefix(name);
        if let Some(value) = value.filter(|value| value.starts_with([' ', '{'])) {
            let value = value.rsplit(' ').next().unwrap_or_default();
            sum += value.parse::<usize>().with_context(|| line.to_owned())?;
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels_and_not_over_names_that_begin_alike() {
        let text = "a{pool=\"x y\"} 3\na{pool=\"z\"} 4\na_total 9\nb 5\n";
        assert_eq!(sum(text, "a").unwrap(), 7);
        assert_eq!(sum(text, "b").unwrap(), 5);
        assert_eq!(sum(text, "c").unwrap(), 0);
    }
}
