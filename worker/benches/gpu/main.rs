//! How fast are the networks on this GPU? `make bench-gpu`; on a machine without one it ends with the sentence that says why.
//!
//! One table: each network and size in half precision beside PyTorch in the same run, eager and compiled, where a python3 with
//! torch is there; how much of the GPU's memory it takes; and its share of the rate at which cuBLAS multiplies large matrices
//! on this GPU in this run, which is as fast as any of it could be. Then whole videos, and a process from its start to its
//! first frame. Nothing is downloaded: weights and frames are made by formula.
//!
//! `cargo bench --features cuda --bench gpu -- --cpu` tries the benchmark itself, small, on a CPU.

mod networks;
mod ours;
mod torch;
mod video;

use anyhow::{Context, Result};
use candle_core::{DType, Device};
use framewright_crds::modelpool;
use framewright_worker::device;

/// What is measured where.
pub(crate) struct Setting {
    pub(crate) device: Device,
    pub(crate) dtype: DType,
    /// Width and height of frames.
    pub(crate) sizes: Vec<(usize, usize)>,
    /// Side of the matrices.
    pub(crate) matrix: usize,
    pub(crate) video_frames: u32,
}

fn main() -> Result<()> {
    let setting = setting()?;
    let multiplying = ours::multiplying(&setting)?;
    println!(
        "matrices of {0} x {0}: {multiplying:.1} TFLOP/s",
        setting.matrix
    );
    println!(
        "\n{:<20}{:<12}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
        "network", "frame", "frames/s", "roofline", "peak GiB", "eager", "compiled", "ahead"
    );
    for network in networks::all() {
        for (width, height) in &setting.sizes {
            let ours = ours::measure(&network, &setting, *width, *height)?;
            let tera = network.operations * (width * height) as f64 / 1e12;
            let theirs = torch::measure(&network, &setting, *width, *height)?;
            println!(
                "{:<20}{:<12}{:>10.2}{:>9.0}%{:>10.2}{}",
                format!("{} {} x{}", network.name, network.blocks, network.scale),
                format!("{width}x{height}"),
                ours.rate,
                100.0 * tera * ours.rate / multiplying,
                ours.peak_bytes as f64 / (1u64 << 30) as f64,
                theirs.columns(ours.rate),
            );
        }
    }
    video::measure(&setting)
}

fn setting() -> Result<Setting> {
    if std::env::args().any(|argument| argument == "--cpu") {
        return Ok(Setting {
            device: Device::Cpu,
            dtype: DType::F32,
            sizes: vec![(32, 18)],
            matrix: 256,
            video_frames: 3,
        });
    }
    let device =
        device::open(modelpool::Device::Cuda).context("this benchmark needs an NVIDIA GPU")?;
    Ok(Setting {
        device,
        dtype: DType::F16,
        sizes: vec![(960, 540), (1920, 1080)],
        matrix: 8192,
        video_frames: 120,
    })
}
