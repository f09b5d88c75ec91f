//! The workers' sessions: who may open one, and what goes up and down.
//!
//! # Layout
//! - [`server`]: listens, and carries each session
//! - [`identity`]: finds out which pod opens a session
//! - [`endpoint_slice`]: leads the Service that workers dial to the leader

pub mod endpoint_slice;
pub mod identity;
pub mod server;
