//! The Framewright worker: runs models on media.
pub mod media;
