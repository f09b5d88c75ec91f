//! Objects on the API server.
//!
//! # Layout
//! - [`apply`]: sends them
//! - [`links`]: which link of a status can be used
//! - [`owner`]: a job or pool that has files

pub(crate) mod apply;
pub(crate) mod links;
pub(crate) mod owner;
