//! The operator's decisions: plain data in, plain data out. No I/O, no clock, no client: Cargo.toml has none of them.
//!
//! # Layout
//! - [`jobs`]: one AIJob: what is known about it, and its plan
//! - [`pools`]: one ModelPool: its pods, their template, its plan
//! - [`schedule`]: which step goes to which worker
//! - [`workers`]: what a worker may say
//! - [`events`]: Kubernetes Events: their names, their limits, what is counted
//! - [`uploads`], [`links`]: which files are waited for; the links that a status shows
//! - [`recent`]: what the API server has confirmed and caches may not show yet; [`trim`]: what of an object is kept
//! - [`backoff`]: how long an object that failed is left alone; [`names`]: of pools and workers

pub mod backoff;
pub mod events;
pub mod jobs;
pub mod links;
pub mod names;
pub mod pools;
pub mod recent;
pub mod schedule;
pub mod trim;
pub mod uploads;
pub mod workers;
