//! What the images weigh as they travel: compressed.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use tokio::process::Command;

use super::table::Table;
use crate::command::output;
use crate::images;

const PATIENCE: Duration = Duration::from_secs(120);

pub(super) async fn measure(dist: &Path, table: &mut Table) -> Result<()> {
    let built = match images::build(dist, &images::CPU).await {
        Ok(built) => built,
        Err(error) => {
            table.row(
                "images, compressed",
                "not built",
                "",
                &format!("{error:#}"),
                "",
            );
            return Ok(());
        }
    };
    for image in built {
        let bytes: f64 = compressed(&image.archive).await?.trim().parse()?;
        table.row(
            &format!("image {}, as gzip packs it", image.name),
            &format!("{:.1} MB", bytes / 1e6),
            "",
            "",
            "",
        );
    }
    Ok(())
}

/// Bytes of an archive after gzip, as registries keep layers.
async fn compressed(archive: &Path) -> Result<String> {
    let mut command = Command::new("sh");
    command.args(["-c", "gzip --stdout \"$0\" | wc --bytes"]);
    output(command.arg(archive), PATIENCE).await
}
