//! Images without Docker and without a registry.

mod archive;
mod build;
pub mod pack;

pub use build::{Built, CPU, CUDA, Target, build, push};

/// Keeps a pod's namespaces open.
pub(crate) const PAUSE: &str = "framewright.local/pause:1";
pub(crate) const COREDNS: &str = "framewright.local/coredns:1";
