//! GPUs where there are none: a device plugin whose devices do nothing.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::Api;

use super::anchor::Anchor;
use super::components::NODE;
use super::folder::Folder;
use crate::eventually;
use crate::tools::{Part, Tools};

const RESOURCE: &str = "nvidia.com/gpu";
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts the plugin again, and waits until the node offers so many.
pub(crate) async fn offer(
    folder: &Folder,
    anchor: Anchor,
    client: &kube::Client,
    count: u32,
) -> Result<()> {
    let tools = Tools::install(&[Part::Gpus]).await?;
    anchor.kill_program("gpus")?;
    let count = count.to_string();
    let arguments = [count.clone()];
    anchor
        .spawn(tools.path("gpus")?, &arguments, &folder.log("gpus"))
        .await
        .context("start the device plugin")?;
    let nodes = Api::<Node>::all(client.clone());
    eventually(PATIENCE, "the node offers the GPUs", async || {
        let status = nodes.get(NODE).await?.status.unwrap_or_default();
        let offered = status.allocatable.unwrap_or_default().remove(RESOURCE);
        let offered = offered.map(|quantity| quantity.0);
        ensure!(offered.as_ref() == Some(&count), "it offers {offered:?}");
        Ok(())
    })
    .await
}
