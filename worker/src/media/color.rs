//! Which RGB does a stream mean, by its tags? Pure.
//!
//! Without tags the usual convention holds: BT.709 from 1280 pixels of width or from more than 576 lines on, BT.601 below, and
//! limited range. (swscale's own default would be BT.601 for all.)
//!
//! Only the matrix and the range are converted. RGB values keep their primaries and their transfer function, and a result is tagged
//! with them.

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
    /// Whether it is grey, without chroma.
    pub is_grey: bool,
    /// Where a chroma sample lies, seen from the first luma sample that it belongs to.
    pub chroma: ChromaPosition,
    /// What its RGB values mean.
    pub tags: ColorTags,
}

/// What RGB values mean, in the words of ffmpeg's options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColorTags {
    /// The colours of red, green and blue.
    pub primaries: &'static str,
    /// From light to values.
    pub transfer: &'static str,
}

impl Default for ColorTags {
    /// BT.709.
    fn default() -> ColorTags {
        ColorTags {
            primaries: "bt709",
            transfer: "bt709",
        }
    }
}

/// Primaries that are carried through: ffprobe's word and that of the option.
const PRIMARIES: &[(&str, &str)] = &[
    ("", "bt709"),
    ("unknown", "bt709"),
    ("reserved", "bt709"),
    ("bt709", "bt709"),
    ("bt470m", "bt470m"),
    ("bt470bg", "bt470bg"),
    ("smpte170m", "smpte170m"),
    ("smpte240m", "smpte240m"),
    ("film", "film"),
    ("smpte431", "smpte431"),
    ("smpte432", "smpte432"),
    ("ebu3213", "ebu3213"),
    ("jedec-p22", "ebu3213"),
];

/// Transfer functions that are carried through: ffprobe's word and that of the option.
const TRANSFERS: &[(&str, &str)] = &[
    ("", "bt709"),
    ("unknown", "bt709"),
    ("reserved", "bt709"),
    ("bt709", "bt709"),
    ("bt470m", "gamma22"),
    ("gamma22", "gamma22"),
    ("bt470bg", "gamma28"),
    ("gamma28", "gamma28"),
    ("smpte170m", "smpte170m"),
    ("smpte240m", "smpte240m"),
    ("iec61966-2-1", "iec61966-2-1"),
    ("iec61966-2-4", "iec61966-2-4"),
    ("bt1361e", "bt1361e"),
    ("bt2020-10", "bt709"),
    ("bt2020-12", "bt709"),
];

impl ColorTags {
    fn carried(primaries: &str, transfer: &str) -> Result<ColorTags, String> {
        match transfer {
            "smpte2084" => return Err("HDR (PQ)".into()),
            "arib-std-b67" => return Err("HDR (HLG)".into()),
            "linear" => return Err("in linear light".into()),
            _ => {}
        }
        if primaries == "bt2020" {
            return Err("in the wide gamut of BT.2020".into());
        }
        let find = |known: &'static [(&str, &str)], word: &str, what: &str| {
            let found = known.iter().find(|(name, _)| *name == word);
            let word: String = word.chars().take(40).collect();
            found
                .map(|(_, option)| *option)
                .ok_or_else(|| format!("coded with the {what} {word}"))
        };
        Ok(ColorTags {
            primaries: find(PRIMARIES, primaries, "primaries")?,
            transfer: find(TRANSFERS, transfer, "transfer function")?,
        })
    }
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
    pub(super) codec: &'a str,
    pub(super) pixel_format: &'a str,
    pub(super) range: &'a str,
    pub(super) matrix: &'a str,
    pub(super) transfer: &'a str,
    pub(super) primaries: &'a str,
    pub(super) chroma_location: &'a str,
}

impl Color {
    /// What the tags mean for a picture of this size; `Err` names what is not accepted.
    pub(super) fn from_tags(tags: Tags<'_>, width: u64, lines: u64) -> Result<Color, String> {
        let Tags {
            codec,
            pixel_format,
            range,
            matrix,
            transfer,
            primaries,
            chroma_location,
        } = tags;
        let tags = ColorTags::carried(primaries, transfer)?;
        let is_high_definition = width >= 1280 || lines > 576;
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
            "" | "unknown" | "reserved" | "gbr" if is_high_definition => Matrix::Bt709,
            "" | "unknown" | "reserved" | "gbr" => Matrix::Bt601,
            other => return Err(format!("coded with the matrix {other}")),
        };
        let is_grey = pixel_format.starts_with("gray") || pixel_format.starts_with("ya");
        // Codecs of video mean limited range when they say nothing; grey elsewhere is that of pictures.
        let is_picture = is_grey && !["h264", "hevc", "av1", "vp9", "vp8"].contains(&codec);
        let is_full_range = match range {
            _ if is_rgb || pixel_format.starts_with("yuvj") => true,
            "pc" => true,
            "tv" => false,
            _ => is_picture,
        };
        Ok(Color {
            matrix,
            is_full_range,
            is_grey,
            tags,
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
        // swscale takes all grey for full range, so it is made YCbCr first, with its values unchanged.
        let prefix = if self.is_grey && !self.is_full_range {
            format!("scale=in_range=pc:out_range=pc:{SCALER},format=yuv444p,")
        } else {
            String::new()
        };
        let ChromaPosition { across, down } = self.chroma;
        let across = across
            .map(|offset| format!("in_h_chr_pos={offset}:"))
            .unwrap_or_default();
        let down = down
            .map(|offset| format!("in_v_chr_pos={offset}:"))
            .unwrap_or_default();
        let input = format!("in_color_matrix={matrix}:in_range={range}:{across}{down}");
        format!("{prefix}scale={width}:{height}:{input}{SCALER},format=rgb24")
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
            640,
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
        let refused = |tags| Color::from_tags(tags, 1920, 1080).expect_err("refused");
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
        for (transfer, words) in [
            ("linear", "in linear light"),
            ("log100", "coded with the transfer function log100"),
        ] {
            let tags = Tags {
                transfer,
                ..Tags::default()
            };
            assert_eq!(refused(tags), words);
        }
    }

    #[test]
    fn primaries_and_transfer_are_carried_through() {
        let carried = |primaries, transfer| {
            let tags = Tags {
                primaries,
                transfer,
                ..Tags::default()
            };
            let color = Color::from_tags(tags, 1920, 1080).expect("accepted");
            (color.tags.primaries, color.tags.transfer)
        };
        assert_eq!(carried("", "unknown"), ("bt709", "bt709"));
        assert_eq!(
            carried("smpte432", "iec61966-2-1"),
            ("smpte432", "iec61966-2-1")
        );
        assert_eq!(
            carried("smpte170m", "smpte170m"),
            ("smpte170m", "smpte170m")
        );
        assert_eq!(carried("bt470bg", "bt470bg"), ("bt470bg", "gamma28"));
    }

    #[test]
    fn a_wide_film_without_tags_is_high_definition() {
        let matrix = |width, lines| {
            let tags = Tags {
                pixel_format: "yuv420p",
                ..Tags::default()
            };
            Color::from_tags(tags, width, lines).map(|color| color.matrix)
        };
        assert_eq!(matrix(1280, 536), Ok(Matrix::Bt709));
        assert_eq!(matrix(1024, 577), Ok(Matrix::Bt709));
        assert_eq!(matrix(1024, 576), Ok(Matrix::Bt601));
    }

    #[test]
    fn grey_has_the_range_that_it_says_or_that_its_codec_means() {
        let is_full = |codec, range| {
            let tags = Tags {
                codec,
                range,
                pixel_format: "gray",
                ..Tags::default()
            };
            Color::from_tags(tags, 96, 64).map(|color| color.is_full_range)
        };
        assert_eq!(is_full("ffv1", "unknown"), Ok(true));
        assert_eq!(is_full("ffv1", "tv"), Ok(false));
        assert_eq!(is_full("hevc", "unknown"), Ok(false));
        assert_eq!(is_full("hevc", "pc"), Ok(true));
    }
}
