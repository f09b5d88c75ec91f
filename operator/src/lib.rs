//! The Framewright operator: makes AIJobs and ModelPools come true. What it decides is in `framewright-core`; this crate does the I/O.
//!
//! # Layout
//! - [`jobs`]: one AIJob: observe → plan → act → report
//! - [`pools`]: one ModelPool: its pods, their revision, their number
//! - [`dispatch`]: runs the scheduler
//! - [`stream`]: the workers' streams: identity, tasks, events
//! - [`links`]: signs who may reach an artifact
//! - [`controller`]: wires all of it; [`context`] is what the parts share
//! - [`received`]: which uploads have come
//! - [`status`], [`events`]: how objects and people are told; [`writes`]: no write outside a term
//! - [`leadership`]: who leads; [`certificates`]: keys and certificates; [`janitor`]: clears what outlived its object
//! - [`args`], [`health`], [`metrics`], [`check`]: the process; `check` is `helm test`
//!
//! It runs on Unix alone.

#![cfg(unix)]

pub mod args;
pub mod certificates;
pub mod check;
pub mod context;
pub mod controller;
pub mod dispatch;
pub mod events;
pub mod health;
pub mod janitor;
pub mod jobs;
pub mod leadership;
pub mod links;
pub mod metrics;
pub mod pools;
pub mod received;
pub mod status;
pub mod stream;
pub mod writes;

pub use framewright_crds::error_chain::error_chain as chain;
