//! Where the programs lie that a cluster is made of; what is missing is installed first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use crate::checkout::root;

/// What is needed for what; a node includes a control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// etcd, kube-apiserver, kubectl.
    ControlPlane,
    /// The same, and kube-controller-manager.
    Controllers,
    /// The rest of Kubernetes, containerd, CoreDNS.
    Node,
    /// buildah and mmdebstrap.
    Images,
    /// A small ffmpeg and ffprobe, the ones of the worker's image.
    Ffmpeg,
    /// helm.
    Helm,
    /// A device plugin without devices.
    Gpus,
}

/// Programs by name.
#[derive(Debug, Clone)]
pub struct Tools {
    paths: BTreeMap<String, PathBuf>,
}

impl Tools {
    /// Finds the programs of the parts. Builds what this user has not built yet, which can take
    /// 15 minutes once, and says so on stderr.
    ///
    /// # Errors
    /// What could not be installed, and the way out.
    pub async fn install(parts: &[Part]) -> Result<Tools> {
        let script = root()?.join("e2e/tools/install.sh");
        let output = Command::new(&script)
            .args(parts.iter().map(|part| part.name()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .with_context(|| format!("start {}", script.display()))?
            // Not output(), which would keep what the person is to see.
            .wait_with_output()
            .await
            .with_context(|| format!("wait for {}", script.display()))?;
        if !output.status.success() {
            bail!(
                "{} ended with {}; the reason is above",
                script.display(),
                output.status
            );
        }
        let lines =
            String::from_utf8(output.stdout).context("the installer's answer is not text")?;
        let paths = lines
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, path)| (name.to_owned(), path.into()));
        Ok(Tools {
            paths: paths.collect(),
        })
    }

    /// The path of a program.
    ///
    /// # Errors
    /// If it belongs to a part that was not asked for.
    pub fn path(&self, name: &str) -> Result<&Path> {
        self.paths
            .get(name)
            .map(PathBuf::as_path)
            .with_context(|| format!("{name} was not installed for this"))
    }
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Part::ControlPlane => "control-plane",
            Part::Controllers => "controllers",
            Part::Node => "node",
            Part::Images => "images",
            Part::Ffmpeg => "ffmpeg",
            Part::Helm => "helm",
            Part::Gpus => "gpus",
        }
    }
}

/// Where what is built once is kept: `$XDG_CACHE_HOME/framewright`, else `~/.cache/framewright`.
///
/// # Errors
/// If neither `XDG_CACHE_HOME` nor `HOME` is set.
pub fn cache() -> Result<PathBuf> {
    user_folder("XDG_CACHE_HOME", ".cache")
}

pub(crate) fn user_folder(variable: &str, otherwise: &str) -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os(variable).filter(|folder| !folder.is_empty()) {
        return Ok(PathBuf::from(folder).join("framewright"));
    }
    let home =
        std::env::var_os("HOME").with_context(|| format!("neither {variable} nor HOME is set"))?;
    Ok(PathBuf::from(home).join(otherwise).join("framewright"))
}
