//! Do networks compute what PyTorch does, in full and in half precision, in a batch and alone?

use candle_core::{DType, Device};
use framewright_worker::models::detect;
use framewright_worker::networks::Upscaler;

use crate::closeness::{cosine, psnr, worst};
use crate::{bits, deep, golden};

const TOLERANCE: f32 = 1e-4;

#[test]
fn every_network_computes_what_pytorch_does() {
    for case in golden::cases() {
        let upscaler = case.upscaler();
        let upscaled = upscaler.forward(&case.input()).unwrap();
        let worst = worst(&upscaled, &case.output());
        println!(
            "{}: {} differs by {worst:e}",
            case.name,
            upscaler.architecture()
        );
        assert!(worst <= TOLERANCE, "{}: {worst}", case.name);
    }
}

/// On a CPU, by the operations that GPUs do it with.
#[test]
fn every_network_in_half_precision_makes_the_same_picture() {
    for case in golden::cases() {
        let [frames, _, height, width] = case.input;
        let input = golden::frames(&case.name, frames, 2 * height, 2 * width);
        let expected = case.upscaler().forward(&input).unwrap();
        for dtype in [DType::F16, DType::BF16] {
            let halves = Upscaler::from_tensors_as(
                dtype,
                &detect(&case.weights).unwrap(),
                golden::weights(&case.weights),
                &Device::Cpu,
            );
            let halves = halves.unwrap().forward(&input).unwrap();
            let (cosine, psnr) = (cosine(&halves, &expected), psnr(&halves, &expected));
            let name = format!("{} in {dtype:?}", case.name);
            println!("{name}: cosine {cosine:.6}, PSNR {psnr:.1} dB");
            assert!(cosine >= 0.999, "{name}: cosine {cosine}");
            assert!(psnr >= case.least_psnr(dtype), "{name}: PSNR {psnr} dB");
        }
    }
}

#[test]
fn a_frame_comes_out_the_same_in_a_batch_and_alone_and_twice() {
    let published = [deep::x4plus(), deep::x2plus()];
    for case in golden::cases().into_iter().chain(published) {
        let upscaler = case.upscaler();
        let frames = golden::frames(&case.name, 3, 11, 9);
        let together = upscaler.forward(&frames).unwrap();
        for index in 0..3 {
            let alone = upscaler
                .forward(&frames.narrow(0, index, 1).unwrap())
                .unwrap();
            assert_eq!(
                bits(&alone),
                bits(&together.narrow(0, index, 1).unwrap()),
                "{} frame {index}",
                case.name
            );
        }
        assert_eq!(
            bits(&upscaler.forward(&frames).unwrap()),
            bits(&together),
            "{}",
            case.name
        );
    }
}
