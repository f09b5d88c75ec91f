//! How a cluster comes up and goes down.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use super::anchor::{self, Anchor, Lifetime};
use super::components::{self, NODE};
use super::folder::Folder;
use super::network::{self, Network};
use super::{Cluster, Component, Mode, Options, cgroups, configuration, pki, storage};
use crate::command::output;
use crate::eventually;
use crate::images::pack;
use crate::progress::Progress;
use crate::tools::{Part, Tools};

const PATIENCE: Duration = Duration::from_secs(60);
const FOLDERS: [&str; 4] = ["logs", "pki", "cni", "volumes"];

pub(crate) fn parts(mode: Mode) -> &'static [Part] {
    match mode {
        Mode::ControlPlane => &[Part::ControlPlane],
        Mode::Controllers => &[Part::Controllers],
        Mode::Node => &[Part::Node],
    }
}

pub(crate) async fn start(name: &str, options: Options) -> Result<Cluster> {
    if !rustix::process::geteuid().is_root() {
        bail!("a cluster needs namespaces, mounts and cgroups: run this as root");
    }
    let folder = Folder::of(name)?;
    let lock = folder.lock()?;
    let tools = Tools::install(parts(options.mode)).await?;
    let mut images = options.images;
    if options.mode == Mode::Node {
        images.extend([pack::pause(&tools).await?, pack::coredns(&tools).await?]);
    }
    let progress = Progress::new(name);
    if folder.path.exists() {
        clear(&folder).await?;
        progress.say("cleared what an earlier run left");
    }
    for part in FOLDERS {
        let path = folder.file(part);
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
    }
    let lifetime = if options.kept {
        Lifetime::Kept
    } else {
        Lifetime::Tied
    };
    let (anchor, child) = Anchor::start(&folder, lifetime)?;
    let result = raise(&folder, anchor, &tools, options.mode, &images, &progress).await;
    let network = match result {
        Ok(network) => network,
        Err(error) => {
            let dead = dead(&folder, anchor);
            anchor::kill(&folder).await?;
            return Err(error.context(format!(
                "{name} did not come up; its logs are in {}{dead}",
                folder.file("logs").display()
            )));
        }
    };
    folder.write("mode.json".as_ref(), &serde_json::to_string(&options.mode)?)?;
    progress.say(&format!(
        "ready; KUBECONFIG={}",
        folder.kubeconfig("admin").display()
    ));
    Ok(Cluster {
        folder,
        network,
        anchor,
        mode: options.mode,
        tools,
        child: Some(child),
        lock: (!options.kept).then_some(lock),
    })
}

async fn raise(
    folder: &Folder,
    anchor: Anchor,
    tools: &Tools,
    mode: Mode,
    images: &[std::path::PathBuf],
    progress: &Progress,
) -> Result<Network> {
    let network = Network::connect(folder, anchor).await?;
    pki::write(folder, network)?;
    configuration::write(folder, network)?;
    configuration::write_audit_policy(folder)?;
    let start = async |part| component(folder, network, anchor, tools, mode, part).await;
    start(Component::Etcd).await?;
    start(Component::ApiServer).await?;
    if mode == Mode::ControlPlane {
        api_is_ready(folder, progress).await?;
        return Ok(network);
    }
    if mode == Mode::Controllers {
        let client = api_is_ready(folder, progress).await?;
        start(Component::ControllerManager).await?;
        default_account_exists(&client).await?;
        return Ok(network);
    }
    cgroups::create(folder)?;
    start(Component::Containerd).await?;
    let (client, ()) = tokio::try_join!(
        api_is_ready(folder, progress),
        load_all(anchor, images, progress)
    )?;
    for part in [
        Component::ControllerManager,
        Component::Scheduler,
        Component::Kubelet,
        Component::Proxy,
    ] {
        start(part).await?;
    }
    let addons = format!(
        "{}\n---\n{}\n",
        include_str!("../../manifests/coredns.yaml"),
        storage::class()
    );
    let mut kubectl = tokio::process::Command::new(tools.path("kubectl")?);
    kubectl
        .arg("--kubeconfig")
        .arg(folder.kubeconfig("admin"))
        .args(["create", "--validate=false", "-f", "-"]);
    crate::command::output_with_input(&mut kubectl, &addons, PATIENCE)
        .await
        .context("create the DNS and the storage class")?;
    storage::offer_all(folder, &client).await?;
    node_is_ready(&client).await?;
    progress.say("the node is ready");
    default_account_exists(&client).await?;
    dns_is_ready(&client).await?;
    progress.say("DNS is ready");
    Ok(network)
}

pub(crate) async fn component(
    folder: &Folder,
    network: Network,
    anchor: Anchor,
    tools: &Tools,
    mode: Mode,
    component: Component,
) -> Result<()> {
    let program = match component {
        Component::Containerd => Path::new("containerd"),
        Component::Etcd
        | Component::ApiServer
        | Component::ControllerManager
        | Component::Scheduler
        | Component::Kubelet
        | Component::Proxy => tools.path(component.program())?,
    };
    let arguments = components::arguments(component, folder, network, mode);
    anchor
        .spawn(program, &arguments, &folder.log(component.program()))
        .await
        .with_context(|| format!("start {}", component.program()))
}

/// The last words of the components that were started and have ended.
fn dead(folder: &Folder, anchor: Anchor) -> String {
    let mut said = String::new();
    for component in Component::ALL {
        let log = fs::read_to_string(folder.log(component.program()));
        let runs = anchor
            .count(component.program())
            .is_ok_and(|count| count > 0);
        if let (Ok(log), false) = (log, runs) {
            let last = log.lines().last().unwrap_or("nothing");
            said += &format!("; {} has ended, and said: {last}", component.program());
        }
    }
    said
}

/// Everything that carries the cluster's name goes, in an order that can be repeated at any point.
pub(crate) async fn clear(folder: &Folder) -> Result<()> {
    anchor::kill(folder).await?;
    network::disconnect(folder).await?;
    cgroups::remove(folder).await?;
    match fs::remove_dir_all(&folder.path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("remove {}", folder.path.display())),
    }
}

pub(crate) async fn client(folder: &Folder) -> Result<Client> {
    let path = folder.kubeconfig("admin");
    let kubeconfig =
        Kubeconfig::read_from(&path).with_context(|| format!("read {}", path.display()))?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Client::try_from(config.with_context(|| format!("understand {}", path.display()))?)
        .context("make a client")
}

pub(crate) async fn load(anchor: Anchor, archive: &Path) -> Result<()> {
    let mut ctr = anchor.command("ctr");
    ctr.args([
        "--address",
        configuration::CONTAINERD,
        "--namespace",
        "k8s.io",
        "images",
        "import",
    ])
    .arg(archive);
    output(&mut ctr, PATIENCE)
        .await
        .map(drop)
        .with_context(|| format!("load {}", archive.display()))
}

async fn load_all(
    anchor: Anchor,
    images: &[std::path::PathBuf],
    progress: &Progress,
) -> Result<()> {
    eventually(PATIENCE, "containerd answers", async || {
        let mut ctr = anchor.command("ctr");
        output(
            ctr.args([
                "--address",
                configuration::CONTAINERD,
                "--timeout",
                "1s",
                "version",
            ]),
            Duration::from_secs(5),
        )
        .await
    })
    .await?;
    for image in images {
        load(anchor, image).await?;
    }
    progress.say(&format!("containerd has {} images", images.len()));
    Ok(())
}

async fn api_is_ready(folder: &Folder, progress: &Progress) -> Result<Client> {
    let client = client(folder).await?;
    eventually(PATIENCE, "the API server is ready", async || {
        let request = http_get("/readyz")?;
        client
            .request_text(request)
            .await
            .map_err(|error| anyhow!(error))
    })
    .await?;
    progress.say("the API server is ready");
    Ok(client)
}

fn http_get(path: &str) -> Result<http::Request<Vec<u8>>> {
    http::Request::get(path)
        .body(Vec::new())
        .context("write a request")
}

async fn node_is_ready(client: &Client) -> Result<()> {
    let nodes = Api::<Node>::all(client.clone());
    eventually(PATIENCE, "the node is ready", async || {
        let node = nodes.get(NODE).await?;
        let conditions = node
            .status
            .and_then(|status| status.conditions)
            .unwrap_or_default();
        let ready = conditions
            .into_iter()
            .find(|condition| condition.type_ == "Ready")
            .context("it has no condition Ready")?;
        if ready.status != "True" {
            bail!("{}", ready.message.unwrap_or(ready.status));
        }
        let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
        if let Some(taint) = taints.first() {
            bail!("it has the taint {}", taint.key);
        }
        Ok(())
    })
    .await
}

async fn default_account_exists(client: &Client) -> Result<()> {
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), "default");
    eventually(PATIENCE, "the default service account exists", async || {
        accounts.get("default").await
    })
    .await
    .map(drop)
}

async fn dns_is_ready(client: &Client) -> Result<()> {
    let deployments = Api::<Deployment>::namespaced(client.clone(), "kube-system");
    eventually(PATIENCE, "the DNS is ready", async || {
        let status = deployments
            .get_status("coredns")
            .await?
            .status
            .unwrap_or_default();
        if status.ready_replicas == Some(1) {
            Ok(())
        } else {
            Err(anyhow!(
                "coredns has {:?} ready replicas",
                status.ready_replicas
            ))
        }
    })
    .await
}
