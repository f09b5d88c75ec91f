//! What a person wrote, and which local files it means. Pure, but for `needed`.
//!
//! # Layout
//! - [`files`]: the places in a manifest that name files
//! - [`inputs`]: files named on the command line
//! - [`manifest`]: the YAML itself
//! - [`needed`]: reads the files that are named

pub(crate) mod files;
pub(crate) mod inputs;
pub(crate) mod manifest;
pub(crate) mod needed;
