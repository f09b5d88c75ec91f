//! The manifests that a user submits, and the local files that they name. No I/O, except in `needed`.
//!
//! # Layout
//! - [`files`]: the places in a manifest that name files
//! - [`inputs`]: files that are given for an input beside the manifest
//! - [`manifest`]: the objects of a manifest
//! - [`needed`]: reads the named files and lists the uploads

pub mod files;
pub mod inputs;
pub mod manifest;
pub mod needed;
