//! The worker's side of `upscale_beside_torch.py`, which starts it: upscales the same frames once for each line that it is sent,
//! and answers how long that took.
//!
//! Arguments: threads, a weight file, a file with the tensor `frames`, and where the result goes.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use candle_core::Device;
use framewright_worker::models::verify::Sha256;
use framewright_worker::models::{WeightFile, load_upscaler};
use framewright_worker::threads;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = || {
        arguments
            .next()
            .context("started by upscale_beside_torch.py, with threads, weights, frames and result")
    };
    threads::start(Some(argument()?.parse()?))?;
    let weights = PathBuf::from(argument()?);
    let frames = candle_core::safetensors::load(argument()?, &Device::Cpu)?
        .remove("frames")
        .context("the file of frames holds no tensor of that name")?;
    let result = argument()?;
    let file = WeightFile {
        name: "weights",
        path: &weights,
        sha256: Sha256::of(File::open(&weights)?)?,
    };
    let upscaler = load_upscaler(file, &Device::Cpu)?;
    let upscaled = upscaler.forward(&frames)?;
    candle_core::safetensors::save(&HashMap::from([("upscaled", upscaled)]), result)?;
    let mut answers = std::io::stdout().lock();
    writeln!(answers, "ready {}", rayon::current_num_threads())?;
    for line in std::io::stdin().lock().lines() {
        line?;
        let start = Instant::now();
        upscaler.forward(&frames)?;
        writeln!(answers, "{}", start.elapsed().as_secs_f64())?;
    }
    Ok(())
}
