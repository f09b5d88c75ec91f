//! Is a frame in tiles the whole frame?

use candle_core::Tensor;
use framewright_worker::frame::{tiling, upscale_rgb8};
use framewright_worker::networks::Upscaler;
use framewright_worker::tiles::{Rectangle, Tile, Tiling, plan};

use crate::closeness::worst;
use crate::{bits, deep, golden};

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

/// By less than a hundred thousandth of the range of values, which is rounding.
#[test]
fn tiles_of_rrdb_are_the_whole_but_for_rounding_with_the_overlap_that_they_get() {
    for (case, edge) in [
        (golden::case("rrdb_x4_anime"), 128),
        (deep::x4plus(), 128),
        (deep::x2plus(), 224),
    ] {
        let upscaler = case.upscaler();
        let tiling = Tiling {
            edge,
            ..tiling(upscaler.architecture(), u64::MAX)
        };
        let frame = golden::frames("frame", 1, 20, edge + 12);
        let whole = upscaler.forward(&frame).unwrap();
        let range = worst(&whole, &whole.zeros_like().unwrap());
        let off_by = |overlap| {
            let tiling = Tiling { overlap, ..tiling };
            worst(&in_tiles(&upscaler, &frame, tiling), &whole) / range
        };
        let (off, shorter) = (off_by(tiling.overlap), off_by(tiling.overlap / 4));
        println!("{}: {off:e}, with a shorter overlap {shorter:e}", case.name);
        assert!(off < 1e-5, "{}: {off}", case.name);
        assert!(shorter > 1e-4, "{}: should show {shorter}", case.name);
    }
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
