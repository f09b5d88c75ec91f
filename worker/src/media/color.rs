//! Which RGB does a stream mean, by its tags? Pure.
//!
//! Without tags the usual convention holds: BT.709 from 720 lines up, BT.601 below, and limited
//! range. (swscale's own default would be BT.601 for all.)

/// swscale: exact rounding and full chroma resolution, and the same result on every processor.
pub(super) const SCALER: &str =
    "flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact";

/// How a stream's values become RGB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Color {
    /// The matrix between RGB and YCbCr.
    pub matrix: Matrix,
    /// 0 to 255 rather than 16 to 235.
    pub is_full_range: bool,
    /// Where a chroma sample lies, seen from the first luma sample that it belongs to.
    pub chroma: ChromaPosition,
}

/// Right and down from a luma sample, in 1/256 of the distance between two of them; `None` where
/// chroma has the full resolution that way. swscale's own guess is the middle, which shifts the
/// colours of most video by a quarter of a pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChromaPosition {
    pub across: Option<u16>,
    pub down: Option<u16>,
}

/// The matrices between RGB and YCbCr that are converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matrix {
    /// HD video (ITU-R BT.709).
    Bt709,
    /// SD video and JPEG (ITU-R BT.601).
    Bt601,
    /// HD from before BT.709 (SMPTE 240M).
    Smpte240m,
    /// Old American television (FCC).
    Fcc,
    /// BT.2020 with constant primaries of BT.709 is rare, but its matrix is known.
    Bt2020,
    /// The stream holds RGB, there is nothing to convert.
    Rgb,
}

/// The tags of a stream, in ffprobe's words.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tags<'a> {
    pub(super) pixel_format: &'a str,
    pub(super) range: &'a str,
    pub(super) matrix: &'a str,
    pub(super) transfer: &'a str,
    pub(super) primaries: &'a str,
    pub(super) chroma_location: &'a str,
}

impl Color {
    /// What the tags mean for a picture of this many lines; `Err` names what is not accepted.
    pub(super) fn from_tags(tags: Tags<'_>, lines: u64) -> Result<Color, String> {
        let Tags {
            pixel_format,
            range,
            matrix,
            transfer,
            primaries,
            chroma_location,
        } = tags;
        match transfer {
            "smpte2084" => return Err("HDR (PQ)".into()),
            "arib-std-b67" => return Err("HDR (HLG)".into()),
            _ => {}
        }
        if primaries == "bt2020" {
            return Err("in the wide gamut of BT.2020".into());
        }
        let is_rgb = ["gbr", "rgb", "bgr", "argb", "abgr", "0rgb", "0bgr", "pal8"]
            .iter()
            .any(|prefix| pixel_format.starts_with(prefix));
        let matrix = match matrix {
            _ if is_rgb => Matrix::Rgb,
            "bt709" => Matrix::Bt709,
            "smpte170m" | "bt470bg" => Matrix::Bt601,
            "smpte240m" => Matrix::Smpte240m,
            "fcc" => Matrix::Fcc,
            "bt2020nc" => Matrix::Bt2020,
            // A camera that tags YCbCr as RGB means nothing by it.
            "" | "unknown" | "reserved" | "gbr" if pixel_format.starts_with("yuvj") => {
                Matrix::Bt601
            }
            "" | "unknown" | "reserved" | "gbr" if lines >= 720 => Matrix::Bt709,
            "" | "unknown" | "reserved" | "gbr" => Matrix::Bt601,
            other => return Err(format!("coded with the matrix {other}")),
        };
        let is_full_range = is_rgb || range == "pc" || pixel_format.starts_with("yuvj");
        Ok(Color {
            matrix,
            is_full_range,
            chroma: chroma_position(pixel_format, chroma_location),
        })
    }

    /// The filter that makes RGB of `width` x `height` pixels of it.
    pub(super) fn to_rgb(self, width: u32, height: u32) -> String {
        let range = if self.is_full_range { "pc" } else { "tv" };
        let matrix = match self.matrix {
            Matrix::Bt709 => "bt709",
            Matrix::Bt601 => "bt601",
            Matrix::Smpte240m => "smpte240m",
            Matrix::Fcc => "fcc",
            Matrix::Bt2020 => "bt2020",
            Matrix::Rgb => return format!("scale={width}:{height}:{SCALER},format=rgb24"),
        };
        let ChromaPosition { across, down } = self.chroma;
        let across = across
            .map(|offset| format!("in_h_chr_pos={offset}:"))
            .unwrap_or_default();
        let down = down
            .map(|offset| format!("in_v_chr_pos={offset}:"))
            .unwrap_or_default();
        let input = format!("in_color_matrix={matrix}:in_range={range}:{across}{down}");
        format!("scale={width}:{height}:{input}{SCALER},format=rgb24")
    }
}

/// By ffmpeg's names of formats and of places (ITU-T H.264, figure E-1). Without a tag video means
/// left and JPEG the middle.
fn chroma_position(pixel_format: &str, location: &str) -> ChromaPosition {
    let is_any = |names: &[&str]| names.iter().any(|name| pixel_format.contains(name));
    let is_halved_down = is_any(&["420", "410", "440", "nv12", "nv21", "p010", "p016"]);
    let is_halved_across =
        is_halved_down && !is_any(&["440"]) || is_any(&["422", "411", "nv16", "p210"]);
    let (across, down) = match location {
        "left" => (0, 128),
        "center" => (128, 128),
        "topleft" => (0, 0),
        "top" => (128, 0),
        "bottomleft" => (0, 256),
        "bottom" => (128, 256),
        _ if pixel_format.starts_with("yuvj") => (128, 128),
        _ => (0, 128),
    };
    ChromaPosition {
        across: is_halved_across.then_some(across),
        down: is_halved_down.then_some(down),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn color(tags: Tags<'_>, lines: u64) -> (Matrix, bool) {
        let color = Color::from_tags(
            Tags {
                pixel_format: tags.pixel_format,
                ..tags
            },
            lines,
        )
        .expect("accepted");
        (color.matrix, color.is_full_range)
    }

    #[test]
    fn tags_decide_and_the_size_decides_without_tags() {
        let plain = Tags {
            pixel_format: "yuv420p",
            ..Tags::default()
        };
        assert_eq!(
            color(
                Tags {
                    matrix: "bt709",
                    ..plain
                },
                480
            ),
            (Matrix::Bt709, false)
        );
        assert_eq!(
            color(
                Tags {
                    matrix: "smpte170m",
                    ..plain
                },
                1080
            ),
            (Matrix::Bt601, false)
        );
        assert_eq!(color(plain, 1080), (Matrix::Bt709, false));
        assert_eq!(color(plain, 480), (Matrix::Bt601, false));
        assert_eq!(
            color(
                Tags {
                    range: "pc",
                    ..plain
                },
                480
            ),
            (Matrix::Bt601, true)
        );
    }

    #[test]
    fn motion_jpeg_has_full_range_and_rgb_needs_no_matrix() {
        assert_eq!(
            color(
                Tags {
                    pixel_format: "yuvj420p",
                    ..Tags::default()
                },
                1080
            ),
            (Matrix::Bt601, true)
        );
        assert_eq!(
            color(
                Tags {
                    pixel_format: "gbrp",
                    matrix: "gbr",
                    ..Tags::default()
                },
                1080
            ),
            (Matrix::Rgb, true)
        );
    }

    #[test]
    fn chroma_lies_left_unless_the_stream_says_otherwise() {
        let position = |format, location| {
            let ChromaPosition { across, down } = chroma_position(format, location);
            (across, down)
        };
        assert_eq!(position("yuv420p", ""), (Some(0), Some(128)));
        assert_eq!(position("yuv420p10le", "topleft"), (Some(0), Some(0)));
        assert_eq!(position("yuvj420p", ""), (Some(128), Some(128)));
        assert_eq!(position("yuv422p10le", "left"), (Some(0), None));
        assert_eq!(position("yuv444p", "left"), (None, None));
    }

    #[test]
    fn what_would_come_out_in_wrong_colours_is_refused_by_name() {
        let refused = |tags| Color::from_tags(tags, 1080).expect_err("refused");
        assert_eq!(
            refused(Tags {
                transfer: "smpte2084",
                ..Tags::default()
            }),
            "HDR (PQ)"
        );
        assert_eq!(
            refused(Tags {
                transfer: "arib-std-b67",
                ..Tags::default()
            }),
            "HDR (HLG)"
        );
        assert_eq!(
            refused(Tags {
                primaries: "bt2020",
                ..Tags::default()
            }),
            "in the wide gamut of BT.2020"
        );
        assert_eq!(
            refused(Tags {
                matrix: "ycgco",
                ..Tags::default()
            }),
            "coded with the matrix ycgco"
        );
    }
}
