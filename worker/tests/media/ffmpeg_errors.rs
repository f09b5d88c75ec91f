//! What is not the sender's fault: a full disk, a missing program, a program that hangs.

use std::path::Path;
use std::time::Duration;

use framewright_worker::media::decode::{DecodeOptions, Decoder};
use framewright_worker::media::encode::{EncodeOptions, Encoder};
use framewright_worker::media::probe::probe;
use framewright_worker::media::{Class, MediaError, Programs, VideoLimits};

use crate::clips::{
    PATIENCE, bars, clip, decoder, described, encoder, kill_process_with, noise, options, ours,
    picture, processes_with, scratch,
};

#[test]
fn the_installed_programs_can_do_what_is_asked_of_them() {
    ours()
        .check(PATIENCE)
        .expect("ffmpeg with libx264 is installed");
}

#[test]
fn a_full_disk_is_told_apart_from_bad_input() {
    let scratch = scratch();
    let full = scratch.path().join("full.mp4");
    std::os::unix::fs::symlink("/dev/full", &full).expect("a link to the full disk");
    let mut encoder = encoder(&full, options(128, 96));

    let error = (0..500).find_map(|_| encoder.push(bars(128, 96)).err());
    let error = error.unwrap_or_else(|| encoder.finish().expect_err("the disk is full"));

    assert_eq!(error.class(), Class::ScratchFull, "{error}");
    assert!(Path::new("/dev/full").exists());
}

/// ffmpeg 5.1 exits with success when only the very last write fails.
#[test]
fn a_disk_that_is_full_at_the_last_byte_is_noticed() {
    let scratch = scratch();
    let ffmpeg = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/media/full.sh").into();
    let programs = Programs { ffmpeg, ..ours() };
    let path = scratch.path().join("o.mp4");
    let mut encoder = Encoder::create(&programs, &path, options(64, 48)).expect("starts");
    encoder.push(bars(64, 48)).expect("takes a frame");

    let error = encoder.finish().expect_err("its last bytes are missing");

    assert_eq!(error.class(), Class::ScratchFull, "{error}");
}

#[test]
fn scratch_space_is_bounded() {
    let scratch = scratch();
    let path = scratch.path().join("large.mp4");
    let options = EncodeOptions {
        max_bytes: 50_000,
        crf: 0,
        ..options(128, 96)
    };
    let mut encoder = encoder(&path, options);

    let error = (0..1000).find_map(|seed| encoder.push(noise(128, 96, seed)).err());
    let error = error.expect("too large");

    assert_eq!(error.class(), Class::ScratchFull, "{error}");
    drop(encoder);
    assert!(!path.exists(), "what is unfinished is removed");
}

#[test]
fn a_missing_program_is_the_workers_fault() {
    let scratch = scratch();
    let source = clip(&scratch, "source.mp4", &[&picture("24", 2)]);
    let video = described(&source);
    let limits = VideoLimits::default();
    let missing = Programs {
        ffmpeg: "/nowhere/ffmpeg".into(),
        ffprobe: "/nowhere/ffprobe".into(),
    };

    let errors = [
        missing.check(PATIENCE).expect_err("no ffmpeg"),
        probe(&missing, &source, &limits, PATIENCE).expect_err("no ffprobe"),
        Decoder::open(&missing, &source, &video, &DecodeOptions::default()).expect_err("no ffmpeg"),
        Encoder::create(&missing, &scratch.path().join("o.mp4"), options(64, 48))
            .expect_err("no ffmpeg"),
    ];

    for error in errors {
        assert_eq!(error.class(), Class::Misconfigured, "{error}");
        assert!(error.to_string().contains("/nowhere/ff"), "{error}");
    }
}

#[test]
fn a_program_that_hangs_is_stopped() {
    let scratch = scratch();
    let source = clip(&scratch, "source.mp4", &[&picture("24", 2)]);
    let video = described(&source);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/media/hangs.sh");
    let hanging = Programs {
        ffmpeg: script.into(),
        ffprobe: script.into(),
    };
    let timeout = Duration::from_millis(200);
    let reading = DecodeOptions {
        timeout,
        ..DecodeOptions::default()
    };
    let writing = EncodeOptions {
        timeout,
        queue: 1,
        ..options(640, 480)
    };

    let probed = probe(&hanging, &source, &VideoLimits::default(), timeout).expect_err("it hangs");
    let mut decoder = Decoder::open(&hanging, &source, &video, &reading).expect("starts");
    let decoded = decoder.next_frame().expect_err("it hangs");
    let output = scratch.path().join("o.mp4");
    let mut encoder = Encoder::create(&hanging, &output, writing).expect("starts");
    let encoded = (0..3)
        .find_map(|_| encoder.push(bars(640, 480)).err())
        .expect("it hangs");

    for error in [probed, decoded, encoded] {
        assert!(matches!(error, MediaError::Stalled { .. }), "{error}");
        assert_eq!(error.class(), Class::Internal);
    }
}

#[test]
fn a_program_that_the_system_kills_has_run_out_of_memory() {
    let scratch = scratch();
    let large = "-f lavfi -i testsrc2=s=640x480:r=25,trim=end_frame=50 -pix_fmt yuv420p";
    let source = clip(&scratch, "source.mp4", &[large]);
    let output = scratch.path().join("o.mp4");
    let reading = DecodeOptions {
        queue: 1,
        ..DecodeOptions::default()
    };
    let mut decoder = decoder(&source, &reading);
    let mut encoder = encoder(&output, options(128, 96));
    decoder.next_frame().expect("decodes");
    encoder.push(bars(128, 96)).expect("takes a frame");

    kill_process_with(&source);
    kill_process_with(&output);
    let decoded = (0..50).find_map(|_| decoder.next_frame().err());
    let encoded = encoder.finish().expect_err("it is gone");

    for error in [decoded.expect("it is gone"), encoded] {
        assert_eq!(error.class(), Class::OutOfMemory, "{error}");
        assert!(error.to_string().contains("raise"), "{error}");
    }
    assert!(!output.exists(), "what is unfinished is removed");
}

#[test]
fn an_encoder_that_is_silent_at_the_end_is_asked_for_each_second() {
    let scratch = scratch();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/media/flushes.sh");
    let programs = Programs {
        ffmpeg: script.into(),
        ..ours()
    };
    let end = |times_wanted: usize| {
        let path = scratch.path().join("o.mp4");
        let mut encoder = Encoder::create(&programs, &path, options(64, 48)).expect("starts");
        encoder.push(bars(64, 48)).expect("takes a frame");
        let mut asked = 0;
        let ended = encoder.finish_while(&mut || {
            asked += 1;
            asked <= times_wanted
        });
        (ended.expect_err("it fails"), asked)
    };

    let (error, asked) = end(100);
    assert!(matches!(error, MediaError::Program { .. }), "{error}");
    assert!((2..=4).contains(&asked), "asked {asked} times");

    let (error, asked) = end(0);
    assert!(matches!(error, MediaError::Stopped { .. }), "{error}");
    assert_eq!(asked, 1);
}

#[test]
fn an_encoder_that_is_dropped_midway_leaves_no_process_and_no_file() {
    let scratch = scratch();
    let path = scratch.path().join("unfinished.mp4");
    let mut encoder = encoder(&path, options(128, 96));
    encoder.push(bars(128, 96)).expect("takes a frame");
    let has_begun = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        processes_with(&path) == 1
    });
    assert!(has_begun, "no process has begun");

    drop(encoder);

    assert_eq!(processes_with(&path), 0);
    assert!(!path.exists());
}

#[test]
fn a_frame_of_another_size_is_refused() {
    let scratch = scratch();
    let mut encoder = encoder(&scratch.path().join("o.mp4"), options(64, 48));

    let error = encoder.push(bars(32, 32)).expect_err("another size");

    assert!(matches!(error, MediaError::FrameSize { .. }), "{error}");
}

#[test]
fn an_mp4_without_a_frame_is_not_made() {
    let scratch = scratch();
    let path = scratch.path().join("none.mp4");

    let error = encoder(&path, options(64, 48))
        .finish()
        .expect_err("no frames");

    assert!(matches!(error, MediaError::NoFrames), "{error}");
    assert!(!path.exists());
}
