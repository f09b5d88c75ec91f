//! `run`: does one job on this machine, without a cluster: the same engine and pipelines, files instead of a store.
//!
//! *Layout*: `documents`, `named_files`, `rules` and `plan` say what there is to do, `find` and `ready` with what, `table` what was
//! done, `results` where that goes.

mod documents;
mod find;
mod named_files;
mod plan;
mod ready;
mod results;
mod rules;
mod table;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use framewright_crds::aijob::{OutputRole, Progress};
use framewright_crds::manifest;
use framewright_crds::modelpool::Device;
use framewright_crds::names;
use tempfile::TempDir;

use crate::args::RunArgs;
use crate::device::DeviceError;
use crate::digest::digest_of;
use crate::engine::EngineError;
use crate::media::{MediaError, Programs};
use crate::memory;
use crate::models::verify::NoSha256;
use crate::pipelines::{Checkpoint, Input, Output, Outputs, ProgressSink, TaskContext, prepare};
pub use find::FindError;
use named_files::NamedFiles;
pub use plan::PlanError;
use plan::{Origin, OutputOf, Plan};
use ready::{Ready, ready};
use results::Results;
use table::{Row, table};

const PROGRAMS_DEADLINE: Duration = Duration::from_secs(30);
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// Why the job is not done.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{files}")]
    Plan {
        files: String,
        #[source]
        source: PlanError,
    },
    #[error("--input {name}: no step takes an upload by that name; there are: {known}")]
    UnknownInput { name: String, known: String },
    #[error("--input {name}: more than one input is called so; write one of: {known}")]
    AmbiguousInput { name: String, known: String },
    #[error(transparent)]
    Find(#[from] FindError),
    #[error("model {model}: files[].digest")]
    Digest {
        model: String,
        #[source]
        source: NoSha256,
    },
    #[error("video can be neither read nor written")]
    Programs {
        #[source]
        source: MediaError,
    },
    #[error("step {step} cannot run on {device}")]
    Device {
        step: String,
        device: Device,
        #[source]
        source: DeviceError,
    },
    #[error("the system gives no thread for the engine")]
    Engine {
        #[source]
        source: io::Error,
    },
    #[error("step {step} failed")]
    Step {
        step: String,
        #[source]
        source: Box<EngineError>,
    },
    #[error("step {step} has made {made} and no other output; correct fromStep.output")]
    NoOutput { step: String, made: String },
    #[error("stopped by a signal")]
    Stopped,
    #[error("checkpoint in {}", folder.display())]
    Checkpoint {
        folder: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot make a folder for intermediate files")]
    Scratch {
        #[source]
        source: io::Error,
    },
    #[error(
        "result {name} would replace {}, which is there already; move that away, name another folder with --output, or say --overwrite",
        path.display()
    )]
    Taken { name: String, path: PathBuf },
    #[error(
        "result {name} is {}, since another file called {} has come while the job ran; move one of them",
        kept.display(),
        path.display()
    )]
    TakenMeanwhile {
        name: String,
        path: PathBuf,
        kept: PathBuf,
    },
    #[error("all is computed and stays in {}, take it from there and delete that folder", folder.display())]
    Unwritten {
        folder: PathBuf,
        #[source]
        source: Box<RunError>,
    },
    #[error("cannot write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Does the job; prints what it does and, at the end, what it did.
///
/// # Errors
/// The first thing that is wrong: with the file, with the inputs and weights, all of which are looked for first, or in a step.
pub async fn run(args: RunArgs) -> Result<(), RunError> {
    let (plan, named) = read(&args)?;
    let programs = args.media.programs();
    programs
        .check(PROGRAMS_DEADLINE)
        .map_err(|source| RunError::Programs { source })?;
    let steps = ready(&plan, &args, &named)?;
    let results = Results {
        folder: &args.output,
        job: &plan.job,
        may_overwrite: args.overwrite,
    };
    results.prepare(&plan, &steps)?;
    let scratch = TempDir::new().map_err(|source| RunError::Scratch { source })?;
    let should_stop = Arc::new(AtomicBool::new(false));
    let places = Places {
        scratch: scratch.path(),
        checkpoints: args.checkpoint.as_deref(),
        programs: &programs,
    };
    let (made, rows, checkpoints) = tokio::select! {
        done = work_through(&plan, steps, places, &should_stop) => done?,
        () = stopped_twice(&should_stop) => return Err(RunError::Stopped),
    };
    println!("\n{}", table(&rows));
    for (name, of) in &plan.outputs {
        let published =
            output(&made, of, &plan).and_then(|output| results.publish(name, &output.path));
        match published {
            Ok(path) => println!("{}", path.display()),
            Err(error) => return Err(kept(error, scratch)),
        }
    }
    for checkpoint in checkpoints {
        checkpoint.remove().map_err(|source| RunError::Checkpoint {
            folder: checkpoint.folder,
            source,
        })?;
    }
    Ok(())
}

/// Where a job keeps its files, and with which programs it works on them.
#[derive(Clone, Copy)]
struct Places<'a> {
    scratch: &'a Path,
    checkpoints: Option<&'a Path>,
    programs: &'a Programs,
}

/// What was computed is not thrown away because it cannot be written where it should be.
fn kept(error: RunError, scratch: TempDir) -> RunError {
    if !matches!(error, RunError::Write { .. } | RunError::NoOutput { .. }) {
        return error;
    }
    RunError::Unwritten {
        folder: scratch.keep(),
        source: Box::new(error),
    }
}

async fn work_through(
    plan: &Plan,
    steps: Vec<Ready>,
    places: Places<'_>,
    should_stop: &Arc<AtomicBool>,
) -> Result<(Vec<Outputs>, Vec<Row>, Vec<Checkpoint>), RunError> {
    let (mut made, mut rows): (Vec<Outputs>, Vec<Row>) = (Vec::new(), Vec::new());
    let mut checkpoints = Vec::new();
    for ready in steps {
        let folder = places.scratch.join(&ready.step.name);
        fs::create_dir_all(&folder).map_err(|source| RunError::Scratch { source })?;
        let inputs = inputs(&ready, &made, plan)?;
        let checkpoint = match places.checkpoints {
            Some(folder) => Some(checkpoint(folder, &ready, &inputs)?),
            None => None,
        };
        checkpoints.extend(checkpoint.clone());
        let context = TaskContext {
            folder,
            max_bytes: u64::MAX,
            max_units: None,
            tile_bytes: ready.engine.tile_bytes(),
            memory: memory::limit(),
            programs: places.programs.clone(),
            checkpoint,
        };
        let (step, model) = (ready.step.name.clone(), ready.step.model.clone());
        let unit = ready.step.pipeline.spec().unit;
        let start = Instant::now();
        let result = work(ready, inputs, context, Arc::clone(should_stop)).await;
        if should_stop.load(Ordering::Relaxed) {
            return Err(RunError::Stopped);
        }
        let result = result.map_err(|source| RunError::Step {
            step: step.clone(),
            source: Box::new(source),
        })?;
        rows.push(Row {
            step,
            model,
            media: result.files.first().map(|file| file.media),
            work: format!("{} {unit}", result.units),
            time: start.elapsed(),
        });
        made.push(result);
    }
    Ok((made, rows, checkpoints))
}

/// A folder for the step, and what its segments are of.
fn checkpoint(folder: &Path, ready: &Ready, inputs: &[Input]) -> Result<Checkpoint, RunError> {
    let folder = folder.join(&ready.step.name);
    let failed = |source| RunError::Checkpoint {
        folder: folder.clone(),
        source,
    };
    fs::create_dir_all(&folder).map_err(failed)?;
    let digests = inputs.iter().map(|input| {
        let digest = digest_of(&input.path).map(|(sha256, _)| names::digest(&sha256));
        digest.map_err(io::Error::other)
    });
    Ok(Checkpoint {
        inputs: digests.collect::<io::Result<_>>().map_err(failed)?,
        models: vec![ready.step.weights.digest.clone()],
        pipeline: ready.step.pipeline.clone(),
        seed: 0,
        device: ready.device.clone(),
        folder: folder.clone(),
    })
}

/// The files that a step works on.
fn inputs(ready: &Ready, made: &[Outputs], plan: &Plan) -> Result<Vec<Input>, RunError> {
    let mut inputs = Vec::new();
    for (input, upload) in ready.step.inputs.iter().zip(&ready.uploads) {
        let path = match (&input.from, upload) {
            (Origin::Step(of), _) => output(made, of, plan)?.path.clone(),
            (Origin::Upload(_), Some(path)) => path.clone(),
            // Each upload was found before.
            (Origin::Upload(_), None) => continue,
        };
        let name = input.name.clone();
        inputs.push(Input { name, path });
    }
    Ok(inputs)
}

/// The output that is meant, of those that the steps have made so far.
fn output<'a>(made: &'a [Outputs], of: &OutputOf, plan: &Plan) -> Result<&'a Output, RunError> {
    let files = made.get(of.step).map_or(&[][..], |made| &made.files);
    let found = match &of.name {
        Some(name) => files.iter().find(|file| file.name == *name),
        None => {
            let mut results = files.iter().filter(|file| file.role == OutputRole::Result);
            results.next().filter(|_| results.next().is_none())
        }
    };
    found.ok_or_else(|| RunError::NoOutput {
        step: plan
            .steps
            .get(of.step)
            .map_or_else(String::new, |step| step.name.clone()),
        made: listed(files.iter().map(|file| file.name.clone())),
    })
}

/// What there is to do, and where the files lie that are named by their paths.
fn read(args: &RunArgs) -> Result<(Plan, NamedFiles), RunError> {
    let wrong = |source| RunError::Plan {
        files: listed(args.files.iter().map(|path| path.display().to_string())),
        source,
    };
    let (mut documents, mut named) = (Vec::new(), NamedFiles::new());
    for path in &args.files {
        let bytes = fs::read(path).map_err(|source| RunError::Read {
            path: path.clone(),
            source,
        })?;
        let mut found = manifest::read(&bytes).map_err(|source| wrong(source.into()))?;
        named_files::pin(&mut found, folder_of(path), &args.inputs, &mut named)?;
        documents.append(&mut found);
    }
    Ok((plan::plan(&documents).map_err(wrong)?, named))
}

/// The folder that a file lies in.
fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        Some(_) | None => Path::new("."),
    }
}

async fn work(
    ready: Ready,
    inputs: Vec<Input>,
    context: TaskContext,
    should_stop: Arc<AtomicBool>,
) -> Result<Outputs, EngineError> {
    let Ready {
        step,
        weights,
        engine,
        device: _,
        uploads: _,
    } = ready;
    engine
        .compute(move |state| {
            let network = state.network(&weights)?;
            let layout = network.layout();
            let prepared = prepare(&step.pipeline, &inputs, &layout, &context.programs)?;
            let pipeline = step.pipeline.spec().name;
            println!("{}: {pipeline} with {} ({layout})", step.name, step.model);
            let mut last = Instant::now();
            let mut progress = |further: Progress| {
                if last.elapsed() >= PROGRESS_INTERVAL {
                    last = Instant::now();
                    println!("{}: {further}", step.name);
                }
            };
            let mut sink = ProgressSink {
                should_stop: &should_stop,
                progress: &mut progress,
                units: &AtomicU64::new(0),
            };
            prepared.compute(&network, &context, &mut sink)
        })
        .await
}

/// The first signal stops the work between tiles, so that nothing is left behind. Returns at the second one.
async fn stopped_twice(should_stop: &AtomicBool) {
    for is_first in [true, false] {
        if tokio::signal::ctrl_c().await.is_err() {
            return std::future::pending().await;
        }
        if is_first {
            should_stop.store(true, Ordering::Relaxed);
            eprintln!("stopping; once more ends at once");
        }
    }
}

fn listed(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    items.join(", ")
}
