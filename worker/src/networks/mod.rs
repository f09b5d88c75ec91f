//! The networks, in their checkpoints' own names: their tensors and their forward passes.
//!
//! *Layout*: `rrdb`, `compact`, `rife`: one network each.

pub(crate) mod compact;
pub(crate) mod rife;
pub(crate) mod rrdb;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;

use crate::device::compute_dtype;
pub use compact::CompactLayout;
pub use rife::{FlowScale, Interpolator, RifeLayout, SourceFrame};
pub use rrdb::{RrdbLayout, RrdbNames};

/// What a checkpoint holds, told by its tensors' shapes alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkLayout {
    /// A network that makes frames larger.
    Upscaler(Architecture),
    /// A network that makes frames between frames.
    Interpolator(RifeLayout),
}

impl NetworkLayout {
    /// What the network does, to follow its name.
    pub fn does(&self) -> &'static str {
        match self {
            NetworkLayout::Upscaler(_) => "makes frames larger",
            NetworkLayout::Interpolator(_) => "makes frames between frames",
        }
    }

    /// Makes the network from tensors that have the shapes this was recognised from.
    pub fn load(&self, tensors: VarBuilder<'_>) -> Result<LoadedNetwork, NetworkError> {
        match self {
            NetworkLayout::Upscaler(architecture) => {
                architecture.load(tensors).map(LoadedNetwork::Upscaler)
            }
            NetworkLayout::Interpolator(layout) => {
                Interpolator::load(layout, tensors).map(LoadedNetwork::Interpolator)
            }
        }
    }
}

impl std::fmt::Display for NetworkLayout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NetworkLayout::Upscaler(architecture) => architecture.fmt(f),
            NetworkLayout::Interpolator(layout) => layout.fmt(f),
        }
    }
}

/// A network on a device.
pub enum LoadedNetwork {
    /// One that makes frames larger.
    Upscaler(Upscaler),
    /// One that makes frames between frames.
    Interpolator(Interpolator),
}

impl LoadedNetwork {
    /// Which network it is.
    #[must_use]
    pub fn layout(&self) -> NetworkLayout {
        match self {
            LoadedNetwork::Upscaler(upscaler) => {
                NetworkLayout::Upscaler(upscaler.architecture().clone())
            }
            LoadedNetwork::Interpolator(interpolator) => {
                NetworkLayout::Interpolator(interpolator.layout().clone())
            }
        }
    }
}

/// A network that makes frames larger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Architecture {
    /// RRDBNet: ESRGAN, BSRGAN, Real-ESRGAN x4plus, x2plus, anime 6B.
    Rrdb(RrdbLayout),
    /// SRVGGNetCompact: realesr-animevideo, realesr-general.
    Compact(CompactLayout),
}

#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("stopped before the frames were done")]
    Stopped,
    #[error("cannot load the {architecture} network")]
    Load {
        architecture: String,
        source: Box<candle_core::Error>,
    },
    #[error(
        "frames of shape {found:?} cannot be computed: [frames, 3, height, width] with no zero is needed"
    )]
    Input { found: Vec<usize> },
    #[error("the {architecture} network failed on frames of shape {frames:?}")]
    Forward {
        architecture: String,
        frames: Vec<usize>,
        source: Box<candle_core::Error>,
    },
}

impl Architecture {
    /// How many times larger the output is, in each direction.
    pub fn scale(&self) -> usize {
        match self {
            Architecture::Rrdb(layout) => layout.scale(),
            Architecture::Compact(layout) => layout.scale,
        }
    }

    /// How far an input pixel reaches, in input pixels: an output pixel depends on no input pixel
    /// that is farther from its place, in either direction.
    pub fn receptive_field(&self) -> usize {
        match self {
            Architecture::Rrdb(layout) => layout.receptive_field(),
            Architecture::Compact(layout) => layout.receptive_field(),
        }
    }

    /// What a tile should see around the part that is kept of it, in input pixels.
    ///
    /// For SRVGGNetCompact it is all that the network sees, so that tiles show no seam at all. RRDBNet
    /// sees some hundred pixels, of which the farther ones count for nothing: with random weights, 32
    /// are as good as 48, also with 23 blocks, and leave differences of 2e-6 of the output's range, which is
    /// rounding.
    pub fn overlap(&self) -> usize {
        match self {
            Architecture::Rrdb(layout) => layout.receptive_field().min(32 * layout.unshuffle),
            Architecture::Compact(layout) => layout.receptive_field().min(64),
        }
    }

    /// Frames are computed as if both sides were multiples of this, in input pixels.
    pub fn multiple(&self) -> usize {
        match self {
            Architecture::Rrdb(layout) => layout.unshuffle,
            Architecture::Compact(_) => 1,
        }
    }

    /// Memory that computing on a CPU takes for each input pixel, in bytes, weights apart.
    pub fn bytes_per_pixel(&self) -> usize {
        self.floats_per_pixel() * size_of::<f32>()
    }

    fn floats_per_pixel(&self) -> usize {
        match self {
            Architecture::Rrdb(layout) => layout.floats_per_pixel(),
            Architecture::Compact(layout) => layout.floats_per_pixel(),
        }
    }

    /// Values for each input pixel that the largest convolution takes where it is done by candle: on a GPU.
    fn unfolded_per_pixel(&self) -> usize {
        match self {
            Architecture::Rrdb(layout) => layout.unfolded_per_pixel(),
            Architecture::Compact(layout) => layout.unfolded_per_pixel(),
        }
    }

    /// Makes the network from tensors that have the shapes this was detected from.
    pub fn load(&self, tensors: VarBuilder<'_>) -> Result<Upscaler, NetworkError> {
        let device = tensors.device().clone();
        let network = match self {
            Architecture::Rrdb(layout) => {
                rrdb::Rrdb::load(layout, &tensors).map(|network| Network::Rrdb(Box::new(network)))
            }
            Architecture::Compact(layout) => {
                compact::Compact::load(layout, &tensors).map(Network::Compact)
            }
        };
        let network = network.map_err(|source| NetworkError::Load {
            architecture: self.to_string(),
            source: Box::new(source),
        })?;
        Ok(Upscaler {
            architecture: self.clone(),
            network,
            dtype: tensors.dtype(),
            device,
        })
    }
}

impl std::fmt::Display for Architecture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Architecture::Rrdb(layout) => layout.fmt(f),
            Architecture::Compact(layout) => layout.fmt(f),
        }
    }
}

/// A network on a device, ready to run.
pub struct Upscaler {
    architecture: Architecture,
    network: Network,
    dtype: DType,
    device: Device,
}

/// candle numbers a tensor's elements in 32 bits on a GPU.
fn pixels_on_gpu(memory_bytes: u64, floats: u64, unfolded: u64, float_bytes: u64) -> u64 {
    let fit = memory_bytes / ((floats + unfolded) * float_bytes);
    fit.min(u64::from(u32::MAX >> 1) / unfolded)
}

enum Network {
    Rrdb(Box<rrdb::Rrdb>),
    Compact(compact::Compact),
}

impl Upscaler {
    /// Makes the network from tensors in memory, by their checkpoint's names.
    pub fn from_tensors(
        architecture: &Architecture,
        tensors: std::collections::HashMap<String, Tensor>,
        device: &Device,
    ) -> Result<Upscaler, NetworkError> {
        Self::from_tensors_as(compute_dtype(device), architecture, tensors, device)
    }

    /// The same, computing in another type than the device's own.
    pub fn from_tensors_as(
        dtype: DType,
        architecture: &Architecture,
        tensors: std::collections::HashMap<String, Tensor>,
        device: &Device,
    ) -> Result<Upscaler, NetworkError> {
        architecture.load(VarBuilder::from_tensors(tensors, dtype, device))
    }

    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    /// How many times larger the output is, in each direction.
    pub fn scale(&self) -> usize {
        self.architecture.scale()
    }

    /// How many input pixels can be computed at once within this memory, in bytes, weights apart.
    pub fn pixels_within(&self, memory_bytes: u64) -> u64 {
        match &self.device {
            Device::Cpu | Device::Metal(_) => {
                memory_bytes / self.architecture.bytes_per_pixel() as u64
            }
            Device::Cuda(_) => pixels_on_gpu(
                memory_bytes,
                self.architecture.floats_per_pixel() as u64,
                self.architecture.unfolded_per_pixel() as u64,
                self.dtype.size_in_bytes() as u64,
            ),
        }
    }

    /// Upscales RGB frames, `[frames, 3, height, width]` with values in 0..=1, to
    /// `[frames, 3, height * scale, width * scale]` in float32, not clamped.
    ///
    /// The whole frames are computed at once: see [`crate::frame`] for frames of any size. A frame's
    /// values do not depend on the other frames of its batch.
    pub fn forward(&self, frames: &Tensor) -> Result<Tensor, NetworkError> {
        self.forward_unless(frames, &|| false)
    }

    /// The same; ends as [`NetworkError::Stopped`] when `should_stop` says so, which is asked several
    /// times: a large frame can take minutes.
    pub fn forward_unless(
        &self,
        frames: &Tensor,
        should_stop: &dyn Fn() -> bool,
    ) -> Result<Tensor, NetworkError> {
        let shape = frames.dims();
        if shape.len() != 4 || shape[1] != 3 || shape.contains(&0) {
            return Err(NetworkError::Input {
                found: shape.to_vec(),
            });
        }
        let upscaled = self.run(frames, should_stop);
        let upscaled = upscaled.map_err(|source| NetworkError::Forward {
            architecture: self.architecture.to_string(),
            frames: shape.to_vec(),
            source: Box::new(source),
        })?;
        upscaled.ok_or(NetworkError::Stopped)
    }

    fn run(
        &self,
        frames: &Tensor,
        should_stop: &dyn Fn() -> bool,
    ) -> candle_core::Result<Option<Tensor>> {
        let frames = frames
            .to_device(&self.device)?
            .to_dtype(self.dtype)?
            .contiguous()?;
        let upscaled = match &self.network {
            Network::Rrdb(network) => network.forward(&frames, should_stop)?,
            Network::Compact(network) => network.forward(&frames, should_stop)?,
        };
        upscaled
            .map(|upscaled| upscaled.to_dtype(DType::F32))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_gets_tiles_whose_convolutions_fit_its_memory_and_its_numbers() {
        // 64 features, x4: 576 + 256 values unfolded for each of the 16 output pixels.
        let (floats, unfolded) = (2900, 16 * 832);
        assert_eq!(pixels_on_gpu(1 << 30, floats, unfolded, 2), 33_115);
        let most = pixels_on_gpu(u64::MAX, floats, unfolded, 2);
        assert!(most * unfolded < 1 << 31 && (most + 1) * unfolded >= (1 << 31) - 1);
    }
}
