//! An image of one layer as an OCI archive, packed from a folder.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::command::output;

const PATIENCE: Duration = Duration::from_secs(60);

/// Packs what lies in `root` as the image `name`, which runs `entrypoint`.
pub(crate) async fn pack(root: &Path, name: &str, entrypoint: &str, archive: &Path) -> Result<()> {
    let layout = tempfile::tempdir().context("make a folder for the image")?;
    let blobs = layout.path().join("blobs/sha256");
    fs::create_dir_all(&blobs).with_context(|| format!("create {}", blobs.display()))?;
    let layer_path = layout.path().join("layer");
    tar(root, &layer_path).await?;
    let layer = fs::read(&layer_path).context("read the layer")?;
    fs::remove_file(&layer_path).context("move the layer")?;
    let layer = blob(&blobs, "application/vnd.oci.image.layer.v1.tar", &layer)?;
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {"Entrypoint": [entrypoint]},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    });
    let config = blob(
        &blobs,
        "application/vnd.oci.image.config.v1+json",
        config.to_string().as_bytes(),
    )?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": [layer],
    });
    let mut manifest = blob(
        &blobs,
        "application/vnd.oci.image.manifest.v1+json",
        manifest.to_string().as_bytes(),
    )?;
    manifest["annotations"] = json!({"io.containerd.image.name": name});
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(layout.path().join("index.json"), index.to_string()).context("write the index")?;
    fs::write(
        layout.path().join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .context("write the layout")?;
    tar(layout.path(), archive).await
}

/// Writes a blob under its digest; gives its descriptor.
fn blob(blobs: &Path, media_type: &str, bytes: &[u8]) -> Result<Value> {
    let digest = hex::encode(digest(&SHA256, bytes));
    fs::write(blobs.join(&digest), bytes).with_context(|| format!("write blob {digest}"))?;
    Ok(json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len()}))
}

async fn tar(folder: &Path, into: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args([
        "--sort=name",
        "--mtime=@0",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "--create",
        "--file",
    ]);
    output(
        tar.arg(into).arg("--directory").arg(folder).arg("."),
        PATIENCE,
    )
    .await
    .map(drop)
}

/// In the words of OCI.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
