//! Do colours stay what they are?

use std::fs;

use framewright_worker::media::Frame;
use framewright_worker::media::encode::EncodeOptions;

use crate::clips::{bars, clip, encoder, frames, options, psnr, scratch};

#[test]
fn every_way_to_tag_colours_gives_the_same_rgb() {
    let ways = [
        (
            "bt709-tv",
            "scale=out_color_matrix=bt709:out_range=tv,format=yuv444p",
            "-colorspace bt709 -color_range tv -c:v libx264",
        ),
        (
            "bt601-tv",
            "scale=out_color_matrix=bt601:out_range=tv,format=yuv444p",
            "-colorspace smpte170m -color_range tv -c:v libx264",
        ),
        (
            "bt709-pc",
            "scale=out_color_matrix=bt709:out_range=pc,format=yuv444p",
            "-colorspace bt709 -color_range pc -c:v libx264",
        ),
        (
            "untagged",
            "scale=out_color_matrix=bt601:out_range=tv,format=yuv444p",
            "-c:v libx264",
        ),
        (
            "ten-bits",
            "scale=out_color_matrix=bt709:out_range=tv,format=yuv444p10le",
            "-colorspace bt709 -color_range tv -c:v libx264",
        ),
        (
            "jpeg",
            "scale=out_color_matrix=bt601:out_range=pc,format=yuvj444p",
            "-c:v mjpeg -q:v 1",
        ),
        ("rgb", "format=gbrp", "-c:v ffv1"),
    ];
    let scratch = scratch();
    let bars = bars(128, 96);
    let raw = scratch.path().join("bars.rgb");
    fs::write(&raw, &bars.rgb).expect("the bars");
    for (name, filter, codec) in ways {
        let input = format!(
            "-f rawvideo -pix_fmt rgb24 -s 128x96 -i {} -vf {filter}",
            raw.display()
        );
        let source = clip(&scratch, &format!("{name}.mkv"), &[&input, codec, "-crf 1"]);

        let decoded = frames(&source);

        let fidelity = psnr(&decoded[0], &bars);
        assert!(fidelity > 38.0, "{name}: {fidelity:.1} dB");
    }
}

#[test]
fn colours_survive_the_way_out_and_in() {
    let waves = waves(128, 96);
    let fidelity = psnr(&out_and_in(&waves), &waves);
    assert!(fidelity > 44.0, "smooth colours: {fidelity:.1} dB");

    let bars = bars(128, 96);
    let fidelity = psnr(&without_edges(&out_and_in(&bars)), &without_edges(&bars));
    assert!(fidelity > 45.0, "pure colours: {fidelity:.1} dB");
}

#[test]
fn chroma_is_taken_from_where_the_stream_says_that_it_lies() {
    let scratch = scratch();
    let truth = waves(128, 96);
    for (place, across) in [("left", 0.0), ("center", 0.5)] {
        let raw = scratch.path().join("waves.yuv");
        fs::write(&raw, with_halved_chroma(128, 96, across)).expect("the waves");
        let input = format!(
            "-f rawvideo -pix_fmt yuv420p -s 128x96 -i {}",
            raw.display()
        );
        let tags = format!("-colorspace bt709 -color_range tv -chroma_sample_location {place}");
        let source = clip(
            &scratch,
            "waves.mkv",
            &[&input, "-c:v libx264 -qp 1", &tags],
        );

        let fidelity = psnr(&frames(&source)[0], &truth);

        assert!(fidelity > 44.0, "{place}: {fidelity:.1} dB");
    }
}

/// Encodes, so finely that only the conversion of colours is lossy, ten frames of this picture and decodes the last one.
fn out_and_in(picture: &Frame) -> Frame {
    let scratch = scratch();
    let path = scratch.path().join("out.mp4");
    let lavish = EncodeOptions {
        crf: 4,
        ..options(picture.width, picture.height)
    };
    let mut encoder = encoder(&path, lavish);
    for _ in 0..10 {
        encoder.push(picture.clone()).expect("takes a frame");
    }
    encoder.finish().expect("finishes");
    let decoded = frames(&path);
    assert_eq!(decoded.len(), 10);
    decoded.into_iter().next_back().expect("ten frames")
}

/// The middle of each bar: at their edges 4:2:0 mixes colours by its nature.
fn without_edges(bars: &Frame) -> Frame {
    let is_kept = |x: usize| (4..12).contains(&(x % 16));
    let width = bars.width as usize;
    let pixels = bars
        .rgb
        .chunks_exact(3)
        .enumerate()
        .filter(|(at, _)| is_kept(at % width));
    let rgb = pixels
        .flat_map(|(_, pixel)| pixel.iter().copied())
        .collect();
    Frame {
        width: bars.width / 2,
        height: bars.height,
        rgb,
    }
}

/// Red, green and blue from 0 to 255 at any point.
fn wave(x: f64, y: f64) -> [f64; 3] {
    [
        (x / 7.0).sin(),
        (y / 9.0 + x / 11.0).cos(),
        ((x + y) / 8.0).sin(),
    ]
    .map(|s| 128.0 + 90.0 * s)
}

fn waves(width: u32, height: u32) -> Frame {
    let points = (0..height).flat_map(|y| (0..width).map(move |x| (f64::from(x), f64::from(y))));
    let rgb = points
        .flat_map(|(x, y)| wave(x, y).map(|channel| channel.round() as u8))
        .collect();
    Frame { width, height, rgb }
}

/// The waves as BT.709 4:2:0, each chroma sample taken where it lies.
fn with_halved_chroma(width: u32, height: u32, across: f64) -> Vec<u8> {
    let plane = |step: u32, right: f64, down: f64, value: fn([f64; 3]) -> f64| {
        let side = move |length: u32, offset: f64| {
            (0..length / step).map(move |at| f64::from(at * step) + offset)
        };
        let points = side(height, down).flat_map(move |y| side(width, right).map(move |x| (x, y)));
        points
            .map(|(x, y)| value(wave(x, y)).round() as u8)
            .collect::<Vec<u8>>()
    };
    [
        plane(1, 0.0, 0.0, |rgb| 16.0 + 219.0 / 255.0 * bt709_luma(rgb)),
        plane(2, across, 0.5, |rgb| {
            128.0 + 224.0 / 255.0 * (rgb[2] - bt709_luma(rgb)) / 1.8556
        }),
        plane(2, across, 0.5, |rgb| {
            128.0 + 224.0 / 255.0 * (rgb[0] - bt709_luma(rgb)) / 1.5748
        }),
    ]
    .concat()
}

fn bt709_luma([red, green, blue]: [f64; 3]) -> f64 {
    0.2126 * red + 0.7152 * green + 0.0722 * blue
}
