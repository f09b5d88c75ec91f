//! Clips and pictures to test with, and ways to look at what came out.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use framewright_worker::media::decode::{DecodeOptions, Decoder};
use framewright_worker::media::encode::{EncodeOptions, Encoded, Encoder, Preset};
use framewright_worker::media::probe::probe;
use framewright_worker::media::{
    AudioTrack, Frame, FrameRate, MediaError, Programs, Video, VideoLimits,
};
use tempfile::TempDir;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn scratch() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// The programs that read and write video in the worker's image, where they are built: what they cannot do, the worker cannot.
pub(crate) fn ours() -> Programs {
    std::env::var_os("FRAMEWRIGHT_DIST").map_or_else(Programs::default, |dist| Programs {
        ffmpeg: Path::new(&dist).join("ffmpeg"),
        ffprobe: Path::new(&dist).join("ffprobe"),
    })
}

/// Runs the machine's ffmpeg, which can do everything, to make a clip; arguments are split at spaces.
pub(crate) fn clip(scratch: &TempDir, name: &str, arguments: &[&str]) -> PathBuf {
    let path = scratch.path().join(name);
    let words = arguments
        .iter()
        .flat_map(|argument| argument.split_whitespace());
    let mut ffmpeg = Command::new("ffmpeg");
    let made = ffmpeg
        .args(["-v", "error", "-y"])
        .args(words)
        .arg(&path)
        .output();
    let made = made.expect("ffmpeg runs");
    assert!(
        made.status.success(),
        "{name}: {}",
        String::from_utf8_lossy(&made.stderr)
    );
    path
}

/// A moving test picture of 64 x 48 pixels.
pub(crate) fn picture(rate: &str, frames: u64) -> String {
    format!("-f lavfi -i testsrc2=s=64x48:r={rate},trim=end_frame={frames} -pix_fmt yuv420p")
}

pub(crate) fn options(width: u32, height: u32) -> EncodeOptions {
    let rate = FrameRate::new(25, 1).expect("a rate");
    EncodeOptions {
        preset: Preset::Veryfast,
        ..EncodeOptions::new(width, height, rate)
    }
}

pub(crate) fn encoder(path: &Path, options: EncodeOptions) -> Encoder {
    Encoder::create(&ours(), path, options).expect("starts")
}

pub(crate) fn decoder(path: &Path, options: &DecodeOptions) -> Decoder {
    Decoder::open(&ours(), path, &described(path), options).expect("starts")
}

pub(crate) fn described(path: &Path) -> Video {
    probe(&ours(), path, &VideoLimits::default(), PATIENCE).expect("a video")
}

pub(crate) fn refused(path: &Path) -> MediaError {
    probe(&ours(), path, &VideoLimits::default(), PATIENCE).expect_err("is refused")
}

pub(crate) fn frames(path: &Path) -> Vec<Frame> {
    let mut decoder = decoder(path, &DecodeOptions::default());
    std::iter::from_fn(|| decoder.next_frame().expect("a frame")).collect()
}

pub(crate) fn copy(source: &Path, target: &Path) -> (Video, Encoded) {
    let video = described(source);
    let mut decoder = decoder(source, &DecodeOptions::default());
    let encoded = encode(
        &mut decoder,
        &video,
        video.audio_track(source, None),
        target,
    );
    (video, encoded)
}

pub(crate) fn encode(
    decoder: &mut Decoder,
    video: &Video,
    audio: Option<AudioTrack>,
    target: &Path,
) -> Encoded {
    let options = EncodeOptions {
        audio,
        ..EncodeOptions::new(video.width, video.height, video.rate)
    };
    let mut encoder = encoder(target, options);
    while let Some(frame) = decoder.next_frame().expect("a frame") {
        encoder.push(frame).expect("takes a frame");
    }
    encoder.finish().expect("finishes")
}

/// What ffprobe says of the streams.
pub(crate) fn streams(path: &Path) -> serde_json::Value {
    let mut ffprobe = Command::new("ffprobe");
    let shown = ffprobe
        .args(["-v", "error", "-show_streams", "-of", "json"])
        .arg(path)
        .output();
    let mut answer: serde_json::Value =
        serde_json::from_slice(&shown.expect("ffprobe runs").stdout).expect("JSON");
    answer["streams"].take()
}

/// A checksum of the coded audio.
pub(crate) fn audio_checksum(path: &Path) -> String {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-i"]).arg(path);
    let shown = ffmpeg
        .args(["-map", "0:a", "-c", "copy", "-f", "hash", "-"])
        .output();
    String::from_utf8(shown.expect("ffmpeg runs").stdout).expect("text")
}

pub(crate) fn seconds(stream: &serde_json::Value) -> f64 {
    stream["duration"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .expect("a number")
}

pub(crate) fn position(bytes: &[u8], name: &[u8]) -> usize {
    bytes
        .windows(name.len())
        .position(|window| window == name)
        .expect("the box")
}

/// Bars of pure colours and greys, 16 pixels wide.
pub(crate) fn bars(width: u32, height: u32) -> Frame {
    const COLORS: [[u8; 3]; 8] = [
        [255, 0, 0],
        [0, 255, 0],
        [0, 0, 255],
        [255, 255, 255],
        [128, 128, 128],
        [64, 64, 64],
        [0, 0, 0],
        [200, 150, 120],
    ];
    let row: Vec<u8> = (0..width)
        .flat_map(|x| COLORS[(x / 16) as usize % 8])
        .collect();
    Frame {
        width,
        height,
        rgb: row.repeat(height as usize),
    }
}

/// A picture that does not compress.
pub(crate) fn noise(width: u32, height: u32, seed: u32) -> Frame {
    let rgb = random(seed).map(|number| number as u8);
    Frame {
        width,
        height,
        rgb: rgb.take((width * height * 3) as usize).collect(),
    }
}

/// The same bytes with a few changed, half of the time near the front, where headers are.
pub(crate) fn damaged(bytes: &[u8], seed: u32) -> Vec<u8> {
    let mut random = random(seed);
    let mut next = || random.next().expect("endless") as usize;
    let reach = if next().is_multiple_of(2) {
        bytes.len()
    } else {
        bytes.len().min(1000)
    };
    let mut damaged = bytes.to_vec();
    for _ in 0..next() % 16 + 1 {
        damaged[next() % reach] = next() as u8;
    }
    damaged
}

/// Marsaglia's xorshift.
fn random(seed: u32) -> impl Iterator<Item = u32> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    })
}

/// In decibels; 100 and more for pictures that are equal.
pub(crate) fn psnr(one: &Frame, other: &Frame) -> f64 {
    assert_eq!((one.width, one.height), (other.width, other.height));
    let pairs = one.rgb.iter().zip(&other.rgb);
    let squares: f64 = pairs.map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum();
    let mean = squares / one.rgb.len() as f64;
    10.0 * (255.0_f64.powi(2) / mean.max(1e-6)).log10()
}

/// How many running programs have this path among their arguments.
pub(crate) fn processes_with(path: &Path) -> usize {
    ids_of_processes_with(path).len()
}

/// Ends the one running program that has this path among its arguments, as the system does when memory runs out.
pub(crate) fn kill_process_with(path: &Path) {
    let ids = ids_of_processes_with(path);
    assert_eq!(ids.len(), 1, "{}", path.display());
    let killed = Command::new("kill").arg("-KILL").args(ids).status();
    assert!(killed.expect("kill runs").success());
}

fn ids_of_processes_with(path: &Path) -> Vec<OsString> {
    let needle = path.to_str().expect("a path in UTF-8").as_bytes();
    let folders = fs::read_dir("/proc").expect("proc").flatten();
    let has_it = |folder: &fs::DirEntry| {
        fs::read(folder.path().join("cmdline"))
            .is_ok_and(|line| line.windows(needle.len()).any(|window| window == needle))
    };
    folders
        .filter(has_it)
        .map(|folder| folder.file_name())
        .collect()
}
