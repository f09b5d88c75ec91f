//! The worker's networks on this CPU beside PyTorch's, where there is a PyTorch.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::checkout::root;
use crate::command::output;
use crate::progress::Progress;
use crate::tools::cache;

const PACKAGES: [&str; 3] = ["torch==2.15.0", "numpy", "safetensors"];
const PATIENCE: Duration = Duration::from_secs(1800);

/// Runs the comparison; gives its table, or why there is none and how to get it.
pub(super) async fn measure(is_wanted: bool, progress: &Progress) -> Result<String> {
    let Some(python) = python(is_wanted, progress).await? else {
        return Ok("The upscaler beside PyTorch: not measured, no python3 here has torch; make bench TORCH=1 installs it (some GB)".to_owned());
    };
    progress.say("the upscaler beside PyTorch, about 3 minutes");
    let script = root()?.join("worker/benches/upscale_beside_torch.py");
    let mut command = Command::new(python);
    let told = output(command.arg(script), PATIENCE).await?;
    Ok(format!("The upscaler beside PyTorch\n{}", told.trim_end()))
}

/// A Python that has what is needed: the one on the PATH, or one of our own.
async fn python(is_wanted: bool, progress: &Progress) -> Result<Option<PathBuf>> {
    let own = cache()?.join("torch");
    for candidate in [PathBuf::from("python3"), own.join("bin/python")] {
        if has_torch(&candidate).await {
            return Ok(Some(candidate));
        }
    }
    if !is_wanted {
        return Ok(None);
    }
    progress.say("installing PyTorch, once");
    let made = Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&own)
        .status()
        .await
        .context("start python3")?;
    ensure!(
        made.success(),
        "python3 cannot make a virtual environment in {}; Debian's package for it is python3-venv",
        own.display()
    );
    let mut pip = Command::new(own.join("bin/pip"));
    pip.args(["install", "--quiet"]).args(PACKAGES);
    output(&mut pip, PATIENCE)
        .await
        .context("install PyTorch")?;
    Ok(Some(own.join("bin/python")))
}

async fn has_torch(python: &Path) -> bool {
    let asked = Command::new(python)
        .args(["-c", "import numpy, safetensors, torch"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    asked.await.is_ok_and(|status| status.success())
}
