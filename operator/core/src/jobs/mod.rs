//! One AIJob.
//!
//! # Layout
//! - [`admission`]: whether it may start
//! - [`snapshot`]: what is known about a job
//! - [`plan`]: what is to be done about it
//! - [`transitions`]: what differs between two of its statuses: for the log, Kubernetes Events and metrics

pub mod admission;
pub mod plan;
pub mod snapshot;
pub mod transitions;
