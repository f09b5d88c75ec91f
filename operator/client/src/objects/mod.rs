//! AIJobs and ModelPools on the API server.
//!
//! # Layout
//! - [`apply`]: applies manifests
//! - [`finalizers`]: what keeps a deleted job
//! - `links`: which presigned link of a status can be used
//! - [`owner`]: a job or pool that has files

pub mod apply;
pub mod finalizers;
pub(crate) mod links;
pub mod owner;
