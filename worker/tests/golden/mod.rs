//! Networks with weights by formula, and what PyTorch computes with them.
#![allow(dead_code, reason = "each test file needs a part of it")]

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use framewright_worker::models::{Shapes, detect, recognise};
use framewright_worker::networks::{FlowScale, Interpolator, NetworkLayout, RifeLayout, Upscaler};
use serde::Deserialize;

#[derive(Deserialize)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) input: [usize; 4],
    /// Shapes by the checkpoint's names.
    pub(crate) weights: Shapes,
}

pub(crate) fn cases() -> Vec<Case> {
    serde_json::from_slice(&std::fs::read(folder().join("cases.json")).unwrap()).unwrap()
}

pub(crate) fn case(name: &str) -> Case {
    cases().into_iter().find(|case| case.name == name).unwrap()
}

impl Case {
    pub(crate) fn upscaler(&self) -> Upscaler {
        upscaler(&self.weights, weights(&self.weights))
    }

    pub(crate) fn input(&self) -> Tensor {
        let [count, _, height, width] = self.input;
        frames(&self.name, count, height, width)
    }

    /// How near the picture in this type must be to the one in float32, in dB. bfloat16 has 3 bits less than float16, and an RRDBNet
    /// with these weights makes values far beyond the 0 to 1 that a picture shows.
    pub(crate) fn least_psnr(&self, dtype: DType) -> f64 {
        if dtype == DType::BF16 && self.name.starts_with("rrdb") {
            38.0
        } else {
            45.0
        }
    }

    pub(crate) fn output(&self) -> Tensor {
        let outputs =
            candle_core::safetensors::load(folder().join("outputs.safetensors"), &Device::Cpu)
                .unwrap();
        outputs[&self.name].clone()
    }
}

/// A RIFE, and what it makes of two frames: written by rife.py.
#[derive(Deserialize)]
pub(crate) struct RifeCase {
    pub(crate) name: String,
    /// Height and width.
    pub(crate) size: [usize; 2],
    pub(crate) time: f32,
    scale: f64,
    contrast: f64,
    /// How much the last layers of the blocks count.
    gain: f32,
    pub(crate) weights: Shapes,
}

pub(crate) fn rife_cases() -> Vec<RifeCase> {
    serde_json::from_slice(&std::fs::read(folder().join("rife.json")).unwrap()).unwrap()
}

pub(crate) fn rife_case(name: &str) -> RifeCase {
    let mut cases = rife_cases().into_iter();
    cases.find(|case| case.name == name).unwrap()
}

impl RifeCase {
    pub(crate) fn layout(&self) -> RifeLayout {
        match recognise(&self.weights).unwrap() {
            NetworkLayout::Interpolator(layout) => layout,
            NetworkLayout::Upscaler(_) => panic!("{} is no RIFE", self.name),
        }
    }

    pub(crate) fn tensors(&self) -> HashMap<String, Tensor> {
        let mut tensors = weights(&self.weights);
        for (name, tensor) in &mut tensors {
            if name.contains("lastconv") {
                let shape = tensor.shape().clone();
                let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
                let values: Vec<f32> = values.iter().map(|value| value * self.gain).collect();
                *tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
            }
        }
        tensors
    }

    pub(crate) fn interpolator(&self) -> Interpolator {
        Interpolator::from_tensors(&self.layout(), self.tensors(), &Device::Cpu).unwrap()
    }

    /// The two frames, each `[1, 3, height, width]`.
    pub(crate) fn frames(&self) -> [Tensor; 2] {
        let [height, width] = self.size;
        let both = frames(&self.name, 2, height, width);
        let both = both
            .affine(self.contrast, 0.5 - 0.5 * self.contrast)
            .unwrap();
        [0, 1].map(|index| both.narrow(0, index, 1).unwrap())
    }

    pub(crate) fn flow_scale(&self) -> FlowScale {
        let scales = [
            (0.25, FlowScale::Quarter),
            (0.5, FlowScale::Half),
            (1.0, FlowScale::Full),
            (2.0, FlowScale::Double),
        ];
        let known = scales.into_iter().find(|(scale, _)| *scale == self.scale);
        known.unwrap().1
    }

    pub(crate) fn output(&self) -> Tensor {
        let path = folder().join("rife.safetensors");
        let outputs = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
        outputs[&self.name].unsqueeze(0).unwrap()
    }
}

pub(crate) fn upscaler(shapes: &Shapes, weights: HashMap<String, Tensor>) -> Upscaler {
    Upscaler::from_tensors(&detect(shapes).unwrap(), weights, &Device::Cpu).unwrap()
}

/// Frames of noise from 0 to 1, the same for the same name.
pub(crate) fn frames(name: &str, frames: usize, height: usize, width: usize) -> Tensor {
    let values = uniform(name, frames * 3 * height * width);
    Tensor::from_vec(values, (frames, 3, height, width), &Device::Cpu)
        .unwrap()
        .affine(1.0, 0.5)
        .unwrap()
}

/// Rows of RGB bytes as a frame from 0 to 1.
pub(crate) fn planes(pixels: &[u8], height: usize, width: usize) -> Tensor {
    let values: Vec<f32> = pixels
        .iter()
        .map(|value| f32::from(*value) / 255.0)
        .collect();
    let rows = Tensor::from_vec(values, (1, height, width, 3), &Device::Cpu).unwrap();
    rows.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap()
}

/// Bytes of noise, the same for the same name.
pub(crate) fn pixels(name: &str, count: usize) -> Vec<u8> {
    uniform(name, count)
        .into_iter()
        .map(|value| ((value + 0.5) * 256.0) as u8)
        .collect()
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The weights that make.py gives tensors of these names and shapes.
pub(crate) fn weights(shapes: &Shapes) -> HashMap<String, Tensor> {
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
