//! The Framewright operator: makes AIJobs and ModelPools come true. What it decides is in `framewright-core`; this crate does the I/O.
//!
//! # Layout
//! - [`run`]: starts everything, and ends it in order; [`context`] is what the parts share
//! - [`event_loop`]: the task that owns the engine
//! - [`watches`]: what the API server shows; [`requests`]: what it is asked to do; [`writes`]: no write outside a term
//! - [`sessions`]: the workers' sessions
//! - [`events`]: Kubernetes Events; [`links`]: signs who may reach an artifact
//! - [`leadership`]: who leads, and `duties`: what comes with it; [`certificates`]: keys and certificates
//! - [`garbage_collector`]: deletes artifacts whose owner is gone
//! - [`args`], [`health`], [`metrics`], [`check`]: the process; `check` is `helm test`
//!
//! It runs on Unix alone.

#![cfg(unix)]

pub mod args;
pub mod certificates;
pub mod check;
pub mod context;
mod duties;
pub mod event_loop;
pub mod events;
pub mod garbage_collector;
pub mod health;
pub mod leadership;
pub mod links;
pub mod metrics;
pub mod requests;
pub mod run;
mod served_crds;
pub mod sessions;
#[cfg(test)]
mod tests;
pub mod watches;
pub mod writes;

pub use framewright_crds::error_chain::error_chain as chain;
