//! What plain writes of the same objects cost, while nobody acts on them.

use std::time::{Duration, Instant};

use anyhow::Result;
use framewright_crds::AIJob;
use framewright_crds::aijob::AIJobStatus;
use framewright_crds::conditions::{Truth, job, set};
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};

use super::desk::manifest;
use super::{LATENCIES, per_second, stage};

const NAMESPACE: &str = "bench-raw";
const CLIENTS: usize = 32;
const WRITES_EACH: usize = 40;

/// What was measured.
pub(super) struct Raw {
    /// Of single status writes, one after the other.
    pub(super) writes: Vec<Duration>,
    /// Creates and status writes by many clients at once.
    pub(super) per_second: f64,
}

pub(super) async fn measure(client: &Client) -> Result<Raw> {
    stage::namespace(client, NAMESPACE).await?;
    let jobs: Api<AIJob> = Api::namespaced(client.clone(), NAMESPACE);
    let mut one = jobs
        .create(&PostParams::default(), &manifest("single", 1)?)
        .await?;
    let mut writes = Vec::new();
    for index in 0..LATENCIES {
        let started = Instant::now();
        one = write(&jobs, one, index).await?;
        writes.push(started.elapsed());
    }
    let started = Instant::now();
    let jobs = &jobs;
    stream::iter(0..CLIENTS)
        .map(|client| async move {
            let wanted = manifest(&format!("raw-{client}"), 1)?;
            let mut job = jobs.create(&PostParams::default(), &wanted).await?;
            for index in 1..WRITES_EACH {
                job = write(jobs, job, index).await?;
            }
            anyhow::Ok(())
        })
        .buffer_unordered(CLIENTS)
        .try_for_each(|()| async { Ok(()) })
        .await?;
    let per_second = per_second(CLIENTS * WRITES_EACH, started.elapsed());
    jobs.delete_collection(&DeleteParams::default(), &ListParams::default())
        .await?;
    Ok(Raw { writes, per_second })
}

/// One status write, of about the size that the operator writes.
async fn write(jobs: &Api<AIJob>, mut job: AIJob, index: usize) -> Result<AIJob> {
    let name = job.metadata.name.clone().unwrap_or_default();
    let now = k8s_openapi::jiff::Timestamp::now();
    let mut status = AIJobStatus {
        progress: Some(format!("{index}%")),
        worker: Some("bench-fleet/instant-0123456789-0".to_owned()),
        ..AIJobStatus::default()
    };
    for type_ in [job::ACCEPTED, job::RUNNING, job::SUCCEEDED, job::FINISHED] {
        let message = format!("step step-0: {}", "as long as messages are ".repeat(4));
        let conditions = &mut status.conditions;
        set(
            conditions,
            type_,
            Truth::Unknown,
            "Running",
            &message,
            Some(1),
            now,
        );
    }
    job.status = Some(status);
    job.metadata.managed_fields = None;
    Ok(jobs
        .replace_status(&name, &PostParams::default(), &job)
        .await?)
}
