//! How are stills read and written?

mod jpeg_end;
mod read;
mod write;

pub use read::{Header, MAX_PIXELS, header, read};
pub use write::write;
