//! One task from its order to its outcome: fetch the inputs, compute, upload the output.
//!
//! # Guarantees
//! Every wait ends: by its own bound, or when the task is stopped. What was computed is not thrown away while the store is away
//! for less than an hour, nor while there is no operator to say where it goes. The task's files are gone when it is over.

mod alive;
mod reporter;
mod transfer;
mod tried;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use framewright_crds::aijob::{Cause, Progress};
use framewright_crds::wire::{ModelState, Outcome, OutputFile, Pipeline, TaskOrder};
use framewright_queue::{Event, News};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::scratch::{Scratch, ScratchError};
use super::shelf::Shelf;
use crate::digest::digest_of;
use crate::engine::{Engine, EngineError, Weights};
use crate::fetch::{Store, is_full};
use crate::media::Programs;
use crate::memory;
use crate::metrics::{Metrics, Stage};
use crate::pipelines::{Input, Made, PipelineError, Watch, Workplace, upscale::upscale};
use crate::sentence::sentence;
use reporter::Reporter;

/// The longest that a single tile or frame may take once nobody wants it.
const STOP_DEADLINE: Duration = Duration::from_secs(300);
/// What all tasks share.
#[derive(Clone)]
pub(super) struct Tools {
    /// The store.
    pub(super) store: Store,
    /// The models.
    pub(super) shelf: Shelf,
    /// The device.
    pub(super) engine: Engine,
    /// Room for files.
    pub(super) scratch: Scratch,
    /// ffmpeg and ffprobe.
    pub(super) programs: Programs,
    /// The counters.
    pub(super) metrics: Metrics,
    /// Whether an operator has welcomed the worker and its stream is open.
    pub(super) has_operator: Arc<AtomicBool>,
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
    DeviceLost { message: String },
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
                self.tools.metrics.task_over(cause.as_str());
                News::Ended(Outcome::Failed { cause, message })
            }
            Err(Ending::DeviceLost { message }) => {
                error!("failed: {message}");
                let cause = Cause::DeviceError.as_str();
                self.tools.metrics.task_over(cause);
                News::DeviceLost { message }
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
        let output = unless_stopped(&stop, self.describe(&made)).await?;

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

    /// On the engine's thread. Goes on until that has really stopped, so that a stopped task leaves a free device behind.
    async fn compute(&mut self, inputs: &[Input], folder: &Path) -> Result<Made, Ending> {
        let should_stop = Arc::new(AtomicBool::new(false));
        let has_begun = Arc::new(AtomicBool::new(false));
        let job = {
            let workplace = Workplace {
                folder: folder.to_path_buf(),
                max_bytes: self.tools.scratch.bytes_per_task(),
                tile_bytes: self.tools.engine.tile_bytes(),
                memory: memory::limit(),
                programs: self.tools.programs.clone(),
            };
            let (task, weights) = (self.order.task.clone(), self.weights.clone());
            let (pipeline, inputs) = (self.order.pipeline.clone(), inputs.to_vec());
            let (events, should_stop) = (self.events.clone(), Arc::clone(&should_stop));
            let (metrics, has_begun) = (self.tools.metrics.clone(), Arc::clone(&has_begun));
            let span = tracing::Span::current();
            self.tools.engine.compute(move |bench| {
                let _entered = span.entered();
                has_begun.store(true, Ordering::SeqCst);
                if should_stop.load(Ordering::SeqCst) {
                    return Err(PipelineError::Stopped);
                }
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
                should_stop.store(true, Ordering::SeqCst);
                // Another task has the device: nothing of this one is on it.
                if !has_begun.load(Ordering::SeqCst) {
                    return Err(Ending::Stopped);
                }
                if tokio::time::timeout(STOP_DEADLINE, job).await.is_err() {
                    self.tell(News::Hangs).await;
                }
                return Err(Ending::Stopped);
            }
        };
        if let Err(EngineError::Pipeline(PipelineError::Weights(error))) = &made
            && error.is_about_the_file()
        {
            self.doubt_weights().await;
        }
        made.map_err(|error| match error {
            EngineError::DeviceBroken { message } => Ending::DeviceLost { message },
            EngineError::Gone => Ending::DeviceLost {
                message: sentence(&error),
            },
            EngineError::Pipeline(_) | EngineError::Panicked { .. } => {
                failed(error.cause(), sentence(&error))
            }
        })
    }

    async fn describe(&self, made: &Made) -> Result<OutputFile, Ending> {
        let path = made.path.clone();
        let hashing = tokio::task::spawn_blocking(move || digest_of(&path));
        let deadline = alive::reading_deadline(&made.path);
        let described = alive::telling(deadline, hashing, || {
            self.tell(News::Progress(all_of(made)))
        });
        let internal = |message| failed(Cause::Internal, message);
        let (sha256, bytes) = described
            .await
            .ok_or_else(|| {
                let (path, seconds) = (made.path.display(), deadline.as_secs());
                internal(format!("{path} could not be read within {seconds} s"))
            })?
            .map_err(|error| internal(error.to_string()))?
            .map_err(|error| internal(sentence(&error)))?;
        Ok(OutputFile {
            sha256,
            bytes: i64::try_from(bytes).unwrap_or(i64::MAX),
            media_type: made.media_type.to_owned(),
        })
    }

    /// Has the file looked at again. Until that is done other tasks wait for the model instead of failing.
    async fn doubt_weights(&self) {
        let TaskOrder { model, digest, .. } = self.order.clone();
        let loading = Event::Model {
            name: model,
            digest: digest.clone(),
            state: ModelState::Loading { trouble: None },
        };
        let _ = self.events.send(loading).await;
        self.tools.shelf.doubt(&digest);
    }

    async fn tell(&self, news: News) {
        let task = self.order.task.clone();
        let _ = self.events.send(Event::Task { task, news }).await;
    }
}

fn all_of(made: &Made) -> Progress {
    let frames = i64::try_from(made.frames).ok();
    Progress {
        percent: 100,
        frame: frames,
        frames,
    }
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
