//! What is a picture in memory?

/// One picture: 8-bit RGB, rows from top to bottom, no padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Pixels in a row, at least 1.
    pub width: u32,
    /// Rows, at least 1.
    pub height: u32,
    /// `height * width * 3` bytes: red, green, blue of each pixel.
    pub rgb: Vec<u8>,
}

impl Frame {
    /// The bytes that a frame of this size has: `width * height * 3`.
    pub fn byte_count(width: u32, height: u32) -> usize {
        width as usize * height as usize * 3
    }
}

/// A still image, with what a video frame does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Still {
    /// The colours, upright (EXIF orientation is applied).
    pub frame: Frame,
    /// `height * width` bytes of opacity, 0 to 255, not premultiplied; `None` where all is opaque.
    pub alpha: Option<Vec<u8>>,
    /// The ICC profile of the RGB values, as it stood in the file; `None` means sRGB.
    pub icc_profile: Option<Vec<u8>>,
}
