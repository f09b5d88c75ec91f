//! What distinguishes one RRDBNet from another, and the names that checkpoints give its tensors. Pure.

use std::collections::BTreeMap;
use std::fmt;

use crate::models::recognise::{DetectError, Tensors, within};

const NETWORK: &str = "RRDBNet";

/// All that distinguishes one RRDBNet from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RrdbLayout {
    /// What the checkpoint puts before each name.
    pub prefix: &'static str,
    pub names: RrdbNames,
    pub features: usize,
    /// Channels that each convolution of a dense block adds.
    pub growth: usize,
    pub blocks: usize,
    /// Times that the features are made twice as large.
    pub upsamplings: usize,
    /// The input's pixels are first folded into channels by this factor: 1, 2 or 4.
    pub unshuffle: usize,
}

/// The names that three generations of checkpoints give the same tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RrdbNames {
    /// `model.1.sub.0.RDB1.conv1.0.weight`: ESRGAN's first release.
    Numbered,
    /// `RRDB_trunk.0.RDB1.conv1.weight`: ESRGAN's second release, BSRGAN.
    Trunk,
    /// `body.0.rdb1.conv1.weight`: Real-ESRGAN.
    Body,
}

#[derive(Clone, Copy)]
pub(super) enum Layer {
    First,
    /// Counted from zero, but for upsamplings, which checkpoints count from one.
    Dense {
        block: usize,
        dense: usize,
        conv: usize,
    },
    Body,
    Upsampling(usize),
    High,
    Last,
}

impl RrdbLayout {
    pub(crate) fn detect(tensors: &Tensors<'_>) -> Result<Self, DetectError> {
        let names = if tensors.has("model.0.weight") {
            RrdbNames::Numbered
        } else if tensors.names().any(|name| name.starts_with("RRDB_trunk.")) {
            RrdbNames::Trunk
        } else {
            RrdbNames::Body
        };
        let (blocks, upsamplings) = counts(names, tensors);
        let mut layout = RrdbLayout {
            prefix: tensors.prefix,
            names,
            features: 0,
            growth: 0,
            blocks: within(NETWORK, "blocks", blocks, 64)?,
            upsamplings: within(NETWORK, "upsamplings", upsamplings, 3)?,
            unshuffle: 1,
        };
        let first = format!("{}.weight", layout.name(Layer::First));
        let dense = format!(
            "{}.weight",
            layout.name(Layer::Dense {
                block: 0,
                dense: 0,
                conv: 0
            })
        );
        let (features, inputs) = tensors.kernel(&first, NETWORK)?;
        let (growth, _) = tensors.kernel(&dense, NETWORK)?;
        layout.features = within(NETWORK, "features", features, 512)?;
        layout.growth = within(NETWORK, "channels of growth", growth, 512)?;
        let unshuffle = [1, 2, 4]
            .into_iter()
            .find(|factor| inputs == 3 * factor * factor);
        let Some(unshuffle) = unshuffle.filter(|factor| *factor <= 1 << upsamplings) else {
            return Err(DetectError::Unsupported {
                tensor: format!("{}{first}", tensors.prefix),
                found: vec![features, inputs, 3, 3],
                need: format!(
                    "an RGB input has 3 channels, 12 when it is unshuffled by 2, 48 by 4, \
                     and is unshuffled by at most the {} that the network enlarges by",
                    1 << upsamplings
                ),
            });
        };
        layout.unshuffle = unshuffle;
        Ok(layout)
    }

    pub(crate) fn scale(&self) -> usize {
        (1 << self.upsamplings) / self.unshuffle
    }

    /// Every tensor of the network, without the prefix.
    pub(crate) fn tensors(&self) -> BTreeMap<String, Vec<usize>> {
        let mut tensors = BTreeMap::new();
        for layer in self.layers() {
            let (inputs, outputs) = self.channels(layer);
            let name = self.name(layer);
            tensors.insert(format!("{name}.weight"), vec![outputs, inputs, 3, 3]);
            tensors.insert(format!("{name}.bias"), vec![outputs]);
        }
        tensors
    }

    /// Each convolution reaches one pixel further, of the size that it works at: the last ones
    /// work on pixels that are smaller than the input's, and altogether reach less than two more.
    pub(crate) fn receptive_field(&self) -> usize {
        let reach = 1 + 15 * self.blocks + 1 + 2;
        self.unshuffle * (reach + 1) - 1
    }

    /// In a dense block: what it has seen so far twice (it is copied to be extended) and the inputs
    /// of the three things that it lies in. At the end: a layer's input and output at the output's
    /// size, and what was enlarged. Both, as an allocator does not give back at once what is freed.
    pub(crate) fn floats_per_pixel(&self) -> usize {
        let dense = 2 * (self.features + 4 * self.growth) + 3 * self.features;
        let last = (2 * self.features + self.features / 4 + 3) * self.scale() * self.scale();
        last + dense / (self.unshuffle * self.unshuffle)
    }

    /// What candle's convolutions take on top on a GPU: nine times the inputs, laid out as a matrix, and the outputs in four
    /// versions, in the last dense layer or in the ones at the output's size.
    pub(crate) fn unfolded_per_pixel(&self) -> usize {
        let unfolded = |inputs, outputs| 9 * inputs + 4 * outputs;
        let dense = unfolded(self.features + 4 * self.growth, self.features);
        let high = unfolded(self.features, self.features) * self.scale() * self.scale();
        high.max(dense / (self.unshuffle * self.unshuffle))
    }

    fn layers(&self) -> Vec<Layer> {
        let mut layers = vec![Layer::First];
        for block in 0..self.blocks {
            for dense in 0..3 {
                layers.extend((0..5).map(|conv| Layer::Dense { block, dense, conv }));
            }
        }
        layers.push(Layer::Body);
        layers.extend((0..self.upsamplings).map(Layer::Upsampling));
        layers.extend([Layer::High, Layer::Last]);
        layers
    }

    /// A layer's inputs and outputs.
    pub(super) fn channels(&self, layer: Layer) -> (usize, usize) {
        let features = self.features;
        match layer {
            Layer::First => (3 * self.unshuffle * self.unshuffle, features),
            Layer::Dense { conv, .. } if conv < 4 => (features + conv * self.growth, self.growth),
            Layer::Dense { .. } => (features + 4 * self.growth, features),
            Layer::Body | Layer::Upsampling(_) | Layer::High => (features, features),
            Layer::Last => (features, 3),
        }
    }

    /// A layer's name in the checkpoint, without the prefix.
    pub(super) fn name(&self, layer: Layer) -> String {
        match self.names {
            RrdbNames::Numbered => self.numbered(layer),
            RrdbNames::Trunk => match layer {
                Layer::First => "conv_first".to_owned(),
                Layer::Dense { block, dense, conv } => {
                    format!("RRDB_trunk.{block}.RDB{}.conv{}", dense + 1, conv + 1)
                }
                Layer::Body => "trunk_conv".to_owned(),
                Layer::Upsampling(step) => format!("upconv{}", step + 1),
                Layer::High => "HRconv".to_owned(),
                Layer::Last => "conv_last".to_owned(),
            },
            RrdbNames::Body => match layer {
                Layer::First => "conv_first".to_owned(),
                Layer::Dense { block, dense, conv } => {
                    format!("body.{block}.rdb{}.conv{}", dense + 1, conv + 1)
                }
                Layer::Body => "conv_body".to_owned(),
                Layer::Upsampling(step) => format!("conv_up{}", step + 1),
                Layer::High => "conv_hr".to_owned(),
                Layer::Last => "conv_last".to_owned(),
            },
        }
    }

    /// The number counts every module in a row: an upsampling is three (enlarge, convolve, activate).
    fn numbered(&self, layer: Layer) -> String {
        match layer {
            Layer::First => "model.0".to_owned(),
            Layer::Dense { block, dense, conv } => {
                format!("model.1.sub.{block}.RDB{}.conv{}.0", dense + 1, conv + 1)
            }
            Layer::Body => format!("model.1.sub.{}", self.blocks),
            Layer::Upsampling(step) => format!("model.{}", 3 * step + 3),
            Layer::High => format!("model.{}", 3 * self.upsamplings + 2),
            Layer::Last => format!("model.{}", 3 * self.upsamplings + 4),
        }
    }
}

/// How many blocks and how many upsamplings the names speak of.
fn counts(names: RrdbNames, tensors: &Tensors<'_>) -> (usize, usize) {
    let highest = |before: &str| {
        let number = |name: &str| {
            name.strip_prefix(before)?
                .split('.')
                .next()?
                .parse::<usize>()
                .ok()
        };
        tensors.names().filter_map(number).max()
    };
    let after = |number: Option<usize>| number.map_or(0, |number| number.saturating_add(1));
    match names {
        RrdbNames::Numbered => {
            let last = highest("model.").unwrap_or(0);
            (
                highest("model.1.sub.").unwrap_or(0),
                last.saturating_sub(4) / 3,
            )
        }
        RrdbNames::Trunk => (
            after(highest("RRDB_trunk.")),
            highest("upconv").unwrap_or(0),
        ),
        RrdbNames::Body => (after(highest("body.")), highest("conv_up").unwrap_or(0)),
    }
}

impl fmt::Display for RrdbLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RrdbLayout {
            prefix: _,
            names: _,
            features,
            growth,
            blocks,
            upsamplings: _,
            unshuffle: _,
        } = self;
        write!(
            f,
            "{NETWORK} x{} ({blocks} blocks, {features} features, growth {growth})",
            self.scale()
        )
    }
}
