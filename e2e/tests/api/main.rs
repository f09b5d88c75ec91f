//! What the API server makes of our CRDs, examples and chart, and of the operator's Secrets. No controller runs, no pod starts.

mod chart;
mod jobs;
mod keys;
mod limits;
mod pools;
#[path = "../../../crds/tests/twelve_pipelines/mod.rs"]
mod twelve_pipelines;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use framewright_e2e::tools::{Part, Tools};
use framewright_e2e::{Cluster, Mode, Options};
use tokio::sync::OnceCell;

/// One for all tests here; it ends with their process.
static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();

pub(crate) async fn cluster() -> Result<&'static Cluster> {
    CLUSTER
        .get_or_try_init(|| async {
            let options = Options {
                mode: Mode::ControlPlane,
                ..Options::default()
            };
            let cluster = Cluster::start("fw-api", options).await?;
            cluster
                .kubectl(&["apply", "--server-side", "-f", &path("crds/yaml")])
                .await
                .context("the API server refuses our CRDs")?;
            let names = [
                "crd/aijobs.framewright.dev",
                "crd/modelpools.framewright.dev",
            ];
            let wait = ["wait", "--for=condition=Established", "--timeout=60s"];
            cluster.kubectl(&[&wait[..], &names[..]].concat()).await?;
            Ok(cluster)
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_is_accepted() -> Result<()> {
    let cluster = cluster().await?;
    let mut count = 0;
    for entry in fs::read_dir(root().join("manifests/examples"))? {
        let file = entry?.path();
        if file.extension().is_none_or(|end| end != "yaml") {
            continue;
        }
        let shown = file.display().to_string();
        cluster
            .kubectl(&["apply", "--validate=strict", "-f", &shown])
            .await
            .with_context(|| shown.clone())?;
        count += 1;
    }
    ensure!(count >= 7, "there were only {count} examples");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manifest_without_helm_is_accepted() -> Result<()> {
    let file = path("manifests/install.yaml");
    let apply = ["apply", "--server-side", "--validate=strict", "-f", &file];
    cluster().await?.kubectl(&apply).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_derived_from_other_files_is_up_to_date() -> Result<()> {
    let tools = Tools::install(&[Part::Helm]).await?;
    let checked = Command::new(root().join("manifests/generate.sh"))
        .arg("--check")
        .env("HELM", tools.path("helm")?)
        .output()
        .context("run manifests/generate.sh")?;
    let said = [checked.stdout, checked.stderr].concat();
    ensure!(
        checked.status.success(),
        "{}",
        String::from_utf8_lossy(&said)
    );
    Ok(())
}

/// What was said instead of doing it.
pub(crate) fn refusal(answer: Result<String>) -> Result<String> {
    match answer {
        Ok(done) => anyhow::bail!("it was done: {done}"),
        Err(said) => Ok(format!("{said:#}")),
    }
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub(crate) fn path(inside: &str) -> String {
    root().join(inside).display().to_string()
}
