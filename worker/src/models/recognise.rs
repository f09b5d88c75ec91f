//! Which network a checkpoint holds, told by its tensors' names and shapes. Pure.

use std::collections::BTreeMap;

use crate::networks::{Architecture, CompactLayout, NetworkLayout, RifeLayout, RrdbLayout, rife};

/// Tensors by name, as a safetensors header lists them.
pub type Shapes = BTreeMap<String, Vec<usize>>;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DetectError {
    #[error(
        "no known network: none of RRDBNet (conv_first.weight or model.0.weight), SRVGGNetCompact (body.0.weight) and RIFE 4.x (block0.conv0.0.0.weight) in {count} tensors ({some})"
    )]
    Unknown { count: usize, some: String },
    #[error(
        "tensor {tensor} is of a RIFE before 4.0, or of another network with blocks: block0.conv0.0.0.weight is missing; take the flownet.pkl of a version from 4.0 on"
    )]
    OldRife { tensor: String },
    #[error(
        "RIFE 4.x has 2 to 5 blocks, and these weights have {count} (the last one found by {tensor}); take the flownet.pkl of a published version"
    )]
    Blocks { tensor: String, count: usize },
    #[error(
        "the weights are of {found}, which makes frames between frames; upscaling needs RRDBNet or SRVGGNetCompact"
    )]
    NoUpscaler { found: String },
    #[error("tensor {tensor} is missing: {network} needs it, with shape {expected:?}")]
    Missing {
        tensor: String,
        expected: Vec<usize>,
        network: String,
    },
    #[error("tensor {tensor} of shape {found:?} has no place in {network}")]
    Unexpected {
        tensor: String,
        found: Vec<usize>,
        network: String,
    },
    #[error("tensor {tensor} has shape {found:?}, but {network} needs {expected:?}")]
    Shape {
        tensor: String,
        found: Vec<usize>,
        expected: Vec<usize>,
        network: String,
    },
    #[error("tensor {tensor} is missing: {network} cannot be told apart without it")]
    Undecided {
        tensor: String,
        network: &'static str,
    },
    #[error("tensor {tensor} has shape {found:?}: {need}")]
    Unsupported {
        tensor: String,
        found: Vec<usize>,
        need: String,
    },
    #[error("{network} with {count} {what} is more than the {limit} that are allowed")]
    TooLarge {
        network: &'static str,
        what: &'static str,
        count: usize,
        limit: usize,
    },
    #[error(
        "no slopes (body.1.weight): the file does not say whether the network has ReLU or LeakyReLU; convert it again with tools/convert.py --activation relu (or leakyrelu), which stores the slopes"
    )]
    NoSlopes,
}

/// Tells the network and everything about it (blocks, features, growth, channels, scale) from the
/// shapes, and checks that every tensor of it is there, in the right shape, and no other.
///
/// Checkpoints often hold the weights twice, plain (`params.`) and averaged (`params_ema.`): the
/// averaged ones are taken, as Real-ESRGAN does.
pub fn recognise(shapes: &Shapes) -> Result<NetworkLayout, DetectError> {
    let prefix = prefix(shapes);
    let mut tensors = Tensors {
        prefix,
        shapes: shapes
            .iter()
            .filter_map(|(name, shape)| Some((name.strip_prefix(prefix)?, shape.as_slice())))
            .collect(),
    };
    let upscaler = NetworkLayout::Upscaler;
    let (layout, expected) = if tensors.has("conv_first.weight") || tensors.has("model.0.weight") {
        let layout = RrdbLayout::detect(&tensors)?;
        let expected = layout.tensors();
        (upscaler(Architecture::Rrdb(layout)), expected)
    } else if tensors.has("body.0.weight") {
        let layout = CompactLayout::detect(&tensors)?;
        let expected = layout.tensors();
        (upscaler(Architecture::Compact(layout)), expected)
    } else if tensors.has("block0.conv0.0.0.weight") {
        tensors.leave_out(rife::IGNORED);
        let layout = RifeLayout::detect(&tensors)?;
        let expected = layout.tensors();
        (NetworkLayout::Interpolator(layout), expected)
    } else if let Some(name) = tensors.names().find(|name| name.starts_with("block0.")) {
        let tensor = format!("{prefix}{}", shortened(name));
        return Err(DetectError::OldRife { tensor });
    } else {
        return Err(unknown(shapes));
    };
    tensors.check(&expected, &layout.to_string())?;
    Ok(layout)
}

/// The same for a network that upscales.
///
/// # Errors
/// As [`recognise`]; or it is a network that does something else.
pub fn detect(shapes: &Shapes) -> Result<Architecture, DetectError> {
    match recognise(shapes)? {
        NetworkLayout::Upscaler(architecture) => Ok(architecture),
        NetworkLayout::Interpolator(layout) => Err(DetectError::NoUpscaler {
            found: layout.to_string(),
        }),
    }
}

/// The outer name that the checkpoint's tensors share.
fn prefix(shapes: &Shapes) -> &'static str {
    ["params_ema.", "params.", "module."]
        .into_iter()
        .find(|prefix| shapes.keys().any(|name| name.starts_with(prefix)))
        .unwrap_or("")
}

fn unknown(shapes: &Shapes) -> DetectError {
    let some: Vec<&str> = shapes.keys().take(3).map(|name| shortened(name)).collect();
    DetectError::Unknown {
        count: shapes.len(),
        some: some.join(", "),
    }
}

fn shortened(name: &str) -> &str {
    name.char_indices()
        .nth(60)
        .map_or(name, |(end, _)| &name[..end])
}

/// A checkpoint's tensors, without their prefix.
pub(crate) struct Tensors<'a> {
    pub(crate) prefix: &'static str,
    shapes: BTreeMap<&'a str, &'a [usize]>,
}

impl Tensors<'_> {
    pub(crate) fn has(&self, name: &str) -> bool {
        self.shapes.contains_key(name)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.shapes.keys().copied()
    }

    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.shapes.get(name).copied()
    }

    /// Passes over the tensors whose names begin so.
    fn leave_out(&mut self, beginnings: &[&str]) {
        let is_left_out = |name: &str| beginnings.iter().any(|begin| name.starts_with(begin));
        self.shapes.retain(|name, _| !is_left_out(name));
    }

    /// The outputs and inputs of a 3x3 convolution.
    pub(crate) fn kernel(
        &self,
        name: &str,
        network: &'static str,
    ) -> Result<(usize, usize), DetectError> {
        let tensor = format!("{}{name}", self.prefix);
        match self.shapes.get(name) {
            Some([outputs, inputs, 3, 3]) => Ok((*outputs, *inputs)),
            Some(shape) => {
                let need = format!("{network} has 3x3 kernels here, [outputs, inputs, 3, 3]");
                Err(DetectError::Unsupported {
                    tensor,
                    found: shape.to_vec(),
                    need,
                })
            }
            None => Err(DetectError::Undecided { tensor, network }),
        }
    }

    fn check(
        &self,
        expected: &BTreeMap<String, Vec<usize>>,
        network: &str,
    ) -> Result<(), DetectError> {
        let network = || network.to_owned();
        for (name, &found) in &self.shapes {
            let tensor = || format!("{}{}", self.prefix, shortened(name));
            match expected.get(*name) {
                None => {
                    return Err(DetectError::Unexpected {
                        tensor: tensor(),
                        found: found.to_vec(),
                        network: network(),
                    });
                }
                Some(expected) if expected != found => {
                    return Err(DetectError::Shape {
                        tensor: tensor(),
                        found: found.to_vec(),
                        expected: expected.clone(),
                        network: network(),
                    });
                }
                Some(_) => {}
            }
        }
        for (name, expected) in expected {
            if !self.has(name) {
                let tensor = format!("{}{name}", self.prefix);
                return Err(DetectError::Missing {
                    tensor,
                    expected: expected.clone(),
                    network: network(),
                });
            }
        }
        Ok(())
    }
}

/// Refuses what no real checkpoint has and what would take memory without end.
pub(crate) fn within(
    network: &'static str,
    what: &'static str,
    count: usize,
    limit: usize,
) -> Result<usize, DetectError> {
    if count > limit {
        return Err(DetectError::TooLarge {
            network,
            what,
            count,
            limit,
        });
    }
    Ok(count)
}
