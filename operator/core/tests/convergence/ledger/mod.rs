//! What must hold whatever happens: DESIGN's invariants, looked at with each decision, order, write and acceptance.

mod calm;
mod decisions;
mod pools;
mod statuses;
mod workers;

use std::collections::{BTreeMap, BTreeSet};

use framewright_core::jobs::attempt;
use framewright_core::jobs::plan::is_finished;
use framewright_core::jobs::status_size::{STATUS_LIMIT, weight};
use framewright_core::names::{ObjectName, WorkerRef};
use framewright_crds::aijob::{AIJobStatus, Attempt, Cause, StepState, StepStatus};
use framewright_crds::conditions::{get, job, job_reason};
use framewright_crds::names::TaskId;
use framewright_crds::protocol::{ModelState, Outcome, WorkerMessage};
use framewright_crds::{AIJob, ModelPool};
use k8s_openapi::api::core::v1::Pod;
use kube_core::ResourceExt;
use serde_json::Value;

use crate::api::{Millis, at};
use crate::kubelet::phase;
use crate::world::World;

/// What was on its way when the weather turned calm has ended by then.
const AFTERMATH: Millis = 120_000;
/// A step that could run waits no longer than this beside a free worker.
const STARVES: Millis = 30_000;

/// What has happened, as far as the invariants are about it.
#[derive(Default)]
pub(crate) struct Ledger {
    pub violation: Option<String>,
    /// Writes of operators: statuses, and pods made or deleted.
    pub writes: usize,
    /// The pod that each attempt was ever bound to.
    bound: BTreeMap<TaskId, String>,
    /// When it was bound, and when its worker began to compute it, by the true time.
    bound_at: BTreeMap<TaskId, Millis>,
    started_at: BTreeMap<TaskId, Millis>,
    /// Since when each step waits, by job UID and step; and when each job ended.
    queued_at: BTreeMap<(String, String), Millis>,
    finished_at: BTreeMap<String, Millis>,
    /// Who wrote a job's status last, by epoch, when it was sent and when it arrived.
    writer: BTreeMap<String, (u64, Millis, Millis)>,
    /// What each operator wrote last of each object: its epoch, the version that came of it, and the status.
    last_written: BTreeMap<(usize, String), (u64, Option<String>, Value)>,
    /// When a list lacked an object last, by operator and UID.
    lacked_at: BTreeMap<(usize, String), Millis>,
    /// Who made which output.
    outputs: BTreeMap<String, (TaskId, String)>,
    /// How tasks failed on their workers.
    failures: BTreeSet<(TaskId, String, Cause)>,
    /// The highest epoch that each worker's process has heard.
    epochs: BTreeMap<String, u64>,
    /// How tasks ended on each worker, until it was told to forget them.
    outcomes: BTreeMap<String, BTreeMap<TaskId, Outcome>>,
    /// Who made each job's end durable: the operator, its process and its epoch.
    ended_by: BTreeMap<String, (usize, u64, u64)>,
    /// The ends that each operator's process has counted.
    counted: BTreeSet<(usize, u64, String)>,
    /// Jobs whose outcome is recorded.
    recorded: BTreeSet<String>,
    /// Events about what an operator cannot read or decide about: the operator, the object, its version, whether deciding panicked.
    told: BTreeSet<(usize, String, String, bool)>,
    deaths: BTreeMap<String, Millis>,
    gone: BTreeSet<String>,
    /// Pods whose deletion was asked for.
    leaving: BTreeSet<String>,
    suspended: BTreeSet<String>,
    /// What each worker has said of its models, by name and digest, to each operator.
    models: BTreeMap<(usize, String), BTreeMap<(String, String), ModelState>>,
    /// When the last stream of a pod to an operator ended.
    parted: BTreeMap<(usize, String), Millis>,
    /// Pods made by one who no longer led.
    late_pods: BTreeSet<String>,
    waiting_since: BTreeMap<(String, String), Millis>,
}

impl World {
    // Facts.

    pub(crate) fn made(&mut self, pod: &str, task: &TaskId, digest: &str) {
        let maker = (task.clone(), pod.to_owned());
        self.ledger.outputs.insert(digest.to_owned(), maker);
    }

    /// An operator has heard something of a worker.
    pub(crate) fn learned(&mut self, index: usize, pod: &str, message: &WorkerMessage) {
        if let WorkerMessage::Model {
            name,
            digest,
            state,
        } = message
        {
            let key = (index, pod.to_owned());
            let models = self.ledger.models.entry(key).or_default();
            models.insert((name.clone(), digest.clone()), state.clone());
        }
    }

    /// An operator knows nothing any more of workers, nor of its own writes.
    pub(crate) fn forgot_workers(&mut self, index: usize) {
        self.ledger.last_written.retain(|(by, _), _| *by != index);
        self.ledger.told.retain(|(by, ..)| *by != index);
        self.ledger.models.retain(|(heard, _), _| *heard != index);
    }

    /// What a list lacks is gone for its operator, and new when it is shown again.
    pub(crate) fn lists_without(&mut self, index: usize, uids: &BTreeSet<String>) {
        let now = self.now;
        let Ledger {
            told,
            last_written,
            lacked_at,
            ..
        } = &mut self.ledger;
        lacked_at.extend(uids.iter().map(|uid| ((index, uid.clone()), now)));
        told.retain(|(by, uid, ..)| *by != index || !uids.contains(uid));
        last_written.retain(|(by, uid), _| *by != index || !uids.contains(uid));
    }

    pub(crate) fn process_over(&mut self, pod: &str) {
        self.ledger.deaths.insert(pod.to_owned(), self.now);
        self.ledger.epochs.remove(pod);
        self.ledger.outcomes.remove(pod);
    }

    pub(crate) fn task_started(&mut self, task: &TaskId) {
        let now = self.now;
        self.ledger.started_at.entry(task.clone()).or_insert(now);
    }

    pub(crate) fn outcome_recorded(&mut self, job_uid: &str) {
        self.ledger.recorded.insert(job_uid.to_owned());
    }

    pub(crate) fn pod_leaves(&mut self, pod: &str) {
        self.ledger.leaving.insert(pod.to_owned());
    }

    pub(crate) fn pod_gone(&mut self, pod: &str) {
        self.ledger.gone.insert(pod.to_owned());
    }

    pub(crate) fn suspended(&mut self, name: &ObjectName) {
        let uid = self.api.jobs.live.get(name).and_then(|job| job.uid());
        self.ledger.suspended.extend(uid);
    }

    pub(crate) fn parted(&mut self, index: usize, pod: &str) {
        self.ledger.parted.insert((index, pod.to_owned()), self.now);
    }
}
