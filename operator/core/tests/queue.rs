//! What a queue costs while nothing happens to its jobs: nothing.

use std::collections::{BTreeMap, BTreeSet};

use framewright_core::jobs::plan::resolve::{NamespaceLabels, PoolFacts, resolve};
use framewright_core::jobs::plan::{Plan, plan};
use framewright_core::jobs::seen::{Binding, Observed, StepSeen};
use framewright_core::links::{Place, Signer};
use framewright_core::names::{PoolName, WorkerRef};
use framewright_core::pools::facts;
use framewright_crds::ModelPool;
use framewright_crds::aijob::{AIJobSpec, AIJobStatus, OutputStatus};
use framewright_crds::conditions::{get, job, job_reason, pool_reason};
use framewright_crds::names::ArtifactRole;
use framewright_crds::wire::OutputFile;
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
        for (index, seen) in queue.iter_mut().enumerate() {
            look(seen, minute, &facts, (index == next).then(binding));
            if is_written(seen) {
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
    let seen = &mut queue[0];
    let (reason, message) = told(seen);
    assert_eq!(reason, job_reason::POOL_NOT_READY);
    assert!(message.contains("fleet/p") && message.contains(pool_reason::UNSCHEDULABLE));
    look(seen, 1, &stuck(4), None);
    assert!(!is_written(seen), "{:?}", told(seen));
    let pulls = pool(0, pool_reason::IMAGE_PULL_FAILED, "not found");
    look(seen, 2, &pulls, None);
    assert!(is_written(seen));
    assert!(told(seen).1.contains(pool_reason::IMAGE_PULL_FAILED));
}

#[test]
fn a_job_whose_pool_was_not_ready_in_time_ends_with_the_pools_own_words() {
    let stuck = pool(0, pool_reason::UNSCHEDULABLE, "0/3 nodes are available");
    let mut queue = settled(&stuck);
    let seen = &mut queue[0];
    look(seen, 60, &stuck, None);
    assert!(is_written(seen));
    let (reason, message) = told(seen);
    assert_eq!(reason, job_reason::QUEUE_DEADLINE_EXCEEDED);
    assert!(message.contains("0/3 nodes are available"), "{message}");
}

/// Jobs that have been told what they wait for.
fn settled(pool: &PoolFacts) -> Vec<Observed> {
    let mut queue: Vec<Observed> = (0..JOBS).map(new_job).collect();
    for seen in &mut queue {
        look(seen, 0, pool, None);
        assert!(is_written(seen), "a new job is told what it waits for");
        assert!(!is_written(seen), "the same is not written again");
    }
    queue
}

fn new_job(index: usize) -> Observed {
    let spec: AIJobSpec = serde_json::from_value(json!({"steps": [{
        "name": "large", "model": "x2", "upscale": {},
        "inputs": [{"name": "video", "upload": {"sha256": digest(), "bytes": 5}}],
    }]}))
    .expect("a spec");
    Observed {
        namespace: "studio".into(),
        name: format!("job-{index}"),
        uid: format!("uid-{index}"),
        generation: Some(1),
        created: at(0),
        spec,
        status: AIJobStatus::default(),
        renew_links: None,
        now: at(0),
        written_at: None,
        received: BTreeSet::from([digest()]),
        store_trouble: None,
        steps: BTreeMap::new(),
        held: Vec::new(),
        kept_by: Vec::new(),
    }
}

/// What is around the job then: the scheduler has looked at it.
fn look(seen: &mut Observed, minute: i64, pool: &PoolFacts, binding: Option<Binding>) {
    let labels = NamespaceLabels::from([("studio".to_owned(), BTreeMap::new())]);
    let step = &seen.spec.steps[0];
    let catalog = ["fleet".to_owned()];
    let resolution = resolve(
        "studio",
        step,
        std::slice::from_ref(pool),
        &catalog,
        &labels,
    );
    let around = StepSeen {
        resolution: Some(resolution),
        binding,
        ..StepSeen::default()
    };
    seen.steps = BTreeMap::from([(step.name.clone(), around)]);
    seen.now = at(minute);
}

/// Whether the plan writes something, an Event included. What it writes is then the status.
fn is_written(seen: &mut Observed) -> bool {
    let Plan { status, notes, .. } = plan(seen, &Links);
    let differs = status != seen.status;
    seen.status = status;
    differs || !notes.is_empty()
}

fn told(seen: &Observed) -> (String, String) {
    let condition = get(&seen.status.conditions, job::SUCCEEDED).expect("a condition");
    (condition.reason.clone(), condition.message.clone())
}

fn pool(ready_workers: i64, reason: &str, message: &str) -> PoolFacts {
    let pool: ModelPool = serde_json::from_value(json!({
        "apiVersion": "framewright.dev/v1alpha1", "kind": "ModelPool",
        "metadata": {"namespace": "fleet", "name": "p"},
        "spec": {
            "device": "cpu", "replicas": 16,
            "models": [{"name": "x2", "source": {"upload": {}}, "files": [
                {"path": "x2.safetensors", "sha256": digest(), "bytes": 1},
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
    facts::of(&pool)
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
        weights_digest: "d".into(),
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
