//! Networks with weights by formula, and what PyTorch computes with them.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use candle_core::{Device, Tensor};
use framewright_worker::models::{Upscaler, detect};
use serde::Deserialize;

#[derive(Deserialize)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) input: [usize; 4],
    /// Shapes by the checkpoint's names.
    pub(crate) weights: BTreeMap<String, Vec<usize>>,
}

pub(crate) fn cases() -> Vec<Case> {
    serde_json::from_slice(&std::fs::read(folder().join("cases.json")).unwrap()).unwrap()
}

pub(crate) fn case(name: &str) -> Case {
    cases().into_iter().find(|case| case.name == name).unwrap()
}

impl Case {
    pub(crate) fn upscaler(&self) -> Upscaler {
        let architecture = detect(&self.weights).unwrap();
        Upscaler::from_tensors(&architecture, weights(&self.weights), &Device::Cpu).unwrap()
    }

    pub(crate) fn input(&self) -> Tensor {
        let values = uniform(&self.name, self.input.iter().product());
        Tensor::new(values, &Device::Cpu)
            .unwrap()
            .affine(1.0, 0.5)
            .unwrap()
            .reshape(&self.input)
            .unwrap()
    }

    pub(crate) fn output(&self) -> Tensor {
        let outputs =
            candle_core::safetensors::load(folder().join("outputs.safetensors"), &Device::Cpu)
                .unwrap();
        outputs[&self.name].clone()
    }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The weights that make.py gives tensors of these names and shapes.
pub(crate) fn weights(shapes: &BTreeMap<String, Vec<usize>>) -> HashMap<String, Tensor> {
    shapes
        .iter()
        .map(|(name, shape)| {
            let spread = if shape.len() == 4 {
                (24.0 / shape[1..].iter().product::<usize>() as f64).sqrt()
            } else {
                0.5
            };
            let mut values = uniform(name, shape.iter().product());
            values.iter_mut().for_each(|value| *value *= spread as f32);
            (
                name.clone(),
                Tensor::from_vec(values, shape.as_slice(), &Device::Cpu).unwrap(),
            )
        })
        .collect()
}

/// Values from -0.5 to below 0.5 that depend on the name and the index only.
fn uniform(name: &str, count: usize) -> Vec<f32> {
    let start = fnv1a64(name);
    (1..=count as u64)
        .map(|index| {
            let random = splitmix64(start.wrapping_add(index.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
            (random >> 40) as f32 / (1 << 24) as f32 - 0.5
        })
        .collect()
}

fn fnv1a64(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

fn splitmix64(mut state: u64) -> u64 {
    state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    state ^ (state >> 31)
}
