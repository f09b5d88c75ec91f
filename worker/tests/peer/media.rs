//! Small clips, pictures and weights.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A clip of 64x36 pixels with a tone, 10 frames a second.
pub(crate) fn clip(folder: &Path, frames: u32) -> Vec<u8> {
    clip_of(folder, 64, 36, frames)
}

pub(crate) fn clip_of(folder: &Path, width: u32, height: u32, frames: u32) -> Vec<u8> {
    let path = folder.join(format!("clip-{width}-{height}-{frames}.mp4"));
    let seconds = f64::from(frames) / 10.0;
    ffmpeg(
        &[
            "-f",
            "lavfi",
            "-i",
            &format!("testsrc2=size={width}x{height}:rate=10:duration={seconds}"),
            "-f",
            "lavfi",
            "-i",
            &format!("sine=duration={seconds}"),
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-pix_fmt",
            "yuv420p",
            "-c:a",
            "aac",
        ],
        &path,
    );
    std::fs::read(path).unwrap()
}

/// A clip of 64x36 pixels that keeps a worker busy for many seconds.
pub(crate) fn long_clip(folder: &Path) -> Vec<u8> {
    clip(folder, 100);
    let (once, often) = (folder.join("clip-64-36-100.mp4"), folder.join("long.mp4"));
    let once = once.to_str().unwrap();
    ffmpeg(&["-stream_loop", "39", "-i", once, "-c", "copy"], &often);
    std::fs::read(often).unwrap()
}

/// A small JPEG that becomes a large PNG.
pub(crate) fn noise(folder: &Path) -> Vec<u8> {
    let path = folder.join("noise.jpg");
    let noise = "nullsrc=size=160x160,geq=random(1)*255:128:128";
    ffmpeg(
        &["-f", "lavfi", "-i", noise, "-frames:v", "1", "-q:v", "10"],
        &path,
    );
    std::fs::read(path).unwrap()
}

pub(crate) fn picture(folder: &Path) -> Vec<u8> {
    let path = folder.join("picture.png");
    ffmpeg(
        &["-f", "lavfi", "-i", "testsrc2=size=40x24", "-frames:v", "1"],
        &path,
    );
    std::fs::read(path).unwrap()
}

fn ffmpeg(arguments: &[&str], output: &PathBuf) {
    let made = Command::new("ffmpeg")
        .args(["-hide_banner", "-nostdin", "-loglevel", "error", "-y"])
        .args(arguments)
        .arg(output)
        .status();
    assert!(made.unwrap().success());
}

/// Width, height and frames of a video.
pub(crate) fn size_of(video: &Path) -> String {
    let probed = Command::new("ffprobe")
        .args(["-v", "error", "-count_frames", "-select_streams", "v:0"])
        .args([
            "-show_entries",
            "stream=width,height,nb_read_frames",
            "-of",
            "csv=p=0",
        ])
        .arg(video)
        .output()
        .unwrap();
    String::from_utf8(probed.stdout).unwrap().trim().to_owned()
}

/// Weights of a network that makes each side twice as large, as a safetensors file: values by formula.
pub(crate) fn weights() -> Vec<u8> {
    let case = crate::golden::case("compact_x2");
    let file = tempfile::NamedTempFile::new().unwrap();
    candle_core::safetensors::save(&crate::golden::weights(&case.weights), file.path()).unwrap();
    std::fs::read(file.path()).unwrap()
}
