//! One AIJob.
//!
//! # Layout
//! - [`seen`]: what is known about a job
//! - [`plan`]: what is to be done about it

pub mod plan;
pub mod seen;
