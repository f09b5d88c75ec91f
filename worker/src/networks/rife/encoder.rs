//! What is computed once for each source frame, whatever frames are made beside it.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use candle_nn::ops::pixel_shuffle;

use super::block::LEAKY;
use super::layers::doubling;
use super::layout::{RifeEncoder, RifeEncoderNames};
use crate::nn::conv::{Activation, Conv};

pub(super) struct Encoder {
    layers: Vec<Conv>,
    /// Doubles the sides.
    last: Conv,
}

impl Encoder {
    pub(super) fn load(
        encoder: &RifeEncoder,
        prefix: &str,
        tensors: &VarBuilder<'_>,
    ) -> Result<Self> {
        let &RifeEncoder {
            names,
            hidden,
            features,
        } = encoder;
        let all = names.layers();
        let name = |index: usize| format!("{prefix}{}", all[index]);
        let activation = match names {
            RifeEncoderNames::Pair => Activation::None,
            RifeEncoderNames::Even | RifeEncoderNames::Cnn => LEAKY,
        };
        let kernel = tensors.get((hidden, 3, 3, 3), &format!("{}.weight", name(0)))?;
        let bias = tensors.get(hidden, &format!("{}.bias", name(0)))?;
        let mut layers = vec![Conv::halving(kernel, &bias, &activation)?];
        for index in 1..all.len() - 1 {
            let activation = activation.clone();
            layers.push(Conv::load(
                tensors,
                &name(index),
                hidden,
                hidden,
                activation,
            )?);
        }
        Ok(Encoder {
            layers,
            last: doubling(tensors, &name(all.len() - 1), hidden, features)?,
        })
    }

    /// From `[1, 3, height, width]` to `[1, features, height, width]`.
    pub(super) fn forward(&self, frame: &Tensor) -> Result<Tensor> {
        let mut features = frame.clone();
        for layer in &self.layers {
            features = layer.forward(&features)?;
        }
        pixel_shuffle(&self.last.forward(&features)?, 2)?.contiguous()
    }
}
