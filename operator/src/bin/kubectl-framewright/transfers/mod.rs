//! Bytes to and from the store, through a port-forward.
//!
//! # Layout
//! - [`download`]: one file down, to its end
//! - [`fetch`]: all results of a job
//! - [`link`]: how a link of a status is used inside a port-forward
//! - [`send`]: one file up, until it is there
//! - [`store`]: the port-forward
//! - [`transfer`]: when to go on, wait or give up

pub(crate) mod download;
pub(crate) mod fetch;
pub(crate) mod link;
pub(crate) mod send;
pub(crate) mod store;
pub(crate) mod transfer;
