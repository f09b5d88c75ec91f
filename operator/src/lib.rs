//! The Framewright operator: reconciles AIJobs and ModelPools. Its decisions are in `framewright-core`; this crate does the I/O.
//!
//! # Layout
//! - [`run`]: starts everything, and ends it in order; [`context`] is what the parts share
//! - [`event_loop`]: the task that owns the engine
//! - [`watches`]: what the API server shows; [`requests`]: what it is asked to do, and no write outside a term
//! - [`sessions`]: the workers' sessions
//! - [`event_publisher`]: Kubernetes Events; [`link_signer`]: presigned links
//! - [`leadership`]: who leads; [`certificates`]: keys and certificates
//! - [`garbage_collector`]: deletes artifacts whose owner is gone
//! - [`args`], [`health`], [`metrics`], [`check`]: the process; `check` is `helm test`
//!
//! It runs on Unix alone.

#![cfg(unix)]

pub mod args;
pub mod certificates;
pub mod check;
pub mod context;
pub mod event_loop;
pub mod event_publisher;
pub mod garbage_collector;
pub mod health;
pub mod leadership;
pub mod link_signer;
pub mod metrics;
pub mod requests;
pub mod run;
mod served_crds;
pub mod sessions;
#[cfg(test)]
mod tests;
pub mod watches;

pub use framewright_crds::error_chain::error_chain as chain;
