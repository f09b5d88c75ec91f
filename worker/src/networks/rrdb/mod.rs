//! RRDBNet: dense blocks within residual blocks at the input's size, then two times larger by
//! nearest neighbour and convolution, again and again (Wang et al., ESRGAN, 2018; Real-ESRGAN, 2021).

mod layout;

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use crate::nn::conv::{Activation, Conv};
use layout::Layer;
pub use layout::{RrdbLayout, RrdbNames};

/// How much of a block's result is added to its input.
const RESIDUAL_SCALE: f64 = 0.2;
const LEAKY: Activation = Activation::Leaky(0.2);

pub(super) struct Rrdb {
    unshuffle: usize,
    scale: usize,
    first: Conv,
    blocks: Vec<[DenseBlock; 3]>,
    body: Conv,
    upsamplings: Vec<Conv>,
    high: Conv,
    last: Conv,
}

struct DenseBlock {
    growing: [Conv; 4],
    last: Conv,
}

impl Rrdb {
    pub(super) fn load(layout: &RrdbLayout, tensors: &VarBuilder<'_>) -> Result<Self> {
        let conv = |layer, activation| {
            let (inputs, outputs) = layout.channels(layer);
            let name = format!("{}{}", layout.prefix, layout.name(layer));
            Conv::load(tensors, &name, inputs, outputs, activation)
        };
        let dense_block = |block, dense| -> Result<DenseBlock> {
            let growing = |index| {
                conv(
                    Layer::Dense {
                        block,
                        dense,
                        conv: index,
                    },
                    LEAKY,
                )
            };
            Ok(DenseBlock {
                growing: [growing(0)?, growing(1)?, growing(2)?, growing(3)?],
                last: conv(
                    Layer::Dense {
                        block,
                        dense,
                        conv: 4,
                    },
                    Activation::None,
                )?,
            })
        };
        let block = |block| {
            Ok([
                dense_block(block, 0)?,
                dense_block(block, 1)?,
                dense_block(block, 2)?,
            ])
        };
        Ok(Rrdb {
            unshuffle: layout.unshuffle,
            scale: layout.scale(),
            first: conv(Layer::First, Activation::None)?,
            blocks: (0..layout.blocks).map(block).collect::<Result<_>>()?,
            body: conv(Layer::Body, Activation::None)?,
            upsamplings: (0..layout.upsamplings)
                .map(|step| conv(Layer::Upsampling(step), LEAKY))
                .collect::<Result<_>>()?,
            high: conv(Layer::High, LEAKY)?,
            last: conv(Layer::Last, Activation::None)?,
        })
    }

    /// Nothing, if it was stopped between two blocks.
    pub(super) fn forward(
        &self,
        frames: &Tensor,
        should_stop: &dyn Fn() -> bool,
    ) -> Result<Option<Tensor>> {
        let (_, _, height, width) = frames.dims4()?;
        let first = self.first.forward(&self.unshuffled(frames)?)?;
        let mut features = first.clone();
        for block in &self.blocks {
            if should_stop() {
                return Ok(None);
            }
            features = residual_block(block, &features)?;
        }
        features = (self.body.forward(&features)? + first)?;
        for upsampling in &self.upsamplings {
            if should_stop() {
                return Ok(None);
            }
            let (_, _, height, width) = features.dims4()?;
            features = features.upsample_nearest2d(2 * height, 2 * width)?;
            features = upsampling.forward(&features)?;
        }
        let upscaled = self.last.forward(&self.high.forward(&features)?)?;
        let upscaled = upscaled.narrow(2, 0, height * self.scale)?;
        upscaled.narrow(3, 0, width * self.scale).map(Some)
    }

    /// Folds squares of pixels into channels; sides that are no multiple of the square's are first
    /// continued by reflection at the right and the bottom, as Real-ESRGAN does.
    fn unshuffled(&self, frames: &Tensor) -> Result<Tensor> {
        if self.unshuffle == 1 {
            return Ok(frames.clone());
        }
        let frames = reflected(&reflected(frames, 2, self.unshuffle)?, 3, self.unshuffle)?;
        candle_nn::ops::pixel_unshuffle(&frames, self.unshuffle)
    }
}

/// Continues a dimension to the next multiple, as a mirror at the last pixel's centre would show it.
fn reflected(frames: &Tensor, dimension: usize, multiple: usize) -> Result<Tensor> {
    let size = frames.dim(dimension)?;
    let wanted = size.next_multiple_of(multiple);
    if wanted == size {
        return Ok(frames.clone());
    }
    let indices: Vec<u32> = (0..wanted)
        .map(|index| reflected_index(index, size) as u32)
        .collect();
    frames.index_select(&Tensor::new(indices, frames.device())?, dimension)
}

/// Where the mirrors at both ends show what lies at an index beyond the end.
fn reflected_index(index: usize, size: usize) -> usize {
    let last = size - 1;
    if last == 0 {
        return 0;
    }
    let within = index % (2 * last);
    if within <= last {
        within
    } else {
        2 * last - within
    }
}

fn residual_block(blocks: &[DenseBlock; 3], features: &Tensor) -> Result<Tensor> {
    let mut inner = features.clone();
    for block in blocks {
        inner = block.forward(&inner)?;
    }
    (inner * RESIDUAL_SCALE)? + features
}

impl DenseBlock {
    /// Each convolution sees the input and all that the ones before it made.
    fn forward(&self, features: &Tensor) -> Result<Tensor> {
        let mut seen = features.clone();
        for conv in &self.growing {
            let grown = conv.forward(&seen)?;
            seen = Tensor::cat(&[&seen, &grown], 1)?;
        }
        (self.last.forward(&seen)? * RESIDUAL_SCALE)? + features
    }
}

#[cfg(test)]
mod tests {
    use super::reflected_index;

    #[test]
    fn reflection_mirrors_at_the_last_pixel_and_again_at_the_first() {
        let seen: Vec<usize> = (0..8).map(|index| reflected_index(index, 3)).collect();
        assert_eq!(seen, [0, 1, 2, 1, 0, 1, 2, 1]);
        assert_eq!(reflected_index(3, 1), 0);
    }
}
