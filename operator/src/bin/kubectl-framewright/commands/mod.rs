//! The commands, but for `digest`.
//!
//! # Layout
//! - [`cancel`]: ends a job and removes it
//! - [`follow`]: shows what a job does until it is over
//! - [`get`]: lists jobs, or fetches results
//! - [`submit`]: applies, uploads, follows, fetches
//! - [`upload`]: sends a file that an object waits for

pub(crate) mod cancel;
pub(crate) mod follow;
pub(crate) mod get;
pub(crate) mod submit;
pub(crate) mod upload;
