//! The operator's decisions: plain data in, plain data out. No I/O, no clock, no client: Cargo.toml has none of them.
//!
//! # Layout
//! - [`clock`]: jumps of the wall clock
//! - [`engine`]: all decisions as one value: events in, effects out
//! - [`jobs`]: one AIJob: what is known about it, and its plan
//! - [`pools`]: one ModelPool: its pods, their template, its plan
//! - [`schedule`]: which step goes to which worker
//! - [`events`]: Kubernetes Events: their names, their limits, what is counted
//! - [`workers`]: what workers say and hold
//! - [`files`], [`links`]: which files are waited for; the links that a status shows
//! - [`trim`]: what of an object is kept; [`names`]: of jobs, pools and workers

pub mod clock;
pub mod engine;
pub mod events;
pub mod files;
pub mod jobs;
pub mod links;
pub mod names;
pub mod pools;
pub mod schedule;
pub mod trim;
pub mod workers;
