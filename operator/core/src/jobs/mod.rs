//! One AIJob. A [`snapshot`] of what is known goes in, a [`plan`] comes out. No I/O, no clock.
//!
//! # Layout
//! - [`snapshot`]: what is known about a job
//! - [`plan`]: what is to be done about it, from the modules below
//! - [`inputs`]: which steps have what they need
//! - [`steps`]: each step's next status
//! - [`attempt`]: one attempt: its end, its deadlines, retries
//! - [`conditions`]: the job's conditions, and what it waits for
//! - [`links`]: uploads and results
//! - [`commands`]: the commands to workers
//! - [`pool_selection`]: which pools a step may use
//! - [`status_size`]: keeps the status small
//! - [`admission`]: whether a job may start
//! - [`transitions`]: what differs between two statuses: for the log, Kubernetes Events and metrics

pub mod admission;
pub mod attempt;
pub mod commands;
pub mod conditions;
pub mod inputs;
pub mod links;
pub mod plan;
pub mod pool_selection;
pub mod snapshot;
pub mod status_size;
pub mod steps;
pub mod transitions;
