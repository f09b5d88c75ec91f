//! Uploads to the store and downloads from it, through a port-forward.
//!
//! # Layout
//! - [`upload`]: uploads a file, with retries
//! - [`fetch`]: downloads a result, with retries, and verifies its digest
//! - `download`: one GET into a partial file
//! - `link`: the path of a presigned link inside a port-forward
//! - [`store`]: one request through a port-forward to the store's pod
//! - `retry`: when to retry, to ask for a new link, or to stop

mod download;
pub mod fetch;
mod link;
mod retry;
pub mod store;
pub mod upload;
