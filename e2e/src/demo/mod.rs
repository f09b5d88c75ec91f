//! The main job as a user runs it: a cluster, the chart on it, a pool, a job with three steps, and a picture of what came out.

mod existing;
mod sheet;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

pub use self::existing::Registry;
use crate::checkout::root;
use crate::cluster::{Cluster, Options};
use crate::images;
use crate::progress::Progress;
use crate::tools::{Part, Tools};

/// The cluster that it starts, unless it is told another name.
pub const CLUSTER: &str = "fw-demo";
const SYSTEM: &str = "framewright-system";
const NAMESPACE: &str = "demo";
const VIDEO: &str = "demo-larger.mp4";
const POSTER: &str = "demo-poster.png";
/// Of each pod, why it waits: the scheduler's words, and the kubelet's.
const WAITING: &str = r#"jsonpath={range .items[*]}{.metadata.name}: {.status.phase} {.status.conditions[?(@.reason=="Unschedulable")].message} {.status.containerStatuses[*].state.waiting.message}; {end}"#;

/// Where the demo runs.
#[derive(Debug, Clone)]
pub enum Place {
    /// On a cluster that it starts itself, under this name.
    Own { cluster: String },
    /// On the cluster of the current kubeconfig context, with images pushed to this registry.
    Existing { registry: Registry },
}

/// Programs as kubectl and helm are started on the chosen cluster.
struct Hands {
    kubectl: PathBuf,
    helm: PathBuf,
    dist: PathBuf,
    kubeconfig: Option<PathBuf>,
    checkout: PathBuf,
}

/// Runs the demo with the programs in `dist`; results go to `output`.
///
/// # Errors
/// What did not work, in the words of the program that says so.
pub async fn run(place: Place, dist: &Path, output: &Path) -> Result<()> {
    let progress = Progress::new("demo");
    let parts: &[Part] = match place {
        Place::Own { .. } => &[Part::Node, Part::Images, Part::Helm],
        Place::Existing { .. } => &[Part::Images, Part::Helm],
    };
    let tools = Tools::install(parts).await?;
    let mut hands = Hands {
        kubectl: match place {
            Place::Own { .. } => tools.path("kubectl")?.to_owned(),
            Place::Existing { .. } => "kubectl".into(),
        },
        helm: tools.path("helm")?.to_owned(),
        dist: dist.to_owned(),
        kubeconfig: None,
        checkout: root()?,
    };
    let chosen = match &place {
        Place::Own { cluster } => {
            let built = images::build(dist, &images::CPU).await?;
            let archives = built.iter().map(|image| image.archive.clone()).collect();
            let cluster = Cluster::start(
                cluster,
                Options {
                    images: archives,
                    kept: true,
                    ..Options::default()
                },
            )
            .await?;
            hands.kubeconfig = Some(cluster.kubeconfig());
            vec![
                "image.tag=dev".to_owned(),
                "image.pullPolicy=Never".to_owned(),
                "store.persistence.size=5Gi".to_owned(),
            ]
        }
        Place::Existing { registry } => {
            existing::examine(&hands, registry, &progress).await?;
            let built = images::build(dist, &images::CPU).await?;
            existing::push(&built, registry, &progress).await?
        }
    };
    hands.install(&chosen).await?;
    progress.say("the chart is installed");
    hands.work(output, &progress).await?;
    let sheet = sheet::draw(
        &dist.join("ffmpeg"),
        &hands.checkout.join("manifests/examples/clip.mp4"),
        &output.join(VIDEO),
        "framewright-x2 twice",
        output,
    )
    .await?;
    tell(&hands, output, &sheet);
    Ok(())
}

impl Hands {
    async fn install(&self, settings: &[String]) -> Result<()> {
        let mut helm = self.helm(settings);
        helm.args(["--wait", "--timeout", "5m"]);
        let installed = quietly(helm).await;
        if let Err(error) = installed {
            let mut why = self.program(&self.kubectl);
            why.args(["get", "pods", "--namespace", SYSTEM, "--output", WAITING]);
            let why = why.output().await.map(|output| output.stdout);
            let why = String::from_utf8_lossy(&why.unwrap_or_default()).into_owned();
            return Err(error.context(format!(
                "the chart's pods did not become ready: {}",
                why.trim()
            )));
        }
        Ok(())
    }

    /// Installs or upgrades the chart with these settings; more arguments may follow.
    fn helm(&self, settings: &[String]) -> Command {
        let mut helm = self.program(&self.helm);
        helm.args(["upgrade", "--install", "framewright"])
            .arg(self.checkout.join("charts/framewright"))
            .args(["--namespace", SYSTEM, "--create-namespace"])
            .args(existing::MARK);
        for setting in settings {
            helm.args(["--set", setting]);
        }
        helm
    }

    /// Pool, weights, job: what a user does.
    async fn work(&self, output: &Path, progress: &Progress) -> Result<()> {
        let kubectl = || self.program(&self.kubectl);
        let plugin = || self.program(&self.dist.join("kubectl-framewright"));
        let examples = self.checkout.join("manifests/examples");
        // What the label is on is the demo's own, from this run or one before.
        let mut make = kubectl();
        make.args(["create", "namespace", NAMESPACE]);
        if quietly(make).await.is_ok() {
            let mut mark = kubectl();
            mark.args(["label", "namespace", NAMESPACE, existing::LABEL]);
            quietly(mark).await?;
        }
        let mut apply = kubectl();
        apply
            .args(["apply", "--namespace", NAMESPACE, "--filename"])
            .arg(examples.join("pool-cpu.yaml"));
        quietly(apply).await?;
        let mut delete = kubectl();
        delete.args([
            "delete",
            "aijob",
            "demo",
            "--namespace",
            NAMESPACE,
            "--ignore-not-found",
        ]);
        quietly(delete).await?;
        let mut upload = plugin();
        upload.args(["upload", "--namespace", NAMESPACE, "modelpool/upscale-cpu"]);
        upload.arg(
            self.checkout
                .join("models/framewright-x2/framewright-x2.safetensors"),
        );
        shown(upload).await?;
        progress.say("the pool has its weights; now the job, as a user submits it:");
        eprintln!(
            "\n$ kubectl framewright submit manifests/examples/demo.yaml --namespace {NAMESPACE}"
        );
        clear(output)?;
        let mut submit = plugin();
        submit
            .args(["submit", "--namespace", NAMESPACE, "--output"])
            .arg(output)
            .arg(examples.join("demo.yaml"));
        shown(submit).await
    }

    fn program(&self, path: &Path) -> Command {
        let mut command = Command::new(path);
        if let Some(kubeconfig) = &self.kubeconfig {
            command.env("KUBECONFIG", kubeconfig);
        }
        command.stdin(Stdio::null());
        command
    }
}

/// Makes the folder, without the results of an earlier demo, which `submit` would not replace.
fn clear(output: &Path) -> Result<()> {
    std::fs::create_dir_all(output).with_context(|| format!("make {}", output.display()))?;
    for result in [VIDEO, POSTER] {
        let path = output.join(result);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("remove {}", path.display()));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Lets the person see what the program says.
async fn shown(mut command: Command) -> Result<()> {
    let status = command
        .status()
        .await
        .with_context(|| format!("start {:?}", command.as_std().get_program()))?;
    if !status.success() {
        bail!(
            "{:?} ended with {status}; its own words are above",
            command.as_std().get_program()
        );
    }
    Ok(())
}

/// Shows what the program says only if it fails.
async fn quietly(mut command: Command) -> Result<()> {
    let output = command
        .output()
        .await
        .with_context(|| format!("start {:?}", command.as_std().get_program()))?;
    if !output.status.success() {
        bail!(
            "{:?}: {}",
            command.as_std().get_program(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

fn tell(hands: &Hands, output: &Path, sheet: &Path) {
    eprintln!("\nThe video:         {}", output.join(VIDEO).display());
    eprintln!("The poster:        {}", output.join(POSTER).display());
    eprintln!(
        "To compare by eye: {} (source, bicubic, result, and a crop of each)",
        sheet.display()
    );
    if let Some(kubeconfig) = &hands.kubeconfig {
        eprintln!(
            "\nThe cluster goes on until `make down`. Paste this, and kubectl talks to it:\n"
        );
        eprintln!("export KUBECONFIG={}", kubeconfig.display());
        let folders: Vec<String> = hands
            .kubectl
            .parent()
            .into_iter()
            .chain([hands.dist.as_path()])
            .map(|folder| folder.display().to_string())
            .collect();
        // Behind what is there: the ffmpeg of the images can do little else.
        eprintln!("export PATH=\"$PATH:{}\"", folders.join(":"));
    } else {
        eprintln!(
            "\nTo remove all of it from the cluster again:\n\n{}",
            existing::removal(&hands.helm, NAMESPACE)
        );
    }
    eprintln!(
        "\nThen: kubectl get aijobs -n {NAMESPACE} -w    kubectl describe aijob demo -n {NAMESPACE}    kubectl explain aijob.spec.steps"
    );
}
