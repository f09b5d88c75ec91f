//! The workers' streams: who may open one, what comes up, what goes down.
//!
//! # Layout
//! - [`server`]: listens, and carries each stream
//! - [`identity`]: finds out which pod opens a stream
//! - [`events`]: what a worker's message changes
//! - [`fleet`]: the workers that have dialled in
//! - [`endpoint`]: leads the Service that workers dial to the leader

pub mod endpoint;
pub mod events;
pub mod fleet;
pub mod identity;
pub mod server;
