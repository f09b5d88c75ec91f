//! The Framewright worker: runs models on media.

pub mod device;
pub mod frame;
pub mod media;
pub mod models;
pub mod tiles;
pub mod weights;
