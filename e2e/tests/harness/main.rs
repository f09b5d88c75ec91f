//! What the harness promises: fast starts, clusters that never meet, and nothing left behind.

mod node;
mod traces;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use framewright_e2e::cluster::{all, clear};
use framewright_e2e::tools::{Part, Tools};
use framewright_e2e::{Cluster, Component, Mode, Options, eventually, with_namespace};

use crate::traces::{Process, command_lines, inhabitants, processes, same, traces};

const PATIENCE: Duration = Duration::from_secs(60);

fn control_plane() -> Options {
    Options {
        mode: Mode::ControlPlane,
        ..Options::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_is_up_in_15_seconds_and_keeps_a_ledger() -> Result<()> {
    Tools::install(&[Part::ControlPlane]).await?;
    let started = Instant::now();
    let cluster = Cluster::start("fw-harness-api", control_plane()).await?;
    let took = started.elapsed();
    ensure!(took < Duration::from_secs(15), "it took {took:?}");
    let namespace = with_namespace(&cluster, "ledger", async |namespace: &str| {
        cluster
            .kubectl(&["--namespace", namespace, "create", "configmap", "proof"])
            .await?;
        Ok(namespace.to_owned())
    })
    .await?;
    let ledger = fs::read_to_string(cluster.audit_log())?;
    let entry = ledger
        .lines()
        .find(|line| line.contains("configmaps") && line.contains(&namespace));
    entry.context("the audit log does not know of the configmap")?;
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_component_can_be_started_again() -> Result<()> {
    let cluster = Cluster::start("fw-harness-kill", control_plane()).await?;
    cluster.kill(Component::ApiServer).await?;
    ensure!(
        cluster.kubectl(&["get", "--raw", "/readyz"]).await.is_err(),
        "the killed API server answers"
    );
    cluster.restart(Component::ApiServer).await?;
    eventually(PATIENCE, "the API server answers again", async || {
        cluster.kubectl(&["get", "--raw", "/readyz"]).await
    })
    .await?;
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_leaves_nothing() -> Result<()> {
    let name = "fw-harness-rest";
    Tools::install(&[Part::Node]).await?;
    clear(name).await?;
    let before = traces(name)?;
    let cluster = Cluster::start(name, Options::default()).await?;
    let running = traces(name)?;
    for kind in ["folder", "process", "link", "cgroup"] {
        let is_seen = |trace: &String| trace.starts_with(kind);
        ensure!(
            running.difference(&before).any(is_seen),
            "a running cluster has a {kind}"
        );
    }
    let inhabitants = inhabitants(name)?;
    let is_pods = |process: &Process| process.line.starts_with("/coredns");
    ensure!(
        inhabitants.iter().any(is_pods),
        "no pod runs among {inhabitants:#?}"
    );
    cluster.stop().await?;
    same(&before, &traces(name)?)?;
    let was_there = |process: &Process| {
        let mut before = inhabitants.iter();
        before.any(|other| (other.id, other.started) == (process.id, process.started))
    };
    let left: Vec<Process> = processes()?.filter(was_there).collect();
    ensure!(left.is_empty(), "{left:#?} are left");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clusters_live_side_by_side() -> Result<()> {
    let (one, two) = tokio::try_join!(
        Cluster::start("fw-harness-one", Options::default()),
        Cluster::start("fw-harness-two", Options::default())
    )?;
    ensure!(one.node_address() != two.node_address());
    one.kubectl(&["create", "namespace", "only-in-one"]).await?;
    ensure!(
        two.kubectl(&["get", "namespace", "only-in-one"])
            .await
            .is_err(),
        "the second cluster sees what is in the first"
    );
    one.stop().await?;
    two.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "node/node1",
        "--timeout=20s",
    ])
    .await?;
    two.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_was_killed_at_any_moment_is_cleared_by_the_next() -> Result<()> {
    let name = "fw-harness-killed";
    Tools::install(&[Part::Node]).await?;
    clear(name).await?;
    let before = traces(name)?;
    for milliseconds in [20, 150, 500, 1500, 3000, 5000] {
        let mut starter = up(&[name])?;
        // The claim is about the moment, so the moment is what is waited for.
        let _ = eventually::<(), _, _>(
            Duration::from_millis(milliseconds),
            "the moment",
            async || Err("not yet"),
        )
        .await;
        starter.kill()?;
        starter.wait()?;
    }
    let cluster = Cluster::start(name, control_plane()).await?;
    cluster.kubectl(&["get", "namespaces"]).await?;
    cluster.stop().await?;
    same(&before, &traces(name)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_cluster_outlives_its_starter_and_a_second_user_is_told_of_the_first() -> Result<()>
{
    let name = "fw-harness-kept";
    let mut starter = up(&[name, "--control-plane-only"])?;
    ensure!(starter.wait()?.success());
    ensure!(all()?.contains(&(name.to_owned(), true)));
    let cluster = Cluster::attach(name).await?;
    cluster.kubectl(&["get", "namespaces"]).await?;
    cluster.stop().await?;

    let held = Cluster::start(name, control_plane()).await?;
    let error = format!("{:#}", clear(name).await.unwrap_err());
    ensure!(error.contains(&std::process::id().to_string()), "{error}");
    held.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_in_kubebuilder_assets_is_used_and_what_is_missing_there_is_named() -> Result<()>
{
    let name = "fw-harness-assets";
    let tools = Tools::install(&[Part::ControlPlane]).await?;
    let assets = tempfile::tempdir()?;
    let start = || {
        Command::new(env!("CARGO_BIN_EXE_framewright-e2e"))
            .args(["up", name, "--control-plane-only"])
            .env("KUBEBUILDER_ASSETS", assets.path())
            .output()
    };
    for program in ["etcd", "kube-apiserver", "kubectl"] {
        let refused = start()?;
        let said = String::from_utf8(refused.stderr)?;
        let folder = assets.path().display();
        let sentence = format!("KUBEBUILDER_ASSETS is set to {folder}, which has no {program}");
        ensure!(
            !refused.status.success() && said.contains(&sentence),
            "{said}"
        );
        symlink(tools.path(program)?, assets.path().join(program))?;
    }
    let started = start()?;
    ensure!(
        started.status.success(),
        "{}",
        String::from_utf8_lossy(&started.stderr)
    );
    for program in ["etcd", "kube-apiserver"] {
        let path = assets.path().join(program).display().to_string();
        ensure!(
            command_lines()?
                .iter()
                .filter(|line| line.starts_with(&path))
                .count()
                == 1,
            "{path}"
        );
    }
    clear(name).await
}

/// A starter of its own process, so that it can be killed.
fn up(arguments: &[&str]) -> Result<std::process::Child> {
    Command::new(env!("CARGO_BIN_EXE_framewright-e2e"))
        .arg("up")
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("start framewright-e2e")
}
