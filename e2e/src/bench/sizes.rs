//! What the images weigh as they travel: compressed.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::table::Table;
use crate::images;

pub(super) async fn measure(dist: &Path, table: &mut Table) -> Result<()> {
    let built = match images::build(dist).await {
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
        let bytes = fs::metadata(&image.archive)
            .with_context(|| image.archive.display().to_string())?
            .len();
        table.row(
            &format!("image {}, compressed", image.name),
            &format!("{bytes} bytes"),
            "",
            "",
            "",
        );
    }
    Ok(())
}
