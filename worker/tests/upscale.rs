//! The upscale pipeline on files: how much work it says before it computes, and that it does no more than it may.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is the point"
)]

mod golden;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use framewright_crds::aijob::{Cause, OutputRole};
use framewright_crds::pipelines::upscale::Upscale;
use framewright_crds::pipelines::{MediaFacts, MediaKind};
use framewright_worker::media::Programs;
use framewright_worker::pipelines::upscale::{Prepared, prepare, upscale};
use framewright_worker::pipelines::{Input, Outputs, PipelineError, ProgressSink, TaskContext};
use tempfile::TempDir;

/// The pixels of a frame of 64 x 36 that became twice as large.
const FRAME: u64 = 128 * 72;

#[test]
fn the_work_that_is_prepared_is_the_work_that_is_done() {
    let folder = TempDir::new().unwrap();
    let whole = clip(&folder, "whole.mp4", &[]);
    for (scale, frames, units) in [
        (None, None, 10 * FRAME),
        (Some(1), None, 10 * FRAME / 4),
        (None, Some(3), 3 * FRAME),
        (None, Some(30), 10 * FRAME),
    ] {
        let parameters = Upscale { scale, frames };
        let prepared = prepared(&parameters, "video", &whole).unwrap();
        assert_eq!(prepared.work().units(), units, "{parameters:?}");
        let (made, done) = computed(&folder, &prepared, None);
        assert_eq!(
            (made.unwrap().units, done),
            (units, units),
            "{parameters:?}"
        );
    }
    let picture = folder.path().join("picture.png");
    image::RgbImage::new(9, 7).save(&picture).unwrap();
    let prepared = prepared(&Upscale::default(), "image", &picture).unwrap();
    assert_eq!(prepared.work().units(), 18 * 14);
    let made = computed(&folder, &prepared, Some(18 * 14)).0.unwrap();
    let output = &made.files[0];
    let facts = MediaFacts {
        kind: MediaKind::Image,
        width: 18,
        height: 14,
        frames: 1,
        rate: None,
    };
    assert_eq!((made.units, output.media), (18 * 14, facts));
    assert_eq!(
        (output.name.as_str(), output.role),
        ("image", OutputRole::Result)
    );
}

#[test]
fn the_packets_of_a_video_are_counted_where_its_headers_do_not_say_how_long_it_is() {
    let folder = TempDir::new().unwrap();
    let live = piped(&folder, "live.mkv", &[]);
    let prepared = prepared(&Upscale::default(), "video", &live).unwrap();
    assert_eq!(prepared.work().units(), 10 * FRAME);
    assert_eq!(computed(&folder, &prepared, None).1, 10 * FRAME);
}

#[test]
fn a_duration_that_lies_changes_no_work_and_nothing_is_computed_beyond_the_limit() {
    let folder = TempDir::new().unwrap();
    let says = |tenths: u32| {
        let duration = format!("DURATION=00:00:00.{tenths}00000000");
        let name = format!("{tenths}.mkv");
        piped(&folder, &name, &["-metadata:s:v", &duration])
    };
    let lying = prepared(&Upscale::default(), "video", &says(3)).unwrap();
    assert_eq!(lying.work().units(), 10 * FRAME);
    let (refused, done) = computed(&folder, &lying, Some(5 * FRAME + 1));
    let refused = refused.unwrap_err();
    assert_eq!(refused.cause(), Cause::InvalidInput);
    let words = format!(
        "takes {} pixels, and this task may do at most {}",
        6 * FRAME,
        5 * FRAME + 1
    );
    assert!(refused.to_string().contains(&words), "{refused}");
    assert_eq!(done, 5 * FRAME, "what was computed is counted");

    let exact = computed(&folder, &lying, Some(10 * FRAME)).0.unwrap();
    assert_eq!(exact.units, 10 * FRAME);
    // Without a limit all of it is computed.
    assert_eq!(computed(&folder, &lying, None).1, 10 * FRAME);
}

#[test]
fn bad_input_is_found_before_anything_is_computed() {
    let folder = TempDir::new().unwrap();
    let video = clip(&folder, "whole.mp4", &[]);
    let scale = Upscale {
        scale: Some(3),
        frames: None,
    };
    for (parameters, name, words) in [
        (scale, "video", "ask for 1 to 2"),
        (Upscale::default(), "image", "input image is a video"),
    ] {
        let refused = prepared(&parameters, name, &video).unwrap_err();
        assert_eq!(refused.cause(), Cause::InvalidInput);
        assert!(refused.to_string().contains(words), "{refused}");
    }
}

fn prepared(parameters: &Upscale, name: &str, path: &Path) -> Result<Prepared, PipelineError> {
    let inputs = [Input {
        name: name.to_owned(),
        path: path.to_owned(),
    }];
    prepare(parameters, &inputs, 2, &programs())
}

/// What came out, and the work that was counted.
fn computed(
    folder: &TempDir,
    prepared: &Prepared,
    max_units: Option<u64>,
) -> (Result<Outputs, PipelineError>, u64) {
    let context = TaskContext {
        folder: folder.path().to_owned(),
        max_bytes: u64::MAX,
        max_units,
        tile_bytes: 128 << 20,
        memory: None,
        programs: programs(),
        checkpoint: None,
    };
    let units = AtomicU64::new(0);
    let mut sink = ProgressSink {
        should_stop: &AtomicBool::new(false),
        progress: &mut |_| {},
        units: &units,
    };
    let network = golden::case("compact_x2").upscaler();
    let made = upscale(prepared, &network, &context, &mut sink);
    (made, units.load(Ordering::SeqCst))
}

fn programs() -> Programs {
    std::env::var_os("FRAMEWRIGHT_DIST").map_or_else(Programs::default, |dist| Programs {
        ffmpeg: Path::new(&dist).join("ffmpeg"),
        ffprobe: Path::new(&dist).join("ffprobe"),
    })
}

/// Ten frames of 64 x 36 pixels, ten a second.
fn clip(folder: &TempDir, name: &str, more: &[&str]) -> PathBuf {
    let path = folder.path().join(name);
    let made = ffmpeg(more).arg(&path).status().unwrap();
    assert!(made.success(), "{name}");
    path
}

/// The same as Matroska that was written without going back: the headers do not say how long it is.
fn piped(folder: &TempDir, name: &str, more: &[&str]) -> PathBuf {
    let path = folder.path().join(name);
    let piped = ffmpeg(more)
        .args(["-f", "matroska", "pipe:1"])
        .stdout(Stdio::piped())
        .output()
        .unwrap();
    assert!(piped.status.success(), "{name}");
    std::fs::write(&path, piped.stdout).unwrap();
    path
}

fn ffmpeg(more: &[&str]) -> Command {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg
        .args(["-v", "error", "-y", "-f", "lavfi"])
        .args(["-i", "testsrc2=size=64x36:rate=10", "-frames:v", "10"])
        .args(["-c:v", "libx264", "-pix_fmt", "yuv420p"])
        .args(more);
    ffmpeg
}
