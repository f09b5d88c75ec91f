//! What the same writes cost when a client does them and nothing else: creates and status updates of objects that nobody acts on.
//!
//! The objects are of a copy of the AIJob's CRD in a group of its own, so that they can be written while the operator runs, turn by
//! turn with what it does. The API server validates them as it validates AIJobs, and one watcher follows them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use framewright_crds::AIJob;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, ObjectMeta, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{per_second, stage};
use crate::eventually;

/// The group of the copy; the cluster's audit policy has it, too, so that its writes are recorded as those of AIJobs are.
const GROUP: &str = "bench.framewright.dev";
const NAMESPACE: &str = "bench-raw";
/// Clients that write at once.
pub(super) const CLIENTS: usize = 32;
const PATIENCE: Duration = Duration::from_secs(60);

/// Writes what a job and its operator write.
pub(super) struct Raw {
    jobs: Api<DynamicObject>,
    resource: ApiResource,
    /// What a user creates.
    wanted: Value,
    /// What the operator writes of a job that goes well, in order.
    statuses: Vec<Value>,
    /// The object whose status is written alone, and how often it has been.
    single: DynamicObject,
    written: usize,
    rounds: usize,
    /// Follows the objects until this is dropped.
    _watching: JoinSet<()>,
}

impl Raw {
    /// Makes the copy of the CRD. `statuses` are those that a job went through, of which there must be two that differ.
    pub(super) async fn open(
        client: &Client,
        wanted: &DynamicObject,
        statuses: Vec<Value>,
    ) -> Result<Raw> {
        ensure!(
            statuses.len() > 1,
            "the job that was followed had {} statuses; two or more are expected",
            statuses.len()
        );
        stage::namespace(client, NAMESPACE).await?;
        let resource = copy_crd(client).await?;
        let jobs: Api<DynamicObject> = Api::namespaced_with(client.clone(), NAMESPACE, &resource);
        let wanted = wanted.data["spec"].clone();
        let object = object(&resource, "single", &wanted);
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
            wanted,
            statuses,
            single,
            written: 0,
            rounds: 0,
            _watching: watching,
        })
    }

    /// How long one status write takes.
    pub(super) async fn write(&mut self) -> Result<Duration> {
        let status = &self.statuses[self.written % self.statuses.len()];
        let started = Instant::now();
        self.single = write(&self.jobs, self.single.clone(), status).await?;
        self.written += 1;
        Ok(started.elapsed())
    }

    /// Writes of one job: its create and its statuses.
    pub(super) fn writes_each(&self) -> usize {
        1 + self.statuses.len()
    }

    /// Does the writes of so many jobs; jobs a second.
    pub(super) async fn crowd(&mut self, count: usize) -> Result<f64> {
        self.rounds += 1;
        let raw = &*self;
        let started = Instant::now();
        stream::iter(0..count)
            .map(|index| async move {
                let name = format!("job-{}-{index}", raw.rounds);
                let wanted = object(&raw.resource, &name, &raw.wanted);
                let mut job = raw.jobs.create(&PostParams::default(), &wanted).await?;
                for status in &raw.statuses {
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

/// Serves AIJobs a second time, in another group.
async fn copy_crd(client: &Client) -> Result<ApiResource> {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let plural = AIJob::plural(&()).into_owned();
    let original = crds
        .get(&format!("{plural}.{}", AIJob::group(&())))
        .await
        .context("read the AIJob's CRD")?;
    let mut spec = original.spec;
    GROUP.clone_into(&mut spec.group);
    let copy = CustomResourceDefinition {
        metadata: ObjectMeta {
            name: Some(format!("{plural}.{GROUP}")),
            ..ObjectMeta::default()
        },
        spec,
        status: None,
    };
    crds.create(&PostParams::default(), &copy)
        .await
        .context("copy the AIJob's CRD")?;
    let version = AIJob::version(&()).into_owned();
    Ok(ApiResource {
        group: GROUP.to_owned(),
        api_version: format!("{GROUP}/{version}"),
        version,
        kind: AIJob::kind(&()).into_owned(),
        plural,
    })
}

fn object(resource: &ApiResource, name: &str, spec: &Value) -> DynamicObject {
    DynamicObject::new(name, resource).data(json!({"spec": spec}))
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
