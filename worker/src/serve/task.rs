//! One task from its order to its outcome: fetch the inputs, compute, upload the output.
//!
//! # Guarantees
//! Every wait ends: by its own bound, or when the task is stopped. What was computed is not thrown away while the store is away
//! for less than [`UPLOAD_BOUND`]. The task's files are gone when it is over.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use framewright_crds::aijob::Cause;
use framewright_crds::names::TaskId;
use framewright_crds::wire::{Outcome, OutputFile, Pipeline, TaskOrder};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::backoff::{Backoff, random};
use super::scratch::{Scratch, ScratchError};
use crate::digest::digest_of;
use crate::engine::{Engine, Weights};
use crate::fetch::{Remedy, Store, StoreError, is_full};
use crate::media::Programs;
use crate::memory::tile_bytes;
use crate::metrics::{Metrics, Stage};
use crate::pipelines::{Input, Made, Watch, Workplace, upscale::upscale};
use crate::queue::{Event, News};
use crate::sentence::sentence;

/// How long inputs are tried for; below the job's default preRunningDeadlineSeconds, so that the reason is told.
const FETCH_BOUND: Duration = Duration::from_secs(240);
/// How long an upload is tried for.
pub(super) const UPLOAD_BOUND: Duration = Duration::from_secs(30 * 60);
/// How long an answer to a request for grants is waited for, before it is asked for again.
const GRANT_WAIT: Duration = Duration::from_secs(15);
const RETRY: Backoff = Backoff {
    first: Duration::from_millis(500),
    most: Duration::from_secs(15),
};
/// The longest that a single tile or frame may take once nobody wants it.
const STOP_DEADLINE: Duration = Duration::from_secs(300);
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// What all tasks share.
#[derive(Clone)]
pub(super) struct Tools {
    /// The store.
    pub(super) store: Store,
    /// The device.
    pub(super) engine: Engine,
    /// Room for files.
    pub(super) scratch: Scratch,
    /// ffmpeg and ffprobe.
    pub(super) programs: Programs,
    /// The counters.
    pub(super) metrics: Metrics,
}

/// What a task is told while it works.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Notice {
    /// The order again, with new grants.
    Renewed(Box<TaskOrder>),
    /// Where to put the output that has this digest.
    Granted {
        /// The digest.
        sha256: String,
        /// Where.
        url: String,
    },
}

/// A task at work.
pub(super) struct Task {
    /// What it shares with others.
    pub(super) tools: Tools,
    /// What to do.
    pub(super) order: TaskOrder,
    /// With what.
    pub(super) weights: Weights,
    /// What it is told.
    pub(super) notices: mpsc::Receiver<Notice>,
    /// Where its news go.
    pub(super) events: mpsc::Sender<Event>,
    /// When it is not wanted any more.
    pub(super) stop: CancellationToken,
}

/// How a task ends early.
enum Ending {
    Stopped,
    Failed { cause: Cause, message: String },
}

impl Task {
    /// Works until the task is over or stopped, and tells which as its last news.
    pub(super) async fn work(mut self) {
        let id = self.order.task.clone();
        let news = match self.outcome().await {
            Ok(outcome) => {
                info!("succeeded");
                self.tools.metrics.task_over("Succeeded");
                News::Ended(outcome)
            }
            Err(Ending::Stopped) => {
                info!("stopped");
                self.tools.metrics.task_over("Stopped");
                News::Stopped
            }
            Err(Ending::Failed { cause, message }) => {
                warn!(?cause, "failed: {message}");
                self.tools.metrics.task_over(cause_name(cause));
                News::Ended(Outcome::Failed { cause, message })
            }
        };
        let _ = self.events.send(Event::Task { task: id, news }).await;
    }

    async fn outcome(&mut self) -> Result<Outcome, Ending> {
        let folder = self.tools.scratch.task(&self.order.task)?;
        let stop = self.stop.clone();
        let start = Instant::now();
        let inputs = unless_stopped(&stop, self.fetch(folder.path())).await?;
        let fetching = self.tools.metrics.stage_over(Stage::Fetch, start);

        let made = self.compute(&inputs, folder.path()).await?;
        let output = unless_stopped(&stop, describe(&made)).await?;

        let start = Instant::now();
        unless_stopped(&stop, self.upload(&output, &made.path)).await?;
        let uploading = self.tools.metrics.stage_over(Stage::Upload, start);
        info!(
            fetch_seconds = fetching.as_secs_f64(),
            upload_seconds = uploading.as_secs_f64(),
            bytes = output.bytes,
            "uploaded"
        );
        Ok(Outcome::Succeeded {
            output,
            units: made.units,
        })
    }

    async fn fetch(&mut self, folder: &Path) -> Result<Vec<Input>, Ending> {
        self.check_room()?;
        let mut inputs = Vec::new();
        for index in 0..self.order.inputs.len() {
            let path = folder.join(format!("input-{index}"));
            self.fetch_one(index, &path).await?;
            let name = self.order.inputs[index].name.clone();
            inputs.push(Input { name, path });
        }
        Ok(inputs)
    }

    fn check_room(&self) -> Result<(), Ending> {
        let limit = self.tools.scratch.bytes_per_task();
        let bytes: u64 = self
            .order
            .inputs
            .iter()
            .map(|input| u64::try_from(input.bytes).unwrap_or(0))
            .sum();
        if bytes >= limit {
            return Err(Ending::Failed {
                cause: Cause::ScratchFull,
                message: format!(
                    "the inputs have {bytes} bytes, and a task may use {limit} bytes of scratch space; raise the pool's scratch.sizeLimit"
                ),
            });
        }
        Ok(())
    }

    async fn fetch_one(&mut self, index: usize, path: &Path) -> Result<(), Ending> {
        let start = Instant::now();
        let mut failures = 0;
        loop {
            let input = self.order.inputs[index].clone();
            let bytes = u64::try_from(input.bytes).unwrap_or(0);
            let got = self.tools.store.get(&input.url, &input.sha256, bytes, path);
            let Err(error) = got.await else {
                return Ok(());
            };
            failures += 1;
            let message = format!("input {}: {}", input.name, sentence(&error));
            let remedy = error.remedy();
            if failures == 1 {
                warn!("tries again: {message}");
            }
            match remedy {
                Remedy::MakeRoom => return Err(failed(Cause::ScratchFull, message)),
                Remedy::GiveUp => return Err(failed(given_up(&error), message)),
                Remedy::Wait | Remedy::Renew if start.elapsed() > FETCH_BOUND => {
                    return Err(failed(Cause::StoreUnavailable, message));
                }
                Remedy::Renew => {
                    self.tell(News::GrantsExpired).await;
                    self.notice_within(GRANT_WAIT).await;
                }
                Remedy::Wait => {
                    self.notice_within(RETRY.wait(failures, random())).await;
                }
            }
        }
    }

    /// On the engine's thread. Goes on until that has really stopped, so that a stopped task leaves a free device behind.
    async fn compute(&mut self, inputs: &[Input], folder: &Path) -> Result<Made, Ending> {
        let should_stop = Arc::new(AtomicBool::new(false));
        let job = {
            let workplace = Workplace {
                folder: folder.to_path_buf(),
                max_bytes: self.tools.scratch.bytes_per_task(),
                tile_bytes: tile_bytes(),
                programs: self.tools.programs.clone(),
            };
            let (task, weights) = (self.order.task.clone(), self.weights.clone());
            let (pipeline, inputs) = (self.order.pipeline.clone(), inputs.to_vec());
            let (events, should_stop) = (self.events.clone(), Arc::clone(&should_stop));
            let metrics = self.tools.metrics.clone();
            let span = tracing::Span::current();
            self.tools.engine.compute(move |bench| {
                let _entered = span.entered();
                let start = Instant::now();
                let network = bench.upscaler(&weights)?;
                let mut reporter = Reporter::start(events, task);
                let mut progress = |further| reporter.report(further);
                let mut watch = Watch {
                    should_stop: &should_stop,
                    progress: &mut progress,
                };
                let Pipeline::Upscale(parameters) = pipeline;
                let made = upscale(&parameters, &inputs, &network, &workplace, &mut watch);
                let time = metrics.stage_over(Stage::Compute, start);
                let made = made?;
                metrics.frames(made.frames);
                info!(
                    frames = made.frames,
                    width = made.width,
                    height = made.height,
                    seconds = time.as_secs_f64(),
                    "computed"
                );
                Ok(made)
            })
        };
        tokio::pin!(job);
        let made = tokio::select! {
            made = &mut job => made,
            () = self.stop.cancelled() => {
                should_stop.store(true, Ordering::Relaxed);
                if tokio::time::timeout(STOP_DEADLINE, job).await.is_err() {
                    self.tell(News::Hangs).await;
                }
                return Err(Ending::Stopped);
            }
        };
        made.map_err(|error| failed(error.cause(), sentence(&error)))
    }

    async fn upload(&mut self, output: &OutputFile, path: &Path) -> Result<(), Ending> {
        let start = Instant::now();
        let mut failures = 0;
        loop {
            while let Ok(notice) = self.notices.try_recv() {
                self.take(notice);
            }
            // A grant is asked for before each try: asking costs little, and a late try finds no expired one.
            self.tell(News::Computed(output.clone())).await;
            let error = match self.grant(&output.sha256).await {
                Some(url) => match self.tools.store.put(&url, output, path).await {
                    Ok(()) => return Ok(()),
                    Err(error) => Some(error),
                },
                None => None,
            };
            let message = error.as_ref().map_or_else(
                || "the operator gives no grant for the upload".to_owned(),
                |error| sentence(error),
            );
            if let Some(error) = &error
                && error.remedy() == Remedy::GiveUp
            {
                return Err(failed(given_up(error), message));
            }
            if start.elapsed() > UPLOAD_BOUND {
                return Err(failed(Cause::StoreUnavailable, message));
            }
            failures += 1;
            if failures == 1 || failures % 20 == 0 {
                warn!("the output is computed and its upload will be tried again: {message}");
            }
            if error.is_some() {
                tokio::time::sleep(RETRY.wait(failures, random())).await;
            }
        }
    }

    async fn grant(&mut self, wanted: &str) -> Option<String> {
        let deadline = tokio::time::Instant::now() + GRANT_WAIT;
        loop {
            match tokio::time::timeout_at(deadline, self.notices.recv()).await {
                Ok(Some(Notice::Granted { sha256, url })) if sha256 == wanted => return Some(url),
                Ok(Some(notice)) => self.take(notice),
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// Waits so long, or until a notice comes.
    async fn notice_within(&mut self, time: Duration) {
        if let Ok(Some(notice)) = tokio::time::timeout(time, self.notices.recv()).await {
            self.take(notice);
        }
    }

    fn take(&mut self, notice: Notice) {
        match notice {
            Notice::Renewed(order) => self.order = *order,
            // For an output that is not waited for any more.
            Notice::Granted { .. } => {}
        }
    }

    async fn tell(&self, news: News) {
        let task = self.order.task.clone();
        let _ = self.events.send(Event::Task { task, news }).await;
    }
}

/// Tells from the engine's thread that a task computes and how far it is, at most once a second.
struct Reporter {
    events: mpsc::Sender<Event>,
    task: TaskId,
    last: Option<Instant>,
}

impl Reporter {
    fn start(events: mpsc::Sender<Event>, task: TaskId) -> Reporter {
        let reporter = Reporter {
            events,
            task,
            last: None,
        };
        reporter.tell(News::Started);
        reporter
    }

    fn report(&mut self, progress: framewright_crds::aijob::Progress) {
        if self
            .last
            .is_some_and(|last| last.elapsed() < PROGRESS_INTERVAL)
        {
            return;
        }
        self.last = Some(Instant::now());
        self.tell(News::Progress(progress));
    }

    fn tell(&self, news: News) {
        let task = self.task.clone();
        // The other end empties its queue without waiting for anybody, so this does not hold up the device.
        let _ = self.events.blocking_send(Event::Task { task, news });
    }
}

async fn describe(made: &Made) -> Result<OutputFile, Ending> {
    let path = made.path.clone();
    let described = tokio::task::spawn_blocking(move || digest_of(&path)).await;
    let internal = |message| failed(Cause::Internal, message);
    let (sha256, bytes) = described
        .map_err(|error| internal(error.to_string()))?
        .map_err(|error| internal(sentence(&error)))?;
    Ok(OutputFile {
        sha256,
        bytes: i64::try_from(bytes).unwrap_or(i64::MAX),
        media_type: made.media_type.to_owned(),
    })
}

async fn unless_stopped<T>(
    stop: &CancellationToken,
    work: impl Future<Output = Result<T, Ending>>,
) -> Result<T, Ending> {
    match stop.run_until_cancelled(work).await {
        Some(done) => done,
        None => Err(Ending::Stopped),
    }
}

fn failed(cause: Cause, message: String) -> Ending {
    Ending::Failed { cause, message }
}

fn given_up(error: &StoreError) -> Cause {
    match error {
        StoreError::Refused { .. } => Cause::StoreUnavailable,
        StoreError::Trust { .. }
        | StoreError::Client { .. }
        | StoreError::Unreachable { .. }
        | StoreError::Stalled
        | StoreError::NoAnswer
        | StoreError::Size { .. }
        | StoreError::Digest { .. }
        | StoreError::Full { .. }
        | StoreError::Write { .. }
        | StoreError::Read { .. } => Cause::Internal,
    }
}

impl From<ScratchError> for Ending {
    fn from(error: ScratchError) -> Ending {
        let (ScratchError::Make { source, .. } | ScratchError::Clear { source, .. }) = &error;
        let cause = if is_full(source) {
            Cause::ScratchFull
        } else {
            Cause::Internal
        };
        failed(cause, sentence(&error))
    }
}

/// The cause as a label of a metric.
fn cause_name(cause: Cause) -> &'static str {
    match cause {
        Cause::InvalidInput => "InvalidInput",
        Cause::WorkerLost => "WorkerLost",
        Cause::WorkerDrained => "WorkerDrained",
        Cause::OutOfMemory => "OutOfMemory",
        Cause::ScratchFull => "ScratchFull",
        Cause::Stuck => "Stuck",
        Cause::PreRunningDeadline => "PreRunningDeadline",
        Cause::ActiveDeadline => "ActiveDeadline",
        Cause::WeightsFailed => "WeightsFailed",
        Cause::StoreUnavailable => "StoreUnavailable",
        Cause::DeviceError => "DeviceError",
        Cause::Suspended => "Suspended",
        Cause::Internal => "Internal",
    }
}
