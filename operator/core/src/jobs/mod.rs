//! One AIJob.
//!
//! # Layout
//! - [`seen`]: what is known about a job
//! - [`plan`]: decides

pub mod plan;
pub mod seen;
