//! The workers.
//!
//! # Layout
//! - [`validate`]: what a worker may say at all

pub mod validate;
