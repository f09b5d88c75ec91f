//! Tiny images of one program each, packed once for each version of the program.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{COREDNS, PAUSE, archive};
use crate::tools::{Tools, cache};

/// The image that keeps pods open.
pub(crate) async fn pause(tools: &Tools) -> Result<PathBuf> {
    program(tools.path("pause")?, PAUSE).await
}

pub(crate) async fn coredns(tools: &Tools) -> Result<PathBuf> {
    program(tools.path("coredns")?, COREDNS).await
}

/// An image that holds one statically linked program and runs it. Its archive is kept in the
/// user's cache, under the name of the folder that the program comes from.
///
/// # Errors
/// If the program cannot be read or the cache not be written.
pub async fn program(program: &Path, image: &str) -> Result<PathBuf> {
    let name = program.file_name().context("the program has no name")?;
    let version = program
        .parent()
        .and_then(Path::file_name)
        .context("the program lies in no folder")?;
    let folder = cache()?.join("images");
    let archive = folder.join(format!("{}-of-{}.tar", name.display(), version.display()));
    if archive.exists() {
        return Ok(archive);
    }
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let root = tempfile::tempdir().context("make a folder for the image")?;
    fs::copy(program, root.path().join(name))
        .with_context(|| format!("copy {}", program.display()))?;
    let partial = tempfile::Builder::new()
        .prefix(".partial-")
        .tempfile_in(&folder)
        .context("make the archive")?;
    archive::pack(
        root.path(),
        image,
        &format!("/{}", name.display()),
        partial.path(),
    )
    .await?;
    partial
        .persist(&archive)
        .with_context(|| format!("write {}", archive.display()))?;
    Ok(archive)
}
