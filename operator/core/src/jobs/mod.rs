//! One AIJob.
//!
//! # Layout
//! - [`admission`]: whether it may start
//! - [`snapshot`]: what is known about a job
//! - [`plan`]: what is to be done about it

pub mod admission;
pub mod plan;
pub mod snapshot;
