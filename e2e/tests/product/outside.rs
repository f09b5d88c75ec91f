//! An operator as a process of the node, in the place of the installed Deployment and with its arguments and rights.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use framewright_e2e::{Cluster, eventually};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use serde_json::json;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;

use crate::gate::{Gate, Trap};
use crate::installation::{SYSTEM, dist};

const PROGRAM: &str = "framewright-operator";
const LEADER: &str = "framewright-operator-leader";
const DEPLOYMENT: &str = "deployment/framewright-operator";
const PATIENCE: Duration = Duration::from_secs(120);

/// The operator outside, or its place.
pub(crate) struct Outside {
    pub(crate) gate: Gate,
    cluster: &'static Cluster,
    arguments: Vec<String>,
    folder: TempDir,
    process: Mutex<Option<Child>>,
}

/// Runs a test without the Deployment's pods; they come back afterwards. The end of the operator's log goes with a failure.
pub(crate) async fn with_operator_outside(
    cluster: &'static Cluster,
    body: impl AsyncFnOnce(&Outside) -> Result<()>,
) -> Result<()> {
    let outside = Outside::take_place(cluster).await;
    let result = match &outside {
        Ok(outside) => body(outside)
            .await
            // The cause comes first: a log may be cut.
            .inspect_err(|error| eprintln!("{error:#}\n{}", outside.last_words())),
        Err(_) => Ok(()),
    };
    if let Ok(outside) = &outside {
        outside.end().await?;
        outside.release_lease().await?;
    }
    let restored = restore(cluster).await;
    outside?;
    result?;
    restored
}

impl Outside {
    async fn take_place(cluster: &'static Cluster) -> Result<Outside> {
        let client = cluster.client().await?;
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), SYSTEM);
        let arguments = arguments(&deployments.get(PROGRAM).await?, cluster)?;
        kubectl(cluster, &["scale", DEPLOYMENT, "--replicas=0"]).await?;
        let pods: Api<Pod> = Api::namespaced(client, SYSTEM);
        let ours = ListParams::default().labels("app.kubernetes.io/component=operator");
        eventually(PATIENCE, "the operator's pods are gone", async || {
            let left = pods.list(&ours).await?.items.len();
            ensure!(left == 0, "{left} are left");
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        let gate = Gate::open(cluster, move || {
            if let Err(error) = cluster.kill_program(PROGRAM) {
                eprintln!("cannot kill the operator: {error:#}");
            }
        })
        .await?;
        let outside = Outside {
            gate,
            cluster,
            arguments,
            folder: TempDir::new()?,
            process: Mutex::default(),
        };
        outside.write_files().await?;
        Ok(outside)
    }

    /// The way to the API server, and to the cluster's names.
    async fn write_files(&self) -> Result<()> {
        let make = ["create", "token", PROGRAM, "--duration=2h"];
        let token = kubectl(self.cluster, &make).await?;
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "gate", "cluster": {"server": format!("http://{}", self.gate.address)}}],
            "users": [{"name": "operator", "user": {"token": token.trim()}}],
            "contexts": [{"name": "gate", "context": {"cluster": "gate", "user": "operator"}}],
            "current-context": "gate",
        });
        fs::write(self.file("kubeconfig"), kubeconfig.to_string())?;
        let names = "nameserver 10.96.0.10\nsearch cluster.local\noptions ndots:5\n";
        fs::write(self.file("resolv.conf"), names)?;
        Ok(())
    }

    /// Starts the operator; one that runs is killed first.
    pub(crate) async fn start(&self, trap: Option<Trap>) -> Result<()> {
        self.end().await?;
        self.release_lease().await?;
        self.lead_nowhere().await?;
        self.gate.expect_another(trap);
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.file("log"))?;
        let mut command: Command = self.cluster.inside("unshare");
        command
            .args(["--mount", "bash", "-c", START])
            .arg(self.file("resolv.conf"))
            .arg(dist()?.join(PROGRAM))
            .args(&self.arguments)
            .env("KUBECONFIG", self.file("kubeconfig"))
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        let child = command.spawn().context("start the operator")?;
        *self.process.lock().await = Some(child);
        Ok(())
    }

    /// Kills the operator, if it runs.
    pub(crate) async fn end(&self) -> Result<()> {
        drop(self.process.lock().await.take());
        eventually(PATIENCE, "the operator has ended", async || {
            match self.cluster.kill_program(PROGRAM)? {
                0 => Ok(()),
                count => bail!("{count} were killed just now"),
            }
        })
        .await
    }

    /// The holder is known to be dead: what its lease's end would say in 15 seconds.
    async fn release_lease(&self) -> Result<()> {
        let free = [
            "--type=merge",
            "--patch",
            r#"{"spec":{"holderIdentity":""}}"#,
        ];
        let patch = ["patch", "lease", PROGRAM];
        kubectl(self.cluster, &[&patch[..], &free].concat())
            .await
            .map(drop)
    }

    /// The last operator had the same address; this one is to find the workers' Service led elsewhere, as after another leader.
    async fn lead_nowhere(&self) -> Result<()> {
        let delete = ["delete", "endpointslice", LEADER, "--ignore-not-found"];
        kubectl(self.cluster, &delete).await.map(drop)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.file("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(60);
        format!("the operator's log ends so:\n{}", lines[from..].join("\n"))
    }
}

async fn restore(cluster: &Cluster) -> Result<()> {
    kubectl(cluster, &["scale", DEPLOYMENT, "--replicas=2"]).await?;
    let wait = ["rollout", "status", DEPLOYMENT, "--timeout=120s"];
    kubectl(cluster, &wait).await.map(drop)
}

/// The Deployment's arguments, as if this process were one of its pods.
fn arguments(deployment: &Deployment, cluster: &Cluster) -> Result<Vec<String>> {
    let containers = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.template.spec.as_ref())
        .map_or(&[][..], |spec| &spec.containers);
    let arguments = containers
        .first()
        .and_then(|container| container.args.clone())
        .context("the operator's container has no arguments")?;
    let address = cluster.node_address().to_string();
    Ok(arguments
        .iter()
        .map(|argument| {
            argument
                .replace("$(POD_NAMESPACE)", SYSTEM)
                .replace("$(POD_NAME)", "outside")
                .replace("$(POD_IP)", &address)
        })
        .collect())
}

async fn kubectl(cluster: &Cluster, arguments: &[&str]) -> Result<String> {
    cluster
        .kubectl(&[&["--namespace", SYSTEM], arguments].concat())
        .await
}

/// Runs $1… with the names of $0.
const START: &str = r#"mount --bind "$0" /etc/resolv.conf && exec "$@""#;
