//! Videos as they are sent, as frames.

use std::time::{Duration, Instant};

use framewright_worker::media::decode::{DecodeOptions, Decoder};
use framewright_worker::media::probe::probe;
use framewright_worker::media::{MediaError, Video, VideoLimits};

use crate::clips::{
    PATIENCE, clip, decoder, described, frames, ours, picture, processes_with, scratch,
};

#[test]
fn an_odd_sized_source_keeps_its_size() {
    let scratch = scratch();
    let source = clip(
        &scratch,
        "odd.mkv",
        &["-f lavfi -i testsrc=s=65x33:r=25 -frames:v 3 -c:v ffv1"],
    );

    let decoded = frames(&source);

    assert_eq!(
        (decoded[0].width, decoded[0].height, decoded.len()),
        (65, 33, 3)
    );
}

#[test]
fn a_turned_video_comes_out_upright() {
    let scratch = scratch();
    let graph = "-f lavfi -i color=red:s=64x32:r=25,drawbox=w=8:h=8:color=blue:t=fill";
    let flat = clip(
        &scratch,
        "flat.mp4",
        &[graph, "-pix_fmt yuv420p -frames:v 2"],
    );
    let input = format!("-i {}", flat.display());
    let turned = clip(
        &scratch,
        "turned.mp4",
        &[&input, "-c copy -metadata:s:v rotate=90"],
    );

    let video = described(&turned);
    let frame = &frames(&turned)[0];

    assert_eq!((video.width, video.height), (32, 64));
    assert_eq!((frame.width, frame.height), (32, 64));
    let is_blue = |x: usize, y: usize| frame.rgb[(y * 32 + x) * 3 + 2] > 128;
    let corners = [
        is_blue(2, 2),
        is_blue(29, 2),
        is_blue(2, 61),
        is_blue(29, 61),
    ];
    assert_eq!(
        corners.iter().filter(|is_blue| **is_blue).count(),
        1,
        "{corners:?}"
    );
    assert!(!is_blue(2, 2), "the corner has moved");
}

#[test]
fn pixels_that_are_not_square_are_stretched() {
    let scratch = scratch();
    let graph = "-f lavfi -i testsrc2=s=72x48:r=25,setsar=64/45";
    let source = clip(
        &scratch,
        "wide.mkv",
        &[graph, "-pix_fmt yuv420p -frames:v 2"],
    );

    let video = described(&source);

    assert_eq!((video.width, video.height), (102, 48));
    assert_eq!(frames(&source)[0].width, 102);
}

#[test]
fn a_variable_frame_rate_becomes_its_average() {
    let scratch = scratch();
    let graph = "-f lavfi -i testsrc2=s=64x48:r=50:d=2";
    let dropped = "-vf select=not(mod(n\\,2))+gt(n\\,50) -fps_mode vfr";
    let source = clip(&scratch, "variable.mp4", &[graph, dropped]);

    let video = described(&source);
    let decoded = frames(&source);

    assert!((video.rate.as_f64() - 37.5).abs() < 2.0, "{}", video.rate);
    let seconds = decoded.len() as f64 / video.rate.as_f64();
    assert!(
        (seconds - 2.0).abs() < 0.1,
        "{} frames at {}",
        decoded.len(),
        video.rate
    );
}

#[test]
fn a_size_that_changes_midway_becomes_the_size_that_was_told() {
    let scratch = scratch();
    let small = clip(&scratch, "small.ts", &[&picture("24", 5)]);
    let large = clip(
        &scratch,
        "large.ts",
        &["-f lavfi -i testsrc2=s=96x80:r=24 -pix_fmt yuv420p -frames:v 5"],
    );
    let joined = format!("-i concat:{}|{} -c copy", small.display(), large.display());
    let source = clip(&scratch, "joined.mkv", &[&joined]);

    let decoded = frames(&source);

    assert!(decoded.len() > 5, "{} frames", decoded.len());
    assert!(
        decoded
            .iter()
            .all(|frame| (frame.width, frame.height) == (64, 48))
    );
}

#[test]
fn limits_hold_before_and_while_decoding() {
    let scratch = scratch();
    let source = clip(&scratch, "source.mp4", &[&picture("24", 48)]);
    let probe_with = |limits| probe(&ours(), &source, &limits, PATIENCE);
    let limits = VideoLimits::default();

    let narrow = probe_with(VideoLimits { side: 63, ..limits }).expect_err("too wide");
    assert!(narrow.to_string().contains("64 x 48"), "{narrow}");
    let slow = probe_with(VideoLimits { rate: 20, ..limits }).expect_err("too fast");
    assert!(slow.to_string().contains("24/1 frames a second"), "{slow}");

    let video = described(&source);
    let options = DecodeOptions {
        limits: VideoLimits {
            frames: 10,
            ..limits
        },
        ..DecodeOptions::default()
    };
    let open = |video: &Video| Decoder::open(&ours(), &source, video, &options);
    let early = open(&video).expect_err("too long");
    assert!(
        matches!(early, MediaError::TooManyFrames { limit: 10 }),
        "{early}"
    );

    let first = |frames| DecodeOptions {
        frames: Some(frames),
        ..options.clone()
    };
    let first = |frames| Decoder::open(&ours(), &source, &video, &first(frames)).err();
    let early = first(11).expect("too long");
    assert!(
        matches!(early, MediaError::TooManyFrames { limit: 10 }),
        "{early}"
    );
    assert!(first(10).is_none());

    let mut silent = video;
    (silent.frames, silent.duration) = (10, Duration::ZERO);
    let mut decoder = open(&silent).expect("starts");
    let mut frames = std::iter::from_fn(|| decoder.next_frame().transpose());
    let late = frames.find_map(Result::err).expect("too long");
    assert!(
        matches!(late, MediaError::TooManyFrames { limit: 10 }),
        "{late}"
    );
    assert_eq!(decoder.delivered(), 10);
    assert!(matches!(decoder.next_frame(), Ok(None)), "over is over");
}

#[test]
fn a_decoder_that_is_dropped_midway_leaves_no_process() {
    let scratch = scratch();
    let source = clip(
        &scratch,
        "long.mp4",
        &["-f lavfi -i testsrc2=s=320x240:r=24:d=60 -pix_fmt yuv420p"],
    );
    let mut decoder = decoder(&source, &DecodeOptions::default());
    decoder.next_frame().expect("a frame").expect("not the end");
    assert_eq!(processes_with(&source), 1);

    let started = Instant::now();
    drop(decoder);

    assert_eq!(processes_with(&source), 0);
    assert!(started.elapsed() < Duration::from_secs(2));
}
