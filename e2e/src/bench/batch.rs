//! What `batch/v1` Jobs cost whose pods are placed already and done the moment they exist: the least that a Job can cost.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::{per_second, stage};
use crate::eventually;

const NAMESPACE: &str = "bench-batch";
const PATIENCE: Duration = Duration::from_secs(180);
/// Jobs whose pods' births are measured, one after the other.
const SINGLE: usize = 50;
const AT_ONCE: usize = 32;

/// What was measured.
pub(super) struct Batch {
    /// From a Job's create request to its bound pod.
    pub(super) starts: Vec<Duration>,
    pub(super) per_second: f64,
}

type Births = Arc<Mutex<HashMap<String, Instant>>>;

pub(super) async fn measure(client: &Client, count: usize) -> Result<Batch> {
    stage::namespace(client, NAMESPACE).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), NAMESPACE);
    eventually(PATIENCE, "the default service account exists", async || {
        accounts.get("default").await
    })
    .await?;
    let jobs: Api<Job> = Api::namespaced(client.clone(), NAMESPACE);
    let births = Births::default();
    let kubelet = tokio::spawn(complete(client.clone(), Arc::clone(&births)));
    let mut starts = Vec::new();
    for index in 0..SINGLE {
        let name = format!("single-{index}");
        let asked = Instant::now();
        create(&jobs, &name).await?;
        let born = eventually(PATIENCE, "the Job has a pod", async || {
            let births = births.lock().unwrap_or_else(PoisonError::into_inner);
            births.get(&name).copied().context("no pod")
        })
        .await?;
        starts.push(born.duration_since(asked));
    }
    finished(&jobs, SINGLE).await?;
    let (started, jobs_) = (Instant::now(), &jobs);
    stream::iter(0..count)
        .map(|index| async move { create(jobs_, &format!("job-{index}")).await })
        .buffer_unordered(AT_ONCE)
        .try_for_each(|()| async { Ok(()) })
        .await?;
    finished(&jobs, SINGLE + count).await?;
    let per_second = per_second(count, started.elapsed());
    kubelet.abort();
    jobs.delete_collection(
        &kube::api::DeleteParams::background(),
        &ListParams::default(),
    )
    .await?;
    Ok(Batch { starts, per_second })
}

async fn create(jobs: &Api<Job>, name: &str) -> Result<()> {
    let job: Job = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"template": {"spec": {
            "nodeName": "nowhere",
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "containers": [{"name": "worker", "image": "bench"}],
        }}},
    }))?;
    jobs.create(&PostParams::default(), &job).await?;
    Ok(())
}

/// Does a kubelet's part: says of each pod that it has succeeded.
async fn complete(client: Client, births: Births) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client, NAMESPACE);
    let watched = watcher(pods.clone(), watcher::Config::default())
        .default_backoff()
        .applied_objects();
    let pods = &pods;
    watched
        .map_err(anyhow::Error::from)
        .try_for_each_concurrent(AT_ONCE, |pod| {
            let job = pod.labels().get("batch.kubernetes.io/job-name").cloned();
            let is_new = job.is_some_and(|job| is_first(&births, job));
            async move {
                if is_new {
                    let done = json!({"status": {"phase": "Succeeded"}});
                    pods.patch_status(
                        &pod.name_any(),
                        &PatchParams::default(),
                        &Patch::Merge(done),
                    )
                    .await?;
                }
                Ok(())
            }
        })
        .await
}

fn is_first(births: &Births, job: String) -> bool {
    let mut births = births.lock().unwrap_or_else(PoisonError::into_inner);
    let is_new = !births.contains_key(&job);
    births.entry(job).or_insert_with(Instant::now);
    is_new
}

async fn finished(jobs: &Api<Job>, count: usize) -> Result<()> {
    eventually(PATIENCE, "all batch Jobs are complete", async || {
        let all = jobs.list(&ListParams::default()).await?.items;
        let done = all
            .iter()
            .filter(|job| {
                let status = job.status.as_ref();
                status.is_some_and(|status| status.completion_time.is_some())
            })
            .count();
        ensure!(done == count, "{done} of {count}");
        Ok::<_, anyhow::Error>(())
    })
    .await
}
