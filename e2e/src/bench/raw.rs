//! What the same writes cost when a client does them and nothing else: creates and status updates of objects that nobody acts on.
//!
//! The objects are of a copy of the AIJob's CRD in a group of its own, so that they can be written while the operator runs, turn by
//! turn with what it does. The API server validates them as it validates AIJobs, and one watcher follows them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde_json::Value;
use tokio::task::JoinSet;

use super::crd::{self, object};
use super::submitter::Record;
use super::{per_second, stage};
use crate::eventually;

/// The group of the copy; the cluster's audit policy has it, too, so that its writes are recorded as those of AIJobs are.
const GROUP: &str = "bench.framewright.dev";
const NAMESPACE: &str = "bench-raw";
/// Clients that write at once.
pub(super) const CLIENTS: usize = 32;
const PATIENCE: Duration = Duration::from_secs(60);

/// What a user and the operator write of a job that goes well.
pub(super) struct Writes {
    /// What the user creates.
    spec: Value,
    /// What the operator writes then, in order.
    statuses: Vec<Value>,
}

impl Writes {
    /// Those of a job that was followed. It must have had two statuses or more.
    pub(super) fn of(record: Record) -> Result<Writes> {
        let Record { spec, statuses, .. } = record;
        ensure!(
            statuses.len() > 1,
            "the job that was followed had {} statuses; two or more are expected",
            statuses.len()
        );
        Ok(Writes { spec, statuses })
    }

    /// How many they are, the create included.
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    pub(super) fn count(&self) -> f64 {
        (1 + self.statuses.len()) as f64
    }

    /// Bytes of the last status.
    pub(super) fn last_bytes(&self) -> Result<usize> {
        let status = self.statuses.last().context("the job had no status")?;
        Ok(serde_json::to_vec(status)?.len())
    }
}

/// Writes them without an operator.
pub(super) struct Raw {
    jobs: Api<DynamicObject>,
    resource: ApiResource,
    /// The object whose status is written alone, and how often it has been.
    single: DynamicObject,
    written: usize,
    rounds: usize,
    /// Follows the objects until this is dropped.
    _watching: JoinSet<()>,
}

impl Raw {
    /// Makes the copy of the CRD, and the object whose status is written alone.
    pub(super) async fn open(client: &Client, writes: &Writes) -> Result<Raw> {
        stage::namespace(client, NAMESPACE).await?;
        let resource = crd::copy(client, GROUP).await?;
        let jobs: Api<DynamicObject> = Api::namespaced_with(client.clone(), NAMESPACE, &resource);
        let object = object(&resource, "single", &writes.spec);
        let single = eventually(PATIENCE, "the copy of the CRD is served", async || {
            jobs.create(&PostParams::default(), &object).await
        })
        .await?;
        let mut watching = JoinSet::new();
        let watched = watcher::watcher(jobs.clone(), watcher::Config::default())
            .default_backoff()
            .applied_objects();
        watching.spawn(watched.for_each(|_| futures::future::ready(())));
        Ok(Raw {
            jobs,
            resource,
            single,
            written: 0,
            rounds: 0,
            _watching: watching,
        })
    }

    /// How long one status write takes.
    pub(super) async fn write(&mut self, writes: &Writes) -> Result<Duration> {
        let status = &writes.statuses[self.written % writes.statuses.len()];
        let started = Instant::now();
        self.single = write(&self.jobs, self.single.clone(), status).await?;
        self.written += 1;
        Ok(started.elapsed())
    }

    /// Does the writes of so many jobs; jobs a second.
    pub(super) async fn crowd(&mut self, writes: &Writes, count: usize) -> Result<f64> {
        self.rounds += 1;
        let raw = &*self;
        let started = Instant::now();
        stream::iter(0..count)
            .map(|index| async move {
                let name = format!("job-{}-{index}", raw.rounds);
                let object = object(&raw.resource, &name, &writes.spec);
                let mut job = raw.jobs.create(&PostParams::default(), &object).await?;
                for status in &writes.statuses {
                    job = write(&raw.jobs, job, status).await?;
                }
                anyhow::Ok(())
            })
            .buffer_unordered(CLIENTS)
            .try_for_each(|()| async { Ok(()) })
            .await?;
        Ok(per_second(count, started.elapsed()))
    }
}

async fn write(
    jobs: &Api<DynamicObject>,
    mut job: DynamicObject,
    status: &Value,
) -> Result<DynamicObject> {
    let name = job.metadata.name.clone().unwrap_or_default();
    job.metadata.managed_fields = None;
    job.data["status"] = status.clone();
    Ok(jobs
        .replace_status(&name, &PostParams::default(), &job)
        .await?)
}
