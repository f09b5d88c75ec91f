//! Is the upscaler that ships as good here as its card says? The worker's own pipeline, against PyTorch's golden frame and,
//! on clips that ffmpeg's generators make, against bicubic scaling. `models/framewright-x2/README.md` defines every step.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is the point"
)]

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64};

use candle_core::{DType, Device, Tensor};
use framewright_crds::aijob::Cause;
use framewright_crds::pipelines::upscale::Upscale;
use framewright_worker::media::Programs;
use framewright_worker::memory::{Limit, tile_bytes};
use framewright_worker::models::verify::Sha256;
use framewright_worker::models::{WeightFile, load_upscaler};
use framewright_worker::networks::Upscaler;
use framewright_worker::pipelines::upscale::{prepare, upscale};
use framewright_worker::pipelines::{Input, Output, PipelineError, ProgressSink, TaskContext};
use image::RgbImage;
use image::imageops::{self, FilterType};

const WIDTH: u32 = 320;
const HEIGHT: u32 = 180;
/// The card's figures are of 24.
const FRAMES: u32 = 4;
/// Pixels at the frame's border that do not count in the card's table.
const BORDER: u32 = 4;

#[test]
fn the_network_computes_what_pytorch_does_with_the_trained_weights() {
    let golden = golden();
    let small = (golden["small"].to_dtype(DType::F32).unwrap() / 255.0).unwrap();
    let small = small.permute((2, 0, 1)).unwrap().unsqueeze(0).unwrap();
    let ours = network().forward(&small).unwrap().squeeze(0).unwrap();
    let worst = worst_difference(&ours, &golden["model"]);
    assert!(worst <= 1e-4, "off by {worst:e}");
}

#[test]
fn the_pipeline_writes_the_pixels_that_the_network_makes() {
    let golden = golden();
    let ours = upscaled(&network(), &picture(&golden["small"]));
    // Halves are rounded in two ways.
    assert!(worst_step(&ours, &picture(&golden["model_rgb"])) <= 1);
}

#[test]
fn bicubic_here_is_the_bicubic_of_the_card() {
    let golden = golden();
    let frame = picture(&golden["frame"]);
    let small = resized(&frame, frame.width() / 2, frame.height() / 2);
    assert!(worst_step(&small, &picture(&golden["small"])) <= 1);
    let doubled = resized(&picture(&golden["small"]), frame.width(), frame.height());
    assert!(worst_step(&doubled, &picture(&golden["bicubic"])) <= 1);
}

#[test]
fn it_beats_bicubic_on_clips_of_generators_that_it_has_not_seen() {
    let network = network();
    let (mut inside, mut whole) = (BTreeMap::new(), BTreeMap::new());
    for (name, source) in sources() {
        let frames = clip(&source).into_iter().map(|frame| {
            let small = resized(&frame, WIDTH / 2, HEIGHT / 2);
            let bicubic = resized(&small, WIDTH, HEIGHT);
            (upscaled(&network, &small), bicubic, frame)
        });
        let frames: Vec<_> = frames.collect();
        for (border, gains) in [(BORDER, &mut inside), (0, &mut whole)] {
            let errors = |of: fn(&Scaled) -> &RgbImage| -> f64 {
                let frames = frames.iter();
                frames
                    .map(|frame| squared_error(of(frame), &frame.2, border))
                    .sum()
            };
            let (ours, bicubic) = (decibels(errors(|it| &it.0)), decibels(errors(|it| &it.1)));
            println!("{name} without {border} pixels: bicubic {bicubic:.2} dB, ours {ours:.2} dB");
            gains.insert(name.clone(), ours - bicubic);
        }
    }
    for gains in [&inside, &whole] {
        let mean = gains.values().sum::<f64>() / gains.len() as f64;
        assert!(mean >= 1.0, "{mean:.2} dB in the mean: {gains:.2?}");
    }
    assert!(inside.values().all(|gain| *gain >= 0.0), "{inside:.2?}");
    // What zero padding costs at the border shows on the smoothest clip alone, as the card says.
    let smooth = whole.remove("gradients").unwrap();
    assert!(smooth >= -0.7, "{smooth:.2} dB on gradients");
    assert!(whole.values().all(|gain| *gain >= 0.0), "{whole:.2?}");
}

/// Ours, bicubic, and the frame itself.
type Scaled = (RgbImage, RgbImage, RgbImage);

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../models/framewright-x2")
}

fn golden() -> HashMap<String, Tensor> {
    candle_core::safetensors::load(folder().join("golden.safetensors"), &Device::Cpu).unwrap()
}

fn network() -> Upscaler {
    let path = folder().join("framewright-x2.safetensors");
    let file = WeightFile {
        name: "framewright-x2.safetensors",
        path: &path,
        sha256: Sha256::of(std::fs::File::open(&path).unwrap()).unwrap(),
    };
    load_upscaler(file, &Device::Cpu).unwrap()
}

/// What the worker makes of a picture: a file in, a file out.
fn upscaled(network: &Upscaler, small: &RgbImage) -> RgbImage {
    let folder = tempfile::tempdir().unwrap();
    let made = made(network, small, folder.path(), None).unwrap();
    image::open(made.path).unwrap().to_rgb8()
}

#[test]
fn a_cut_out_has_no_rim_of_the_colour_under_what_is_transparent() {
    let folder = tempfile::tempdir().unwrap();
    // A red disc on transparent black, as most editors write it.
    let disc = image::RgbaImage::from_fn(64, 64, |x, y| {
        let (x, y) = (f64::from(x) - 31.5, f64::from(y) - 31.5);
        if x.hypot(y) < 24.5 {
            image::Rgba([255, 0, 0, 255])
        } else {
            image::Rgba([0; 4])
        }
    });
    let input = folder.path().join("disc.png");
    disc.save(&input).unwrap();
    let made = made_of(&network(), input, folder.path(), None).unwrap();
    let larger = image::open(made.path).unwrap().to_rgba8();
    assert!(larger.pixels().any(|pixel| pixel[3] == 0));
    for image::Rgba([red, _, _, alpha]) in larger.pixels() {
        let (red, alpha) = (u32::from(*red), u32::from(*alpha));
        let on_red = (red * alpha + 255 * (255 - alpha)) / 255;
        assert!(on_red >= 240, "{on_red}");
    }
}

#[test]
fn a_picture_that_there_is_no_memory_for_is_refused() {
    let (folder, small) = (tempfile::tempdir().unwrap(), RgbImage::new(512, 512));
    let refused = made(&network(), &small, folder.path(), Some(64 << 20)).unwrap_err();
    assert!(matches!(refused, PipelineError::Memory { .. }), "{refused}");
    assert_eq!(refused.cause(), Cause::InvalidInput);
}

fn made(
    network: &Upscaler,
    small: &RgbImage,
    folder: &Path,
    memory: Option<u64>,
) -> Result<Output, PipelineError> {
    let input = folder.join("input.png");
    small.save(&input).unwrap();
    made_of(network, input, folder, memory)
}

fn made_of(
    network: &Upscaler,
    input: PathBuf,
    folder: &Path,
    memory: Option<u64>,
) -> Result<Output, PipelineError> {
    let inputs = [Input {
        name: "image".to_owned(),
        path: input,
    }];
    let context = TaskContext {
        folder: folder.to_owned(),
        max_bytes: u64::MAX,
        max_units: None,
        tile_bytes: tile_bytes(),
        memory: memory.map(Limit::Set),
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
    let parameters = Upscale::default();
    let prepared = prepare(&parameters, &inputs, network.scale(), &context.programs)?;
    let made = upscale(&prepared, network, &context, &mut sink)?;
    Ok(made.files.into_iter().next().unwrap())
}

/// Sources in ffmpeg's words, by name.
fn sources() -> BTreeMap<String, String> {
    serde_json::from_slice(&std::fs::read(folder().join("clips.json")).unwrap()).unwrap()
}

/// The source's first frames.
fn clip(source: &str) -> Vec<RgbImage> {
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", source])
        .args(["-frames:v", &FRAMES.to_string(), "-pix_fmt", "rgb24"])
        .args(["-f", "rawvideo", "-"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{source}: {said}");
    let bytes = (3 * WIDTH * HEIGHT) as usize;
    assert_eq!(made.stdout.len(), bytes * FRAMES as usize, "{source}");
    made.stdout
        .chunks_exact(bytes)
        .map(|frame| RgbImage::from_raw(WIDTH, HEIGHT, frame.to_vec()).unwrap())
        .collect()
}

/// Bicubic (a = -0.5), with a kernel as wide as the reduction.
fn resized(frame: &RgbImage, width: u32, height: u32) -> RgbImage {
    imageops::resize(frame, width, height, FilterType::CatmullRom)
}

/// The mean squared error of luma, in 8-bit steps, without so many pixels at the border.
fn squared_error(frame: &RgbImage, truth: &RgbImage, border: u32) -> f64 {
    let luma = |frame: &RgbImage, x, y| {
        let [red, green, blue] = frame.get_pixel(x, y).0.map(f64::from);
        0.299 * red + 0.587 * green + 0.114 * blue
    };
    let (columns, rows) = (border..WIDTH - border, border..HEIGHT - border);
    let count = columns.len() * rows.len();
    let places = rows.flat_map(|y| columns.clone().map(move |x| (x, y)));
    let squares = places.map(|(x, y)| (luma(frame, x, y) - luma(truth, x, y)).powi(2));
    squares.sum::<f64>() / count as f64
}

/// PSNR of a clip, from the sum of its frames' errors.
fn decibels(errors: f64) -> f64 {
    10.0 * (255.0_f64.powi(2) / (errors / f64::from(FRAMES)).max(1e-12)).log10()
}

/// `[height, width, 3]` bytes.
fn picture(tensor: &Tensor) -> RgbImage {
    let (height, width, _) = tensor.dims3().unwrap();
    let bytes = tensor.flatten_all().unwrap().to_vec1().unwrap();
    RgbImage::from_raw(width as u32, height as u32, bytes).unwrap()
}

fn worst_step(one: &RgbImage, other: &RgbImage) -> u8 {
    assert_eq!(one.dimensions(), other.dimensions());
    let pairs = one.as_raw().iter().zip(other.as_raw());
    pairs.map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

fn worst_difference(one: &Tensor, other: &Tensor) -> f32 {
    assert_eq!(one.dims(), other.dims());
    let differences = (one - other).unwrap().abs().unwrap();
    differences.max_all().unwrap().to_scalar().unwrap()
}
