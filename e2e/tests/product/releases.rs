//! The installation itself comes and goes: upgraded, uninstalled, installed again, removed with all that it left.

use anyhow::{Context, Result, ensure};
use framewright_crds::AIJob;
use framewright_crds::aijob::Attempt;
use framewright_crds::conditions::{job, job_reason};
use framewright_e2e::{Cluster, eventually};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;

use crate::fleet::{Fleet, PATIENCE, condition, is_state, last_attempt, steps, uid, with_fleet};
use crate::installation::{SYSTEM, VALUES, cluster, helm, measured};

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_or_a_new_installation_repeats_no_work_and_a_removal_leaves_nothing_that_hangs()
-> Result<()> {
    let cluster = cluster().await?;
    let tested = with_fleet("releases", async |fleet| {
        fleet.ready_pool(1).await?;
        fleet.clip("clip.mp4", 1).await?;
        fleet.clip("long.mp4", 15).await?;
        with_fleet("guest", async |guest| upgraded(fleet, guest).await).await?;
        uninstalled(fleet).await?;
        removed(fleet).await
    })
    .await;
    // The other tests want it as it was.
    let restored = helm(
        cluster,
        "upgrade",
        &[
            &["--install", "--create-namespace", "--reset-values"],
            &VALUES[..],
        ]
        .concat(),
    )
    .await;
    tested?;
    restored
}

/// A value changes while a job runs: the operators are replaced, the job goes on, and the value holds.
async fn upgraded(fleet: &Fleet<'_>, guest: &Fleet<'_>) -> Result<()> {
    lend(fleet, Some(guest.namespace)).await?;
    guest.clip("clip.mp4", 1).await?;
    guest.submit_steps("early", SHORT, "").await?;
    state(guest, "early", job_reason::MODEL_NOT_FOUND).await?;
    let before = started(fleet, "upgraded").await?;

    let catalog = format!("--set=catalogNamespaces={{{}}}", fleet.namespace);
    let values = ["--reset-then-reuse-values", &catalog];
    helm(fleet.cluster, "upgrade", &values).await?;
    let done = done_once(fleet, "upgraded", &before).await?;
    let leases: Api<Lease> = Api::namespaced(fleet.cluster.client().await?, SYSTEM);
    let lease = leases.get("framewright-operator").await?.spec;
    let leads_since = lease
        .and_then(|lease| lease.acquire_time)
        .context("nobody leads")?;
    let finished = done
        .status
        .and_then(|status| status.finished_at)
        .context("not finished")?;
    ensure!(
        finished.0 > leads_since.0,
        "it was done before the new operator led"
    );

    // The pool that the catalog names serves whom it lends to, and nobody else.
    guest.succeeded("early").await?;
    lend(fleet, None).await?;
    guest.submit_steps("late", SHORT, "").await?;
    state(guest, "late", job_reason::NOT_ALLOWED).await
}

/// Nothing is left that works, but all that is to be worked on; the next installation goes on with it.
async fn uninstalled(fleet: &Fleet<'_>) -> Result<()> {
    let done = fleet.jobs.get("upgraded").await?;
    let before = started(fleet, "left").await?;
    uninstall(fleet.cluster).await?;
    let kinds =
        "deployments,services,roles,rolebindings,networkpolicies,pods,persistentvolumeclaims";
    let get = ["--namespace", SYSTEM, "get", kinds, "--output=name"];
    eventually(PATIENCE, "the release is gone", async || {
        let left = fleet.cluster.kubectl(&get).await?;
        let is_kept = left.trim() == "persistentvolumeclaim/framewright-store";
        ensure!(is_kept, "there is\n{left}");
        Ok(())
    })
    .await?;
    ensure!(
        uid(&fleet.only_pod().await?)? == before.worker.uid,
        "its worker is another one"
    );

    helm(fleet.cluster, "install", &VALUES).await?;
    done_once(fleet, "left", &before).await?;
    ensure!(
        fleet.jobs.get("upgraded").await? == done,
        "a job that was done has changed"
    );
    let results = fleet.file("results").display().to_string();
    fleet
        .plugin(&["get", "upgraded", "--output", &results])
        .await?;
    let video = fleet.file("results").join("upgraded-large.mp4");
    let (width, height, _) = measured(&video).await?;
    ensure!((width, height) == (384, 216), "{width} x {height}");
    Ok(())
}

/// As the operations manual says: the release, its namespace, the CRDs. The workers go with their pool.
async fn removed(fleet: &Fleet<'_>) -> Result<()> {
    started(fleet, "removed").await?;
    uninstall(fleet.cluster).await?;
    for what in [
        &["namespace", SYSTEM][..],
        &[
            "crd",
            "aijobs.framewright.dev",
            "modelpools.framewright.dev",
        ],
    ] {
        let delete = [&["delete"], what, &["--timeout=60s"]].concat();
        fleet.cluster.kubectl(&delete).await?;
    }
    fleet.no_pods().await
}

async fn uninstall(cluster: &Cluster) -> Result<()> {
    let uninstall = ["uninstall", "framewright", "--namespace", SYSTEM];
    let wait = ["--wait", "--timeout=60s"];
    cluster
        .helm(&[&uninstall[..], &wait].concat())
        .await
        .map(drop)
}

/// A job that a worker computes for a while.
async fn started(fleet: &Fleet<'_>, name: &str) -> Result<Attempt> {
    fleet.submit(name, "long.mp4", "").await?;
    fleet.running(name).await
}

/// The job succeeds, by the attempt that was under way.
async fn done_once(fleet: &Fleet<'_>, name: &str, before: &Attempt) -> Result<AIJob> {
    let done = fleet.succeeded(name).await?;
    let step = steps(&done).first().context("no step")?;
    let attempt = last_attempt(Some(step))?;
    ensure!(step.attempts_made == 1, "{} attempts", step.attempts_made);
    ensure!(attempt.worker.uid == before.worker.uid && attempt.started_at == before.started_at);
    Ok(done)
}

/// Lets jobs of another namespace use the pool, or no more.
async fn lend(fleet: &Fleet<'_>, namespace: Option<&str>) -> Result<()> {
    let access = namespace.map_or(serde_json::Value::Null, |name| {
        let selector = serde_json::json!({"matchLabels": {"kubernetes.io/metadata.name": name}});
        serde_json::json!([{"name": "guest", "namespaces": {"selector": selector}}])
    });
    let patch = serde_json::json!({"spec": {"access": access}}).to_string();
    let arguments = [
        "patch",
        "modelpool/upscale",
        "--type=merge",
        "--patch",
        &patch,
    ];
    fleet.kubectl(&arguments).await.map(drop)
}

/// Waits until the job waits for this reason.
async fn state(fleet: &Fleet<'_>, name: &str, reason: &str) -> Result<()> {
    let waits = fleet
        .job_until(name, reason, |job| is_state(job, reason))
        .await?;
    let says = condition(&waits, job::SUCCEEDED).context("no condition Succeeded")?;
    println!("{name}: {}: {}", says.reason, says.message);
    Ok(())
}

const SHORT: &str = r"
  - {name: large, model: framewright-x2, upscale: {frames: 2}, inputs: [{name: video, upload: {file: clip.mp4}}]}
";
