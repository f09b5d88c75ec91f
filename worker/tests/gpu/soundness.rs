//! A full GPU costs its task and no other, and tasks leave nothing behind on it.

use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use framewright_crds::aijob::Cause;
use framewright_worker::device::gpu_memory;
use framewright_worker::engine::{Engine, EngineError, Weights};
use framewright_worker::frame::{tiling_on_device, upscale_rgb8};
use framewright_worker::models::verify::Sha256;
use framewright_worker::networks::LoadedNetwork;
use framewright_worker::pipelines::PipelineError;
use tempfile::TempDir;

use crate::{golden, gpu};

const TASKS: usize = 200;
/// As many as it takes to have seen every network and every size.
const FIRST: usize = 20;
/// The driver counts in steps of 2 MiB, and cuBLAS keeps a workspace.
const SLACK: u64 = 64 << 20;

#[tokio::test]
async fn a_full_gpu_fails_its_task_and_not_the_next() {
    let gpu = gpu();
    let engine = Engine::start(gpu.clone()).unwrap();
    let folder = TempDir::new().unwrap();
    let weights = weights(&folder, "rrdb_x4_anime");
    let filled = fill(&gpu);
    let error = upscaled(&engine, &weights, 512, 512).await.unwrap_err();
    assert_eq!(error.cause(), Cause::OutOfMemory, "{error}");
    drop(filled);
    upscaled(&engine, &weights, 512, 512).await.unwrap();
}

#[tokio::test]
async fn two_hundred_tasks_take_no_more_memory_than_the_first_ones() {
    let gpu = gpu();
    let engine = Engine::start(gpu.clone()).unwrap();
    let folder = TempDir::new().unwrap();
    let networks = ["rrdb_x4_anime", "compact_x4_anime_video"].map(|name| weights(&folder, name));
    let sizes = [(64, 64), (200, 120), (33, 250), (320, 180), (7, 5)];
    let mut after_the_first = (0, 0);
    for task in 0..TASKS {
        if task == FIRST {
            after_the_first = taken(&gpu);
        }
        let (width, height) = sizes[task % sizes.len()];
        upscaled(&engine, &networks[task % networks.len()], width, height)
            .await
            .unwrap();
    }
    let (on_gpu, host) = taken(&gpu);
    println!("after {FIRST} and {TASKS} tasks: {after_the_first:?} and {on_gpu}, {host} bytes");
    assert!(
        on_gpu <= after_the_first.0 + SLACK,
        "the GPU's memory grows"
    );
    assert!(host <= after_the_first.1 + SLACK, "the process grows");
}

/// Takes all of the GPU's memory but a little.
fn fill(gpu: &Device) -> Vec<Tensor> {
    let (mut filled, mut bytes) = (Vec::new(), 1 << 30);
    while bytes >= 16 << 20 {
        match Tensor::zeros(bytes, DType::U8, gpu) {
            Ok(tensor) => filled.push(tensor),
            Err(_) => bytes /= 2,
        }
    }
    filled
}

async fn upscaled(
    engine: &Engine,
    weights: &Weights,
    width: usize,
    height: usize,
) -> Result<Vec<u8>, EngineError> {
    let (weights, tile_bytes) = (weights.clone(), engine.tile_bytes());
    engine
        .compute(move |bench| {
            let network = bench.network(&weights)?;
            let LoadedNetwork::Upscaler(network) = &*network else {
                panic!("the weights are those of an upscaler");
            };
            let pixels = golden::pixels("task", 3 * width * height);
            let tiling = tiling_on_device(network, tile_bytes);
            upscale_rgb8(network, &pixels, width, height, tiling, &|| false).map_err(|source| {
                PipelineError::Network {
                    source: Box::new(source),
                }
            })
        })
        .await
}

fn weights(folder: &TempDir, name: &str) -> Weights {
    let path: PathBuf = folder.path().join(name);
    let tensors = golden::weights(&golden::case(name).weights);
    candle_core::safetensors::save(&tensors, &path).unwrap();
    let content = std::fs::read(&path).unwrap();
    let digest = ring::digest::digest(&ring::digest::SHA256, &content);
    let sha256: Sha256 = hex::encode(digest).parse().unwrap();
    Weights {
        name: name.to_owned(),
        path,
        sha256,
        held: None,
    }
}

/// The GPU's and the host's memory that is taken, in bytes.
fn taken(gpu: &Device) -> (u64, u64) {
    let memory = gpu_memory(gpu).expect("the GPU is open");
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kibibytes: u64 = line
        .and_then(|line| line.split_whitespace().nth(1))
        .unwrap()
        .parse()
        .unwrap();
    (memory.total - memory.free, 1024 * kibibytes)
}
