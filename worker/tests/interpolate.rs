//! The interpolate pipeline on files: lengths, cuts, colours, sound, and the work that it says.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "what a test does not expect ends it"
)]

mod golden;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use candle_core::{Device, Tensor};
use framewright_crds::aijob::{Cause, OutputRole};
use framewright_crds::fraction::Fraction;
use framewright_crds::pipelines::Pipeline;
use framewright_crds::pipelines::interpolate::{Handling, Interpolate};
use framewright_crds::pipelines::upscale::Upscale;
use framewright_worker::frame::{to_planes, to_rgb8};
use framewright_worker::media::Programs;
use framewright_worker::memory::Limit;
use framewright_worker::models::recognise;
use framewright_worker::networks::{FlowScale, Interpolator};
use framewright_worker::pipelines::interpolate::{Prepared, interpolate, prepare};
use framewright_worker::pipelines::{
    self, Input, Outputs, PipelineError, ProgressSink, TaskContext,
};
use tempfile::TempDir;

/// The pixels of a frame of the clips here.
const FRAME: u64 = 64 * 36;

#[test]
fn the_output_has_the_duration_times_the_rate_to_the_last_frame() {
    let folder = TempDir::new().unwrap();
    let film = clip(
        &folder,
        "film.mkv",
        &[
            "-i",
            "testsrc2=size=64x36:rate=24000/1001",
            "-frames:v",
            "25",
        ],
    );
    for (parameters, frames, rate) in [
        // 25 frames last 1.0427 s.
        (fps("60"), 63, "60/1"),
        (fps("30000/1001"), 31, "30000/1001"),
        (factor(2), 50, "48000/1001"),
        (factor(3), 75, "72000/1001"),
        (slowed(factor(1), "5/2"), 63, "24000/1001"),
        (slowed(fps("24000/1001"), "2"), 50, "24000/1001"),
    ] {
        let prepared = prepared(&parameters, &film).unwrap();
        assert_eq!(prepared.work().units(), frames * FRAME, "{parameters:?}");
        let (made, done) = computed(&folder, &prepared, &network(), None);
        let made = made.unwrap();
        assert_eq!((made.units, done), (frames * FRAME, frames * FRAME));
        let output = &made.files[0];
        assert_eq!(output.media.frames, frames, "{parameters:?}");
        assert_eq!(
            (output.name.as_str(), output.role),
            ("video", OutputRole::Result)
        );
        let found = streams(&output.path);
        assert_eq!(found[0]["r_frame_rate"], rate, "{parameters:?}");
        assert_eq!(found[0]["nb_frames"], frames.to_string(), "{parameters:?}");
    }
}

#[test]
fn the_last_source_frame_is_shown_and_the_first_one_too() {
    let folder = TempDir::new().unwrap();
    // Each frame is brighter than the one before.
    let fade = clip(&folder, "fade.mkv", &["-i", FADE, "-frames:v", "10"]);
    let source = brightness(&fade);
    for parameters in [factor(2), fps("24"), fps("11"), slowed(fps("10"), "3")] {
        let prepared = prepared(&parameters, &fade).unwrap();
        let made = computed(&folder, &prepared, &blending(), None).0.unwrap();
        let shown = brightness(&made.files[0].path);
        // Frames differ by nine.
        let near = |one: f64, other: f64| (one - other).abs() < 2.5;
        assert!(near(shown[0], source[0]), "{parameters:?}: {shown:?}");
        let (last, expected) = (shown[shown.len() - 1], source[source.len() - 1]);
        assert!(
            near(last, expected),
            "{parameters:?}: {last}, not {expected}"
        );
    }
}

/// A network that finds no motion shows the mean of its neighbours: in a fade, new frames are darker than the next frame and brighter
/// than the one before, however source frames are shown.
#[test]
fn new_frames_have_the_colours_of_their_neighbours() {
    let folder = TempDir::new().unwrap();
    let fade = clip(&folder, "fade.mkv", &["-i", FADE, "-frames:v", "10"]);
    let prepared = prepared(&factor(2), &fade).unwrap();
    let made = computed(&folder, &prepared, &blending(), None).0.unwrap();
    let shown = brightness(&made.files[0].path);
    assert_eq!(shown.len(), 20);
    for three in shown[..19].windows(3).step_by(2) {
        let expected = f64::midpoint(three[0], three[2]);
        assert!((three[1] - expected).abs() < 1.0, "{three:?} of {shown:?}");
    }
}

#[test]
fn a_pixel_that_nothing_happens_to_keeps_its_value_to_the_bit() {
    let (width, height) = (48, 32);
    let pixels: Vec<u8> = (0..3 * width * height)
        .map(|index| (index % 256) as u8)
        .collect();
    let network = blending();
    let planes = to_planes(&pixels, width, height, &Device::Cpu).unwrap();
    let source = |_| network.source(&planes, FlowScale::Full).unwrap();
    let [earlier, later] = [0, 1].map(source);
    for time in [0.25, 0.5] {
        let new = network.between(&earlier, &later, time, &|| false).unwrap();
        assert_eq!(to_rgb8(&new).unwrap(), pixels);
    }
}

#[test]
fn a_still_clip_stays_still() {
    let folder = TempDir::new().unwrap();
    let still = clip(
        &folder,
        "still.mkv",
        &[
            "-loop",
            "1",
            "-f",
            "image2",
            "-i",
            &picture(&folder),
            "-frames:v",
            "6",
        ],
    );
    for duplicates in [Handling::Detect, Handling::Ignore] {
        let parameters = Interpolate {
            duplicates: Some(duplicates),
            ..factor(3)
        };
        let prepared = prepared(&parameters, &still).unwrap();
        // A network that would move all that it is given.
        let made = computed(&folder, &prepared, &network(), None).0.unwrap();
        let frames = frames(&made.files[0].path);
        assert_eq!(frames.len(), 18);
        let first = &frames[0];
        let off = |frame: &Vec<u8>| {
            let pairs = frame.iter().zip(first);
            pairs
                .map(|(one, other)| one.abs_diff(*other))
                .max()
                .unwrap()
        };
        let most = frames.iter().map(off).max().unwrap();
        // What is left is what the encoder makes of equal frames.
        assert!(most <= 6, "{duplicates:?}: off by {most}");
    }
}

#[test]
fn at_a_cut_each_frame_is_of_one_scene() {
    let folder = TempDir::new().unwrap();
    let scenes = [
        "-i",
        "color=c=black:size=64x36:rate=10:duration=0.6,format=rgb24,geq=r='20+N*2+X/8':g='30+N*2':b='40+N*2',format=rgb24",
        "-f",
        "lavfi",
        "-i",
        "color=c=black:size=64x36:rate=10:duration=0.6,format=rgb24,geq=r='190+N*2':g='180+N*2+Y/8':b='170+N*2',format=rgb24",
        "-filter_complex",
        "[0][1]concat=n=2",
    ];
    let cut = clip(&folder, "cut.mkv", &scenes);
    let shown = |cuts| {
        let parameters = Interpolate {
            cuts: Some(cuts),
            ..factor(4)
        };
        let prepared = prepared(&parameters, &cut).unwrap();
        let made = computed(&folder, &prepared, &blending(), None).0.unwrap();
        brightness(&made.files[0].path)
    };
    let is_of_both = |value: &f64| *value > 75.0 && *value < 145.0;
    let detected = shown(Handling::Detect);
    assert_eq!(detected.len(), 48);
    assert!(!detected.iter().any(is_of_both), "{detected:?}");
    // The change of scene lies in the middle of the four steps from one to the other.
    let dark = detected.iter().filter(|value| **value < 75.0).count();
    assert_eq!(dark, 22, "{detected:?}");
    assert_eq!(
        shown(Handling::Ignore)
            .iter()
            .filter(|value| is_of_both(value))
            .count(),
        3
    );
}

#[test]
fn animation_on_twos_moves_with_every_frame() {
    let folder = TempDir::new().unwrap();
    // Each picture of the fade twice.
    let twos = clip(
        &folder,
        "twos.mkv",
        &[
            "-i",
            &format!("{FADE},setpts=2*PTS,fps=10"),
            "-frames:v",
            "12",
        ],
    );
    let shown = |duplicates| {
        let parameters = Interpolate {
            duplicates: Some(duplicates),
            ..factor(2)
        };
        let prepared = prepared(&parameters, &twos).unwrap();
        let made = computed(&folder, &prepared, &blending(), None).0.unwrap();
        brightness(&made.files[0].path)
    };
    let near = |one: f64, other: f64| (one - other).abs() < 1.5;
    // A network that blends shows the mean wherever a frame is new.
    let detected = shown(Handling::Detect);
    let middle = f64::midpoint(detected[0], detected[4]);
    assert!(
        detected[1..4].iter().all(|new| near(*new, middle)),
        "{detected:?}"
    );
    let ignored = shown(Handling::Ignore);
    assert!(
        near(ignored[2], ignored[0]) && near(ignored[3], middle),
        "{ignored:?}"
    );
}

#[test]
fn sound_is_kept_and_as_long_as_the_video() {
    let folder = TempDir::new().unwrap();
    let arguments = [
        "-i",
        "testsrc2=size=64x36:rate=25:duration=2",
        "-f",
        "lavfi",
        "-i",
        "sine=frequency=440:duration=2",
        "-c:a",
        "aac",
        "-shortest",
    ];
    let source = clip(&folder, "sound.mp4", &arguments);
    for (parameters, expected) in [
        (factor(2), 2.0),
        (fps("60"), 2.0),
        (slowed(factor(1), "2"), 4.0),
        (slowed(fps("50"), "5/2"), 5.0),
    ] {
        let prepared = prepared(&parameters, &source).unwrap();
        let made = computed(&folder, &prepared, &network(), None).0.unwrap();
        let found = streams(&made.files[0].path);
        for (stream, tolerance) in [(0, 0.001), (1, 0.1)] {
            let seconds: f64 = found[stream]["duration"].as_str().unwrap().parse().unwrap();
            assert!(
                (seconds - expected).abs() < tolerance,
                "{parameters:?}: {seconds} s of {expected}"
            );
        }
    }
}

#[test]
fn parameters_and_inputs_that_nobody_can_work_on_are_refused_before_anything_is_computed() {
    let folder = TempDir::new().unwrap();
    let film = clip(
        &folder,
        "film.mkv",
        &["-i", "testsrc2=size=64x36:rate=25", "-frames:v", "5"],
    );
    let single = clip(
        &folder,
        "single.mkv",
        &["-i", "testsrc2=size=64x36:rate=25", "-frames:v", "1"],
    );
    let still = PathBuf::from(picture(&folder));
    let both = Interpolate {
        fps: Fraction::parse("60"),
        ..factor(2)
    };
    for (parameters, path, words) in [
        (
            both,
            &film,
            "set exactly one of interpolate.factor and interpolate.fps",
        ),
        (
            fps("25"),
            &film,
            "interpolate.fps is 25, and the video has 25 frames a second already",
        ),
        (factor(1), &film, "interpolate.factor is 1"),
        (
            slowed(factor(2), "9"),
            &film,
            "interpolate.slowdown is 9; choose 1 to 8",
        ),
        (factor(2), &single, "the video has a single frame"),
        (
            factor(2),
            &still,
            "a video is needed, but the file is a PNG image",
        ),
    ] {
        let refused = prepared(&parameters, path).unwrap_err();
        assert_eq!(refused.cause(), Cause::InvalidInput);
        let said = said(&refused);
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_model_for_another_pipeline_is_refused_by_the_networks_name() {
    let interpolator = recognise(&golden::rife_case("mini").weights).unwrap();
    let upscaler = recognise(&golden::case("compact_x2").weights).unwrap();
    let refused = |pipeline, network| {
        let refused = pipelines::prepare(&pipeline, &[], network, &programs()).unwrap_err();
        assert_eq!(refused.cause(), Cause::InvalidInput);
        said(&refused)
    };
    assert_eq!(
        refused(Pipeline::Interpolate(factor(2)), &upscaler),
        "interpolate cannot use the model, which is SRVGGNetCompact x2 (16 features, 4 convolutions) and makes frames larger; name a model for interpolate in the step's model"
    );
    assert_eq!(
        refused(Pipeline::Upscale(Upscale::default()), &interpolator),
        "upscale cannot use the model, which is RIFE 4.6 (blocks of 8, 4, 4, 4 channels) and makes frames between frames; name a model for upscale in the step's model"
    );
}

#[test]
fn no_more_than_the_limit_is_computed_and_a_stopped_frame_ends_at_once() {
    let folder = TempDir::new().unwrap();
    let film = clip(
        &folder,
        "film.mkv",
        &["-i", "testsrc2=size=64x36:rate=10", "-frames:v", "10"],
    );
    let whole = prepared(&factor(2), &film).unwrap();
    let (made, done) = computed(&folder, &whole, &network(), Some(20 * FRAME));
    assert_eq!((made.unwrap().units, done), (20 * FRAME, 20 * FRAME));
    let (refused, done) = computed(&folder, &whole, &network(), Some(5 * FRAME + 1));
    let refused = refused.unwrap_err();
    assert_eq!((refused.cause(), done), (Cause::InvalidInput, 5 * FRAME));

    let stop = AtomicBool::new(false);
    let mut asked = 0;
    let mut progress = |progress: framewright_crds::aijob::Progress| {
        assert_eq!(progress.of, Some(20));
        asked += 1;
        // Within the second new frame.
        if progress.done == Some(3) {
            stop.store(true, Ordering::SeqCst);
        }
    };
    let units = AtomicU64::new(0);
    let mut sink = ProgressSink {
        should_stop: &stop,
        progress: &mut progress,
        units: &units,
    };
    let stopped = interpolate(&whole, &network(), &context(&folder, None), &mut sink);
    assert!(matches!(stopped, Err(PipelineError::Stopped)));
    assert_eq!(units.load(Ordering::SeqCst), 3 * FRAME);
    assert!(asked > 40, "asked {asked} times only");
}

#[test]
fn a_worker_without_room_says_how_much_is_enough() {
    let folder = TempDir::new().unwrap();
    let film = clip(
        &folder,
        "film.mkv",
        &["-i", "testsrc2=size=64x36:rate=10", "-frames:v", "10"],
    );
    let prepared = prepared(&factor(2), &film).unwrap();
    let context = TaskContext {
        memory: Some(Limit::Set(64 << 20)),
        ..context(&folder, None)
    };
    let mut sink = ProgressSink {
        should_stop: &AtomicBool::new(false),
        progress: &mut |_| {},
        units: &AtomicU64::new(0),
    };
    let refused = interpolate(&prepared, &network(), &context, &mut sink).unwrap_err();
    assert_eq!(refused.cause(), Cause::InvalidInput);
    assert!(
        refused
            .to_string()
            .contains("raise the pool's memory limit to "),
        "{refused}"
    );
}

/// With the program itself: from a manifest to a file.
#[test]
fn a_job_on_this_machine_makes_the_video_and_refuses_the_model_for_another_pipeline() {
    let folder = TempDir::new().unwrap();
    let arguments = ["-i", "testsrc2=size=64x36:rate=10", "-frames:v", "5"];
    clip(&folder, "film.mkv", &arguments);
    let weights = golden::rife_case("mini").tensors();
    candle_core::safetensors::save(&weights, folder.path().join("rife.safetensors")).unwrap();
    let run = |pipeline: &str| {
        let manifest = format!(
            "
apiVersion: framewright.dev/v1alpha1
kind: AIJob
metadata: {{name: demo}}
spec:
  steps:
  - {{name: smooth, model: rife, {pipeline}, inputs: [{{name: video, upload: {{file: film.mkv}}}}]}}
---
apiVersion: framewright.dev/v1alpha1
kind: ModelPool
metadata: {{name: cpu}}
spec:
  device: cpu
  models:
  - name: rife
    source: {{upload: {{}}}}
    files: [{{path: rife.safetensors, file: rife.safetensors}}]
"
        );
        std::fs::write(folder.path().join("job.yaml"), manifest).unwrap();
        let mut worker = Command::new(env!("CARGO_BIN_EXE_framewright-worker"));
        let done = worker
            .args(["run", "job.yaml", "--overwrite"])
            .current_dir(folder.path())
            .output()
            .unwrap();
        let text = [done.stdout, done.stderr].concat();
        (done.status.success(), String::from_utf8(text).unwrap())
    };
    let (is_done, words) = run("interpolate: {fps: 25}");
    assert!(is_done, "{words}");
    assert!(
        words.contains("smooth: interpolate with rife (RIFE 4.6"),
        "{words}"
    );
    // Five frames at ten a second last half a second: 12.5 frames.
    assert_eq!(frames(&folder.path().join("demo-smooth.mp4")).len(), 13);
    let (is_done, words) = run("upscale: {}");
    assert!(!is_done);
    assert!(
        words.contains("name a model for upscale in the step's model"),
        "{words}"
    );
    let (is_done, words) = run("interpolate: {factor: 2, fps: 25}");
    assert!(!is_done);
    assert!(
        words.contains("set exactly one of interpolate.factor and interpolate.fps"),
        "{words}"
    );
    let (is_done, words) = run("interpolate: {fps: 23.976}");
    assert!(!is_done);
    assert!(words.contains("spec.steps[0].interpolate.fps"), "{words}");
}

/// Ten frames a second, each of them brighter, with a pattern.
const FADE: &str = "color=c=black:size=64x36:rate=10,format=rgb24,geq=r='40+N*9+X/4':g='40+N*9+Y/4':b='60+N*9',format=rgb24";

fn factor(factor: i32) -> Interpolate {
    Interpolate {
        factor: Some(factor),
        ..Interpolate::default()
    }
}

fn fps(fps: &str) -> Interpolate {
    Interpolate {
        fps: Fraction::parse(fps),
        ..Interpolate::default()
    }
}

fn slowed(parameters: Interpolate, slowdown: &str) -> Interpolate {
    Interpolate {
        slowdown: Fraction::parse(slowdown),
        ..parameters
    }
}

/// A RIFE with weights by formula, which moves pixels about.
fn network() -> Interpolator {
    golden::rife_case("mini").interpolator()
}

/// A RIFE whose blocks find neither motion nor a reason to prefer one of the frames: it shows the mean of both.
fn blending() -> Interpolator {
    let case = golden::rife_case("mini");
    let mut tensors = case.tensors();
    for (name, tensor) in &mut tensors {
        if name.contains("lastconv") {
            *tensor = Tensor::zeros(tensor.shape(), tensor.dtype(), &Device::Cpu).unwrap();
        }
    }
    Interpolator::from_tensors(&case.layout(), tensors, &Device::Cpu).unwrap()
}

fn prepared(parameters: &Interpolate, path: &Path) -> Result<Prepared, PipelineError> {
    let inputs = [Input {
        name: "video".to_owned(),
        path: path.to_owned(),
    }];
    prepare(parameters, &inputs, &programs())
}

/// What came out, and the work that was counted.
fn computed(
    folder: &TempDir,
    prepared: &Prepared,
    network: &Interpolator,
    max_units: Option<u64>,
) -> (Result<Outputs, PipelineError>, u64) {
    let units = AtomicU64::new(0);
    let mut sink = ProgressSink {
        should_stop: &AtomicBool::new(false),
        progress: &mut |_| {},
        units: &units,
    };
    let made = interpolate(prepared, network, &context(folder, max_units), &mut sink);
    (made, units.load(Ordering::SeqCst))
}

fn context(folder: &TempDir, max_units: Option<u64>) -> TaskContext {
    TaskContext {
        folder: folder.path().to_owned(),
        max_bytes: u64::MAX,
        max_units,
        tile_bytes: 128 << 20,
        memory: None,
        programs: programs(),
        checkpoint: None,
    }
}

fn programs() -> Programs {
    std::env::var_os("FRAMEWRIGHT_DIST").map_or_else(Programs::default, |dist| Programs {
        ffmpeg: Path::new(&dist).join("ffmpeg"),
        ffprobe: Path::new(&dist).join("ffprobe"),
    })
}

/// An error with its causes.
fn said(error: &PipelineError) -> String {
    let mut words = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        words = format!("{words}: {cause}");
        source = cause.source();
    }
    words
}

/// A lossless clip, but for sound.
fn clip(folder: &TempDir, name: &str, arguments: &[&str]) -> PathBuf {
    let path = folder.path().join(name);
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-y"]);
    if arguments[0] == "-i" {
        ffmpeg.args(["-f", "lavfi"]);
    }
    let codec = if name.ends_with(".mp4") {
        ["-c:v", "libx264", "-pix_fmt", "yuv420p"]
    } else {
        ["-c:v", "ffv1", "-pix_fmt", "bgr0"]
    };
    let made = ffmpeg.args(arguments).args(codec).arg(&path).status();
    assert!(made.unwrap().success(), "{name}");
    path
}

/// A picture of noise.
fn picture(folder: &TempDir) -> String {
    let path = folder.path().join("noise.png");
    let pixels = golden::pixels("still", 3 * 64 * 36);
    image::RgbImage::from_raw(64, 36, pixels)
        .unwrap()
        .save(&path)
        .unwrap();
    path.display().to_string()
}

fn streams(path: &Path) -> serde_json::Value {
    let asked = Command::new("ffprobe")
        .args(["-v", "error", "-show_streams", "-of", "json"])
        .arg(path)
        .output()
        .unwrap();
    let mut answer: serde_json::Value = serde_json::from_slice(&asked.stdout).unwrap();
    answer["streams"].take()
}

/// All frames, in RGB.
fn frames(path: &Path) -> Vec<Vec<u8>> {
    let decoded = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(path)
        .args(["-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"])
        .output()
        .unwrap();
    assert!(decoded.status.success());
    let frames = decoded.stdout.chunks_exact(3 * FRAME as usize);
    frames.map(<[u8]>::to_vec).collect()
}

/// The mean of all values of each frame.
fn brightness(path: &Path) -> Vec<f64> {
    let mean = |frame: &Vec<u8>| {
        let sum: u64 = frame.iter().map(|value| u64::from(*value)).sum();
        sum as f64 / frame.len() as f64
    };
    frames(path).iter().map(mean).collect()
}
