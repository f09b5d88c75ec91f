//! What the worker can make of media, one file a pipeline. Synchronous: it runs on the engine's thread.

pub mod upscale;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use framewright_crds::aijob::{Cause, Progress};

use crate::frame::FrameError;
use crate::media::{Class, MediaError, Programs};
use crate::memory::Limit;
use crate::sentence::sentence;
use crate::weights::WeightsError;

/// A file to work on.
#[derive(Clone, Debug)]
pub struct Input {
    /// What the pipeline calls it.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
}

/// Where a pipeline works.
#[derive(Clone, Debug)]
pub struct Workplace {
    /// A folder of the task's own.
    pub folder: PathBuf,
    /// The most that the output may take, in bytes.
    pub max_bytes: u64,
    /// Memory that computing a tile may take, weights apart, in bytes.
    pub tile_bytes: u64,
    /// Memory that the worker and its ffmpegs may use in all, where that is known.
    pub memory: Option<Limit>,
    /// ffmpeg and ffprobe.
    pub programs: Programs,
}

/// Whoever waits for a pipeline.
pub struct Watch<'a> {
    /// Set when the result is not wanted any more; looked at some times for each tile.
    pub should_stop: &'a AtomicBool,
    /// Told how far the pipeline is, some times for each tile.
    pub progress: &'a mut (dyn FnMut(Progress) + Send),
}

/// What a pipeline made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The file.
    pub path: PathBuf,
    /// Such as video/mp4.
    pub media_type: &'static str,
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Frames in it; 1 for an image.
    pub frames: u64,
    /// The work done, in the pipeline's units.
    pub units: i64,
}

/// Why a pipeline made nothing.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    #[error("the task was stopped")]
    Stopped,
    #[error("the step has no input; upscale takes one, named video or image")]
    NoInput,
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
        limited(*limit, *sufficient)
    )]
    Memory {
        what: &'static str,
        width: u32,
        height: u32,
        scale: u64,
        needed: u64,
        limit: Limit,
        sufficient: u64,
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
    /// The kind of failure that the operator is told.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            PipelineError::NoInput
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
            } => Cause::OutOfMemory,
            PipelineError::Input { source, .. } | PipelineError::Output { source } => {
                match source.class() {
                    Class::InvalidInput => Cause::InvalidInput,
                    Class::ScratchFull => Cause::ScratchFull,
                    Class::OutOfMemory => Cause::OutOfMemory,
                    Class::Misconfigured | Class::Internal => Cause::Internal,
                }
            }
            PipelineError::Weights(_) if is_out_of_memory(&sentence(self)) => Cause::OutOfMemory,
            PipelineError::Weights(_) => Cause::WeightsFailed,
            PipelineError::Network { .. } if is_out_of_memory(&sentence(self)) => {
                Cause::OutOfMemory
            }
            PipelineError::Network { source } => match source.as_ref() {
                FrameError::NotANumber => Cause::WeightsFailed,
                FrameError::TooLarge { .. } => Cause::InvalidInput,
                FrameError::Tile(_) => Cause::OutOfMemory,
                FrameError::Model(_) | FrameError::Pixels { .. } => Cause::DeviceError,
                FrameError::Size { .. } | FrameError::Stopped => Cause::Internal,
            },
            // Nobody waits for a stopped task.
            PipelineError::Stopped => Cause::Internal,
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
