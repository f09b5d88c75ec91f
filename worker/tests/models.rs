//! The networks compute what PyTorch does: golden tensors, with weights that a formula gives
//! (`golden/make.py` wrote them, from spandrel's networks).

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is the point"
)]

#[path = "golden/closeness.rs"]
mod closeness;
mod golden;

use candle_core::{DType, Device, Tensor};
use framewright_worker::frame::{FrameError, tiling, upscale_rgb8};
use framewright_worker::models::{Architecture, DetectError, Shapes, Upscaler, detect};
use framewright_worker::tiles::{Rectangle, Tile, Tiling, plan};

use closeness::{cosine, psnr, worst};

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
        let halves = Upscaler::from_tensors_as(
            DType::F16,
            &detect(&case.weights).unwrap(),
            golden::weights(&case.weights),
            &Device::Cpu,
        );
        let halves = halves.unwrap().forward(&input).unwrap();
        let (cosine, psnr) = (cosine(&halves, &expected), psnr(&halves, &expected));
        println!("{}: cosine {cosine:.6}, PSNR {psnr:.1} dB", case.name);
        assert!(cosine >= 0.999, "{}: cosine {cosine}", case.name);
        assert!(psnr >= 45.0, "{}: PSNR {psnr} dB", case.name);
    }
}

#[test]
fn everything_about_a_network_is_told_by_its_shapes() {
    let told: Vec<String> = golden::cases()
        .iter()
        .map(|case| format!("{}: {}", case.name, detect(&case.weights).unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            "rrdb_x4: RRDBNet x4 (2 blocks, 8 features, growth 4)",
            "rrdb_x4_numbered: RRDBNet x4 (2 blocks, 8 features, growth 4)",
            "rrdb_x4_trunk: RRDBNet x4 (1 blocks, 12 features, growth 8)",
            "rrdb_x2_numbered: RRDBNet x2 (1 blocks, 8 features, growth 4)",
            "rrdb_x2_unshuffled: RRDBNet x2 (2 blocks, 8 features, growth 4)",
            "rrdb_x1_unshuffled: RRDBNet x1 (1 blocks, 8 features, growth 4)",
            "rrdb_x4_anime: RRDBNet x4 (6 blocks, 64 features, growth 32)",
            "compact_x4: SRVGGNetCompact x4 (8 features, 3 convolutions)",
            "compact_x3: SRVGGNetCompact x3 (12 features, 2 convolutions)",
            "compact_x2: SRVGGNetCompact x2 (16 features, 4 convolutions)",
            "compact_x4_anime_video: SRVGGNetCompact x4 (64 features, 16 convolutions)",
        ]
    );
}

#[test]
fn a_frame_comes_out_the_same_in_a_batch_and_alone_and_twice() {
    for case in golden::cases() {
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

#[test]
fn tiles_of_compact_networks_are_the_whole_to_the_last_bit() {
    for (name, edge) in [
        ("compact_x4", 16),
        ("compact_x3", 17),
        ("compact_x2", 21),
        ("compact_x4_anime_video", 48),
    ] {
        let upscaler = golden::case(name).upscaler();
        let overlap = upscaler.architecture().receptive_field();
        let frame = golden::frames(name, 1, 45, 67);
        let whole = upscaler.forward(&frame).unwrap();
        let tiling = Tiling {
            edge,
            overlap,
            multiple: 1,
        };
        assert_eq!(
            bits(&in_tiles(&upscaler, &frame, tiling)),
            bits(&whole),
            "{name}"
        );
        let shorter = in_tiles(
            &upscaler,
            &frame,
            Tiling {
                overlap: overlap / 4,
                ..tiling
            },
        );
        assert_ne!(
            bits(&shorter),
            bits(&whole),
            "{name}: a shorter overlap should show"
        );
    }
}

/// With an overlap of all that the network sees, which is more than anyone would spend.
#[test]
fn tiles_of_rrdb_are_the_whole_with_the_whole_receptive_field() {
    for (name, edge) in [
        ("rrdb_x2_numbered", 48),
        ("rrdb_x2_unshuffled", 160),
        ("rrdb_x1_unshuffled", 184),
    ] {
        let upscaler = golden::case(name).upscaler();
        let architecture = upscaler.architecture();
        let tiling = Tiling {
            edge,
            overlap: architecture.receptive_field(),
            multiple: architecture.multiple(),
        };
        let frame = golden::frames(name, 1, edge - 3, edge + 31);
        let whole = upscaler.forward(&frame).unwrap();
        assert_eq!(
            bits(&in_tiles(&upscaler, &frame, tiling)),
            bits(&whole),
            "{name}"
        );
    }
}

#[test]
fn tiles_of_rrdb_differ_by_less_than_1e_4_with_the_overlap_that_they_get() {
    let upscaler = golden::case("rrdb_x4_anime").upscaler();
    let tiling = Tiling {
        edge: 128,
        ..tiling(upscaler.architecture(), u64::MAX)
    };
    let frame = golden::frames("frame", 1, 20, 140);
    let worst = worst(
        &in_tiles(&upscaler, &frame, tiling),
        &upscaler.forward(&frame).unwrap(),
    );
    assert!(
        worst < 1e-4,
        "{worst}, with an overlap of {}",
        tiling.overlap
    );
}

#[test]
fn a_frame_of_bytes_is_the_same_in_tiles_and_whole() {
    for name in ["compact_x3", "rrdb_x2_unshuffled"] {
        let upscaler = golden::case(name).upscaler();
        let architecture = upscaler.architecture();
        let (width, height) = (173, 31);
        let pixels = golden::pixels(name, 3 * width * height);
        let tiling = Tiling {
            edge: 168,
            ..tiling(architecture, u64::MAX)
        };
        let tiling = Tiling {
            overlap: architecture.receptive_field(),
            ..tiling
        };
        let cut =
            |tiling| upscale_rgb8(&upscaler, &pixels, width, height, tiling, &|| false).unwrap();
        assert_eq!(
            cut(tiling),
            cut(Tiling {
                edge: 256,
                ..tiling
            }),
            "{name}"
        );
        let whole = upscaler
            .forward(&golden::planes(&pixels, height, width))
            .unwrap();
        let values = whole
            .permute((0, 2, 3, 1))
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap();
        let rounded: Vec<u8> = values
            .iter()
            .map(|value| (value.clamp(0.0, 1.0) * 255.0 + 0.5).floor() as u8)
            .collect();
        assert_eq!(cut(tiling), rounded, "{name}");
    }
}

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
            .forward(&Tensor::zeros(shape, candle_core::DType::F32, upscaler.device()).unwrap())
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

#[test]
fn a_checkpoint_that_is_none_of_ours_is_refused_by_the_tensor_that_says_so() {
    let change = |name: &str, change: &dyn Fn(&mut Shapes)| {
        let mut shapes = golden::case(name).weights;
        change(&mut shapes);
        detect(&shapes).unwrap_err().to_string()
    };
    let set = |tensor: &'static str, shape: &'static [usize]| {
        move |shapes: &mut Shapes| {
            shapes.insert(tensor.to_owned(), shape.to_vec());
        }
    };
    let remove = |tensor: &'static str| {
        move |shapes: &mut Shapes| {
            shapes.remove(tensor).unwrap();
        }
    };
    for (error, sentence) in [
        (
            change("rrdb_x4", &remove("params_ema.body.1.rdb3.conv5.bias")),
            "tensor params_ema.body.1.rdb3.conv5.bias is missing: RRDBNet x4 (2 blocks, 8 features, growth 4) needs it, with shape [8]",
        ),
        (
            change(
                "rrdb_x4",
                &set("params_ema.body.0.rdb2.conv3.weight", &[4, 15, 3, 3]),
            ),
            "tensor params_ema.body.0.rdb2.conv3.weight has shape [4, 15, 3, 3], but RRDBNet x4 (2 blocks, 8 features, growth 4) needs [4, 16, 3, 3]",
        ),
        (
            change(
                "rrdb_x4",
                &set("params_ema.body.7.rdb1.conv1x1.weight", &[4, 4, 1, 1]),
            ),
            "tensor params_ema.body.7.rdb1.conv1x1.weight of shape [4, 4, 1, 1] has no place in RRDBNet x4 (8 blocks",
        ),
        (
            change(
                "rrdb_x4",
                &set("params_ema.conv_first.weight", &[8, 1, 3, 3]),
            ),
            "tensor params_ema.conv_first.weight has shape [8, 1, 3, 3]: an RGB input has 3 channels",
        ),
        (
            change(
                "rrdb_x4",
                &set("params_ema.conv_first.weight", &[8, 3, 5, 5]),
            ),
            "tensor params_ema.conv_first.weight has shape [8, 3, 5, 5]: RRDBNet has 3x3 kernels here",
        ),
        (
            change("rrdb_x2_numbered", &set("model.0.weight", &[8, 48, 3, 3])),
            "tensor model.0.weight has shape [8, 48, 3, 3]: an RGB input has 3 channels",
        ),
        (
            change(
                "rrdb_x4",
                &set("params_ema.body.18446744073709551615.x", &[]),
            ),
            "RRDBNet with 18446744073709551615 blocks is more than the 64",
        ),
        (
            change("compact_x2", &set("body.8.weight", &[12, 16, 3, 3])),
            "tensor body.8.weight has shape [12, 16, 3, 3], but SRVGGNetCompact x2 (16 features, 4 convolutions) needs [16, 16, 3, 3]",
        ),
        (
            change("compact_x2", &set("body.10.weight", &[13, 16, 3, 3])),
            "tensor body.10.weight has shape [13, 16, 3, 3]: an RGB output has 3 x scale x scale channels",
        ),
        (
            change("compact_x2", &remove("body.3.weight")),
            "tensor body.3.weight is missing: SRVGGNetCompact x2",
        ),
        (
            change("compact_x2", &remove("body.1.weight")),
            "no slopes (body.1.weight)",
        ),
        (
            change("compact_x2", &|shapes| {
                *shapes = Shapes::from([("unet.conv_in.weight".to_owned(), vec![1])])
            }),
            "no known network: neither RRDBNet (conv_first.weight or model.0.weight) nor SRVGGNetCompact (body.0.weight) in 1 tensors (unet.conv_in.weight)",
        ),
        (
            change("compact_x2", &|shapes| shapes.clear()),
            "no known network",
        ),
    ] {
        assert!(error.starts_with(sentence), "{error}\n{sentence}");
    }
}

#[test]
fn averaged_weights_are_taken_where_there_are_both() {
    let mut shapes = golden::case("rrdb_x4").weights;
    let plain = golden::case("compact_x4").weights;
    shapes.extend(plain.clone());
    let Architecture::Rrdb(layout) = detect(&shapes).unwrap() else {
        panic!("the plain weights were taken")
    };
    assert_eq!(layout.prefix, "params_ema.");
    assert!(matches!(detect(&plain), Ok(Architecture::Compact(_))));
    assert!(matches!(
        detect(&Shapes::new()),
        Err(DetectError::Unknown { count: 0, .. })
    ));
}

/// Upscales tile by tile, and puts what is kept together.
fn in_tiles(upscaler: &Upscaler, frame: &Tensor, tiling: Tiling) -> Tensor {
    let (_, _, height, width) = frame.dims4().unwrap();
    let scale = upscaler.scale();
    let upscaled = |tile: &Tile| {
        let Tile { source, keep } = tile;
        let part = |tensor: &Tensor, part: &Rectangle, top: usize, left: usize, scale: usize| {
            let rows = tensor
                .narrow(2, (part.rows.start - top) * scale, part.height() * scale)
                .unwrap();
            rows.narrow(3, (part.columns.start - left) * scale, part.width() * scale)
                .unwrap()
        };
        let seen = part(frame, source, 0, 0, 1);
        part(
            &upscaler.forward(&seen).unwrap(),
            keep,
            source.rows.start,
            source.columns.start,
            scale,
        )
    };
    let tiles = plan(width, height, tiling).unwrap();
    assert!(tiles.len() > 1);
    let rows = tiles.chunk_by(|left, right| left.keep.rows == right.keep.rows);
    let rows: Vec<Tensor> = rows
        .map(|row| Tensor::cat(&row.iter().map(upscaled).collect::<Vec<_>>(), 3).unwrap())
        .collect();
    Tensor::cat(&rows, 2).unwrap()
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    tensor
        .flatten_all()
        .unwrap()
        .to_vec1::<f32>()
        .unwrap()
        .into_iter()
        .map(f32::to_bits)
        .collect()
}
