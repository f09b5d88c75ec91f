//! How are stills read and written?

mod read;
mod write;

pub use read::{MAX_PIXELS, read};
pub use write::write;
