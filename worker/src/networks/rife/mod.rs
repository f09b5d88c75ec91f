//! RIFE 4.x: frames between frames. Blocks from coarse to fine each correct a flow from the new frame to both sources, and a mask that
//! says which of them counts more (Huang et al., Real-Time Intermediate Flow Estimation, 2022, and what came after it).
//!
//! *Layout*: `layout` tells the versions apart; `block` is one scale; `encoder` what is computed once for each source frame; `layers`
//! what both are made of; `planes` resizes planes and follows flows.
//!
//! Convolutions compute in the device's type, flow, mask and pictures in float32.

mod block;
mod encoder;
mod layers;
mod layout;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use candle_nn::ops::sigmoid;

use super::NetworkError;
use crate::device::compute_dtype;
use crate::nn::planes::{resized, warped};
use block::{Block, Made};
use encoder::Encoder;
pub(crate) use layout::IGNORED;
pub use layout::RifeLayout;

/// 4.0 and 4.1 begin again where a correction is larger than this, in pixels.
const LARGE_MOTION: f32 = 32.0;

/// The size at which motion is looked for, against that of the frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlowScale {
    /// For the largest frames.
    Quarter,
    /// For large frames: 4K.
    Half,
    /// For frames as the network was trained with.
    Full,
    /// For small frames with small things that move.
    Double,
}

impl FlowScale {
    /// By what a block's own scale is multiplied.
    fn times(self) -> f64 {
        match self {
            FlowScale::Quarter => 4.0,
            FlowScale::Half => 2.0,
            FlowScale::Full => 1.0,
            FlowScale::Double => 0.5,
        }
    }

    /// What the sides of a frame are a multiple of, when `coarsest` is the first block's scale.
    fn multiple(self, coarsest: u32) -> usize {
        let times = match self {
            FlowScale::Quarter => 4,
            FlowScale::Half => 2,
            FlowScale::Full | FlowScale::Double => 1,
        };
        4 * times * coarsest as usize
    }
}

/// A RIFE on a device, ready to run.
pub struct Interpolator {
    layout: RifeLayout,
    blocks: Vec<Block>,
    encoder: Option<Encoder>,
    dtype: DType,
    device: Device,
}

/// A frame as the network sees it, with all that is computed of it alone.
pub struct SourceFrame {
    /// `[1, 3, height, width]`, filled up at the right and the bottom.
    frame: Tensor,
    encoded: Option<Tensor>,
    height: usize,
    width: usize,
    scale: FlowScale,
}

/// What the blocks have found so far, in the frame's size.
struct Found {
    /// Four planes.
    flow: Tensor,
    mask: Tensor,
    carried: Option<Tensor>,
}

impl Interpolator {
    /// Makes the network from tensors in memory, by their checkpoint's names.
    pub fn from_tensors(
        layout: &RifeLayout,
        tensors: std::collections::HashMap<String, Tensor>,
        device: &Device,
    ) -> std::result::Result<Interpolator, NetworkError> {
        Self::from_tensors_as(compute_dtype(device), layout, tensors, device)
    }

    /// The same, computing in another type than the device's own.
    pub fn from_tensors_as(
        dtype: DType,
        layout: &RifeLayout,
        tensors: std::collections::HashMap<String, Tensor>,
        device: &Device,
    ) -> std::result::Result<Interpolator, NetworkError> {
        Self::load(layout, VarBuilder::from_tensors(tensors, dtype, device))
    }

    pub(super) fn load(
        layout: &RifeLayout,
        tensors: VarBuilder<'_>,
    ) -> std::result::Result<Interpolator, NetworkError> {
        let load = || -> Result<Interpolator> {
            let blocks = 0..layout.channels.len();
            let encoder = layout.encoder.as_ref();
            Ok(Interpolator {
                layout: layout.clone(),
                blocks: blocks
                    .map(|block| Block::load(layout, block, &tensors))
                    .collect::<Result<_>>()?,
                encoder: encoder
                    .map(|encoder| Encoder::load(encoder, layout.prefix, &tensors))
                    .transpose()?,
                dtype: tensors.dtype(),
                device: tensors.device().clone(),
            })
        };
        load().map_err(|source| NetworkError::Load {
            architecture: layout.to_string(),
            source: Box::new(source),
        })
    }

    /// Which version it is.
    #[must_use]
    pub fn layout(&self) -> &RifeLayout {
        &self.layout
    }

    /// Where it lies.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// How often a frame can be stopped, at least.
    #[must_use]
    pub fn parts(&self) -> u64 {
        self.blocks.iter().map(Block::parts).sum::<usize>() as u64
    }

    /// What computing takes of the process's own memory for frames of this size. On a GPU that is a frame before and after, since all
    /// else lies on the device.
    #[must_use]
    pub fn host_bytes(&self, width: u64, height: u64, scale: FlowScale) -> u64 {
        if self.device.is_cpu() {
            self.frame_bytes(width, height, scale)
        } else {
            2 * 3 * width * height
        }
    }

    /// The most memory that computing takes for frames of this size, in bytes, weights apart: on the device that the network lies on.
    #[must_use]
    pub fn frame_bytes(&self, width: u64, height: u64, scale: FlowScale) -> u64 {
        let multiple = self.multiple(scale) as u64;
        let pixels = width.next_multiple_of(multiple) * height.next_multiple_of(multiple);
        // What the last block sees, which sees the most.
        let seen = match scale {
            FlowScale::Double => 4 * pixels,
            FlowScale::Full => pixels,
            FlowScale::Half => pixels / 4,
            FlowScale::Quarter => pixels / 16,
        };
        let layout = &self.layout;
        let last = layout.channels.len() - 1;
        let inputs = layout.inputs(last) as u64;
        let sources = 2 * (3 + layout.encoded() as u64);
        let state = 2 * (5 + layout.carried() as u64);
        // What a block sees, in one piece beside its pieces or folded; what its layers make; what it puts out, shuffled and enlarged.
        let channels = layout.channels[last] as u64;
        let made = (layout.last_outputs() as u64).div_ceil(4) * 3 + 2 * layout.outputs as u64;
        let block = 2 * inputs + channels.div_ceil(2) + made;
        let unfolded = if self.device.is_cpu() {
            0
        } else {
            9 * inputs / 4
        };
        4 * (pixels * (sources + state) + seen * (block + unfolded))
    }

    fn multiple(&self, scale: FlowScale) -> usize {
        let again = if self.layout.begins_again() { 2 } else { 1 };
        again * scale.multiple(self.layout.scales()[0])
    }

    /// Takes a frame, `[1, 3, height, width]` with values in 0..=1, and computes what depends on it alone.
    ///
    /// # Errors
    /// It is no such frame, or the device fails.
    pub fn source(
        &self,
        frame: &Tensor,
        scale: FlowScale,
    ) -> std::result::Result<SourceFrame, NetworkError> {
        let shape = frame.dims();
        let &[1, 3, height, width] = shape else {
            let found = shape.to_vec();
            return Err(NetworkError::Input { found });
        };
        if height == 0 || width == 0 {
            let found = shape.to_vec();
            return Err(NetworkError::Input { found });
        }
        let multiple = self.multiple(scale);
        let prepare = || -> Result<SourceFrame> {
            let frame = frame.to_device(&self.device)?.to_dtype(DType::F32)?;
            let frame = frame.clamp(0f32, 1f32)?;
            let below = height.next_multiple_of(multiple) - height;
            let beside = width.next_multiple_of(multiple) - width;
            let frame = frame
                .pad_with_zeros(2, 0, below)?
                .pad_with_zeros(3, 0, beside)?
                .contiguous()?;
            let encoder = self.encoder.as_ref();
            let encode = |encoder: &Encoder| -> Result<Tensor> {
                encoder
                    .forward(&frame.to_dtype(self.dtype)?)?
                    .to_dtype(DType::F32)
            };
            Ok(SourceFrame {
                encoded: encoder.map(encode).transpose()?,
                frame,
                height,
                width,
                scale,
            })
        };
        prepare().map_err(|source| self.failed(shape, source))
    }

    /// The frame at `time` between two frames of one size, 0 to 1: `[1, 3, height, width]`, in float32.
    ///
    /// `should_stop` is asked several times; when it says so, the frame ends as [`NetworkError::Stopped`].
    ///
    /// # Errors
    /// It was stopped, the frames have different sizes, or the device fails.
    pub fn between(
        &self,
        earlier: &SourceFrame,
        later: &SourceFrame,
        time: f32,
        should_stop: &dyn Fn() -> bool,
    ) -> std::result::Result<Tensor, NetworkError> {
        if (earlier.height, earlier.width, earlier.scale)
            != (later.height, later.width, later.scale)
        {
            let found = vec![1, 3, later.height, later.width];
            return Err(NetworkError::Input { found });
        }
        let pair = Pair {
            earlier,
            later,
            time,
            dtype: self.dtype,
            should_stop,
        };
        let new = self.run(&pair);
        let new = new.map_err(|source| self.failed(earlier.frame.dims(), source))?;
        new.ok_or(NetworkError::Stopped)
    }

    fn failed(&self, frames: &[usize], source: candle_core::Error) -> NetworkError {
        NetworkError::Forward {
            architecture: self.layout.to_string(),
            frames: frames.to_vec(),
            source: Box::new(source),
        }
    }

    /// Nothing, if it was stopped.
    fn run(&self, pair: &Pair<'_>) -> Result<Option<Tensor>> {
        let Some(Found { flow, mask, .. }) = self.find(pair)? else {
            return Ok(None);
        };
        let share = sigmoid(&mask)?;
        let (_, _, height, width) = pair.earlier.frame.dims4()?;
        let [to_earlier, to_later] = halves(&flow)?;
        let from_earlier = warped(&pair.earlier.frame, &to_earlier, height, width)?;
        let from_later = warped(&pair.later.frame, &to_later, height, width)?;
        let new = (from_earlier.broadcast_mul(&share)?
            + from_later.broadcast_mul(&share.affine(-1.0, 1.0)?)?)?;
        new.narrow(2, 0, pair.earlier.height)?
            .narrow(3, 0, pair.earlier.width)
            .map(Some)
    }

    /// The flow and the mask, from coarse to fine.
    fn find(&self, pair: &Pair<'_>) -> Result<Option<Found>> {
        let times = pair.earlier.scale.times();
        let scales = self.layout.scales().iter();
        let mut scales: Vec<f64> = scales.map(|scale| f64::from(*scale) * times).collect();
        let Some(first) = self.blocks[0].forward(pair, None, scales[0])? else {
            return Ok(None);
        };
        let mut found = first.into_found();
        for (index, block) in self.blocks.iter().enumerate().skip(1) {
            let Some(mut made) = block.forward(pair, Some(&found), scales[index])? else {
                return Ok(None);
            };
            if index == 1 && self.layout.begins_again() && is_large(&made.flow)? {
                scales.iter_mut().for_each(|scale| *scale *= 2.0);
                let first = self.blocks[0].forward(pair, None, scales[0])?;
                let Some(first) = first else {
                    return Ok(None);
                };
                found = first.into_found();
                match block.forward(pair, Some(&found), scales[index])? {
                    Some(again) => made = again,
                    None => return Ok(None),
                }
            }
            let Made {
                flow,
                mask,
                carried,
            } = made;
            found = Found {
                flow: (found.flow + flow)?,
                mask: if self.encoder.is_some() {
                    mask
                } else {
                    (found.mask + mask)?
                },
                carried,
            };
        }
        Ok(Some(found))
    }
}

/// What all blocks see of the two frames.
struct Pair<'a> {
    earlier: &'a SourceFrame,
    later: &'a SourceFrame,
    time: f32,
    dtype: DType,
    should_stop: &'a dyn Fn() -> bool,
}

impl Pair<'_> {
    /// What a block sees at a scale, `[1, inputs, height, width]`; later ones see the frames along the flow.
    fn planes(&self, found: Option<&Found>, scale: f64) -> Result<Tensor> {
        let (_, _, full_height, full_width) = self.earlier.frame.dims4()?;
        let height = (full_height as f64 / scale) as usize;
        let width = (full_width as f64 / scale) as usize;
        let flows = found.map(|found| halves(&found.flow)).transpose()?;
        let seen = |image: &Tensor, side: usize| match &flows {
            Some(flows) => warped(image, &flows[side], height, width),
            None => resized(image, height, width),
        };
        let mut planes = vec![seen(&self.earlier.frame, 0)?, seen(&self.later.frame, 1)?];
        for (side, source) in [self.earlier, self.later].into_iter().enumerate() {
            if let Some(encoded) = &source.encoded {
                planes.push(seen(encoded, side)?);
            }
        }
        let device = self.earlier.frame.device();
        planes.push(Tensor::full(self.time, (1, 1, height, width), device)?);
        if let Some(Found {
            flow,
            mask,
            carried,
        }) = found
        {
            planes.push(resized(mask, height, width)?);
            if let Some(carried) = carried {
                planes.push(resized(carried, height, width)?);
            }
            planes.push((resized(flow, height, width)? / scale)?);
        }
        Tensor::cat(&planes, 1)
    }
}

/// The flow towards the earlier and towards the later frame.
fn halves(flow: &Tensor) -> Result<[Tensor; 2]> {
    Ok([flow.narrow(1, 0, 2)?, flow.narrow(1, 2, 2)?])
}

/// Whether the largest motion towards each of the frames is large.
fn is_large(flow: &Tensor) -> Result<bool> {
    for half in halves(flow)? {
        let largest = half.abs()?.contiguous()?.flatten_all()?.max(0)?;
        if largest.to_scalar::<f32>()? <= LARGE_MOTION {
            return Ok(false);
        }
    }
    Ok(true)
}
