//! The default storage class of a test cluster: folders of the machine, offered as local volumes.
//!
//! Nothing provisions volumes here, so a fixed number lies ready, and one that was released is
//! emptied and offered again. Local volumes honour `fsGroup`, which host paths do not.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::PersistentVolume;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::json;

use super::components::NODE;
use super::folder::Folder;
use crate::eventually;

pub(crate) const CLASS: &str = "standard";
const VOLUMES: usize = 10;
const SIZE: &str = "5Gi";

/// The storage class, as a manifest.
pub(crate) fn class() -> String {
    json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    })
    .to_string()
}

/// Offers all volumes.
pub(crate) async fn offer_all(folder: &Folder, client: &kube::Client) -> Result<()> {
    for number in 0..VOLUMES {
        offer(folder, client, &format!("folder-{number}")).await?;
    }
    Ok(())
}

/// Empties the volumes whose claims are gone, and offers them again.
pub(crate) async fn offer_again(folder: &Folder, client: &kube::Client) -> Result<()> {
    let volumes = Api::<PersistentVolume>::all(client.clone());
    for volume in volumes
        .list(&ListParams::default())
        .await
        .context("list volumes")?
    {
        let phase = volume
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        let name = volume.metadata.name.clone().unwrap_or_default();
        if phase != Some("Released") || !name.starts_with("folder-") {
            continue;
        }
        volumes
            .delete(&name, &DeleteParams::default())
            .await
            .with_context(|| format!("delete volume {name}"))?;
        eventually(
            Duration::from_secs(10),
            "the released volume is gone",
            async || match volumes.get_opt(&name).await {
                Ok(None) => Ok(()),
                Ok(Some(_)) => Err("it is still there".to_owned()),
                Err(error) => Err(error.to_string()),
            },
        )
        .await?;
        offer(folder, client, &name).await?;
    }
    Ok(())
}

async fn offer(folder: &Folder, client: &kube::Client, name: &str) -> Result<()> {
    let path = folder.file("volumes").join(name);
    if path.exists() {
        fs::remove_dir_all(&path).with_context(|| format!("empty {}", path.display()))?;
    }
    fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
    let volume: PersistentVolume = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": SIZE},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": CLASS,
            "local": {"path": path},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{
                "matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE]}],
            }]}},
        },
    }))
    .context("write the volume")?;
    Api::<PersistentVolume>::all(client.clone())
        .create(&PostParams::default(), &volume)
        .await
        .map(drop)
        .with_context(|| format!("offer volume {name}"))
}
