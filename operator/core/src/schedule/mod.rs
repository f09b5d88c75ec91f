//! Decides which step goes to which worker: across all jobs, the highest priority first, then the namespace with the fewest tasks, then
//! the oldest job, its steps in their order.
//!
//! # Layout
//! - here: what is known of a step that could run and of a worker's room
//! - [`gather`]: the steps of a job that could run, and its tasks that are bound
//! - [`scheduler`]: all of them, with indexes, and the placements
//! - `filter_and_score`: which workers can do a step, and which of them is the best

mod filter_and_score;
pub mod gather;
pub mod scheduler;

use std::collections::{BTreeMap, BTreeSet};

use framewright_crds::aijob::StepModel;
use jiff::Timestamp;

use crate::names::{PoolName, WorkerRef};

/// What a step needs of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Requires {
    pub pipeline: String,
    /// The models, each with its role.
    pub models: Vec<(String, String)>,
}

/// What a worker can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provides {
    pub pipelines: BTreeSet<String>,
    /// Models that it has verified, each with its digest.
    pub models: BTreeMap<String, String>,
    /// Digests of the models that are loaded on its device.
    pub loaded: BTreeSet<String>,
}

impl Provides {
    /// The models that a step runs with here; none if the worker cannot do it.
    #[must_use]
    pub fn models_for(&self, requires: &Requires) -> Option<Vec<StepModel>> {
        let Requires { pipeline, models } = requires;
        if !self.pipelines.contains(pipeline) {
            return None;
        }
        let models = models.iter().map(|(role, name)| {
            Some(StepModel {
                role: role.clone(),
                name: name.clone(),
                digest: self.models.get(name)?.clone(),
            })
        });
        models.collect()
    }

    /// Whether all the models that a step needs are loaded.
    #[must_use]
    pub fn is_warm_for(&self, requires: &Requires) -> bool {
        let digests = requires.models.iter();
        let mut digests = digests.map(|(_, name)| self.models.get(name));
        digests.all(|digest| digest.is_some_and(|digest| self.loaded.contains(digest)))
    }
}

/// A step that could run now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    pub job_uid: String,
    pub step: String,
    pub namespace: String,
    pub requires: Requires,
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
    pub provides: Provides,
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    pub job_uid: String,
    pub step: String,
    pub namespace: String,
    pub worker: WorkerRef,
    pub pool: PoolName,
    pub models: Vec<StepModel>,
}
