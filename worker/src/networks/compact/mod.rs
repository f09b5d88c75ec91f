//! SRVGGNetCompact: a row of convolutions at the input's size, and a pixel shuffle at the end
//! (Wang et al., Real-ESRGAN, 2021; realesr-animevideo and realesr-general).

use std::collections::BTreeMap;
use std::fmt;

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use crate::models::recognise::{DetectError, Tensors, within};
use crate::nn::conv::{Activation, Conv};

const NETWORK: &str = "SRVGGNetCompact";

/// All that distinguishes one SRVGGNetCompact from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactLayout {
    /// What the checkpoint puts before each name.
    pub prefix: &'static str,
    pub features: usize,
    /// Convolutions between the first and the last.
    pub convolutions: usize,
    pub scale: usize,
}

impl CompactLayout {
    pub(crate) fn detect(tensors: &Tensors<'_>) -> std::result::Result<Self, DetectError> {
        let (features, _) = tensors.kernel("body.0.weight", NETWORK)?;
        within(NETWORK, "features", features, 512)?;
        if !tensors.has("body.1.weight") {
            return Err(DetectError::NoSlopes);
        }
        let last = tensors.names().filter_map(body_index).max().unwrap_or(0);
        let convolutions = within(NETWORK, "layers", last / 2, 256)?.saturating_sub(1);
        let name = format!("body.{last}.weight");
        let (outputs, inputs) = tensors.kernel(&name, NETWORK)?;
        let Some(scale) = (1..=8).find(|scale| outputs == 3 * scale * scale) else {
            return Err(DetectError::Unsupported {
                tensor: format!("{}{name}", tensors.prefix),
                found: vec![outputs, inputs, 3, 3],
                need: "an RGB output has 3 x scale x scale channels, with a scale from 1 to 8"
                    .to_owned(),
            });
        };
        Ok(CompactLayout {
            prefix: tensors.prefix,
            features,
            convolutions,
            scale,
        })
    }

    /// Every tensor of the network, without the prefix.
    pub(crate) fn tensors(&self) -> BTreeMap<String, Vec<usize>> {
        let mut tensors = BTreeMap::new();
        let last = self.convolutions + 1;
        for layer in 0..=last {
            let inputs = if layer == 0 { 3 } else { self.features };
            let outputs = if layer == last {
                3 * self.scale * self.scale
            } else {
                self.features
            };
            tensors.insert(
                format!("body.{}.weight", 2 * layer),
                vec![outputs, inputs, 3, 3],
            );
            tensors.insert(format!("body.{}.bias", 2 * layer), vec![outputs]);
            if layer < last {
                tensors.insert(
                    format!("body.{}.weight", 2 * layer + 1),
                    vec![self.features],
                );
            }
        }
        tensors
    }

    /// Each convolution reaches one pixel further.
    pub(super) fn receptive_field(&self) -> usize {
        self.convolutions + 2
    }

    /// Two layers' features, or the last layer's input, output and shuffled output.
    pub(super) fn floats_per_pixel(&self) -> usize {
        let output = 3 * self.scale * self.scale;
        2 * self.features + 4 * output
    }

    /// What candle's convolutions take on top on a GPU: nine times the inputs, laid out as a matrix, and the outputs in four
    /// versions.
    pub(super) fn unfolded_per_pixel(&self) -> usize {
        9 * self.features + 4 * self.features.max(3 * self.scale * self.scale)
    }
}

impl fmt::Display for CompactLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CompactLayout {
            prefix: _,
            features,
            convolutions,
            scale,
        } = self;
        write!(
            f,
            "{NETWORK} x{scale} ({features} features, {convolutions} convolutions)"
        )
    }
}

fn body_index(name: &str) -> Option<usize> {
    name.strip_prefix("body.")?
        .split('.')
        .next()?
        .parse()
        .ok()
        .filter(|index| *index < 1_000_000)
}

pub(super) struct Compact {
    layers: Vec<Conv>,
    scale: usize,
}

impl Compact {
    pub(super) fn load(layout: &CompactLayout, tensors: &VarBuilder<'_>) -> Result<Self> {
        let CompactLayout {
            prefix,
            features,
            convolutions,
            scale,
        } = layout;
        let body = |index: usize| format!("{prefix}body.{index}");
        let last = convolutions + 1;
        let mut layers = Vec::with_capacity(last + 1);
        for layer in 0..last {
            let inputs = if layer == 0 { 3 } else { *features };
            let slopes = tensors.get(*features, &format!("{}.weight", body(2 * layer + 1)))?;
            layers.push(Conv::load(
                tensors,
                &body(2 * layer),
                inputs,
                *features,
                Activation::Slopes(slopes),
            )?);
        }
        layers.push(Conv::load(
            tensors,
            &body(2 * last),
            *features,
            3 * scale * scale,
            Activation::None,
        )?);
        Ok(Compact {
            layers,
            scale: *scale,
        })
    }

    /// Nothing, if it was stopped between two layers.
    pub(super) fn forward(
        &self,
        frames: &Tensor,
        should_stop: &dyn Fn() -> bool,
    ) -> Result<Option<Tensor>> {
        let mut features = frames.clone();
        for layer in &self.layers {
            if should_stop() {
                return Ok(None);
            }
            features = layer.forward(&features)?;
        }
        let (_, _, height, width) = frames.dims4()?;
        let enlarged = frames.upsample_nearest2d(height * self.scale, width * self.scale)?;
        (candle_nn::ops::pixel_shuffle(&features, self.scale)? + enlarged).map(Some)
    }
}
