//! A Kubernetes cluster of one node: start, reach, hurt and stop it.

mod anchor;
mod cgroups;
mod components;
mod configuration;
mod folder;
mod gpus;
mod network;
mod pki;
mod start;
mod storage;

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use self::anchor::Anchor;
use self::folder::Folder;
use self::network::Network;
use crate::command::{output, output_with_input};
use crate::eventually;
use crate::tools::{Part, Tools};

const PATIENCE: Duration = Duration::from_secs(180);

/// A running cluster. One that was started with [`Options::kept`] unset ends with the process that
/// started it, or when this value is dropped, whichever comes first.
#[derive(Debug)]
pub struct Cluster {
    folder: Folder,
    network: Network,
    anchor: Anchor,
    mode: Mode,
    tools: Tools,
    /// The cluster's first process, if it is ours: its open input keeps a tied cluster alive.
    child: Option<Child>,
    lock: Option<File>,
}

/// How much of Kubernetes runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Mode {
    /// etcd and the API server: objects, validation, RBAC. No controllers: nothing starts pods,
    /// collects garbage or finishes the deletion of a namespace. Pods need no service account.
    ControlPlane,
    /// As ControlPlane, with the controller manager, in a hurry: its limits are those of a large cluster.
    Controllers,
    /// All of it, with containerd, DNS and a default storage class.
    #[default]
    Node,
}

/// How to start a cluster.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub mode: Mode,
    /// Archives of images to load, as [`crate::images::build`] makes them. Pods name the images with `imagePullPolicy: Never`.
    pub images: Vec<PathBuf>,
    /// Whether the cluster goes on when this process ends.
    pub kept: bool,
}

/// A process of the node that a test may kill and start again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    Etcd,
    ApiServer,
    ControllerManager,
    Scheduler,
    Containerd,
    Kubelet,
    Proxy,
}

impl Component {
    const ALL: [Component; 7] = [
        Component::Etcd,
        Component::ApiServer,
        Component::ControllerManager,
        Component::Scheduler,
        Component::Containerd,
        Component::Kubelet,
        Component::Proxy,
    ];

    /// The name of its program and of its log.
    pub fn program(self) -> &'static str {
        match self {
            Component::Etcd => "etcd",
            Component::ApiServer => "kube-apiserver",
            Component::ControllerManager => "kube-controller-manager",
            Component::Scheduler => "kube-scheduler",
            Component::Containerd => "containerd",
            Component::Kubelet => "kubelet",
            Component::Proxy => "kube-proxy",
        }
    }
}

impl Cluster {
    /// Clears what an earlier run of this name left, starts the cluster and waits until it is usable.
    ///
    /// # Errors
    /// If the name is in use by a living process, the machine cannot hold a cluster (not root, no
    /// namespaces, tools that cannot be installed), or a part does not come up; then its logs stay.
    pub async fn start(name: &str, options: Options) -> Result<Cluster> {
        start::start(name, options).await
    }

    /// Reaches a cluster that another process started.
    ///
    /// # Errors
    /// If none of this name runs.
    pub async fn attach(name: &str) -> Result<Cluster> {
        let folder = Folder::of(name)?;
        let anchor = Anchor::find(&folder)?.with_context(|| {
            format!("no cluster {name} is running; start it with: framewright-e2e up {name}")
        })?;
        let network = Network::of(&folder)?;
        let mode = fs::read_to_string(folder.file("mode.json"))
            .with_context(|| format!("the cluster {name} has not finished its start"))?;
        let mode: Mode =
            serde_json::from_str(&mode).context("mode.json is not what was written")?;
        let tools = Tools::install(start::parts(mode)).await?;
        Ok(Cluster {
            folder,
            network,
            anchor,
            mode,
            tools,
            child: None,
            lock: None,
        })
    }

    /// Ends every process of the cluster and removes all that it has made.
    ///
    /// # Errors
    /// If something could not be removed; says what.
    pub async fn stop(mut self) -> Result<()> {
        let _lock = match self.lock.take() {
            Some(lock) => lock,
            None => self.folder.lock()?,
        };
        start::clear(&self.folder).await?;
        if let Some(mut child) = self.child.take() {
            child
                .wait()
                .context("wait for the cluster's first process")?;
        }
        Ok(())
    }

    pub fn name(&self) -> &str {
        &self.folder.name
    }

    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The administrator's kubeconfig; complete in itself, and valid on this machine.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.kubeconfig("admin")
    }

    /// The API server's record of requests, one JSON object a line. Bodies are there for writes of
    /// Framewright's objects, pods, services, claims, apps and batch.
    pub fn audit_log(&self) -> PathBuf {
        self.folder.file("audit.log")
    }

    /// The folder of the components' logs, `NAME.log`.
    pub fn logs(&self) -> PathBuf {
        self.folder.file("logs")
    }

    /// The node's address: the API server's at port 6443, and that of NodePort Services.
    pub fn node_address(&self) -> Ipv4Addr {
        self.network.node()
    }

    /// This machine's address as pods see it. What listens here can be reached from pods.
    pub fn machine_address(&self) -> Ipv4Addr {
        self.network.machine()
    }

    /// A client with the administrator's rights. It belongs to the runtime that it is made in.
    ///
    /// # Errors
    /// If the kubeconfig cannot be read.
    pub async fn client(&self) -> Result<kube::Client> {
        start::client(&self.folder).await
    }

    /// Runs kubectl as administrator; gives what it prints.
    ///
    /// # Errors
    /// With what kubectl said, if it failed or took longer than 3 minutes.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl_with_input(arguments, "").await
    }

    /// As [`Cluster::kubectl`], with text for its standard input: `&["apply", "-f", "-"]`.
    ///
    /// # Errors
    /// As [`Cluster::kubectl`].
    pub async fn kubectl_with_input(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut command = Command::new(self.tools.path("kubectl")?);
        command
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .args(arguments);
        output_with_input(&mut command, input, PATIENCE).await
    }

    /// Runs helm as administrator; gives what it prints. helm is built at the first use.
    ///
    /// # Errors
    /// With what helm said, if it failed or took longer than 3 minutes.
    pub async fn helm(&self, arguments: &[&str]) -> Result<String> {
        let tools = Tools::install(&[Part::Helm]).await?;
        let mut command = Command::new(tools.path("helm")?);
        output(
            command
                .arg("--kubeconfig")
                .arg(self.kubeconfig())
                .args(arguments),
            PATIENCE,
        )
        .await
    }

    /// Loads the images of an archive, OCI's or Docker's, under the names that it carries.
    ///
    /// # Errors
    /// With what containerd said.
    pub async fn load(&self, archive: &Path) -> Result<()> {
        start::load(self.anchor, archive).await
    }

    /// A command that will run in the cluster's namespaces, as root of the node: `iptables`, `ip`, `ctr`.
    pub fn inside(&self, program: &str) -> Command {
        self.anchor.command(program)
    }

    /// Kills a component at once, without a chance to clean up, and waits until it is gone.
    ///
    /// # Errors
    /// If it does not run.
    pub async fn kill(&self, component: Component) -> Result<()> {
        let program = component.program();
        if self.anchor.kill_program(program)? == 0 {
            bail!("{program} does not run in {}", self.name());
        }
        eventually(
            PATIENCE,
            "the killed component is gone",
            async || match self.anchor.count(program)? {
                0 => Ok(()),
                left => bail!("{left} are left"),
            },
        )
        .await
    }

    /// Starts a component that was killed. Does not wait until it is usable.
    ///
    /// # Errors
    /// If the program could not be started.
    pub async fn restart(&self, component: Component) -> Result<()> {
        start::component(
            &self.folder,
            self.network,
            self.anchor,
            &self.tools,
            self.mode,
            component,
        )
        .await
    }

    /// Kills at once what runs of a program that was started with [`Cluster::inside`]; gives how many that were.
    ///
    /// # Errors
    /// If one could not be killed.
    pub fn kill_program(&self, program: &str) -> Result<usize> {
        self.anchor.kill_program(program)
    }

    /// Has a device plugin offer so many `nvidia.com/gpu`: containers get them, nothing stands behind them. A kubelet that is
    /// started again does not know of them.
    ///
    /// # Errors
    /// If the plugin does not run, or the node does not offer them within a minute.
    pub async fn offer_gpus(&self, count: u32) -> Result<()> {
        gpus::offer(&self.folder, self.anchor, &self.client().await?, count).await
    }

    /// Empties the volumes whose claims are gone and offers them again.
    ///
    /// # Errors
    /// If a volume could not be replaced.
    pub async fn recycle_volumes(&self) -> Result<()> {
        match self.mode {
            Mode::ControlPlane | Mode::Controllers => Ok(()),
            Mode::Node => storage::offer_again(&self.folder, &self.client().await?).await,
        }
    }
}

/// Ends the cluster of this name, if it runs, and removes all that it or a killed run has left.
///
/// # Errors
/// If a living process uses it, or something could not be removed.
pub async fn clear(name: &str) -> Result<()> {
    let folder = Folder::of(name)?;
    let _lock = folder.lock()?;
    start::clear(&folder).await
}

/// The names of all clusters that have left something on this machine, and whether they run.
///
/// # Errors
/// If the state folder cannot be read.
pub fn all() -> Result<Vec<(String, bool)>> {
    let folders = Folder::all()?.into_iter();
    folders
        .map(|folder| Ok((folder.name.clone(), Anchor::find(&folder)?.is_some())))
        .collect()
}
