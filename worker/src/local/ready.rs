//! Is everything there that the steps need: weights, inputs, the device?

use std::collections::HashMap;
use std::path::PathBuf;

use framewright_crds::modelpool::Device;

use super::find::{self, Wanted};
use super::named_files::NamedFiles;
use super::plan::{Origin, Plan, PlannedInput, PlannedStep};
use super::{RunError, folder_of, listed};
use crate::args::RunArgs;
use crate::device;
use crate::engine::{Engine, Weights};

/// A step with its files, ready to be worked on.
pub(super) struct Ready {
    pub(super) step: PlannedStep,
    pub(super) weights: Weights,
    pub(super) engine: Engine,
    /// The kind of device: of GPUs, the name.
    pub(super) device: String,
    /// The files of inputs that are uploads, in the order of the inputs.
    pub(super) uploads: Vec<Option<PathBuf>>,
}

/// Finds everything before anything is worked on.
///
/// # Errors
/// What is missing, or is another file than the one that is pinned.
pub(super) fn ready(
    plan: &Plan,
    args: &RunArgs,
    named_files: &NamedFiles,
) -> Result<Vec<Ready>, RunError> {
    check_named_inputs(plan, args)?;
    let folders = args.files.iter().map(|file| folder_of(file).to_path_buf());
    let mut beside: Vec<PathBuf> = folders.collect();
    beside.dedup();
    let mut engines: HashMap<Device, (Engine, String)> = HashMap::new();
    let mut ready = Vec::new();
    for step in &plan.steps {
        let device = args.device.unwrap_or(step.device);
        let (engine, name) = match engines.get(&device) {
            Some(known) => known.clone(),
            None => {
                let opened = device::open(device).map_err(|source| RunError::Device {
                    step: step.name.clone(),
                    device,
                    source,
                })?;
                let name = match device {
                    Device::Cpu => device.to_string(),
                    Device::Cuda => device::describe(&opened).name,
                };
                let engine = Engine::start(opened).map_err(|source| RunError::Engine { source })?;
                engines.insert(device, (engine.clone(), name.clone()));
                (engine, name)
            }
        };
        let uploads = step
            .inputs
            .iter()
            .map(|input| upload(step, input, args, named_files, &beside));
        ready.push(Ready {
            weights: weights(step, args, named_files, &beside)?,
            engine,
            device: name,
            uploads: uploads.collect::<Result<_, _>>()?,
            step: step.clone(),
        });
    }
    Ok(ready)
}

fn check_named_inputs(plan: &Plan, args: &RunArgs) -> Result<(), RunError> {
    let known: Vec<(&PlannedStep, &PlannedInput)> = plan
        .steps
        .iter()
        .flat_map(|step| step.inputs.iter().map(move |input| (step, input)))
        .filter(|(_, input)| matches!(input.from, Origin::Upload(_)))
        .collect();
    let names = |inputs: &[(&PlannedStep, &PlannedInput)]| {
        let inputs = inputs.iter();
        listed(inputs.map(|(step, input)| format!("{}.{}", step.name, input.name)))
    };
    for (name, _) in &args.inputs {
        let meant = known.iter().copied();
        let meant: Vec<_> = meant
            .filter(|(step, input)| is_named(name, step, input))
            .collect();
        let name = name.clone();
        match meant.len() {
            0 => {
                let known = names(&known);
                return Err(RunError::UnknownInput { name, known });
            }
            1 => {}
            _ => {
                let known = names(&meant);
                return Err(RunError::AmbiguousInput { name, known });
            }
        }
    }
    Ok(())
}

fn is_named(name: &str, step: &PlannedStep, input: &PlannedInput) -> bool {
    name == input.name || name.split_once('.') == Some((&step.name, &input.name))
}

fn upload(
    step: &PlannedStep,
    input: &PlannedInput,
    args: &RunArgs,
    named_files: &NamedFiles,
    beside: &[PathBuf],
) -> Result<Option<PathBuf>, RunError> {
    let Origin::Upload(upload) = &input.from else {
        return Ok(None);
    };
    let what = format!("input {} of step {}", input.name, step.name);
    let wanted = Wanted {
        what: &what,
        sha256: upload.sha256(),
        bytes: upload.bytes,
    };
    let given: Vec<PathBuf> = args
        .inputs
        .iter()
        .filter(|(name, _)| is_named(name, step, input))
        .map(|(_, path)| path.clone())
        .collect();
    if let Some(path) = named_files.get(upload.sha256())
        && (given.is_empty() || given.contains(path))
    {
        return Ok(Some(path.clone()));
    }
    let found = match given.as_slice() {
        // One that is named must be the one; of several, one must.
        [path] => find::exactly(wanted, path),
        [] => find::among(wanted, beside, None, "--input NAME=PATH"),
        several => find::among(wanted, several, None, "--input NAME=PATH"),
    };
    Ok(Some(found?))
}

fn weights(
    step: &PlannedStep,
    args: &RunArgs,
    named_files: &NamedFiles,
    beside: &[PathBuf],
) -> Result<Weights, RunError> {
    let file = &step.weights;
    let what = format!("model {}: {}", step.model, file.path);
    let wanted = Wanted {
        what: &what,
        sha256: file.sha256(),
        bytes: file.bytes,
    };
    let sha256 = file.sha256().parse().map_err(|source| RunError::Digest {
        model: step.model.clone(),
        source,
    })?;
    let path = match (args.weights.as_slice(), named_files.get(file.sha256())) {
        ([path], _) if path.is_file() => find::exactly(wanted, path),
        (_, Some(path)) => Ok(path.clone()),
        (places, None) => {
            let places = [places, beside].concat();
            find::among(wanted, &places, Some(&file.path), "--weights PATH")
        }
    };
    Ok(Weights {
        name: file.path.clone(),
        path: path?,
        sha256,
        held: None,
    })
}
