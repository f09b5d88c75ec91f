//! Who is no worker of a pool gets no work, whatever it looks like.

use anyhow::{Context, Result, ensure};
use framewright_e2e::{Component, eventually};
use k8s_openapi::api::core::v1::{Pod, SecretVolumeSource};
use kube::ResourceExt;
use kube::api::{ObjectMeta, PostParams};
use serde_json::{Value, json};

use crate::fleet::{Fleet, PATIENCE, last_attempt, restarts, steps, uid, with_fleet};

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_no_pool_owns_is_refused_though_it_looks_like_a_worker() -> Result<()> {
    with_fleet("stranger", async |fleet| {
        fleet.ready_pool(1).await?;
        let worker = fleet.only_pod().await?;
        fleet
            .pods
            .create(&PostParams::default(), &double(&worker, "stranger")?)
            .await?;
        println!(
            "{}",
            refusal(fleet, "stranger", "401", "belongs to no ModelPool").await?
        );
        forged(fleet, &worker).await?;

        fleet.clip("clip.mp4", 1).await?;
        fleet.submit_steps("job", SHORT, "").await?;
        let job = fleet.succeeded("job").await?;
        let attempt = last_attempt(steps(&job).first())?;
        ensure!(
            attempt.worker.uid == uid(&worker)?,
            "another pod did the work"
        );
        let pool = fleet.pools.get("upscale").await?;
        let status = pool.status.unwrap_or_default();
        ensure!((status.replicas, status.ready_replicas) == (1, 1));
        let still = fleet.pods.get(&worker.name_any()).await?;
        ensure!(restarts(&still) == 0 && uid(&still)? == uid(&worker)?);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_shows_the_token_of_a_worker_is_refused_and_the_worker_works_on() -> Result<()> {
    with_fleet("thief", async |fleet| {
        fleet.ready_pool(1).await?;
        let worker = fleet.only_pod().await?;
        let name = worker.name_any();
        let read = ["exec", &name, "--", "cat", TOKEN];
        let token = fleet.kubectl(&read).await?;
        shown_by(fleet, &worker, "thief", &token).await?;
        let text = format!("the token is pod {name}'s, and");
        println!("{}", refusal(fleet, "thief", "401", &text).await?);

        fleet.clip("clip.mp4", 1).await?;
        fleet.submit_steps("job", SHORT, "").await?;
        let job = fleet.succeeded("job").await?;
        let attempt = last_attempt(steps(&job).first())?;
        ensure!(
            attempt.worker.uid == uid(&worker)?,
            "another pod did the work"
        );
        let log = fleet.kubectl(&["logs", &name]).await?;
        let streams = log.matches("connected to the operator").count();
        ensure!(streams == 1, "the worker had {streams} streams");

        // When the worker is gone, its token is worth nothing at all.
        fleet
            .kubectl(&["delete", "pod", &name, "--force", "--grace-period=0"])
            .await?;
        println!(
            "{}",
            refusal(fleet, "thief", "401", "the token is not valid").await?
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_s_token_opens_the_operator_alone_and_no_other_token_opens_that() -> Result<()> {
    with_fleet("tokens", async |fleet| {
        fleet.ready_pool(1).await?;
        let worker = fleet.only_pod().await?;
        let name = worker.name_any();
        let token = fleet.kubectl(&["exec", &name, "--", "cat", TOKEN]).await?;
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token},
        });
        let create = ["create", "--output=json", "-f", "-"];
        let reviewed = fleet
            .cluster
            .kubectl_with_input(&create, &review.to_string())
            .await?;
        let reviewed: Value = serde_json::from_str(&reviewed)?;
        ensure!(
            reviewed["status"]["authenticated"] != true && reviewed["status"]["error"].is_string(),
            "the API server takes it: {}",
            reviewed["status"]
        );
        let mounted = ["exec", &name, "--", "cat", OF_THE_API_SERVER];
        let mounted = fleet.kubectl(&mounted).await;
        ensure!(mounted.is_err(), "a token for the API server is mounted");

        // The worker's own, but made for the API server.
        let make = ["create", "token", "default", "--bound-object-kind=Pod"];
        let other = fleet
            .kubectl(&[&make[..], &["--bound-object-name", &name]].concat())
            .await?;
        shown_by(fleet, &worker, "other", other.trim()).await?;
        println!(
            "{}",
            refusal(fleet, "other", "401", "the token is not valid for audience").await?
        );
        Ok(())
    })
    .await
}

/// Makes a pod like the worker that shows this token instead.
async fn shown_by(fleet: &Fleet<'_>, worker: &Pod, name: &str, token: &str) -> Result<()> {
    let literal = format!("--from-literal=token={token}");
    fleet
        .kubectl(&["create", "secret", "generic", name, &literal])
        .await?;
    let mut double = double(worker, name)?;
    let spec = double.spec.as_mut().context("the pod has no spec")?;
    let volume = spec
        .volumes
        .iter_mut()
        .flatten()
        .find(|volume| volume.name == "token")
        .context("the worker has no token")?;
    volume.projected = None;
    volume.secret = Some(SecretVolumeSource {
        secret_name: Some(name.to_owned()),
        default_mode: Some(0o440),
        ..SecretVolumeSource::default()
    });
    fleet.pods.create(&PostParams::default(), &double).await?;
    Ok(())
}

/// Pods that say whose they are, which is not so: of a pool that never was, and of one in another namespace.
async fn forged(fleet: &Fleet<'_>, worker: &Pod) -> Result<()> {
    with_fleet("forger", async |tenant| {
        let owned = async |fleet: &Fleet<'_>, name: &str, uid: &str| {
            let mut pod = double(worker, name)?;
            pod.metadata.owner_references = worker.metadata.owner_references.clone();
            let owners = pod.metadata.owner_references.iter_mut().flatten();
            owners.for_each(|owner| owner.uid = uid.to_owned());
            let made = fleet.pods.create(&PostParams::default(), &pod).await?;
            ensure!(pool_uid(&made)? == uid, "it says another owner");
            Ok(())
        };
        // The garbage collector would find them out in a moment; this is about that moment.
        fleet.cluster.kill(Component::ControllerManager).await?;
        let refused = async {
            owned(fleet, "made-up", "4d8a3b1e-0000-4000-8000-000000000000").await?;
            owned(tenant, "foreign", &pool_uid(worker)?).await?;
            let text = "belongs to a ModelPool upscale that does not exist, or to an earlier one";
            println!("{}", refusal(fleet, "made-up", "401", text).await?);
            println!("{}", refusal(tenant, "foreign", "401", text).await?);
            Ok(())
        }
        .await;
        fleet.cluster.restart(Component::ControllerManager).await?;
        refused
    })
    .await
}

fn pool_uid(pod: &Pod) -> Result<String> {
    let owner = pod.owner_references().first().context("nobody owns it")?;
    Ok(owner.uid.clone())
}

/// A pod like this one, which no pool owns.
fn double(worker: &Pod, name: &str) -> Result<Pod> {
    let mut double = worker.clone();
    double.metadata = ObjectMeta {
        name: Some(name.to_owned()),
        labels: worker.metadata.labels.clone(),
        ..ObjectMeta::default()
    };
    double.status = None;
    let spec = double.spec.as_mut().context("the worker has no spec")?;
    spec.node_name = None;
    Ok(double)
}

/// Waits until the pod is told that it is refused, with this code of HTTP and this text.
async fn refusal(fleet: &Fleet<'_>, pod: &str, code: &str, text: &str) -> Result<String> {
    let code = format!("HTTP {code}");
    eventually(PATIENCE, &format!("{pod} is refused"), async || {
        let log = fleet.kubectl(&["logs", pod]).await?;
        let line = log
            .lines()
            .find(|line| line.contains(&code) && line.contains(text));
        line.map(str::to_owned)
            .with_context(|| format!("it says {log}"))
    })
    .await
}

const OF_THE_API_SERVER: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
const TOKEN: &str = "/var/run/secrets/framewright.dev/token";
const SHORT: &str = r"
  - {name: large, model: framewright-x2, upscale: {frames: 6}, inputs: [{name: video, upload: {file: clip.mp4}}]}
";
