//! A run that is killed goes on from its finished segments, and its result has the same bytes as an undisturbed one.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is the point"
)]

mod golden;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(120);
/// Two segments of 240 source frames, and a last one of a single frame.
const SOURCE_FRAMES: u64 = 481;

#[test]
fn an_upscale_that_is_killed_halfway_has_the_bytes_of_an_undisturbed_one() {
    let folder = folder();
    job(&folder, "upscale: {}");
    let video = killed_and_done_again(&folder);
    is_one_video(&video, SOURCE_FRAMES, (24_000, 1001));

    // The same folder for another result: nothing of it is used.
    killed(&folder);
    job(&folder, "upscale: {scale: 1}");
    let other = run(&folder, &["--checkpoint", "kept", "--output", "other"]);
    assert!(said(&other).contains("its pipeline is"), "{}", said(&other));
    assert_ne!(
        fs::read(result(&folder, "other")).unwrap(),
        fs::read(&video).unwrap()
    );

    // A damaged segment is made again.
    job(&folder, "upscale: {}");
    killed(&folder);
    let segment = folder.path().join("kept/made/segment-00000.mp4");
    let mut bytes = fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let again = run(&folder, &["--checkpoint", "kept", "--output", "again"]);
    assert!(
        said(&again).contains("segment-00000.mp4"),
        "{}",
        said(&again)
    );
    assert_eq!(
        fs::read(result(&folder, "again")).unwrap(),
        fs::read(&video).unwrap()
    );
}

#[test]
fn an_interpolation_that_is_killed_halfway_has_the_bytes_of_an_undisturbed_one() {
    let folder = folder();
    job(&folder, "interpolate: {fps: 30}");
    let video = killed_and_done_again(&folder);
    // 481 frames of 1001/24000 s are 20.06 s.
    is_one_video(&video, 602, (30, 1));
}

/// The result of a run that was killed after its first segment and begun again.
fn killed_and_done_again(folder: &TempDir) -> PathBuf {
    let whole = run(folder, &["--output", "whole"]);
    assert!(whole.status.success(), "{}", said(&whole));
    killed(folder);
    let resumed = run(folder, &["--checkpoint", "kept", "--output", "resumed"]);
    let words = said(&resumed);
    assert!(resumed.status.success(), "{words}");
    assert!(words.contains("goes on after the segments"), "{words}");
    assert!(!folder.path().join("kept/made").exists(), "nothing is left");
    let (whole, resumed) = (result(folder, "whole"), result(folder, "resumed"));
    assert_eq!(fs::read(whole).unwrap(), fs::read(&resumed).unwrap());
    resumed
}

/// Kills a run with a checkpoint as soon as its first segment is finished.
fn killed(folder: &TempDir) {
    let mut worker = worker(folder, &["--checkpoint", "kept", "--output", "killed"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let manifest = folder.path().join("kept/made/checkpoint.json");
    let start = Instant::now();
    let is_one_there =
        || fs::read_to_string(&manifest).is_ok_and(|text| text.contains("segment-00000.mp4"));
    while !is_one_there() {
        assert!(start.elapsed() < DEADLINE, "no segment in time");
        assert!(worker.try_wait().unwrap().is_none(), "it has ended");
        std::thread::sleep(Duration::from_millis(5));
    }
    worker.kill().unwrap();
    let status = worker.wait().unwrap();
    assert!(!status.success(), "it was killed before its end");
}

/// Each frame is shown at its time, to the tick, and sound lasts as long as the picture.
fn is_one_video(video: &Path, frames: u64, rate: (u64, u64)) {
    let probed = Command::new("ffprobe")
        .args(["-v", "error", "-of", "json", "-show_streams"])
        .args(["-show_entries", "packet=stream_index,pts,dts,flags"])
        .arg(video)
        .output()
        .unwrap();
    let probed: serde_json::Value = serde_json::from_slice(&probed.stdout).unwrap();
    let (picture, sound) = (&probed["streams"][0], &probed["streams"][1]);
    assert_eq!(picture["nb_frames"], frames.to_string());
    assert_eq!(picture["avg_frame_rate"], format!("{}/{}", rate.0, rate.1));
    assert_eq!(picture["start_pts"], 0);
    let packets = probed["packets"].as_array().unwrap();
    let packets: Vec<_> = packets
        .iter()
        .filter(|packet| packet["stream_index"] == 0)
        .collect();
    let number = |value: &serde_json::Value| value.as_i64().unwrap();
    let time_base = picture["time_base"].as_str().unwrap();
    let ticks: u64 = time_base.split_once('/').unwrap().1.parse().unwrap();
    let per_frame = i64::try_from(ticks * rate.1 / rate.0).unwrap();
    let mut shown: Vec<i64> = packets
        .iter()
        .map(|packet| number(&packet["pts"]))
        .collect();
    shown.sort_unstable();
    let expected: Vec<i64> = (0..frames as i64).map(|frame| frame * per_frame).collect();
    assert_eq!(shown, expected);
    let decoded: Vec<i64> = packets
        .iter()
        .map(|packet| number(&packet["dts"]))
        .collect();
    let first = decoded[0];
    let expected: Vec<i64> = (0..frames as i64)
        .map(|frame| first + frame * per_frame)
        .collect();
    assert_eq!(decoded, expected);
    let seconds = |stream: &serde_json::Value| -> f64 {
        stream["duration"].as_str().unwrap().parse().unwrap()
    };
    let (picture, sound) = (seconds(picture), seconds(sound));
    assert!(
        (picture - sound).abs() < 0.05,
        "{picture} s, {sound} s of sound"
    );
    // What decodes has no error at the places where segments meet.
    let played = Command::new("ffmpeg")
        .args(["-v", "warning", "-i"])
        .arg(video)
        .args(["-f", "null", "-"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&played.stderr), "");
}

/// A folder with a clip of small frames and sound, and weights of both pipelines.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    let save = |name: &str, tensors| {
        candle_core::safetensors::save(&tensors, folder.path().join(name)).unwrap();
    };
    save(
        "upscaler.safetensors",
        golden::weights(&golden::case("compact_x2").weights),
    );
    save(
        "interpolator.safetensors",
        golden::rife_case("mini").tensors(),
    );
    let seconds = (SOURCE_FRAMES * 1001) as f64 / 24_000.0;
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi"])
        .args([
            "-i",
            &format!("testsrc2=size=32x32:rate=24000/1001,trim=end_frame={SOURCE_FRAMES}"),
        ])
        .args(["-f", "lavfi", "-i", &format!("sine=duration={seconds}")])
        .args(["-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a", "aac"])
        .arg(folder.path().join("clip.mp4"))
        .status();
    assert!(made.unwrap().success());
    folder
}

fn job(folder: &TempDir, pipeline: &str) {
    let model = if pipeline.starts_with("upscale") {
        "upscaler"
    } else {
        "interpolator"
    };
    let manifest = format!(
        "
apiVersion: framewright.dev/v1alpha1
kind: AIJob
metadata: {{name: demo}}
spec:
  steps:
  - {{name: made, model: network, {pipeline}, inputs: [{{name: video, upload: {{file: clip.mp4}}}}]}}
---
apiVersion: framewright.dev/v1alpha1
kind: ModelPool
metadata: {{name: cpu}}
spec:
  device: cpu
  models:
  - name: network
    source: {{upload: {{}}}}
    files: [{{path: {model}.safetensors, file: {model}.safetensors}}]
"
    );
    fs::write(folder.path().join("job.yaml"), manifest).unwrap();
}

fn worker(folder: &TempDir, more: &[&str]) -> Command {
    let mut worker = Command::new(env!("CARGO_BIN_EXE_framewright-worker"));
    if let Some(dist) = std::env::var_os("FRAMEWRIGHT_DIST") {
        for (variable, program) in [
            ("FRAMEWRIGHT_FFMPEG", "ffmpeg"),
            ("FRAMEWRIGHT_FFPROBE", "ffprobe"),
        ] {
            worker.env(variable, Path::new(&dist).join(program));
        }
    }
    worker
        .args(["run", "job.yaml", "--log", "info"])
        .args(more)
        .current_dir(folder.path());
    worker
}

fn run(folder: &TempDir, more: &[&str]) -> Output {
    worker(folder, more).output().unwrap()
}

fn result(folder: &TempDir, output: &str) -> PathBuf {
    folder.path().join(output).join("demo-made.mp4")
}

fn said(done: &Output) -> String {
    String::from_utf8_lossy(&[&done.stdout[..], &done.stderr[..]].concat()).into_owned()
}
