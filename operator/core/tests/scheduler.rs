//! What a queue costs while nothing happens to its jobs: nothing.

use std::collections::{BTreeMap, BTreeSet};

use framewright_core::clock::Jumps;
use framewright_core::jobs::admission::Admission;
use framewright_core::jobs::plan::plan;
use framewright_core::jobs::pool_selection;
use framewright_core::jobs::pool_selection::{NamespaceLabels, PoolFacts, resolve};
use framewright_core::jobs::snapshot::{Binding, Snapshot, StepSnapshot};
use framewright_core::links::{Place, Signer};
use framewright_core::names::{PoolName, WorkerRef};
use framewright_core::schedule::gather::requires;
use framewright_crds::ModelPool;
use framewright_crds::aijob::{AIJobSpec, AIJobStatus, OutputStatus, StepModel};
use framewright_crds::conditions::{get, job, job_reason, pool_reason};
use framewright_crds::names::{self, ArtifactRole};
use framewright_crds::protocol::OutputFile;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

const JOBS: usize = 10_000;

#[test]
fn a_settled_queue_of_10000_jobs_makes_no_writes_while_its_pool_works() {
    let mut queue = settled(&pool(16, pool_reason::READY, "16 of 16 workers take tasks"));
    for minute in 1..=5 {
        // Workers come and go, and the pool says so.
        let ready = 16 - minute;
        let message = format!("{ready} of 16 workers take tasks; the others load their models");
        let facts = pool(ready, pool_reason::LOADING, &message);
        // A worker is free again: the scheduler gives it the next job.
        let next = usize::try_from(minute).expect("a small number");
        let mut written = Vec::new();
        for (index, snapshot) in queue.iter_mut().enumerate() {
            look(snapshot, minute, &facts, (index == next).then(binding));
            if is_written(snapshot) {
                written.push(index);
            }
        }
        assert_eq!(written, [next], "in minute {minute}");
    }
}

#[test]
fn a_waiting_job_is_written_when_its_pools_reason_changes_and_not_when_its_message_does() {
    let stuck = |nodes: i64| {
        let message = format!("0/{nodes} nodes are available");
        pool(0, pool_reason::UNSCHEDULABLE, &message)
    };
    let mut queue = settled(&stuck(3));
    let snapshot = &mut queue[0];
    let (reason, message) = told(snapshot);
    assert_eq!(reason, job_reason::POOL_NOT_READY);
    assert!(message.contains("fleet/p") && message.contains(pool_reason::UNSCHEDULABLE));
    look(snapshot, 1, &stuck(4), None);
    assert!(!is_written(snapshot), "{:?}", told(snapshot));
    let pulls = pool(0, pool_reason::IMAGE_PULL_FAILED, "not found");
    look(snapshot, 2, &pulls, None);
    assert!(is_written(snapshot));
    assert!(told(snapshot).1.contains(pool_reason::IMAGE_PULL_FAILED));
}

#[test]
fn a_job_whose_pool_was_not_ready_in_time_ends_with_the_pools_own_words() {
    let stuck = pool(0, pool_reason::UNSCHEDULABLE, "0/3 nodes are available");
    let mut queue = settled(&stuck);
    let snapshot = &mut queue[0];
    look(snapshot, 60, &stuck, None);
    assert!(is_written(snapshot));
    let (reason, message) = told(snapshot);
    assert_eq!(reason, job_reason::QUEUE_DEADLINE_EXCEEDED);
    assert!(message.contains("0/3 nodes are available"), "{message}");
}

/// Jobs that have been told what they wait for.
fn settled(pool: &PoolFacts) -> Vec<Snapshot> {
    let mut queue: Vec<Snapshot> = (0..JOBS).map(new_job).collect();
    for snapshot in &mut queue {
        look(snapshot, 0, pool, None);
        assert!(is_written(snapshot), "a new job is told what it waits for");
        assert!(!is_written(snapshot), "the same is not written again");
    }
    queue
}

fn new_job(index: usize) -> Snapshot {
    let spec: AIJobSpec = serde_json::from_value(json!({"steps": [{
        "name": "large", "model": "x2", "upscale": {},
        "inputs": [{"name": "video", "upload": {"digest": names::digest(&digest()), "bytes": 5}}],
    }]}))
    .expect("a spec");
    Snapshot {
        namespace: "studio".into(),
        name: format!("job-{index}"),
        uid: format!("uid-{index}"),
        generation: Some(1),
        created: at(0),
        spec,
        status: AIJobStatus::default(),
        admission: Admission::Admitted,
        recorded: None,
        renew_links: None,
        now: at(0),
        jumps: Jumps::default(),
        written_at: None,
        received: BTreeSet::from([digest()]),
        store_error: None,
        steps: BTreeMap::new(),
        held: Vec::new(),
        kept_by: Vec::new(),
    }
}

/// What is around the job then: the scheduler has looked at it.
fn look(snapshot: &mut Snapshot, minute: i64, pool: &PoolFacts, binding: Option<Binding>) {
    let labels = NamespaceLabels::from([("studio".to_owned(), BTreeMap::new())]);
    let step = &snapshot.spec.steps[0];
    let catalog = ["fleet".to_owned()];
    let resolution = resolve(
        "studio",
        None,
        &requires(step).expect("a pipeline"),
        std::slice::from_ref(pool),
        &catalog,
        &labels,
    );
    let around = StepSnapshot {
        resolution: Some(resolution),
        binding,
        ..StepSnapshot::default()
    };
    snapshot.steps = BTreeMap::from([(step.name.clone(), around)]);
    snapshot.now = at(minute);
}

/// Whether the plan writes something. What it writes is then the status.
fn is_written(snapshot: &mut Snapshot) -> bool {
    let first = plan(snapshot, &Links);
    if first.outcome.is_some() {
        snapshot.recorded = first.outcome;
    }
    let status = plan(snapshot, &Links).status;
    let differs = status != snapshot.status;
    snapshot.status = status;
    differs
}

fn told(snapshot: &Snapshot) -> (String, String) {
    let condition = get(&snapshot.status.conditions, job::SUCCEEDED).expect("a condition");
    (condition.reason.clone(), condition.message.clone())
}

fn pool(ready_workers: i64, reason: &str, message: &str) -> PoolFacts {
    let pool: ModelPool = serde_json::from_value(json!({
        "apiVersion": "framewright.dev/v1alpha1", "kind": "ModelPool",
        "metadata": {"namespace": "fleet", "name": "p"},
        "spec": {
            "device": "cpu", "replicas": 16,
            "models": [{"name": "x2", "source": {"upload": {}}, "files": [
                {"path": "x2.safetensors", "digest": names::digest(&digest()), "bytes": 1},
            ]}],
            "access": [{"name": "all", "namespaces": {"selector": {}}}],
        },
        "status": {
            "replicas": 16, "readyReplicas": ready_workers,
            "models": [{"name": "x2", "readyWorkers": ready_workers}],
            "conditions": [{
                "type": "Ready", "status": if reason == pool_reason::READY { "True" } else { "False" },
                "reason": reason, "message": message, "lastTransitionTime": "1970-01-01T00:00:00Z",
            }],
        },
    }))
    .expect("a pool");
    pool_selection::facts(&pool)
}

fn binding() -> Binding {
    Binding {
        worker: WorkerRef {
            namespace: "fleet".into(),
            name: "w1".into(),
            uid: "w1".into(),
        },
        pool: PoolName {
            namespace: "fleet".into(),
            name: "p".into(),
        },
        models: vec![StepModel {
            role: "base".into(),
            name: "x2".into(),
            digest: "d".into(),
        }],
    }
}

fn digest() -> String {
    "ab".repeat(32)
}

fn at(minute: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minute)
}

struct Links;

impl Signer for Links {
    fn upload(&self, _: &Place<'_>, _: &str, _: i64, expires: Timestamp) -> String {
        format!("put@{}", expires.as_second())
    }

    fn download(
        &self,
        _: &Place<'_>,
        _: &OutputStatus,
        file_name: &str,
        expires: Timestamp,
    ) -> String {
        format!("{file_name}@{}", expires.as_second())
    }

    fn worker_get(&self, _: &Place<'_>, _: (ArtifactRole, &str), _: Timestamp) -> Option<String> {
        None
    }

    fn worker_put(&self, _: &Place<'_>, _: &OutputFile, _: Timestamp) -> Option<String> {
        None
    }
}
