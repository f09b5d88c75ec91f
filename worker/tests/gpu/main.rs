//! The GPU computes what the CPU computes, and stays sound: `make test-gpu`, on a machine with an NVIDIA GPU. Without one each
//! test fails, with the sentence that says what is missing.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that panics has failed, which is the point"
)]

#[path = "../golden/closeness.rs"]
mod closeness;
#[path = "../golden/mod.rs"]
mod golden;
mod soundness;

use candle_core::{DType, Device, Tensor};
use framewright_crds::modelpool;
use framewright_worker::device;
use framewright_worker::frame::{FrameError, tiling_on_device, upscale_rgb8};
use framewright_worker::models::detect;
use framewright_worker::networks::Upscaler;
use framewright_worker::tiles::Tiling;

use closeness::{cosine, psnr, worst};

fn gpu() -> Device {
    // A difference in the last bits of float32 is to be seen, so no TF32 in its place.
    candle_core::cuda::set_gemm_reduced_precision_f32(false);
    device::open(modelpool::Device::Cuda)
        .unwrap_or_else(|trouble| panic!("this test needs an NVIDIA GPU: {trouble}"))
}

fn upscaler(case: &golden::Case, dtype: DType, device: &Device) -> Upscaler {
    let architecture = detect(&case.weights).unwrap();
    let weights = golden::weights(&case.weights);
    Upscaler::from_tensors_as(dtype, &architecture, weights, device).unwrap()
}

#[test]
fn every_network_in_float32_computes_what_the_cpu_and_pytorch_do() {
    let gpu = gpu();
    for case in golden::cases() {
        let on_gpu = upscaler(&case, DType::F32, &gpu)
            .forward(&case.input())
            .unwrap();
        let on_cpu = case.upscaler().forward(&case.input()).unwrap();
        for (other, expected) in [("the CPU", on_cpu), ("PyTorch", case.output())] {
            let worst = worst(&on_gpu, &expected);
            println!("{}: differs from {other} by {worst:e}", case.name);
            assert!(worst <= 1e-3, "{}: {other}, {worst}", case.name);
        }
    }
}

#[test]
fn every_network_in_half_precision_makes_the_same_picture() {
    let gpu = gpu();
    for case in golden::cases() {
        let [frames, _, height, width] = case.input;
        let input = golden::frames(&case.name, frames, 4 * height, 4 * width);
        let expected = case.upscaler().forward(&input).unwrap();
        for dtype in [DType::F16, DType::BF16] {
            let halves = upscaler(&case, dtype, &gpu).forward(&input).unwrap();
            let (cosine, psnr) = (cosine(&halves, &expected), psnr(&halves, &expected));
            let name = format!("{} in {dtype:?}", case.name);
            println!("{name}: cosine {cosine:.6}, PSNR {psnr:.1} dB");
            assert!(cosine >= 0.999, "{name}: cosine {cosine}");
            assert!(psnr >= case.least_psnr(dtype), "{name}: PSNR {psnr} dB");
        }
    }
}

#[test]
fn a_frame_of_bytes_comes_out_as_from_the_cpu() {
    let gpu = gpu();
    for case in golden::cases() {
        let (width, height) = (67, 41);
        let pixels = golden::pixels(&case.name, 3 * width * height);
        let upscaled = |device: &Device| {
            let upscaler = upscaler(&case, DType::F32, device);
            let tiling = tiling_on_device(&upscaler, 4 << 30);
            upscale_rgb8(&upscaler, &pixels, width, height, tiling, &|| false).unwrap()
        };
        let (on_gpu, on_cpu) = (upscaled(&gpu), upscaled(&Device::Cpu));
        let differences = on_gpu.iter().zip(&on_cpu);
        let worst = differences.map(|(one, other)| one.abs_diff(*other)).max();
        assert!(worst <= Some(1), "{}: {worst:?} of 255", case.name);
    }
}

#[test]
fn a_network_that_makes_no_numbers_is_found_out() {
    let gpu = gpu();
    let case = golden::case("compact_x4_anime_video");
    let mut weights = golden::weights(&case.weights);
    let bias = weights.get_mut("params.body.0.bias").unwrap();
    *bias = (bias.zeros_like().unwrap() + f64::NAN).unwrap();
    let architecture = detect(&case.weights).unwrap();
    let upscaler = Upscaler::from_tensors_as(DType::F16, &architecture, weights, &gpu).unwrap();
    let tiling = tiling_on_device(&upscaler, 1 << 30);
    let pixels = golden::pixels("frame", 3 * 16 * 16);
    let made = upscale_rgb8(&upscaler, &pixels, 16, 16, tiling, &|| false);
    assert!(matches!(made, Err(FrameError::NotANumber)), "{made:?}");
}

#[test]
fn a_frame_in_tiles_is_the_whole_frame() {
    let gpu = gpu();
    for case in golden::cases() {
        let upscaler = upscaler(&case, DType::F32, &gpu);
        let (width, height) = (150, 130);
        let pixels = golden::pixels(&case.name, 3 * width * height);
        let upscaled =
            |tiling| upscale_rgb8(&upscaler, &pixels, width, height, tiling, &|| false).unwrap();
        let whole = upscaled(tiling_on_device(&upscaler, 4 << 30));
        let architecture = upscaler.architecture();
        let overlap = architecture.overlap();
        let tiles = upscaled(Tiling {
            edge: (2 * overlap + 24).next_multiple_of(architecture.multiple()),
            overlap,
            multiple: architecture.multiple(),
        });
        let worst = whole
            .iter()
            .zip(&tiles)
            .map(|(one, other)| one.abs_diff(*other))
            .max();
        assert!(worst <= Some(1), "{}: {worst:?} of 255", case.name);
    }
}

#[test]
fn a_frame_comes_out_the_same_in_a_batch_and_alone() {
    let gpu = gpu();
    for case in golden::cases() {
        let upscaler = upscaler(&case, DType::F32, &gpu);
        let frames = golden::frames(&case.name, 3, 23, 31);
        let together = upscaler.forward(&frames).unwrap();
        for index in 0..3 {
            let part = |tensor: &Tensor| tensor.narrow(0, index, 1).unwrap();
            let alone = upscaler.forward(&part(&frames)).unwrap();
            let worst = worst(&alone, &part(&together));
            assert!(worst <= 1e-3, "{} frame {index}: {worst}", case.name);
        }
    }
}

#[test]
fn the_same_work_gives_the_same_bytes() {
    let gpu = gpu();
    for case in golden::cases() {
        let (width, height) = (96, 64);
        let pixels = golden::pixels(&case.name, 3 * width * height);
        let once = || {
            let upscaler = upscaler(&case, DType::F16, &gpu);
            let tiling = tiling_on_device(&upscaler, 1 << 30);
            upscale_rgb8(&upscaler, &pixels, width, height, tiling, &|| false).unwrap()
        };
        assert_eq!(once(), once(), "{}", case.name);
    }
}
