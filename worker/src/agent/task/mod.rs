//! One task from its command to its outcome: fetch the inputs, prepare, compute, upload the outputs.
//!
//! # Guarantees
//! Every wait ends: by its own deadline, or when the task is stopped. A task with a limit computes nothing before the operator has let
//! it, and nothing beyond the limit. What was computed is not thrown away while the store is away for less than an hour, nor while there
//! is no operator to say where to upload it. The task's files are gone when it is over.

mod alive;
mod reporter;
mod transfer;
mod tried;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use framewright_crds::aijob::{Cause, Progress, Usage};
use framewright_crds::names;
use framewright_crds::pipelines::{BASE_MODEL, Pipeline};
use framewright_crds::protocol::{ModelState, Outcome, OutputFile, RunTask, TaskModel, TaskRecord};
use framewright_queue::{Event, TaskEvent};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::model_store::{ModelStore, StoredModel};
use super::scratch::{Scratch, ScratchError};
use crate::device::DeviceInfo;
use crate::digest::digest_of;
use crate::engine::{Engine, EngineError};
use crate::error_chain::error_chain;
use crate::fetch::{Store, is_full};
use crate::media::Programs;
use crate::memory;
use crate::metrics::{Metrics, Stage};
use crate::networks::NetworkLayout;
use crate::pipelines::{
    Input, Output, Outputs, PipelineError, Prepared, ProgressSink, TaskContext, prepare,
    reading_deadline, usage,
};
use reporter::Reporter;

/// The longest that a single tile or frame may take once the task is to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(300);
/// How long a prepared task waits for the operator to let it compute. The job's own deadlines end it before.
const PROCEED_DEADLINE: Duration = Duration::from_secs(3600);

/// What all tasks share.
#[derive(Clone)]
pub(super) struct Tools {
    /// The store.
    pub(super) store: Store,
    /// The models.
    pub(super) models: ModelStore,
    /// The engine, which owns the device.
    pub(super) engine: Engine,
    /// What the device is.
    pub(super) device: DeviceInfo,
    /// Room for files.
    pub(super) scratch: Scratch,
    /// ffmpeg and ffprobe.
    pub(super) programs: Programs,
    /// The counters.
    pub(super) metrics: Metrics,
    /// Whether an operator has configured the worker and its stream is open.
    pub(super) has_operator: Arc<AtomicBool>,
}

/// What the operator sends to a task at work.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Notice {
    /// The command again, with new links.
    Renewed(Box<RunTask>),
    /// Where to upload an output.
    Upload {
        /// Its name.
        name: String,
        /// Its digest.
        digest: String,
        /// Where.
        url: String,
    },
}

/// The work that a task has done so far, in its pipeline's unit. Clones share the count.
#[derive(Clone, Debug)]
pub(super) struct UnitsDone {
    pipeline: Pipeline,
    units: Arc<AtomicU64>,
}

impl UnitsDone {
    /// Nothing is done yet.
    pub(super) fn new(pipeline: &Pipeline) -> UnitsDone {
        UnitsDone {
            pipeline: pipeline.clone(),
            units: Arc::default(),
        }
    }

    /// As messages say it; none if nothing is done.
    pub(super) fn usage(&self) -> Option<Usage> {
        let units = self.units.load(Ordering::SeqCst);
        (units > 0).then(|| usage(&self.pipeline, units))
    }
}

/// A task at work.
pub(super) struct Task {
    /// What it shares with others.
    pub(super) tools: Tools,
    /// What to do.
    pub(super) run: RunTask,
    /// How much of it is done.
    pub(super) units: UnitsDone,
    /// What the operator sends.
    pub(super) notices: mpsc::Receiver<Notice>,
    /// Where its events go.
    pub(super) events: mpsc::Sender<Event>,
    /// Notified when it may compute, if it has to wait for that.
    pub(super) may_compute: Arc<Notify>,
    /// Cancelled when it is to stop.
    pub(super) stop: CancellationToken,
}

/// How a task ends early.
enum Ending {
    Stopped,
    Failed { cause: Cause, message: String },
    DeviceLost { message: String },
}

impl Task {
    /// Works until the task is over or stopped, and says which in its last event.
    pub(super) async fn work(mut self) {
        let id = self.run.task.clone();
        let event = match self.outcome().await {
            Ok(outcome) => {
                info!("succeeded");
                self.tools.metrics.task_over("Succeeded");
                TaskEvent::Ended(outcome)
            }
            Err(Ending::Stopped) => {
                info!("stopped");
                self.tools.metrics.task_over("Stopped");
                TaskEvent::Stopped
            }
            Err(Ending::Failed { cause, message }) => {
                warn!(?cause, "failed: {message}");
                self.tools.metrics.task_over(cause.as_str());
                TaskEvent::Ended(Outcome::Failed {
                    cause,
                    message,
                    usage: self.units.usage(),
                })
            }
            Err(Ending::DeviceLost { message }) => {
                error!("failed: {message}");
                let cause = Cause::DeviceError.as_str();
                self.tools.metrics.task_over(cause);
                TaskEvent::DeviceLost {
                    message,
                    usage: self.units.usage(),
                }
            }
        };
        let _ = self.events.send(Event::Task { task: id, event }).await;
    }

    async fn outcome(&mut self) -> Result<Outcome, Ending> {
        let base = self.base_model()?;
        let model = self.stored(&base)?;
        let folder = self.tools.scratch.task(&self.run.task)?;
        let stop = self.stop.clone();
        let start = Instant::now();
        let inputs = unless_stopped(&stop, self.fetch(folder.path())).await?;
        let fetching = self.tools.metrics.stage_over(Stage::Fetch, start);
        let prepared = unless_stopped(&stop, self.prepare(inputs, model.layout.clone())).await?;
        let preparing = start.elapsed();

        unless_stopped(&stop, self.wait_to_compute(&prepared)).await?;
        let (made, computing) = self.compute(prepared, &base, model, folder.path()).await?;
        let outputs = unless_stopped(&stop, self.describe(&made)).await?;

        let start = Instant::now();
        unless_stopped(&stop, self.upload(&outputs, &made.files)).await?;
        let uploading = self.tools.metrics.stage_over(Stage::Upload, start);
        info!(
            fetch_seconds = fetching.as_secs_f64(),
            upload_seconds = uploading.as_secs_f64(),
            bytes = outputs.iter().map(|output| output.bytes).sum::<i64>(),
            "uploaded"
        );
        Ok(Outcome::Succeeded {
            outputs,
            usage: usage(&self.run.pipeline, made.units),
            record: self.record(preparing, computing),
        })
    }

    /// The model with the base role.
    fn base_model(&self) -> Result<TaskModel, Ending> {
        let mut models = self.run.models.iter();
        let base = models.find(|model| model.role == BASE_MODEL);
        base.cloned().ok_or_else(|| {
            let pipeline = self.run.pipeline.spec().name;
            let message = format!(
                "{pipeline} needs a model with the role {BASE_MODEL}, and the task names none"
            );
            failed(Cause::Internal, message)
        })
    }

    fn stored(&self, model: &TaskModel) -> Result<StoredModel, Ending> {
        self.tools.models.find(&model.digest).ok_or_else(|| {
            let message = format!("the files of model {} are gone from the worker", model.name);
            failed(Cause::WeightsFailed, message)
        })
    }

    /// Reads the inputs' headers. Does not take the device.
    async fn prepare(
        &self,
        inputs: Vec<Input>,
        network: NetworkLayout,
    ) -> Result<Prepared, Ending> {
        let (pipeline, programs) = (self.run.pipeline.clone(), self.tools.programs.clone());
        let preparing =
            tokio::task::spawn_blocking(move || prepare(&pipeline, &inputs, &network, &programs));
        preparing
            .await
            .map_err(|error| {
                let message = format!("the worker has a defect: {error}");
                failed(Cause::Internal, message)
            })?
            .map_err(|error| failed(error.cause(), error_chain(&error)))
    }

    /// Says how much work the step is. A task with a limit fails if that is more, else it waits until the operator lets it compute.
    async fn wait_to_compute(&mut self, prepared: &Prepared) -> Result<(), Ending> {
        let units = prepared.work().units();
        prepared
            .work()
            .check(units, self.run.max_units)
            .map_err(|error| failed(error.cause(), error_chain(&error)))?;
        self.publish(TaskEvent::Prepared { units }).await;
        if self.run.max_units.is_none() {
            return Ok(());
        }
        let may_compute = Arc::clone(&self.may_compute);
        let deadline = tokio::time::Instant::now() + PROCEED_DEADLINE;
        loop {
            tokio::select! {
                () = may_compute.notified() => return Ok(()),
                Some(notice) = self.notices.recv() => self.take(notice),
                () = tokio::time::sleep_until(deadline) => {
                    let message = format!(
                        "the operator has not let the task compute within {} s",
                        PROCEED_DEADLINE.as_secs()
                    );
                    return Err(failed(Cause::Internal, message));
                }
            }
        }
    }

    /// On the engine's thread. Goes on until that has really stopped, so that a stopped task leaves a free device behind.
    async fn compute(
        &mut self,
        prepared: Prepared,
        base: &TaskModel,
        model: StoredModel,
        folder: &Path,
    ) -> Result<(Outputs, Duration), Ending> {
        let should_stop = Arc::new(AtomicBool::new(false));
        let has_begun = Arc::new(AtomicBool::new(false));
        let computing = {
            let context = TaskContext {
                folder: folder.to_path_buf(),
                max_bytes: self.tools.scratch.bytes_per_task(),
                max_units: self.run.max_units,
                tile_bytes: self.tools.engine.tile_bytes(),
                memory: memory::limit(),
                programs: self.tools.programs.clone(),
                checkpoint: None,
            };
            let (task, units) = (self.run.task.clone(), Arc::clone(&self.units.units));
            let (events, should_stop) = (self.events.clone(), Arc::clone(&should_stop));
            let (metrics, has_begun) = (self.tools.metrics.clone(), Arc::clone(&has_begun));
            let span = tracing::Span::current();
            self.tools.engine.compute(move |state| {
                let _entered = span.entered();
                has_begun.store(true, Ordering::SeqCst);
                if should_stop.load(Ordering::SeqCst) {
                    return Err(PipelineError::Stopped);
                }
                let start = Instant::now();
                let network = state.network(&model.network)?;
                let mut reporter = Reporter::start(events, task);
                let mut progress = |further| reporter.report(further);
                let mut sink = ProgressSink {
                    should_stop: &should_stop,
                    progress: &mut progress,
                    units: &units,
                };
                let made = prepared.compute(&network, &context, &mut sink);
                let time = metrics.stage_over(Stage::Compute, start);
                let made = made?;
                metrics.frames(made.frames());
                info!(
                    frames = made.frames(),
                    units = made.units,
                    seconds = time.as_secs_f64(),
                    "computed"
                );
                Ok((made, time))
            })
        };
        tokio::pin!(computing);
        let made = tokio::select! {
            made = &mut computing => made,
            () = self.stop.cancelled() => {
                should_stop.store(true, Ordering::SeqCst);
                // Another task has the device: nothing of this one is on it.
                if !has_begun.load(Ordering::SeqCst) {
                    return Err(Ending::Stopped);
                }
                if tokio::time::timeout(STOP_DEADLINE, computing).await.is_err() {
                    self.publish(TaskEvent::Hangs).await;
                }
                return Err(Ending::Stopped);
            }
        };
        if let Err(EngineError::Pipeline(PipelineError::Weights(error))) = &made
            && error.is_about_the_file()
        {
            self.doubt(base).await;
        }
        made.map_err(|error| match error {
            EngineError::DeviceBroken { message } => Ending::DeviceLost { message },
            EngineError::Gone => Ending::DeviceLost {
                message: error_chain(&error),
            },
            EngineError::Pipeline(_) | EngineError::Panicked { .. } => {
                failed(error.cause(), error_chain(&error))
            }
        })
    }

    /// What came out, with digests.
    async fn describe(&self, made: &Outputs) -> Result<Vec<OutputFile>, Ending> {
        let mut outputs = Vec::new();
        for file in &made.files {
            outputs.push(self.describe_file(file, made).await?);
        }
        Ok(outputs)
    }

    async fn describe_file(&self, file: &Output, made: &Outputs) -> Result<OutputFile, Ending> {
        let path = file.path.clone();
        let hashing = tokio::task::spawn_blocking(move || digest_of(&path));
        let deadline = reading_deadline(&file.path);
        let described = alive::reporting(deadline, hashing, || {
            self.publish(TaskEvent::Progress(all_of(made)))
        });
        let internal = |message| failed(Cause::Internal, message);
        let (sha256, bytes) = described
            .await
            .ok_or_else(|| {
                let (path, seconds) = (file.path.display(), deadline.as_secs());
                internal(format!("{path} could not be read within {seconds} s"))
            })?
            .map_err(|error| internal(error.to_string()))?
            .map_err(|error| internal(error_chain(&error)))?;
        Ok(OutputFile {
            name: file.name.clone(),
            role: file.role,
            digest: names::digest(&sha256),
            bytes: i64::try_from(bytes).unwrap_or(i64::MAX),
            media_type: file.media_type.to_owned(),
            facts: file.facts(),
        })
    }

    /// How the task was done.
    fn record(&self, preparing: Duration, computing: Duration) -> TaskRecord {
        let DeviceInfo { name, driver, .. } = self.tools.device.clone();
        let models = self.run.models.iter().map(|model| model.digest.clone());
        TaskRecord {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            device: name,
            driver,
            models: models.collect(),
            seed: self.run.seed,
            prepare_ms: milliseconds(preparing),
            compute_ms: milliseconds(computing),
        }
    }

    /// Has the model's files verified again. Until that is done other tasks wait for the model instead of failing.
    async fn doubt(&self, model: &TaskModel) {
        let TaskModel { name, digest, .. } = model.clone();
        let loading = Event::Model {
            name,
            digest,
            state: ModelState::Loading { error: None },
        };
        let _ = self.events.send(loading).await;
        self.tools.models.doubt(&model.digest);
    }

    async fn publish(&self, event: TaskEvent) {
        let task = self.run.task.clone();
        let _ = self.events.send(Event::Task { task, event }).await;
    }
}

fn all_of(made: &Outputs) -> Progress {
    let frames = i64::try_from(made.frames()).ok();
    Progress {
        percent: 100,
        stage: Some("frame".to_owned()),
        done: frames,
        of: frames,
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
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
        failed(cause, error_chain(&error))
    }
}
