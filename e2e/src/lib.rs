//! A real Kubernetes node on this machine, without Docker and without a registry, for tests and for the demo.
//!
//! A cluster is one process tree in its own PID, mount and network namespaces, so it ends as a whole
//! when its first process ends, however that comes about. Clusters of different names never meet.
//!
//! # Layout
//! - [`cluster`]: start, reach and stop a cluster
//! - [`images`]: build the operator's and the worker's images, and pack tiny ones
//! - [`test`]: a namespace for each test, and what to keep of one that failed
//! - [`eventually`]: wait for something, with a deadline
//! - [`tools`]: where kubectl, helm and the parts of a cluster lie
//! - [`checkout`]: where the repository is
//! - [`bench`]: what the control plane costs
//! - [`demo`]: the main job, as a user runs it
//! - [`doctor`]: what this machine lacks

pub mod bench;
pub mod checkout;
pub mod cluster;
mod command;
pub mod demo;
pub mod doctor;
pub mod eventually;
pub mod images;
mod lock;
mod progress;
pub mod test;
pub mod tools;

pub use cluster::{Cluster, Component, Mode, Options};
pub use eventually::eventually;
pub use test::with_namespace;
