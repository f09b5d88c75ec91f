//! The networks that are measured: their tensors' shapes, and how much there is to compute.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Tensor};
use framewright_worker::models::detect;
use framewright_worker::networks::Upscaler;

pub(crate) struct Network {
    pub(crate) name: &'static str,
    pub(crate) scale: usize,
    pub(crate) blocks: usize,
    shapes: BTreeMap<String, Vec<usize>>,
    /// Multiplications and additions for each input pixel.
    pub(crate) operations: f64,
}

pub(crate) fn all() -> Vec<Network> {
    let mut networks = Vec::new();
    for scale in [2, 4] {
        networks.extend([23, 6].map(|blocks| rrdb(scale, blocks)));
        networks.extend([16, 32].map(|convolutions| compact(scale, convolutions)));
    }
    networks
}

impl Network {
    /// With weights by formula: small enough that half precision holds what they make.
    pub(crate) fn load(&self, dtype: DType, device: &Device) -> anyhow::Result<Upscaler> {
        let tensors: anyhow::Result<HashMap<String, Tensor>> = self
            .shapes
            .iter()
            .map(|(name, shape)| {
                let count: usize = shape.iter().product();
                let inputs: usize = shape.iter().skip(1).product();
                let values: Vec<f32> = (0..count)
                    .map(|index| noise(index) / (inputs as f32).sqrt())
                    .collect();
                let tensor = Tensor::from_vec(values, shape.as_slice(), &Device::Cpu)?;
                Ok((name.clone(), tensor))
            })
            .collect();
        let architecture = detect(&self.shapes)?;
        Ok(Upscaler::from_tensors_as(
            dtype,
            &architecture,
            tensors?,
            device,
        )?)
    }
}

/// From -0.5 to 0.5.
fn noise(index: usize) -> f32 {
    let mixed = (index as u32).wrapping_mul(0x9E37_79B9) ^ 0x5bd1_e995;
    (mixed.wrapping_mul(0x85EB_CA6B) >> 8) as f32 / (1 << 24) as f32 - 0.5
}

/// RRDBNet, 64 features, growth 32. x2 folds squares of pixels into channels first, as Real-ESRGAN's x2plus does.
fn rrdb(scale: usize, blocks: usize) -> Network {
    let folded = if scale == 2 { 4 } else { 1 };
    let mut layers = vec![("conv_first".to_owned(), 3 * folded, 64, 1)];
    for block in 0..blocks {
        for dense in 1..=3 {
            layers.extend((0..5).map(|number| {
                let name = format!("body.{block}.rdb{dense}.conv{}", number + 1);
                (name, 64 + 32 * number, if number == 4 { 64 } else { 32 }, 1)
            }));
        }
    }
    for (name, outputs, enlarged) in [
        ("conv_body", 64, 1),
        ("conv_up1", 64, 4),
        ("conv_up2", 64, 16),
        ("conv_hr", 64, 16),
        ("conv_last", 3, 16),
    ] {
        layers.push((name.to_owned(), 64, outputs, enlarged));
    }
    let operations: usize = layers
        .iter()
        .map(|(_, inputs, outputs, enlarged)| 2 * 9 * inputs * outputs * enlarged)
        .sum();
    let shapes = layers.into_iter().flat_map(|(name, inputs, outputs, _)| {
        [
            (format!("{name}.weight"), vec![outputs, inputs, 3, 3]),
            (format!("{name}.bias"), vec![outputs]),
        ]
    });
    Network {
        name: "RRDBNet",
        scale,
        blocks,
        shapes: shapes.collect(),
        operations: operations as f64 / folded as f64,
    }
}

/// SRVGGNetCompact, 64 features.
fn compact(scale: usize, convolutions: usize) -> Network {
    let (mut shapes, mut operations) = (BTreeMap::new(), 0);
    for layer in 0..=convolutions + 1 {
        let inputs = if layer == 0 { 3 } else { 64 };
        let outputs = if layer > convolutions {
            3 * scale * scale
        } else {
            64
        };
        operations += 2 * 9 * inputs * outputs;
        shapes.insert(
            format!("body.{}.weight", 2 * layer),
            vec![outputs, inputs, 3, 3],
        );
        shapes.insert(format!("body.{}.bias", 2 * layer), vec![outputs]);
        if layer <= convolutions {
            shapes.insert(format!("body.{}.weight", 2 * layer + 1), vec![64]);
        }
    }
    Network {
        name: "SRVGG",
        scale,
        blocks: convolutions,
        shapes,
        operations: operations as f64,
    }
}
