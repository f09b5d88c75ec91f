//! One scale: from what is seen of the two frames to a correction of flow and mask.

use candle_core::{DType, Result, Tensor};
use candle_nn::VarBuilder;
use candle_nn::ops::pixel_shuffle;

use super::layers::{Residual, doubling};
use super::layout::{RifeBody, RifeLayout};
use super::{Found, Pair};
use crate::nn::conv::{Activation, Conv};
use crate::nn::planes::resized;

pub(super) const LEAKY: Activation = Activation::Leaky(0.2);

pub(super) struct Block {
    /// Two convolutions that halve the sides each.
    first: [Conv; 2],
    body: Vec<Layer>,
    /// Whether the body's input is added to its result.
    adds_input: bool,
    /// Doubles the sides.
    last: Conv,
    shuffles: bool,
    carried: usize,
}

enum Layer {
    Plain(Conv),
    Residual(Residual),
}

/// What a block makes, in the frame's size.
pub(super) struct Made {
    pub(super) flow: Tensor,
    pub(super) mask: Tensor,
    pub(super) carried: Option<Tensor>,
}

impl Made {
    pub(super) fn into_found(self) -> Found {
        let Made {
            flow,
            mask,
            carried,
        } = self;
        Found {
            flow,
            mask,
            carried,
        }
    }
}

impl Block {
    pub(super) fn load(
        layout: &RifeLayout,
        block: usize,
        tensors: &VarBuilder<'_>,
    ) -> Result<Self> {
        let prefix = layout.prefix;
        let channels = layout.channels[block];
        let half = channels / 2;
        let name = |layer: &str| format!("{prefix}block{block}.{layer}");
        let activation = |layer: &str, channels| -> Result<Activation> {
            match layout.body {
                RifeBody::Prelu => {
                    let slopes = tensors.get(channels, &format!("{}.1.weight", name(layer)))?;
                    Ok(Activation::Slopes(slopes))
                }
                RifeBody::Leaky | RifeBody::Residual { .. } => Ok(LEAKY),
            }
        };
        let halving = |layer: &str, inputs, outputs| -> Result<Conv> {
            let kernel = tensors.get(
                (outputs, inputs, 3, 3),
                &format!("{}.0.weight", name(layer)),
            )?;
            let bias = tensors.get(outputs, &format!("{}.0.bias", name(layer)))?;
            Conv::halving(kernel, &bias, &activation(layer, outputs)?)
        };
        let layer = |index: usize| -> Result<Layer> {
            let layer = format!("convblock.{index}");
            match layout.body {
                RifeBody::Residual { groups } => {
                    Residual::load(tensors, &name(&layer), channels, groups).map(Layer::Residual)
                }
                RifeBody::Prelu | RifeBody::Leaky => {
                    let activation = activation(&layer, channels)?;
                    let name = format!("{}.0", name(&layer));
                    Conv::load(tensors, &name, channels, channels, activation).map(Layer::Plain)
                }
            }
        };
        let last = format!("{prefix}{}", layout.last_name(block));
        Ok(Block {
            first: [
                halving("conv0.0", layout.inputs(block), half)?,
                halving("conv0.1", half, channels)?,
            ],
            body: (0..layout.depth).map(layer).collect::<Result<_>>()?,
            adds_input: layout.body == RifeBody::Prelu,
            last: doubling(tensors, &last, channels, layout.last_outputs())?,
            shuffles: layout.shuffles,
            carried: layout.carried(),
        })
    }

    /// How often it can be stopped.
    pub(super) fn parts(&self) -> usize {
        self.body.len() + 4
    }

    /// Nothing, if it was stopped.
    pub(super) fn forward(
        &self,
        pair: &Pair<'_>,
        found: Option<&Found>,
        scale: f64,
    ) -> Result<Option<Made>> {
        let (_, _, height, width) = pair.earlier.frame.dims4()?;
        if (pair.should_stop)() {
            return Ok(None);
        }
        let mut features = pair.planes(found, scale)?.to_dtype(pair.dtype)?;
        for conv in &self.first {
            if (pair.should_stop)() {
                return Ok(None);
            }
            features = conv.forward(&features)?;
        }
        let input = features.clone();
        for layer in &self.body {
            if (pair.should_stop)() {
                return Ok(None);
            }
            features = match layer {
                Layer::Plain(conv) => conv.forward(&features)?,
                Layer::Residual(residual) => residual.forward(&features)?,
            };
        }
        if self.adds_input {
            features = (features + input)?;
        }
        if (pair.should_stop)() {
            return Ok(None);
        }
        let mut made = pixel_shuffle(&self.last.forward(&features)?, 2)?;
        if self.shuffles {
            made = pixel_shuffle(&made, 2)?;
        }
        let grown = if self.shuffles { scale } else { 2.0 * scale };
        let made = made.to_dtype(DType::F32)?.contiguous()?;
        let part = |first, count| -> Result<Tensor> {
            resized(&made.narrow(1, first, count)?.contiguous()?, height, width)
        };
        let carried = (self.carried > 0).then(|| part(5, self.carried));
        Ok(Some(Made {
            flow: (part(0, 4)? * grown)?,
            mask: part(4, 1)?,
            carried: carried.transpose()?,
        }))
    }
}
