//! What everything runs on: an API server of its own, and the operator and the store as processes beside it, with the rights and
//! objects that `manifests/install.yaml` gives them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use rustix::process::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use super::crd;
use super::fleet::FLEET;
use crate::checkout::root;
use crate::cluster::{Cluster, Mode, Options};
use crate::eventually;

/// Where the chart puts Framewright.
pub(super) const SYSTEM: &str = "framewright-system";
/// Where the store takes what comes from outside, plainly.
const STORE_OUTSIDE: u16 = 8090;
const PATIENCE: Duration = Duration::from_secs(60);

/// What everything runs on. It ends with this process.
pub(super) struct Stage {
    pub(super) cluster: Cluster,
    pub(super) client: Client,
    /// PEM of the authority that operator and store prove themselves by.
    pub(super) authority: String,
    /// The operator's program, which is the store's, too.
    program: PathBuf,
    folder: TempDir,
}

impl Stage {
    /// The API server and the controller manager, with Framewright's objects, and nobody who acts on them.
    pub(super) async fn set(dist: &Path) -> Result<Stage> {
        let program = dist.join("framewright-operator");
        anyhow::ensure!(
            program.is_file(),
            "{} is missing; `make dist` puts it there",
            program.display()
        );
        let options = Options {
            mode: Mode::Controllers,
            ..Options::default()
        };
        let cluster = Cluster::start("fw-bench", options).await?;
        let manifest = root()?.join("manifests/install.yaml").display().to_string();
        cluster
            .kubectl(&["apply", "--server-side", "-f", &manifest])
            .await?;
        for kind in ["deployments", "persistentvolumeclaims"] {
            let delete = ["--namespace", SYSTEM, "delete", kind, "--all"];
            cluster.kubectl(&delete).await?;
        }
        let crds = [
            "crd/aijobs.framewright.dev",
            "crd/modelpools.framewright.dev",
        ];
        let wait = ["wait", "--for=condition=Established", "--timeout=60s"];
        cluster.kubectl(&[&wait[..], &crds].concat()).await?;
        let client = cluster.client().await?;
        crd::add_noop(&client).await?;
        Ok(Stage {
            client,
            cluster,
            authority: String::new(),
            program,
            folder: TempDir::new()?,
        })
    }

    /// Starts the operator, which makes keys and certificates, and then the store with them.
    pub(super) async fn perform(mut self) -> Result<Stage> {
        let node = self.cluster.node_address();
        let hosts = format!("127.0.0.1 localhost\n{node} framewright-store.{SYSTEM}.svc\n");
        fs::write(self.hosts(), hosts)?;
        self.write_kubeconfig().await?;
        self.start_operator()?;
        let keys = self.keys().await?;
        self.authority = fs::read_to_string(keys.join("ca.crt"))?;
        let volume = self.folder.path().join("volume");
        fs::create_dir_all(&volume)?;
        let mut store = self.inside();
        store.arg("store");
        store.arg("--volume").arg(volume);
        store.arg("--keys").arg(keys.join("grant.key"));
        store.arg("--certificate").arg(keys.join("tls.crt"));
        store.arg("--certificate-key").arg(keys.join("tls.key"));
        store.arg(format!("--listen-local=0.0.0.0:{STORE_OUTSIDE}"));
        store.arg("--listen-health=0.0.0.0:8082");
        self.spawn(store, "store")?;
        Ok(self)
    }

    /// Starts the operator, and does not wait for it.
    pub(super) fn start_operator(&self) -> Result<()> {
        let node = self.cluster.node_address();
        let mut operator = self.inside();
        operator
            .args([
                "run",
                "--namespace=framewright-system",
                "--pod-name=bench",
                "--worker-image=bench",
            ])
            .arg(format!("--pod-ip={node}"))
            .arg(format!(
                "--store-url=https://framewright-store.{SYSTEM}.svc:8443"
            ))
            .arg(format!(
                "--store-external-url=http://{node}:{STORE_OUTSIDE}"
            ))
            .arg(format!("--catalog-namespace={FLEET}"))
            .env("KUBECONFIG", self.kubeconfig());
        self.spawn(operator, "operator")
    }

    /// The process of the operator.
    pub(super) fn operator(&self) -> Result<Pid> {
        for entry in fs::read_dir("/proc")? {
            let folder = entry?.path();
            // A process may end while it is looked at.
            let is_program = fs::read_link(folder.join("exe")).is_ok_and(|exe| exe == self.program);
            let command = fs::read(folder.join("cmdline")).unwrap_or_default();
            if is_program && command.split(|byte| *byte == 0).nth(1) == Some(b"run") {
                let name = folder.file_name().unwrap_or_default().to_string_lossy();
                return Pid::from_raw(name.parse()?).context("process 0");
            }
        }
        anyhow::bail!("the operator does not run")
    }

    /// Makes a namespace, unless it is there.
    pub(super) async fn namespace(&self, name: &str) -> Result<()> {
        namespace(&self.client, name).await
    }

    /// A command that will run in the cluster's network, with names of its own.
    fn inside(&self) -> Command {
        let mut command = self.cluster.inside("unshare");
        command.args(["--mount", "--propagation=private", "bash", "-c"]);
        command.args(["mount --bind \"$1\" /etc/hosts && exec \"${@:2}\"", "bash"]);
        command.arg(self.hosts()).arg(&self.program);
        command
    }

    fn spawn(&self, mut command: Command, name: &str) -> Result<()> {
        let log = self.cluster.logs().join(format!("{name}.log"));
        let log = File::create(&log).with_context(|| log.display().to_string())?;
        command.stdout(log.try_clone()?).stderr(log);
        // It ends with the cluster's first process.
        command
            .spawn()
            .map(drop)
            .with_context(|| format!("start the {name}"))
    }

    /// A kubeconfig with the operator's own service account, so that it has its own rights and its own name in the audit log.
    async fn write_kubeconfig(&self) -> Result<()> {
        let create = ["create", "token", "framewright-operator", "--duration=2h"];
        let token = self
            .cluster
            .kubectl(&[&["--namespace", SYSTEM][..], &create].concat())
            .await?;
        let text = fs::read_to_string(self.cluster.kubeconfig())?;
        let mut config: Value = serde_saphyr::from_str(&text)?;
        config["users"][0]["user"] = json!({"token": token.trim()});
        fs::write(self.kubeconfig(), config.to_string())?;
        Ok(())
    }

    fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("operator.kubeconfig")
    }

    fn hosts(&self) -> PathBuf {
        self.folder.path().join("hosts")
    }

    /// A folder with what the operator has put into the store's secret.
    async fn keys(&self) -> Result<PathBuf> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), SYSTEM);
        let data = eventually(
            PATIENCE,
            "the operator has made the store's keys",
            async || {
                let secret = secrets.get("framewright-store").await?;
                secret
                    .data
                    .filter(|data| data.contains_key("tls.crt"))
                    .context("the secret holds no certificate")
            },
        )
        .await?;
        let folder = self.folder.path().join("keys");
        fs::create_dir_all(&folder)?;
        for (name, value) in data {
            fs::write(folder.join(name), value.0)?;
        }
        Ok(folder)
    }
}

pub(super) async fn namespace(client: &Client, name: &str) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = Namespace {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    match namespaces.create(&PostParams::default(), &namespace).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error).with_context(|| format!("make namespace {name}")),
    }
}
