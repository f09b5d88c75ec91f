//! The workers.
//!
//! # Layout
//! - [`sessions`]: the workers that have dialled in, and what they hold
//! - [`message`]: what a worker's message changes
//! - [`validate`]: what a worker may say at all

pub mod message;
pub mod sessions;
pub mod validate;
