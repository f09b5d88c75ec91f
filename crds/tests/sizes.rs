//! What the API server has to store: the CRD with many more pipelines than today, and the status of a small job.

mod twelve_pipelines;

use framewright_crds::aijob::{
    AIJobStatus, Attempt, AttemptWorker, Fact, FileState, FileStatus, OutputRole, OutputStatus,
    Progress, StepModel, StepOutput, StepState, StepStatus, Usage,
};
use framewright_crds::conditions::{self, Truth, job, job_reason};
use framewright_crds::names::digest;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The largest CRD. `kubectl apply` keeps a copy of it in an annotation, of which Kubernetes takes 256 KiB.
const CRD_LIMIT: usize = 256 << 10;
/// The largest status of a job of one step.
const ONE_STEP_LIMIT: usize = 3 << 10;

#[test]
fn the_crd_with_twelve_pipelines_is_small_enough() {
    let crd = twelve_pipelines::crd();
    let bytes = serde_json::to_vec(&crd).expect("a CRD is JSON").len();
    println!("the CRD with twelve pipelines: {bytes} bytes");
    assert!(bytes < CRD_LIMIT, "{bytes} bytes");
    assert!(
        bytes > 64 << 10,
        "{bytes} bytes: its pipelines have become small"
    );
}

#[test]
fn the_status_of_a_job_of_one_step_is_small_enough() {
    let bytes = serde_json::to_vec(&one_step()).expect("JSON").len();
    println!("the status of a job of one step: {bytes} bytes");
    assert!(bytes < ONE_STEP_LIMIT, "{bytes} bytes");
}

/// Of a job that has succeeded, with names of 24 characters and a link.
fn one_step() -> AIJobStatus {
    let name = |letter: &str| letter.repeat(24);
    let hash = digest(&"a".repeat(64));
    let at = Time(Timestamp::UNIX_EPOCH);
    let usage = Usage {
        unit: "pixels".to_owned(),
        amount: 9_999_999_999,
    };
    let worker = AttemptWorker::pod(&name("n"), &format!("{}-f25e108d8e-0", name("p")), UID);
    let mut attempt = Attempt::bound(1, worker.clone(), at.0);
    attempt.started_at = Some(at.clone());
    attempt.finished_at = Some(at.clone());
    attempt.usage = Some(usage.clone());
    let fact = |name: &str| Fact {
        name: name.to_owned(),
        value: "216000".to_owned(),
    };
    let mut step = StepStatus::blocked(&name("s"));
    step.state = StepState::Succeeded;
    step.queued_at = Some(at.clone());
    step.pool = Some(format!("{}/{}", name("n"), name("p")));
    step.models = vec![StepModel {
        role: "base".to_owned(),
        name: name("m"),
        digest: hash.clone(),
    }];
    step.seed = Some(4_294_967_295);
    step.attempts_made = 1;
    step.attempts = vec![attempt];
    step.progress = Some(Progress {
        percent: 100,
        stage: Some("frame".to_owned()),
        done: Some(216_000),
        of: Some(216_000),
    });
    step.outputs = vec![StepOutput {
        name: "video".to_owned(),
        role: OutputRole::Result,
        digest: hash.clone(),
        media_type: "video/mp4".to_owned(),
        bytes: 9_999_999_999,
        facts: ["width", "height", "frames"].map(fact).to_vec(),
    }];
    step.usage = Some(usage);
    let mut status = AIJobStatus {
        observed_generation: Some(1),
        progress: Some("100%".to_owned()),
        pool: step.pool.clone(),
        worker: Some(worker.name),
        attempts_made: Some(1),
        started_at: Some(at.clone()),
        finished_at: Some(at.clone()),
        files: vec![FileStatus {
            name: format!("{}/video", name("s")),
            source: "upload".to_owned(),
            state: FileState::Received,
            digest: hash.clone(),
            bytes: 9_999_999_999,
            link: None,
            expires_at: None,
            message: None,
        }],
        steps: vec![step],
        outputs: vec![OutputStatus {
            name: name("s"),
            step: name("s"),
            output: "video".to_owned(),
            digest: hash,
            media_type: "video/mp4".to_owned(),
            bytes: 9_999_999_999,
            // As long as links are: host, namespace, kind, UID, role, digest, file name, media type, end, signature.
            link: Some("l".repeat(480)),
            expires_at: Some(at),
        }],
        ..AIJobStatus::default()
    };
    for (type_, truth) in [
        (job::SUCCEEDED, Truth::True),
        (job::ACCEPTED, Truth::True),
        (job::RUNNING, Truth::False),
        (job::FINISHED, Truth::True),
        (job::READY, Truth::True),
    ] {
        let message = match type_ {
            job::SUCCEEDED => "all steps are done",
            _ => "",
        };
        let (reason, generation) = (job_reason::SUCCEEDED, Some(1));
        let now = Timestamp::UNIX_EPOCH;
        let conditions = &mut status.conditions;
        conditions::set(conditions, type_, truth, reason, message, generation, now);
    }
    status
}

const UID: &str = "3f0c2a44-6f0e-4c1c-9d55-5b7a1c2f9e10";
