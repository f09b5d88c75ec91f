//! Frames of any size, frames that are none, and frames that nobody wants any more.

use candle_core::{DType, Tensor};
use framewright_worker::frame::{FrameError, tiling, upscale_rgb8};
use framewright_worker::tiles::Tiling;

use crate::golden;

#[test]
fn a_frame_of_any_size_comes_out_as_large_as_it_should() {
    for case in golden::cases()
        .iter()
        .filter(|case| !case.name.contains("anime"))
    {
        let upscaler = case.upscaler();
        let scale = upscaler.scale();
        let tiling = tiling(upscaler.architecture(), u64::MAX);
        for (width, height) in [(1, 1), (1, 5), (2, 3), (7, 1), (5, 4)] {
            let pixels = golden::pixels(&case.name, 3 * width * height);
            let upscaled =
                upscale_rgb8(&upscaler, &pixels, width, height, tiling, &|| false).unwrap();
            assert_eq!(
                upscaled.len(),
                3 * width * height * scale * scale,
                "{} at {width}x{height}",
                case.name
            );
        }
    }
}

#[test]
fn a_frame_stops_as_soon_as_it_is_told_to() {
    for (name, least) in [("compact_x2", 9 * 6), ("rrdb_x4", 9 * 4)] {
        let upscaler = golden::case(name).upscaler();
        let tiling = Tiling {
            edge: 30,
            overlap: 6,
            multiple: 1,
        };
        let stop_after = |count| {
            let asked = std::cell::Cell::new(0);
            let should_stop = || {
                asked.set(asked.get() + 1);
                asked.get() > count
            };
            let result = upscale_rgb8(&upscaler, &[0; 3 * 64 * 64], 64, 64, tiling, &should_stop);
            (result, asked.get())
        };
        let (result, asked) = stop_after(usize::MAX);
        assert!(result.is_ok());
        assert!(asked >= least, "{name} asked {asked} times");
        for count in [0, 1, asked - 1] {
            let (result, asked) = stop_after(count);
            assert!(matches!(result, Err(FrameError::Stopped)), "{name}");
            assert_eq!(asked, count + 1, "{name} went on");
        }
    }
}

#[test]
fn frames_that_are_none_are_refused() {
    let upscaler = golden::case("compact_x2").upscaler();
    let tiling = tiling(upscaler.architecture(), u64::MAX);
    for (pixels, width, height) in [(0, 0, 5), (11, 2, 2), (13, 2, 2), (12, usize::MAX, 2)] {
        let error = upscale_rgb8(&upscaler, &vec![0; pixels], width, height, tiling, &|| {
            false
        })
        .unwrap_err();
        assert!(
            matches!(error, FrameError::Size { .. } | FrameError::TooLarge { .. }),
            "{error}"
        );
    }
    let shapes: [&[usize]; 3] = [&[1, 1, 4, 4], &[3, 4, 4], &[1, 3, 0, 4]];
    for shape in shapes {
        upscaler
            .forward(&Tensor::zeros(shape, DType::F32, upscaler.device()).unwrap())
            .unwrap_err();
    }
}

#[test]
fn too_little_memory_for_the_smallest_tile_is_said() {
    let upscaler = golden::case("rrdb_x4_anime").upscaler();
    let tiling = tiling(upscaler.architecture(), 1_000_000);
    let error =
        upscale_rgb8(&upscaler, &[0; 3 * 100 * 100], 100, 100, tiling, &|| false).unwrap_err();
    assert!(matches!(error, FrameError::Tile(_)), "{error}");
}

#[test]
fn broken_weights_are_an_error_and_no_black_frame() {
    let case = golden::case("compact_x2");
    let mut weights = golden::weights(&case.weights);
    let bias = weights.get_mut("body.2.bias").unwrap();
    *bias = (bias.zeros_like().unwrap() * f64::NAN).unwrap();
    let upscaler = golden::upscaler(&case.weights, weights);
    let tiling = tiling(upscaler.architecture(), u64::MAX);
    let error = upscale_rgb8(&upscaler, &[0; 12], 2, 2, tiling, &|| false).unwrap_err();
    assert!(matches!(error, FrameError::NotANumber), "{error}");
}
