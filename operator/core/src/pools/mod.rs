//! One ModelPool.
//!
//! # Layout
//! - [`snapshot`]: what is known about a pool; [`pod`]: what a pod says
//! - [`template`]: what a worker pod looks like
//! - [`plan`]: what is to be done about it
//! - [`transitions`]: what differs between two of its statuses
//! - [`facts`]: what jobs need to know about a pool
//! - [`refusals`]: what the API server said about pods; [`failures`]: which requests about them fail; [`deleted`]: pods that others
//!   delete before they run

pub mod deleted;
pub mod facts;
pub mod failures;
pub mod plan;
pub mod pod;
pub mod refusals;
pub mod snapshot;
pub mod template;
pub mod transitions;
