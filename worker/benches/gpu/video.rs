//! The whole way: a video from file to file beside the network alone, and a process from its start to its first frame.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use candle_core::Device;
use framewright_worker::device::tile_bytes;
use framewright_worker::frame::{tiling_on_device, upscale_rgb8};
use framewright_worker::models::{WeightFile, load_upscaler};
use framewright_worker::networks::Upscaler;
use tempfile::TempDir;

use crate::Setting;

const WEIGHTS: &str = "models/framewright-x2/framewright-x2.safetensors";

pub(crate) fn measure(setting: &Setting) -> Result<()> {
    let (width, height) = setting.sizes.last().copied().context("no size")?;
    let folder = TempDir::new()?;
    let network = network(&setting.device)?;
    let alone = alone(&network, setting, width, height)?;
    let whole = through(folder.path(), setting, width, height, setting.video_frames)?;
    let first = through(folder.path(), setting, width, height, 1)?;
    println!(
        "\nframewright-x2 at {width}x{height}: {:.1} frames/s by the network alone, {:.1} in a video of {} frames from file to file ({:.0}%)",
        1.0 / alone,
        f64::from(setting.video_frames - 1) / (whole - first),
        setting.video_frames,
        100.0 * alone * f64::from(setting.video_frames - 1) / (whole - first),
    );
    println!("a process that makes one frame of it takes {first:.2} s from its start to its end");
    Ok(())
}

fn network(device: &Device) -> Result<Upscaler> {
    let path = root().join(WEIGHTS);
    let content = std::fs::read(&path).with_context(|| format!("read {WEIGHTS}"))?;
    Ok(load_upscaler(
        WeightFile {
            name: WEIGHTS,
            path: &path,
            sha256: digest(&content).parse()?,
        },
        device,
    )?)
}

/// Seconds for a frame.
fn alone(network: &Upscaler, setting: &Setting, width: usize, height: usize) -> Result<f64> {
    let pixels = vec![100; 3 * width * height];
    let tiling = tiling_on_device(network, tile_bytes(&setting.device));
    let frame = || upscale_rgb8(network, &pixels, width, height, tiling, &|| false);
    frame()?;
    let start = Instant::now();
    for _ in 0..setting.video_frames {
        frame()?;
    }
    Ok(start.elapsed().as_secs_f64() / f64::from(setting.video_frames))
}

/// Seconds that a process takes for a video of so many frames.
fn through(
    folder: &Path,
    setting: &Setting,
    width: usize,
    height: usize,
    frames: u32,
) -> Result<f64> {
    let clip = folder.join("clip.mp4");
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-f", "lavfi", "-i"])
        .arg(format!("testsrc2=size={width}x{height}:rate=30"))
        .args(["-frames:v", &frames.to_string()])
        .args(["-c:v", "libx264", "-pix_fmt", "yuv420p"])
        .arg(&clip)
        .status()
        .context("start ffmpeg, which makes the video: install Debian's ffmpeg")?;
    ensure!(made.success(), "ffmpeg made no video");
    let job = folder.join("job.yaml");
    let (clip, weights) = (std::fs::read(&clip)?, std::fs::read(root().join(WEIGHTS))?);
    let device = match setting.device {
        Device::Cpu => "cpu",
        Device::Cuda(_) | Device::Metal(_) => "cuda",
    };
    std::fs::write(
        &job,
        format!(
            "apiVersion: framewright.dev/v1alpha1
kind: AIJob
metadata: {{name: bench}}
spec:
  steps:
  - name: large
    model: framewright-x2
    upscale: {{}}
    inputs: [{{name: video, upload: {{digest: \"sha256:{}\", bytes: {}}}}}]
---
apiVersion: framewright.dev/v1alpha1
kind: ModelPool
metadata: {{name: bench}}
spec:
  device: {device}
  models:
  - name: framewright-x2
    source: {{upload: {{}}}}
    files: [{{path: framewright-x2.safetensors, digest: \"sha256:{}\", bytes: {}}}]
",
            digest(&clip),
            clip.len(),
            digest(&weights),
            weights.len()
        ),
    )?;
    let start = Instant::now();
    let done = Command::new(env!("CARGO_BIN_EXE_framewright-worker"))
        .arg("run")
        .arg(&job)
        .args(["--weights".as_ref(), root().join(WEIGHTS).as_os_str()])
        .args(["--output".as_ref(), folder.join("results").as_os_str()])
        .output()?;
    ensure!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(start.elapsed().as_secs_f64())
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn digest(content: &[u8]) -> String {
    hex::encode(ring::digest::digest(&ring::digest::SHA256, content))
}
