//! `run`: does one job on this machine, without a cluster: the same engine and pipelines, files instead of a store.
//!
//! *Layout*: `documents`, `admission` and `plan` say what there is to do, `find` and `ready` with what, `table` what was done.

mod admission;
mod documents;
mod find;
mod plan;
mod ready;
mod table;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use framewright_crds::aijob::Progress;
use framewright_crds::modelpool::Device;
use tempfile::TempDir;

use crate::args::RunArgs;
use crate::device::DeviceError;
use crate::engine::EngineError;
use crate::media::{MediaError, Programs};
use crate::memory;
use crate::pipelines::{Input, Made, Watch, Workplace, upscale::upscale};
use crate::weights::verify::NoSha256;
pub use find::FindError;
pub use plan::PlanError;
use plan::{Origin, Plan};
use ready::{Ready, ready};
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
    #[error("model {model}: files[].sha256")]
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
        source: EngineError,
    },
    #[error("stopped by a signal")]
    Stopped,
    #[error("cannot make a folder for intermediate files")]
    Scratch {
        #[source]
        source: io::Error,
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
    let plan = read(&args.files)?;
    let programs = args.media.programs();
    programs
        .check(PROGRAMS_DEADLINE)
        .map_err(|source| RunError::Programs { source })?;
    let steps = ready(&plan, &args)?;
    fs::create_dir_all(&args.output).map_err(|source| RunError::Write {
        path: args.output.clone(),
        source,
    })?;
    let scratch = TempDir::new().map_err(|source| RunError::Scratch { source })?;
    let should_stop = Arc::new(AtomicBool::new(false));
    let (made, rows) = tokio::select! {
        done = work_through(steps, scratch.path(), &programs, &should_stop) => done?,
        () = stopped_twice(&should_stop) => return Err(RunError::Stopped),
    };
    println!("\n{}", table(&rows));
    for (name, step) in &plan.outputs {
        let path = publish(&args.output, &plan.job, name, &made[*step].path)?;
        println!("{}", path.display());
    }
    Ok(())
}

async fn work_through(
    steps: Vec<Ready>,
    scratch: &Path,
    programs: &Programs,
    should_stop: &Arc<AtomicBool>,
) -> Result<(Vec<Made>, Vec<Row>), RunError> {
    let (mut made, mut rows): (Vec<Made>, Vec<Row>) = (Vec::new(), Vec::new());
    for ready in steps {
        let folder = scratch.join(&ready.step.name);
        fs::create_dir_all(&folder).map_err(|source| RunError::Scratch { source })?;
        let workplace = Workplace {
            folder,
            max_bytes: u64::MAX,
            tile_bytes: ready.engine.tile_bytes(),
            memory: memory::limit(),
            programs: programs.clone(),
        };
        let (step, model) = (ready.step.name.clone(), ready.step.model.clone());
        let start = Instant::now();
        let result = work(ready, &made, workplace, Arc::clone(should_stop)).await;
        if should_stop.load(Ordering::Relaxed) {
            return Err(RunError::Stopped);
        }
        let result = result.map_err(|source| RunError::Step {
            step: step.clone(),
            source,
        })?;
        rows.push(Row {
            step,
            model,
            size: (result.width, result.height),
            frames: result.frames,
            units: result.units,
            time: start.elapsed(),
        });
        made.push(result);
    }
    Ok((made, rows))
}

fn read(files: &[PathBuf]) -> Result<Plan, RunError> {
    let texts = files.iter().map(|path| {
        fs::read_to_string(path).map_err(|source| RunError::Read {
            path: path.clone(),
            source,
        })
    });
    let texts: Vec<String> = texts.collect::<Result<_, _>>()?;
    plan::plan(&texts).map_err(|source| RunError::Plan {
        files: listed(files.iter().map(|path| path.display().to_string())),
        source,
    })
}

async fn work(
    ready: Ready,
    made: &[Made],
    workplace: Workplace,
    should_stop: Arc<AtomicBool>,
) -> Result<Made, EngineError> {
    let Ready {
        step,
        weights,
        engine,
        uploads,
    } = ready;
    let inputs: Vec<Input> = step
        .inputs
        .iter()
        .zip(uploads)
        .filter_map(|(input, upload)| {
            let path = match &input.from {
                Origin::Step(position) => made.get(*position)?.path.clone(),
                Origin::Upload(_) => upload?,
            };
            let name = input.name.clone();
            Some(Input { name, path })
        })
        .collect();
    engine
        .compute(move |bench| {
            let network = bench.upscaler(&weights)?;
            println!(
                "{}: upscales with {} ({})",
                step.name,
                step.model,
                network.architecture()
            );
            let mut last = Instant::now();
            let mut progress = |further: Progress| {
                if last.elapsed() >= PROGRESS_INTERVAL {
                    last = Instant::now();
                    println!("{}: {further}", step.name);
                }
            };
            let mut watch = Watch {
                should_stop: &should_stop,
                progress: &mut progress,
            };
            upscale(&step.upscale, &inputs, &network, &workplace, &mut watch)
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

/// Puts a result into the output folder, whole or not at all.
fn publish(folder: &Path, job: &str, name: &str, made: &Path) -> Result<PathBuf, RunError> {
    let extension = made.extension().unwrap_or_default().to_string_lossy();
    let path = folder.join(format!("{job}-{name}.{extension}"));
    let partial = folder.join(format!(".{job}-{name}.{extension}.partial"));
    fs::copy(made, &partial)
        .and_then(|_| fs::rename(&partial, &path))
        .map_err(|source| RunError::Write {
            path: path.clone(),
            source,
        })?;
    Ok(path)
}

fn listed(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    items.join(", ")
}
