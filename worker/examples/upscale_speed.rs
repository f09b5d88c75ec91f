//! How long one frame takes, by network and size: `cargo run --release --example upscale_speed`.
//! Weights are noise, which takes as long as any. `tests/golden/speed.py` does the same in PyTorch.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use candle_core::{Device, Tensor};
use framewright_worker::models::{Upscaler, detect};

fn main() -> anyhow::Result<()> {
    println!("threads {}", rayon::current_num_threads());
    for (name, shapes) in [
        ("compact x4 64/16", compact(64, 16, 4)),
        ("rrdb x4 6", rrdb(6)),
    ] {
        let upscaler = noise(&shapes)?;
        for (frames, width, height) in [(1, 160, 90), (4, 160, 90), (1, 320, 180)] {
            let frames_in = Tensor::rand(0f32, 1.0, (frames, 3, height, width), &Device::Cpu)?;
            upscaler.forward(&frames_in)?;
            let (mut wall, mut busy) = (f64::INFINITY, f64::INFINITY);
            for _ in 0..3 {
                let (start, start_busy) = (Instant::now(), busy_seconds()?);
                upscaler.forward(&frames_in)?;
                wall = wall.min(start.elapsed().as_secs_f64() / frames as f64);
                busy = busy.min((busy_seconds()? - start_busy) / frames as f64);
            }
            println!("{name} {frames}x{width}x{height} {wall:.3} s/frame, {busy:.3} CPU s/frame");
        }
    }
    Ok(())
}

/// What all threads have computed for: on a machine that does other things, the fairer figure.
fn busy_seconds() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.split_whitespace().collect();
    Ok((fields[13].parse::<f64>()? + fields[14].parse::<f64>()?) / 100.0)
}

fn noise(shapes: &BTreeMap<String, Vec<usize>>) -> anyhow::Result<Upscaler> {
    let tensors: candle_core::Result<HashMap<String, Tensor>> = shapes
        .iter()
        .map(|(name, shape)| {
            Ok((
                name.clone(),
                Tensor::rand(-0.05f32, 0.05, shape.as_slice(), &Device::Cpu)?,
            ))
        })
        .collect();
    Ok(Upscaler::from_tensors(
        &detect(shapes)?,
        tensors?,
        &Device::Cpu,
    )?)
}

fn compact(features: usize, convolutions: usize, scale: usize) -> BTreeMap<String, Vec<usize>> {
    let mut shapes = BTreeMap::new();
    for layer in 0..=convolutions + 1 {
        let inputs = if layer == 0 { 3 } else { features };
        let outputs = if layer > convolutions {
            3 * scale * scale
        } else {
            features
        };
        shapes.insert(
            format!("body.{}.weight", 2 * layer),
            vec![outputs, inputs, 3, 3],
        );
        shapes.insert(format!("body.{}.bias", 2 * layer), vec![outputs]);
        if layer <= convolutions {
            shapes.insert(format!("body.{}.weight", 2 * layer + 1), vec![features]);
        }
    }
    shapes
}

fn rrdb(blocks: usize) -> BTreeMap<String, Vec<usize>> {
    let mut shapes = BTreeMap::new();
    let mut conv = |name: String, inputs: usize, outputs: usize| {
        shapes.insert(format!("{name}.weight"), vec![outputs, inputs, 3, 3]);
        shapes.insert(format!("{name}.bias"), vec![outputs]);
    };
    conv("conv_first".to_owned(), 3, 64);
    for block in 0..blocks {
        for dense in 1..=3 {
            for number in 0..5 {
                let outputs = if number == 4 { 64 } else { 32 };
                conv(
                    format!("body.{block}.rdb{dense}.conv{}", number + 1),
                    64 + 32 * number,
                    outputs,
                );
            }
        }
    }
    for name in ["conv_body", "conv_up1", "conv_up2", "conv_hr"] {
        conv(name.to_owned(), 64, 64);
    }
    conv("conv_last".to_owned(), 64, 3);
    shapes
}
