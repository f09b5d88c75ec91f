//! What `batch/v1` Jobs cost whose pods are placed already and done the moment they exist: the least that a Job can cost.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{per_second, stage};
use crate::eventually;

const NAMESPACE: &str = "bench-batch";
const PATIENCE: Duration = Duration::from_secs(180);
const AT_ONCE: usize = 32;

/// Creates batch Jobs and waits until they are complete.
pub(super) struct Batch {
    jobs: Api<Job>,
    /// How many Jobs are complete.
    complete: watch::Receiver<usize>,
    created: usize,
    /// A kubelet's part, and the count; they stop when this is dropped.
    _working: JoinSet<()>,
}

impl Batch {
    /// Watches Jobs and pods from now on.
    pub(super) async fn open(client: &Client) -> Result<Batch> {
        stage::namespace(client, NAMESPACE).await?;
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), NAMESPACE);
        eventually(PATIENCE, "the default service account exists", async || {
            accounts.get("default").await
        })
        .await?;
        let jobs: Api<Job> = Api::namespaced(client.clone(), NAMESPACE);
        let (counts, complete) = watch::channel(0);
        let mut working = JoinSet::new();
        working.spawn(count(jobs.clone(), counts));
        let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
        working.spawn(async move {
            if let Err(error) = end_pods(&pods).await {
                eprintln!("bench: the batch Jobs' pods do not end any more: {error:#}");
            }
        });
        Ok(Batch {
            jobs,
            complete,
            created: 0,
            _working: working,
        })
    }

    /// Creates so many Jobs at once; Jobs a second until all are complete.
    pub(super) async fn crowd(&mut self, count: usize) -> Result<f64> {
        let before = self.created;
        self.created += count;
        let (jobs, all) = (&self.jobs, self.created);
        let started = Instant::now();
        stream::iter(before..all)
            .map(|index| create(jobs, index))
            .buffer_unordered(AT_ONCE)
            .try_for_each(|()| async { Ok(()) })
            .await?;
        let done = self.complete.wait_for(|complete| *complete >= all);
        tokio::time::timeout(PATIENCE, done)
            .await
            .with_context(|| {
                format!(
                    "the batch Jobs are not complete within {} s",
                    PATIENCE.as_secs()
                )
            })?
            .context("nobody counts the batch Jobs any more")?;
        Ok(per_second(count, started.elapsed()))
    }
}

async fn create(jobs: &Api<Job>, index: usize) -> Result<()> {
    let job: Job = serde_json::from_value(json!({
        "metadata": {"name": format!("job-{index}")},
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

/// Counts the Jobs that are complete.
async fn count(jobs: Api<Job>, counts: watch::Sender<usize>) {
    let mut complete = HashSet::new();
    let watched = watcher(jobs, watcher::Config::default())
        .default_backoff()
        .applied_objects();
    let mut watched = std::pin::pin!(watched);
    while let Some(job) = watched.next().await {
        // After an error the watch is opened again.
        let Ok(job) = job else { continue };
        let status = job.status.as_ref();
        let is_complete = status.is_some_and(|status| status.completion_time.is_some());
        if is_complete && complete.insert(job.name_any()) {
            counts.send_replace(complete.len());
        }
    }
}

/// Does a kubelet's part: says of each pod that it has succeeded.
async fn end_pods(pods: &Api<Pod>) -> Result<()> {
    let mut known = HashSet::new();
    watcher(pods.clone(), watcher::Config::default())
        .default_backoff()
        .applied_objects()
        .map_err(anyhow::Error::from)
        .try_for_each_concurrent(AT_ONCE, |pod| {
            let name = pod.name_any();
            let is_new = known.insert(name.clone());
            async move {
                if is_new {
                    let done = json!({"status": {"phase": "Succeeded"}});
                    pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(done))
                        .await?;
                }
                Ok(())
            }
        })
        .await
}
