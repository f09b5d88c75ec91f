//! The workers: their sessions and tasks, and what a worker may report.

pub mod sessions;
pub mod validate;
