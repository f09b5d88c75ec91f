//! The operator's decisions: plain data in, plain data out. No I/O, no clock, no client: Cargo.toml has none of them.
//!
//! # Layout
//! - [`clock`]: jumps of the wall clock; [`backoff`]: waits after failures
//! - [`engine`]: all decisions as one value: events in, effects out
//! - [`jobs`]: one AIJob: what is known about it, and its plan
//! - [`pools`]: one ModelPool: its pods, their template, its plan
//! - [`schedule`]: which step goes to which worker
//! - [`kubernetes_events`]: their names, their limits, repeats that are counted
//! - [`workers`]: their sessions and tasks
//! - [`links`]: presigned links, and the files in a status
//! - [`trim`]: the parts of an object that are kept in memory; [`names`]: of jobs, pools and workers

pub mod backoff;
pub mod clock;
pub mod engine;
pub mod jobs;
pub mod kubernetes_events;
pub mod links;
pub mod names;
pub mod pools;
pub mod schedule;
pub mod trim;
pub mod workers;
