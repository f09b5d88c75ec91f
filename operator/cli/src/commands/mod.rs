//! The commands.
//!
//! # Layout
//! - [`cancel`]: stops and deletes a job
//! - [`digest`]: prints the digest and size of local files
//! - [`follow`]: shows a job's progress until it has finished
//! - [`get`]: lists jobs, or fetches results
//! - [`submit`]: applies, uploads, follows, fetches
//! - [`upload`]: uploads files that a job or pool waits for

pub(crate) mod cancel;
pub(crate) mod digest;
pub(crate) mod follow;
pub(crate) mod get;
pub(crate) mod submit;
pub(crate) mod upload;
