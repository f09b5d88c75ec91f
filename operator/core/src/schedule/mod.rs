//! Decides which step goes to which worker: across all jobs, the highest priority first, then the namespace with the fewest tasks, then
//! the oldest job, its steps in their order.
//!
//! # Layout
//! - here: what is known of a step that could run and of a worker's room
//! - [`gather`]: the steps of a job that could run, and its tasks that are bound
//! - [`queue`]: all of them, with indexes, and the placements

pub mod gather;
pub mod queue;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::names::{PoolName, WorkerRef};

/// A step that could run now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    pub job_uid: String,
    pub step: String,
    pub namespace: String,
    pub model: String,
    /// Where it may run.
    pub pools: Vec<PoolName>,
    pub priority: i32,
    /// When its job was created: one that has begun is finished before others begin.
    pub created: Timestamp,
    /// Its place in the job's list.
    pub position: usize,
    /// UIDs of workers that failed it: used only when there is no other.
    pub avoid: BTreeSet<String>,
    /// UIDs of workers that made its inputs.
    pub near: BTreeSet<String>,
}

/// A worker and its room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots {
    pub worker: WorkerRef,
    pub pool: PoolName,
    pub free: u32,
    /// Models that it has verified, each with the digest of its weights.
    pub ready: BTreeMap<String, String>,
    /// The model that it used last.
    pub warm: Option<String>,
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    pub job_uid: String,
    pub step: String,
    pub namespace: String,
    pub worker: WorkerRef,
    pub pool: PoolName,
    pub model: String,
    pub weights_digest: String,
}
