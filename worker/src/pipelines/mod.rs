//! What the worker can make of media: the list of its pipelines, and one folder for each. Synchronous.
//!
//! A pipeline runs in two parts: `prepare` reads the inputs' headers and needs no device, so bad input and the amount of work are known
//! before the device is taken; what then computes runs on the engine's thread.

pub mod interpolate;
mod map_video;
mod position;
pub mod upscale;
mod video;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use framewright_crds::aijob::{Cause, Fact, OutputRole, Progress, Usage};
use framewright_crds::pipelines::{self, MediaFacts, MediaKind, Pipeline, PipelineSpec};

use crate::error_chain::error_chain;
use crate::frame::FrameError;
use crate::media::{Class, LeftOut, MediaError, Programs, left_out_words};
use crate::memory::Limit;
use crate::models::WeightsError;
use crate::networks::{LoadedNetwork, NetworkLayout};
pub use map_video::checkpoint::Checkpoint;

/// The least that reading a file may take.
const LEAST_READING: Duration = Duration::from_secs(120);
/// Bytes that even a slow disk reads in a second.
const SLOW_DISK: u64 = 10 << 20;

/// The pipelines that this worker can do.
pub const PIPELINES: &[&PipelineSpec] = &[&pipelines::upscale::SPEC, &pipelines::interpolate::SPEC];

/// The names of [`PIPELINES`].
#[must_use]
pub fn names() -> Vec<String> {
    let names = PIPELINES.iter().map(|spec| spec.name.to_owned());
    names.collect()
}

/// A file to work on.
#[derive(Clone, Debug)]
pub struct Input {
    /// What the pipeline calls it.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
}

/// How much work a step is, by its parameters and the headers of its inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    /// The pipeline, with every parameter that the work depends on.
    pipeline: Pipeline,
    input: MediaFacts,
}

impl Work {
    /// The work of the whole step, in the pipeline's unit.
    #[must_use]
    pub fn units(&self) -> u64 {
        self.units_of(self.input.frames)
    }

    /// The work of the first `frames` frames.
    #[must_use]
    pub fn units_of(&self, frames: u64) -> u64 {
        let input = MediaFacts {
            frames,
            ..self.input
        };
        // None is more than a number can hold, since all parameters are there.
        (self.pipeline.spec().units)(&self.pipeline, &[input]).unwrap_or(u64::MAX)
    }

    /// Whether so much work may be done.
    ///
    /// # Errors
    /// It is more than the limit.
    pub fn check(&self, units: u64, max: Option<u64>) -> Result<(), PipelineError> {
        let unit = self.pipeline.spec().unit;
        match max {
            Some(max) if units > max => Err(PipelineError::BeyondLimit { units, unit, max }),
            Some(_) | None => Ok(()),
        }
    }
}

/// A step whose inputs were read as far as their headers: what is left is to compute.
#[derive(Clone, Debug)]
pub enum Prepared {
    /// An upscale.
    Upscale(upscale::Prepared),
    /// An interpolation.
    Interpolate(interpolate::Prepared),
}

/// Reads the headers of the inputs, for a model with this network.
///
/// # Errors
/// An input, parameters or a network that nobody can work with.
pub fn prepare(
    pipeline: &Pipeline,
    inputs: &[Input],
    network: &NetworkLayout,
    programs: &Programs,
) -> Result<Prepared, PipelineError> {
    match (pipeline, network) {
        (Pipeline::Upscale(parameters), NetworkLayout::Upscaler(architecture)) => {
            upscale::prepare(parameters, inputs, architecture.scale(), programs)
                .map(Prepared::Upscale)
        }
        (Pipeline::Interpolate(parameters), NetworkLayout::Interpolator(_)) => {
            interpolate::prepare(parameters, inputs, programs).map(Prepared::Interpolate)
        }
        (Pipeline::Upscale(_) | Pipeline::Interpolate(_), network) => {
            Err(other_network(pipeline.spec().name, network))
        }
        (Pipeline::Noop(_), _) => Err(PipelineError::Unavailable {
            pipeline: pipeline.spec().name,
        }),
    }
}

fn other_network(pipeline: &'static str, network: &NetworkLayout) -> PipelineError {
    PipelineError::OtherNetwork {
        pipeline,
        network: network.to_string(),
        does: network.does(),
    }
}

impl Prepared {
    /// How much work it is.
    #[must_use]
    pub fn work(&self) -> &Work {
        match self {
            Prepared::Upscale(prepared) => prepared.work(),
            Prepared::Interpolate(prepared) => prepared.work(),
        }
    }

    /// Computes it, with this network.
    ///
    /// # Errors
    /// [`PipelineError::cause`] says whose it is: input that nobody can work on, a full disk, or the device.
    pub fn compute(
        &self,
        network: &LoadedNetwork,
        context: &TaskContext,
        sink: &mut ProgressSink<'_>,
    ) -> Result<Outputs, PipelineError> {
        match (self, network) {
            (Prepared::Upscale(prepared), LoadedNetwork::Upscaler(network)) => {
                upscale::upscale(prepared, network, context, sink)
            }
            (Prepared::Interpolate(prepared), LoadedNetwork::Interpolator(network)) => {
                interpolate::interpolate(prepared, network, context, sink)
            }
            (Prepared::Upscale(_) | Prepared::Interpolate(_), network) => Err(other_network(
                self.work().pipeline.spec().name,
                &network.layout(),
            )),
        }
    }
}

/// An amount of work, as messages and statuses have it.
#[must_use]
pub fn usage(pipeline: &Pipeline, units: u64) -> Usage {
    Usage {
        unit: pipeline.spec().unit.to_owned(),
        amount: i64::try_from(units).unwrap_or(i64::MAX),
    }
}

/// Where a pipeline works, and with how much.
#[derive(Clone, Debug)]
pub struct TaskContext {
    /// A folder of the task's own.
    pub folder: PathBuf,
    /// The most that the output may take, in bytes.
    pub max_bytes: u64,
    /// The most work that may be done, in the pipeline's unit, if there is a limit.
    pub max_units: Option<u64>,
    /// Memory that computing a tile may take, weights apart, in bytes.
    pub tile_bytes: u64,
    /// Memory that the worker and its ffmpegs may use in all, where that is known.
    pub memory: Option<Limit>,
    /// ffmpeg and ffprobe.
    pub programs: Programs,
    /// Where finished parts are kept, so that another attempt goes on from them.
    pub checkpoint: Option<Checkpoint>,
}

/// What a running pipeline reports, and how it is stopped.
pub struct ProgressSink<'a> {
    /// Set when the result is not wanted any more; read several times for each tile.
    pub should_stop: &'a AtomicBool,
    /// Takes how far the pipeline is, several times for each tile.
    pub progress: &'a mut (dyn FnMut(Progress) + Send),
    /// The work done so far, in the pipeline's unit. It counts after a failure, too.
    pub units: &'a AtomicU64,
}

/// What a pipeline made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outputs {
    /// The files.
    pub files: Vec<Output>,
    /// The work done, in the pipeline's unit.
    pub units: u64,
}

impl Outputs {
    /// Frames in all files; 1 for an image.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.files.iter().map(|file| file.media.frames).sum()
    }
}

/// A file that a pipeline made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// What the pipeline calls it.
    pub name: String,
    /// What it is for.
    pub role: OutputRole,
    /// Where it is.
    pub path: PathBuf,
    /// Such as video/mp4.
    pub media_type: &'static str,
    /// What it shows.
    pub media: MediaFacts,
    /// What the input has and it has not.
    pub left_out: Vec<LeftOut>,
}

impl Output {
    /// What there is to know about it.
    #[must_use]
    pub fn facts(&self) -> Vec<Fact> {
        let MediaFacts {
            kind,
            width,
            height,
            frames,
            rate: _,
        } = self.media;
        let fact = |name: &str, value: String| Fact {
            name: name.to_owned(),
            value,
        };
        let mut facts = vec![
            fact("width", width.to_string()),
            fact("height", height.to_string()),
        ];
        match kind {
            MediaKind::Image => {}
            MediaKind::Video => facts.push(fact("frames", frames.to_string())),
        }
        facts.extend(left_out_words(&self.left_out).map(|words| fact("leftOut", words)));
        facts
    }
}

/// Why a pipeline made nothing.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    #[error("the task was stopped")]
    Stopped,
    #[error("this worker cannot do the pipeline {pipeline}, only {}", names().join(", "))]
    Unavailable { pipeline: &'static str },
    #[error(
        "the step takes {units} {unit}, and this task may do at most {max}; send a smaller input, or ask for less of it"
    )]
    BeyondLimit {
        units: u64,
        unit: &'static str,
        max: u64,
    },
    #[error("the step has no input; {pipeline} takes one, named {names}")]
    NoInput {
        pipeline: &'static str,
        names: &'static str,
    },
    #[error(
        "{pipeline} cannot use the model, which is {network} and {does}; name a model for {pipeline} in the step's model"
    )]
    OtherNetwork {
        pipeline: &'static str,
        network: String,
        does: &'static str,
    },
    #[error("{0}")]
    Parameters(String),
    #[error(
        "the video has a single frame, and a frame between frames needs two; send a longer video"
    )]
    SingleFrame,
    #[error(
        "interpolating frames of {width} x {height} pixels takes about {needed} MiB of memory, and {}; {}{scale_that_fits}",
        found(*limit),
        limited(*limit, *needed)
    )]
    InterpolationMemory {
        width: u32,
        height: u32,
        needed: u64,
        limit: Limit,
        /// Empty, or to follow the rest.
        scale_that_fits: &'static str,
    },
    #[error("input {name} is {found}; name it {other} in the step's inputs, or send {wanted}")]
    OtherKind {
        name: String,
        found: &'static str,
        other: &'static str,
        wanted: &'static str,
    },
    #[error(
        "upscale.scale is {scale}, but the model makes each side {factor} times larger; leave scale out, or ask for 1 to {factor}"
    )]
    ScaleTooLarge { scale: i32, factor: usize },
    #[error(
        "the {what} of {width} x {height} pixels takes about {needed} MiB of memory at scale {scale}, and {}; {scale_that_fits}{}{what_fits}",
        found(*limit),
        limited(*limit, *minimum)
    )]
    Memory {
        what: &'static str,
        width: u32,
        height: u32,
        scale: u64,
        needed: u64,
        limit: Limit,
        minimum: u64,
        /// Empty, or so that the rest can follow.
        scale_that_fits: String,
        what_fits: String,
    },
    #[error("input {name}")]
    Input {
        name: String,
        #[source]
        source: MediaError,
    },
    #[error("the result")]
    Output {
        #[source]
        source: MediaError,
    },
    #[error(transparent)]
    Weights(Box<WeightsError>),
    #[error("the network failed")]
    Network {
        #[source]
        source: Box<FrameError>,
    },
}

impl PipelineError {
    /// The kind of failure, as the operator knows it.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            PipelineError::NoInput { .. }
            | PipelineError::OtherNetwork { .. }
            | PipelineError::Parameters(_)
            | PipelineError::SingleFrame
            | PipelineError::InterpolationMemory {
                limit: Limit::Set(_),
                ..
            }
            | PipelineError::BeyondLimit { .. }
            | PipelineError::OtherKind { .. }
            | PipelineError::Memory {
                limit: Limit::Set(_),
                ..
            }
            | PipelineError::ScaleTooLarge { .. } => Cause::InvalidInput,
            // Another machine may have more, or the same one later.
            PipelineError::Memory {
                limit: Limit::Free(_),
                ..
            }
            | PipelineError::InterpolationMemory {
                limit: Limit::Free(_),
                ..
            } => Cause::OutOfMemory,
            PipelineError::Input { source, .. } | PipelineError::Output { source } => {
                match source.class() {
                    Class::InvalidInput => Cause::InvalidInput,
                    Class::ScratchFull => Cause::ScratchFull,
                    Class::OutOfMemory => Cause::OutOfMemory,
                    Class::Misconfigured | Class::Internal => Cause::Internal,
                }
            }
            PipelineError::Weights(_) if is_out_of_memory(&error_chain(self)) => Cause::OutOfMemory,
            PipelineError::Weights(_) => Cause::WeightsFailed,
            PipelineError::Network { .. } if is_out_of_memory(&error_chain(self)) => {
                Cause::OutOfMemory
            }
            PipelineError::Network { source } => match source.as_ref() {
                FrameError::NotANumber => Cause::WeightsFailed,
                FrameError::TooLarge { .. } => Cause::InvalidInput,
                FrameError::Tile(_) => Cause::OutOfMemory,
                FrameError::Model(_) | FrameError::Pixels { .. } => Cause::DeviceError,
                FrameError::Size { .. } | FrameError::Stopped => Cause::Internal,
            },
            // The operator sends a task only to a worker that can do it; nobody waits for a stopped one.
            PipelineError::Unavailable { .. } | PipelineError::Stopped => Cause::Internal,
        }
    }
}

fn found(limit: Limit) -> String {
    let mebibytes = limit.bytes() >> 20;
    match limit {
        Limit::Set(_) => format!("this worker may use {mebibytes} MiB"),
        Limit::Free(_) => {
            format!("this worker has no memory limit, and its machine {mebibytes} MiB to spare")
        }
    }
}

fn limited(limit: Limit, mebibytes: u64) -> String {
    match limit {
        Limit::Set(_) => format!("raise the pool's memory limit to {mebibytes} MiB"),
        Limit::Free(_) => format!("give the pool a memory limit of {mebibytes} MiB"),
    }
}

/// The CUDA driver tells it in words only, by the time that it is an error here; cuBLAS has words of its own.
pub(crate) fn is_out_of_memory(words: &str) -> bool {
    let words = words.to_lowercase().replace('_', " ");
    words.contains("out of memory") || words.contains("cublas status alloc failed")
}

/// A file's size in bytes; 0 for one that is not there.
fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |found| found.len())
}

/// How long a file may take to be read.
pub(crate) fn reading_deadline(path: &Path) -> Duration {
    LEAST_READING + Duration::from_secs(size(path) / SLOW_DISK)
}

#[cfg(test)]
mod tests {
    use framewright_crds::pipelines::upscale::Upscale;

    use super::*;

    #[test]
    fn the_work_is_counted_by_the_pipelines_own_function() {
        let input = MediaFacts {
            kind: MediaKind::Video,
            width: 64,
            height: 36,
            frames: 10,
            rate: None,
        };
        let pipeline = Pipeline::Upscale(Upscale {
            scale: Some(2),
            frames: None,
        });
        let units = (pipeline.spec().units)(&pipeline, &[input]);
        let work = Work { pipeline, input };
        assert_eq!(Some(work.units()), units);
        assert_eq!(work.units_of(3), 128 * 72 * 3);
        let usage = usage(&work.pipeline, 7);
        assert_eq!((usage.unit.as_str(), usage.amount), ("pixels", 7));
    }

    #[test]
    fn the_list_is_a_part_of_the_table() {
        for spec in PIPELINES {
            assert!(pipelines::find(spec.name).is_some(), "{}", spec.name);
        }
        assert_eq!(names(), ["upscale", "interpolate"]);
    }
}
