//! Which RIFE 4.x a checkpoint holds, told by its tensors' names and shapes. Pure.

use std::collections::BTreeMap;
use std::fmt;

use crate::models::recognise::{DetectError, Tensors, within};

pub(super) const NETWORK: &str = "RIFE";

/// Convolutions in the body of a block, in all versions that were published. They have four or five blocks.
const PUBLISHED_DEPTH: usize = 8;

/// What training needs and inference does not.
pub(crate) const IGNORED: &[&str] = &["teacher.", "caltime.", "block_tea.", "contextnet.", "unet."];

/// All that distinguishes one RIFE 4.x from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RifeLayout {
    /// What the checkpoint puts before each name.
    pub prefix: &'static str,
    /// Channels of each block, from coarse to fine.
    pub channels: Vec<usize>,
    /// The layers of a block's body.
    pub body: RifeBody,
    /// How many layers a block's body has.
    pub depth: usize,
    /// Planes that a block makes: four of flow, one of the mask, and more in later versions.
    pub outputs: usize,
    /// Whether a pixel shuffle follows a block's last layer.
    pub shuffles: bool,
    /// What is computed of each frame before the blocks see it.
    pub encoder: Option<RifeEncoder>,
}

/// The layers of a block's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RifeBody {
    /// Convolutions with PReLU; the body's input is added to its result (4.0, 4.1).
    Prelu,
    /// Convolutions with LeakyReLU (4.2 to 4.4).
    Leaky,
    /// Each convolution is scaled and added to its input (from 4.5 on).
    Residual {
        /// Into how many groups the channels are divided.
        groups: usize,
    },
}

impl RifeBody {
    /// The name of one of its convolutions.
    fn layer(self, block: usize, index: usize) -> String {
        let name = match self {
            RifeBody::Residual { .. } => "conv",
            RifeBody::Prelu | RifeBody::Leaky => "0",
        };
        format!("block{block}.convblock.{index}.{name}")
    }
}

/// The encoder of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RifeEncoder {
    /// What its layers are called.
    pub names: RifeEncoderNames,
    /// Channels of its inner layers.
    pub hidden: usize,
    /// Planes that it makes.
    pub features: usize,
}

/// What an encoder's layers are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RifeEncoderNames {
    /// `encode.0` and `encode.1`, with nothing between them.
    Pair,
    /// `encode.0`, `encode.2`, `encode.4` and `encode.6`.
    Even,
    /// `encode.cnn0` to `encode.cnn3`.
    Cnn,
}

impl RifeEncoderNames {
    /// Its layers; the last one enlarges.
    pub(super) fn layers(self) -> &'static [&'static str] {
        match self {
            RifeEncoderNames::Pair => &["encode.0", "encode.1"],
            RifeEncoderNames::Even => &["encode.0", "encode.2", "encode.4", "encode.6"],
            RifeEncoderNames::Cnn => &["encode.cnn0", "encode.cnn1", "encode.cnn2", "encode.cnn3"],
        }
    }
}

impl RifeLayout {
    pub(crate) fn detect(tensors: &Tensors<'_>) -> Result<Self, DetectError> {
        let channels = channels(tensors)?;
        let (outputs, shuffles) = outputs(tensors)?;
        let body = body(tensors, channels[0])?;
        Ok(RifeLayout {
            prefix: tensors.prefix,
            depth: depth(tensors, body)?,
            body,
            channels,
            outputs,
            shuffles,
            encoder: encoder(tensors)?,
        })
    }

    /// How many times smaller each block sees the frames.
    pub(super) fn scales(&self) -> &'static [u32] {
        match self.channels[..] {
            // The only thing that no shape tells: 4.25.lite has scales of its own. With fewer blocks than any published
            // version has, there is no finest scale, and with two no coarsest one either.
            [_, _, _, _, 24] => &[32, 16, 8, 4, 1],
            [_, _, _, _, _] => &[16, 8, 4, 2, 1],
            [_, _, _] => &[8, 4, 2],
            [_, _] => &[4, 2],
            _ => &[8, 4, 2, 1],
        }
    }

    /// 4.0 and 4.1 begin again at half the size where motion is large.
    pub(super) fn begins_again(&self) -> bool {
        self.body == RifeBody::Prelu
    }

    /// Planes that a block hands to the next one beside flow and mask.
    pub(super) fn carried(&self) -> usize {
        if self.outputs == 13 { 8 } else { 0 }
    }

    /// Planes that the encoder makes of a frame.
    pub(super) fn encoded(&self) -> usize {
        self.encoder.map_or(0, |encoder| encoder.features)
    }

    /// Planes that a block sees.
    pub(super) fn inputs(&self, block: usize) -> usize {
        if block == 0 {
            7 + 2 * self.encoded()
        } else {
            12 + 2 * self.encoded() + self.carried()
        }
    }

    /// Channels that a block's last layer makes before any shuffle.
    pub(super) fn last_outputs(&self) -> usize {
        if self.shuffles {
            4 * self.outputs
        } else {
            self.outputs
        }
    }

    /// The name of a block's last layer.
    pub(super) fn last_name(&self, block: usize) -> String {
        let index = if self.shuffles { ".0" } else { "" };
        format!("block{block}.lastconv{index}")
    }

    /// Every tensor of the network, without the prefix.
    pub(crate) fn tensors(&self) -> BTreeMap<String, Vec<usize>> {
        let mut tensors = BTreeMap::new();
        let mut layer = |name: String, shape: [usize; 4], biases: usize| {
            tensors.insert(format!("{name}.weight"), shape.to_vec());
            tensors.insert(format!("{name}.bias"), vec![biases]);
        };
        for (block, &channels) in self.channels.iter().enumerate() {
            let half = channels / 2;
            let conv0 = |index| format!("block{block}.conv0.{index}.0");
            layer(conv0(0), [half, self.inputs(block), 3, 3], half);
            layer(conv0(1), [channels, half, 3, 3], channels);
            for index in 0..self.depth {
                let inputs = match self.body {
                    RifeBody::Residual { groups } => channels / groups.max(1),
                    RifeBody::Prelu | RifeBody::Leaky => channels,
                };
                layer(
                    self.body.layer(block, index),
                    [channels, inputs, 3, 3],
                    channels,
                );
            }
            let outputs = self.last_outputs();
            layer(self.last_name(block), [channels, outputs, 4, 4], outputs);
        }
        if let Some(RifeEncoder {
            names,
            hidden,
            features,
        }) = self.encoder
        {
            let layers = names.layers();
            for (index, name) in layers.iter().enumerate() {
                let inputs = if index == 0 { 3 } else { hidden };
                if index + 1 == layers.len() {
                    layer((*name).to_owned(), [hidden, features, 4, 4], features);
                } else {
                    layer((*name).to_owned(), [hidden, inputs, 3, 3], hidden);
                }
            }
        }
        for (block, &channels) in self.channels.iter().enumerate() {
            match self.body {
                RifeBody::Leaky => {}
                RifeBody::Prelu => {
                    let mut slopes = |name: String, count| {
                        tensors.insert(format!("block{block}.{name}.1.weight"), vec![count]);
                    };
                    slopes("conv0.0".to_owned(), channels / 2);
                    slopes("conv0.1".to_owned(), channels);
                    for index in 0..self.depth {
                        slopes(format!("convblock.{index}"), channels);
                    }
                }
                RifeBody::Residual { .. } => {
                    for index in 0..self.depth {
                        let name = format!("block{block}.convblock.{index}.beta");
                        tensors.insert(name, vec![1, channels, 1, 1]);
                    }
                }
            }
        }
        tensors
    }

    /// The versions that have this shape. Those that share it compute the same with their own weights.
    fn version(&self) -> &'static str {
        let (hidden, names) = match self.encoder {
            Some(encoder) => (encoder.hidden, Some(encoder.names)),
            None => (0, None),
        };
        match (self.body, names, &self.channels[..]) {
            (RifeBody::Prelu, ..) => "4.0 or 4.1",
            (RifeBody::Leaky, ..) => "4.2, 4.3 or 4.4",
            (_, None, _) if self.outputs == 5 => "4.5",
            (_, None, _) => "4.6",
            (_, Some(_), [_, _, _, _, _]) if self.encoded() == 16 => "4.26.heavy",
            (_, Some(_), [384, _, _, _, _]) => "4.25.heavy",
            (_, Some(_), [_, _, _, _, 24]) => "4.25.lite",
            (_, Some(_), [_, _, _, _, _]) => "4.25 or 4.26",
            (_, Some(RifeEncoderNames::Pair), _) => "4.7, 4.8 or 4.9",
            (RifeBody::Residual { groups: 2 }, ..) => "4.14.lite",
            (_, _, [384, ..]) => "4.20",
            (_, _, [256, ..]) => "4.21, 4.22 or 4.23",
            (_, Some(RifeEncoderNames::Even), [128, ..]) => "4.12.lite or 4.13.lite",
            (_, Some(RifeEncoderNames::Even), _) => "4.10, 4.11 or 4.12",
            _ if self.outputs == 13 => "4.22.lite",
            _ if hidden == 16 => "4.15.lite, 4.16.lite or 4.17.lite",
            _ => "4.13 to 4.19, or 4.24",
        }
    }
}

fn channels(tensors: &Tensors<'_>) -> Result<Vec<usize>, DetectError> {
    let name = |block: usize| format!("block{block}.conv0.1.0.weight");
    let mut channels = Vec::new();
    while tensors.has(&name(channels.len())) && channels.len() < 6 {
        let (outputs, _) = tensors.kernel(&name(channels.len()), NETWORK)?;
        channels.push(within(NETWORK, "channels", outputs, 1024)?);
    }
    if (2..=5).contains(&channels.len()) {
        return Ok(channels);
    }
    Err(DetectError::Blocks {
        tensor: format!("{}{}", tensors.prefix, name(channels.len().min(5))),
        count: channels.len(),
    })
}

/// What a block makes, and whether it is shuffled.
fn outputs(tensors: &Tensors<'_>) -> Result<(usize, bool), DetectError> {
    let (plain, shuffled) = ("block0.lastconv.weight", "block0.lastconv.0.weight");
    let unsupported = |name: &str, shape: &[usize]| {
        DetectError::Unsupported {
        tensor: format!("{}{name}", tensors.prefix),
        found: shape.to_vec(),
        need: "a block of RIFE 4.x ends with 5, 20, 24 or 52 channels; take flownet.pkl of a published version"
            .to_owned(),
    }
    };
    match (tensors.shape(plain), tensors.shape(shuffled)) {
        (Some([_, 5, 4, 4]), _) => Ok((5, false)),
        (Some(shape), _) => Err(unsupported(plain, shape)),
        (None, Some([_, outputs @ (20 | 24 | 52), 4, 4])) => Ok((outputs / 4, true)),
        (None, Some(shape)) => Err(unsupported(shuffled, shape)),
        (None, None) => Err(DetectError::Undecided {
            tensor: format!("{}{shuffled}", tensors.prefix),
            network: NETWORK,
        }),
    }
}

fn body(tensors: &Tensors<'_>, channels: usize) -> Result<RifeBody, DetectError> {
    if tensors.has("block0.conv0.0.1.weight") {
        return Ok(RifeBody::Prelu);
    }
    if !tensors.has("block0.convblock.0.beta") {
        return Ok(RifeBody::Leaky);
    }
    let name = "block0.convblock.0.conv.weight";
    let (_, inputs) = tensors.kernel(name, NETWORK)?;
    if inputs == 0 || !channels.is_multiple_of(inputs) {
        return Err(DetectError::Unsupported {
            tensor: format!("{}{name}", tensors.prefix),
            found: vec![channels, inputs, 3, 3],
            need: format!("its inputs must divide the {channels} channels of the block"),
        });
    }
    Ok(RifeBody::Residual {
        groups: channels / inputs,
    })
}

/// How many layers the body of the first block has. At least one, so that a body without layers is refused by the missing tensor.
fn depth(tensors: &Tensors<'_>, body: RifeBody) -> Result<usize, DetectError> {
    let names = (0..).map(|index| format!("{}.weight", body.layer(0, index)));
    let depth = names.take_while(|name| tensors.has(name)).count();
    within(NETWORK, "convolutions in a block", depth.max(1), 64)
}

fn encoder(tensors: &Tensors<'_>) -> Result<Option<RifeEncoder>, DetectError> {
    let all = [
        RifeEncoderNames::Cnn,
        RifeEncoderNames::Even,
        RifeEncoderNames::Pair,
    ];
    let is_there = |names: &RifeEncoderNames| {
        let layers = names.layers();
        tensors.has(&format!("{}.weight", layers[layers.len() - 1]))
    };
    let Some(names) = all.into_iter().find(is_there) else {
        return Ok(None);
    };
    let layers = names.layers();
    let last = format!("{}.weight", layers[layers.len() - 1]);
    match tensors.shape(&last) {
        Some([hidden, features, 4, 4]) => Ok(Some(RifeEncoder {
            names,
            hidden: within(NETWORK, "channels of the encoder", *hidden, 1024)?,
            features: within(NETWORK, "features of the encoder", *features, 64)?,
        })),
        found => Err(DetectError::Unsupported {
            tensor: format!("{}{last}", tensors.prefix),
            found: found.unwrap_or_default().to_vec(),
            need: "the encoder of RIFE 4.x ends with a 4x4 kernel, [hidden, features, 4, 4]"
                .to_owned(),
        }),
    }
}

impl fmt::Display for RifeLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let channels: Vec<String> = self.channels.iter().map(usize::to_string).collect();
        let channels = channels.join(", ");
        if self.depth == PUBLISHED_DEPTH && self.channels.len() > 3 {
            let version = self.version();
            write!(f, "{NETWORK} {version} (blocks of {channels} channels)")
        } else {
            let depth = self.depth;
            write!(
                f,
                "{NETWORK} 4.x (blocks of {channels} channels, {depth} convolutions each)"
            )
        }
    }
}
