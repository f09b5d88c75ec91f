//! A pool and jobs in the namespace of one test: made as a person makes them, and what became of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use framewright_crds::aijob::{Attempt, StepState, StepStatus};
use framewright_crds::conditions::{self, job, pool};
use framewright_crds::{AIJob, ModelPool, names};
use framewright_e2e::{Cluster, eventually, with_namespace};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Api, ResourceExt};
use ring::digest::{SHA256, digest};
use tempfile::TempDir;

use crate::installation::{cluster, ffmpeg, plugin, root};

/// How long anything may take on a machine that has other things to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

/// What a test works with.
pub(crate) struct Fleet<'a> {
    pub(crate) cluster: &'static Cluster,
    pub(crate) namespace: &'a str,
    pub(crate) jobs: Api<AIJob>,
    pub(crate) pools: Api<ModelPool>,
    pub(crate) pods: Api<Pod>,
    /// Where manifests and inputs are written.
    pub(crate) folder: TempDir,
}

/// Runs a test with a namespace of its own.
pub(crate) async fn with_fleet(
    test: &str,
    body: impl AsyncFnOnce(&Fleet<'_>) -> Result<()>,
) -> Result<()> {
    let cluster = cluster().await?;
    with_namespace(cluster, test, async |namespace: &str| {
        let client = cluster.client().await?;
        let fleet = Fleet {
            cluster,
            namespace,
            jobs: Api::namespaced(client.clone(), namespace),
            pools: Api::namespaced(client.clone(), namespace),
            pods: Api::namespaced(client, namespace),
            folder: TempDir::new()?,
        };
        body(&fleet).await
    })
    .await
}

impl Fleet<'_> {
    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.cluster
            .kubectl(&[&["--namespace", self.namespace], arguments].concat())
            .await
    }

    pub(crate) async fn plugin(&self, arguments: &[&str]) -> Result<String> {
        plugin(self.cluster, self.namespace, arguments).await
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Applies the pool `upscale`.
    pub(crate) async fn apply_pool(
        &self,
        device: &str,
        replicas: u32,
        digest: &str,
        limits: &str,
    ) -> Result<()> {
        self.apply_pool_with_scratch(device, replicas, digest, limits, "1Gi")
            .await
    }

    async fn apply_pool_with_scratch(
        &self,
        device: &str,
        replicas: u32,
        digest: &str,
        limits: &str,
        scratch: &str,
    ) -> Result<()> {
        let pool = POOL
            .replace("DEVICE", device)
            .replace("REPLICAS", &replicas.to_string())
            .replace("DIGEST", digest)
            .replace("BYTES", &fs::metadata(weights())?.len().to_string())
            .replace("LIMITS", limits)
            .replace("SCRATCH", scratch);
        self.cluster
            .kubectl_with_input(&["--namespace", self.namespace, "apply", "-f", "-"], &pool)
            .await
            .map(drop)
    }

    pub(crate) async fn upload_weights(&self) -> Result<()> {
        self.plugin(&["upload", "pool/upscale", &weights().display().to_string()])
            .await
            .map(drop)
    }

    /// A pool of so many workers on the CPU, all ready.
    pub(crate) async fn ready_pool(&self, replicas: u32) -> Result<()> {
        self.ready_pool_within(replicas, "1Gi", "1Gi").await
    }

    /// The same, with so much memory and so much scratch space for each worker.
    pub(crate) async fn ready_pool_within(
        &self,
        replicas: u32,
        memory: &str,
        scratch: &str,
    ) -> Result<()> {
        let (digest, limits) = (digest_of(&weights())?, format!("{{memory: {memory}}}"));
        self.apply_pool_with_scratch("cpu", replicas, &digest, &limits, scratch)
            .await?;
        self.upload_weights().await?;
        self.pool_until("ready", |condition| condition.status == "True")
            .await
            .map(drop)
    }

    /// Waits for the pool's condition Ready to be as wanted.
    pub(crate) async fn pool_until(
        &self,
        what: &str,
        is_so: impl Fn(&Condition) -> bool,
    ) -> Result<Condition> {
        eventually(PATIENCE, &format!("the pool is {what}"), async || {
            let status = self.pools.get("upscale").await?.status.unwrap_or_default();
            let condition =
                conditions::get(&status.conditions, pool::READY).context("no condition Ready")?;
            ensure!(
                is_so(condition),
                "{}: {}",
                condition.reason,
                condition.message
            );
            Ok::<_, anyhow::Error>(condition.clone())
        })
        .await
    }

    /// The example clip, so many times after itself: 48 frames each of 192 by 108 pixels.
    pub(crate) async fn clip(&self, name: &str, times: u32) -> Result<()> {
        let example = root()
            .join("manifests/examples/clip.mp4")
            .display()
            .to_string();
        let again = (times - 1).to_string();
        let target = self.file(name).display().to_string();
        ffmpeg(&[
            "-stream_loop",
            &again,
            "-i",
            &example,
            "-c",
            "copy",
            &target,
        ])
        .await
    }

    /// Submits a job of one step, `large`, and returns when its input is uploaded.
    pub(crate) async fn submit(&self, name: &str, input: &str, more: &str) -> Result<()> {
        let step = format!(
            "  - {{name: large, model: framewright-x2, upscale: {{}}, inputs: [{{name: video, upload: {{file: {input}}}}}]}}\n"
        );
        self.submit_steps(name, &step, more).await
    }

    pub(crate) async fn submit_steps(&self, name: &str, steps: &str, more: &str) -> Result<()> {
        let manifest = self.file(&format!("{name}.yaml"));
        let text = format!(
            "apiVersion: framewright.dev/v1alpha1\nkind: AIJob\nmetadata: {{name: {name}}}\nspec:\n  steps:\n{steps}{more}"
        );
        fs::write(&manifest, text)?;
        self.plugin(&["submit", &manifest.display().to_string(), "--no-wait"])
            .await
            .map(drop)
    }

    /// Waits for the job to be as wanted.
    pub(crate) async fn job_until(
        &self,
        name: &str,
        what: &str,
        is_so: impl Fn(&AIJob) -> bool,
    ) -> Result<AIJob> {
        eventually(PATIENCE, &format!("job {name} is {what}"), async || {
            let job = self.jobs.get(name).await?;
            if is_so(&job) {
                return Ok(job);
            }
            match &job.status {
                Some(status) => bail!("{}", serde_json::to_string(status)?),
                None => bail!("it has no status"),
            }
        })
        .await
    }

    /// Waits until a worker computes the first step, and gives its attempt.
    pub(crate) async fn running(&self, name: &str) -> Result<Attempt> {
        let job = self
            .job_until(name, "running", |job| {
                steps(job).first().map(|step| step.state) == Some(StepState::Running)
            })
            .await?;
        last_attempt(steps(&job).first())
    }

    pub(crate) async fn finished(&self, name: &str) -> Result<AIJob> {
        self.job_until(name, "finished", |job| {
            condition(job, job::FINISHED).is_some_and(|condition| condition.status == "True")
        })
        .await
    }

    /// Waits until the job is finished; it must have succeeded, and tools that follow kstatus must find it current.
    pub(crate) async fn succeeded(&self, name: &str) -> Result<AIJob> {
        let finished = self.finished(name).await?;
        let outcome = condition(&finished, job::SUCCEEDED).context("no condition Succeeded")?;
        ensure!(
            outcome.status == "True",
            "{name}: {}: {}",
            outcome.reason,
            outcome.message
        );
        ensure!(true_conditions(&finished, &KSTATUS) == [conditions::READY]);
        Ok(finished)
    }

    /// Waits until no pod is left.
    pub(crate) async fn no_pods(&self) -> Result<()> {
        eventually(PATIENCE, "no pod is left", async || {
            let left = self.pods.list(&Default::default()).await?.items.len();
            ensure!(left == 0, "{left} are left");
            Ok(())
        })
        .await
    }

    /// The pool's only pod.
    pub(crate) async fn only_pod(&self) -> Result<Pod> {
        let mut pods = self.pods.list(&Default::default()).await?.items;
        ensure!(pods.len() == 1, "there are {} pods", pods.len());
        pods.pop().context("no pod")
    }
}

/// The weights that come with Framewright.
pub(crate) fn weights() -> PathBuf {
    root().join("models/framewright-x2/framewright-x2.safetensors")
}

/// The digest of a file as it stands in specs and statuses.
pub(crate) fn digest_of(file: &Path) -> Result<String> {
    let bytes = fs::read(file).with_context(|| file.display().to_string())?;
    Ok(names::digest(&hex::encode(digest(&SHA256, &bytes))))
}

/// The condition of a job.
pub(crate) fn condition<'a>(job: &'a AIJob, type_: &str) -> Option<&'a Condition> {
    conditions::get(&job.status.as_ref()?.conditions, type_)
}

/// The conditions that tools which follow kstatus read.
pub(crate) const KSTATUS: [&str; 3] = [
    conditions::READY,
    conditions::RECONCILING,
    conditions::STALLED,
];

/// Which of these conditions of a job are True.
pub(crate) fn true_conditions<'a>(job: &AIJob, types: &[&'a str]) -> Vec<&'a str> {
    let is_true =
        |type_: &&&str| condition(job, type_).is_some_and(|condition| condition.status == "True");
    types.iter().filter(is_true).copied().collect()
}

/// Whether the job's state is this one: the reason of Succeeded.
pub(crate) fn is_state(job: &AIJob, reason: &str) -> bool {
    condition(job, job::SUCCEEDED).is_some_and(|condition| condition.reason == reason)
}

pub(crate) fn steps(job: &AIJob) -> &[StepStatus] {
    job.status
        .as_ref()
        .map_or(&[], |status| status.steps.as_slice())
}

pub(crate) fn last_attempt(step: Option<&StepStatus>) -> Result<Attempt> {
    step.and_then(|step| step.attempts.last())
        .cloned()
        .context("no attempt")
}

/// How often the containers of a pod were started again.
pub(crate) fn restarts(pod: &Pod) -> i32 {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref());
    statuses
        .into_iter()
        .flatten()
        .map(|container| container.restart_count)
        .sum()
}

pub(crate) fn uid(pod: &Pod) -> Result<String> {
    pod.uid().context("the pod has no UID")
}

const POOL: &str = r#"
apiVersion: framewright.dev/v1alpha1
kind: ModelPool
metadata: {name: upscale}
spec:
  device: DEVICE
  replicas: REPLICAS
  models:
  - name: framewright-x2
    source: {upload: {}}
    files: [{path: framewright-x2.safetensors, digest: "DIGEST", bytes: BYTES}]
  scratch: {sizeLimit: SCRATCH}
  weightsCache: {sizeLimit: 1Gi}
  template:
    spec:
      terminationGracePeriodSeconds: 5
      containers: [{name: worker, resources: {requests: {cpu: 100m, memory: 64Mi}, limits: LIMITS}}]
"#;
