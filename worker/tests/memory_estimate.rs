//! What files hold beside their pixels, and pictures that become larger, take no more memory than is planned with. The process is
//! measured, so one test at a time.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is the point"
)]

mod golden;
mod peak;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Mutex, MutexGuard, PoisonError};

use framewright_crds::aijob::Cause;
use framewright_crds::pipelines::upscale::Upscale;
use framewright_worker::media::Programs;
use framewright_worker::memory::Limit;
use framewright_worker::pipelines::upscale::{prepare, upscale};
use framewright_worker::pipelines::{Input, Output, PipelineError, ProgressSink, TaskContext};
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, ImageFormat, RgbImage};
use tempfile::TempDir;

use peak::{peak_bytes, peak_bytes_from_now};

const MIB: usize = 1 << 20;

#[test]
fn a_colour_profile_that_swells_takes_little_memory() {
    let _alone = alone();
    let folder = TempDir::new().unwrap();
    for (mebibytes, is_refused) in [(300, false), (30, true)] {
        let picture = with_profile(folder.path(), mebibytes * MIB);
        assert!(std::fs::metadata(&picture).unwrap().len() < MIB as u64);
        let before = peak_bytes_from_now();

        let made = made(&folder, "image", picture, 512 * MIB);

        let taken = (peak_bytes() - before) / MIB;
        assert!(taken < 200, "{mebibytes} MiB: {taken} MiB");
        match made {
            Ok(_) => assert!(!is_refused, "{mebibytes} MiB"),
            Err(error) => {
                assert!(is_refused, "{mebibytes} MiB: {error}");
                assert_eq!(error.cause(), Cause::InvalidInput);
            }
        }
    }
}

#[test]
fn a_file_that_is_read_as_a_whole_counts_before_it_is_read() {
    let _alone = alone();
    let folder = TempDir::new().unwrap();
    let picture = folder.path().join("padded.jpg");
    let small = RgbImage::from_fn(16, 16, |x, y| image::Rgb([x as u8, y as u8, 99]));
    small.save_with_format(&picture, ImageFormat::Jpeg).unwrap();
    let file = File::options().write(true).open(&picture).unwrap();
    file.set_len(400 * MIB as u64).unwrap();
    let before = peak_bytes_from_now();

    let refused = made(&folder, "image", picture.clone(), 384 * MIB).unwrap_err();

    let taken = (peak_bytes() - before) / MIB;
    assert!(taken < 250, "{taken} MiB");
    assert!(matches!(refused, PipelineError::Memory { .. }), "{refused}");
    assert_eq!(refused.cause(), Cause::InvalidInput);
    let enough = made(&folder, "image", picture, 1024 * MIB).unwrap();
    assert_eq!((enough.media.width, enough.media.height), (32, 32));
}

#[test]
fn a_video_that_becomes_larger_midway_may_do_so_as_far_as_there_is_memory() {
    let _alone = alone();
    let folder = TempDir::new().unwrap();
    for (size, is_refused) in [("480x272", false), ("3840x2160", true)] {
        let video = changing(folder.path(), size);

        let made = made(&folder, "video", video, 512 * MIB);

        match made {
            Ok(made) => {
                let size = (made.media.width, made.media.height);
                assert_eq!((size, is_refused), ((256, 144), false));
            }
            Err(error) => {
                assert!(is_refused, "{size}: {error}");
                assert_eq!(error.cause(), Cause::InvalidInput);
                let PipelineError::Input { source, .. } = error else {
                    panic!("{error}");
                };
                let said = source.to_string();
                assert!(
                    said.starts_with("the video says that it has 128 x 72"),
                    "{said}"
                );
            }
        }
    }
}

/// A video that begins with 128 x 72 pixels.
fn changing(folder: &Path, later: &str) -> PathBuf {
    let part = |size: &str| {
        let path = folder.join(format!("{size}.ts"));
        let graph = format!("testsrc2=s={size}:r=24,trim=end_frame=4");
        let arguments = ["-f", "lavfi", "-i", &graph, "-pix_fmt", "yuv420p"];
        ffmpeg(&arguments, &path);
        path.display().to_string()
    };
    let joined = format!("concat:{}|{}", part("128x72"), part(later));
    let path = folder.join(format!("{later}.mkv"));
    ffmpeg(&["-i", &joined, "-c", "copy"], &path);
    path
}

fn ffmpeg(arguments: &[&str], path: &Path) {
    let mut ffmpeg = Command::new("ffmpeg");
    let made = ffmpeg.args(["-v", "error", "-y"]).args(arguments).arg(path);
    assert!(made.status().unwrap().success(), "{}", path.display());
}

/// A picture of one pixel with a profile of zeros, which a thousandth holds.
fn with_profile(folder: &Path, bytes: usize) -> PathBuf {
    let path = folder.join(format!("{bytes}.png"));
    let mut encoder = PngEncoder::new(File::create(&path).unwrap());
    encoder.set_icc_profile(vec![0; bytes]).unwrap();
    encoder
        .write_image(&[7, 8, 9], 1, 1, ExtendedColorType::Rgb8)
        .unwrap();
    path
}

/// What a network that makes each side twice as large makes of a file, by a worker that may use so much memory.
fn made(
    folder: &TempDir,
    name: &str,
    path: PathBuf,
    memory: usize,
) -> Result<Output, PipelineError> {
    let inputs = [Input {
        name: name.to_owned(),
        path,
    }];
    let context = TaskContext {
        folder: folder.path().to_owned(),
        max_bytes: u64::MAX,
        max_units: None,
        tile_bytes: 128 * MIB as u64,
        memory: Some(Limit::Set(memory as u64)),
        programs: std::env::var_os("FRAMEWRIGHT_DIST").map_or_else(Programs::default, |dist| {
            Programs {
                ffmpeg: Path::new(&dist).join("ffmpeg"),
                ffprobe: Path::new(&dist).join("ffprobe"),
            }
        }),
        checkpoint: None,
    };
    let mut sink = ProgressSink {
        should_stop: &AtomicBool::new(false),
        progress: &mut |_| {},
        units: &AtomicU64::new(0),
    };
    let network = golden::case("compact_x2").upscaler();
    let parameters = Upscale::default();
    let prepared = prepare(&parameters, &inputs, network.scale(), &context.programs)?;
    let made = upscale(&prepared, &network, &context, &mut sink)?;
    Ok(made.files.into_iter().next().unwrap())
}

/// One test at a time, since the process is measured.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
