//! A contact sheet: one frame of the source, of bicubic scaling and of the result, and a crop of each, with captions.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster};
use tokio::process::Command;

const GAP: u32 = 8;
/// Side of a crop in pixels of the result, and how much larger it is shown.
const CROP: u32 = 160;
const ZOOM: u32 = 3;

/// Of captions, which have a line of this height.
const LETTERS: RasterHeight = RasterHeight::Size20;
const LINE: u32 = 28;
const BACKGROUND: Rgb<u8> = Rgb([24, 24, 28]);

/// Draws the sheet into `folder`; its path. `way` says how the result came about.
///
/// # Errors
/// If ffmpeg cannot read a video, or the picture cannot be written.
pub(super) async fn draw(
    ffmpeg: &Path,
    source: &Path,
    result: &Path,
    way: &str,
    folder: &Path,
) -> Result<PathBuf> {
    let small = frame(ffmpeg, source).await?;
    let large = frame(ffmpeg, result).await?;
    let (width, height) = large.dimensions();
    let plain = imageops::resize(&small, width, height, FilterType::Nearest);
    // A cubic with a = -0.5, which is what bicubic means in Pillow and ffmpeg's catrom.
    let bicubic = imageops::resize(&small, width, height, FilterType::CatmullRom);
    let times = width / small.width().max(1);
    let columns = [
        (
            &plain,
            format!("source: {} x {}", small.width(), small.height()),
        ),
        (&bicubic, format!("bicubic x{times}: {width} x {height}")),
        (&large, format!("{way}: {width} x {height}")),
    ];
    let shown = CROP * ZOOM;
    // Half size: the crops below show each pixel.
    let (across, down) = (shown, height * shown / width);
    let crops = GAP + LINE + down;
    let mut sheet =
        RgbImage::from_pixel(3 * across + 4 * GAP, crops + LINE + shown + GAP, BACKGROUND);
    let (left, top) = busiest(&large);
    for (index, (picture, caption)) in (0_u32..).zip(columns) {
        let x = GAP + index * (across + GAP);
        write(&mut sheet, &caption, x, GAP);
        let whole = imageops::resize(picture, across, down, FilterType::Triangle);
        imageops::replace(&mut sheet, &whole, x.into(), (GAP + LINE).into());
        let caption = format!("crop at {left}, {top}, each pixel {ZOOM} x {ZOOM}");
        write(&mut sheet, &caption, x, crops + GAP / 2);
        let crop = imageops::crop_imm(picture, left, top, CROP, CROP).to_image();
        let crop = imageops::resize(&crop, shown, shown, FilterType::Nearest);
        imageops::replace(&mut sheet, &crop, x.into(), (crops + LINE).into());
    }
    let path = folder.join("contact-sheet.png");
    sheet
        .save(&path)
        .with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

/// Writes a line of ASCII from this corner to the right.
fn write(sheet: &mut RgbImage, text: &str, left: u32, top: u32) {
    let letters = text.chars();
    let letters = letters.filter_map(|letter| get_raster(letter, FontWeight::Regular, LETTERS));
    let mut left = i64::from(left);
    for letter in letters {
        let pixels = letter
            .pixels()
            .iter()
            .flat_map(|&ink| BACKGROUND.0.map(|paper| paper.max(ink)));
        let width = u32::try_from(letter.width()).unwrap_or_default();
        let height = u32::try_from(letter.height()).unwrap_or_default();
        if let Some(letter) = RgbImage::from_raw(width, height, pixels.collect()) {
            imageops::replace(sheet, &letter, left, top.into());
        }
        left += i64::from(width);
    }
}

/// The frame after one second of a video, at its own size.
async fn frame(ffmpeg: &Path, video: &Path) -> Result<RgbImage> {
    let size = output(
        Command::new(ffmpeg.with_file_name("ffprobe"))
            .args([
                "-v",
                "error",
                "-select_streams",
                "v:0",
                "-show_entries",
                "stream=width,height",
                "-of",
                "csv=p=0",
            ])
            .arg(video),
    )
    .await?;
    let size = String::from_utf8(size).context("ffprobe's answer is not text")?;
    let (width, height) = size
        .trim()
        .trim_end_matches(',')
        .split_once(',')
        .with_context(|| format!("ffprobe says {size:?}"))?;
    let (width, height) = (
        width.parse().context("a width")?,
        height.parse().context("a height")?,
    );
    let pixels = output(
        Command::new(ffmpeg)
            .args(["-nostdin", "-v", "error", "-ss", "1", "-i"])
            .arg(video)
            .args(["-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]),
    )
    .await?;
    RgbImage::from_raw(width, height, pixels)
        .with_context(|| format!("{} has no frame after one second", video.display()))
}

async fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command
        .output()
        .await
        .with_context(|| format!("start {:?}", command.as_std().get_program()))?;
    ensure!(
        output.status.success(),
        "{:?}: {}",
        command.as_std().get_program(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(output.stdout)
}

/// The corner of the crop with the most detail: the largest sum of differences between neighbours.
fn busiest(picture: &RgbImage) -> (u32, u32) {
    let (width, height) = picture.dimensions();
    let detail = |left: u32, top: u32| -> u64 {
        let rows = (top..top + CROP).step_by(2);
        rows.flat_map(|y| (left..left + CROP - 1).step_by(2).map(move |x| (x, y)))
            .map(|(x, y)| {
                let (a, b) = (picture.get_pixel(x, y)[1], picture.get_pixel(x + 1, y)[1]);
                u64::from(a.abs_diff(b))
            })
            .sum()
    };
    let corners = (0..height.saturating_sub(CROP))
        .step_by(40)
        .flat_map(|top| {
            (0..width.saturating_sub(CROP))
                .step_by(40)
                .map(move |left| (left, top))
        });
    corners
        .max_by_key(|&(left, top)| detail(left, top))
        .unwrap_or((0, 0))
}
