//! A job is done, and its results are what the status says.

use std::fs;

use anyhow::{Context, Result, ensure};
use framewright_crds::aijob::StepState;

use crate::fleet::{sha256, steps, with_fleet};
use crate::installation::{measured, root};

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_gives_a_clip_four_times_as_large_and_a_poster_twice_as_large() -> Result<()> {
    with_fleet("demo", async |fleet| {
        fleet.ready_pool(2).await?;
        let demo = root()
            .join("manifests/examples/demo.yaml")
            .display()
            .to_string();
        let results = fleet.folder.path().display().to_string();
        fleet
            .plugin(&["submit", &demo, "--output", &results])
            .await?;

        let job = fleet.succeeded("demo").await?;
        let done: Vec<(&str, StepState, i32)> = steps(&job)
            .iter()
            .map(|step| (step.name.as_str(), step.state, step.attempts_made))
            .collect();
        ensure!(
            done == ["large", "larger", "poster"].map(|name| (name, StepState::Succeeded, 1)),
            "the steps are {done:?}"
        );
        let outputs = job.status.unwrap_or_default().outputs;
        ensure!(outputs.len() == 2, "there are {} results", outputs.len());
        for (name, file) in [("larger", "demo-larger.mp4"), ("poster", "demo-poster.png")] {
            let output = outputs
                .iter()
                .find(|output| output.name == name)
                .with_context(|| format!("there is no result {name}"))?;
            let file = fleet.file(file);
            let digest = format!("sha256:{}", sha256(&file)?);
            ensure!(
                digest == output.digest,
                "{name} has {digest}, the status {}",
                output.digest
            );
            ensure!(i64::try_from(fs::metadata(file)?.len())? == output.bytes);
        }
        let (width, height, frames) = measured(&fleet.file("demo-larger.mp4")).await?;
        ensure!(
            (width, height, frames) == (4 * 192, 4 * 108, 48),
            "the clip is {width} by {height}, {frames} frames"
        );
        let poster = root().join("manifests/examples/poster.png");
        let (width, height) = png_size(&fs::read(poster)?)?;
        let larger = png_size(&fs::read(fleet.file("demo-poster.png"))?)?;
        ensure!(
            larger == (2 * width, 2 * height),
            "the poster is {larger:?}"
        );
        Ok(())
    })
    .await
}

/// Width and height as they stand in the header of a PNG.
fn png_size(bytes: &[u8]) -> Result<(u32, u32)> {
    ensure!(bytes.starts_with(b"\x89PNG\r\n\x1a\n"), "this is no PNG");
    let number = |from: usize| -> Result<u32> {
        let digits = bytes.get(from..from + 4).context("the PNG is cut off")?;
        Ok(u32::from_be_bytes(digits.try_into()?))
    };
    Ok((number(16)?, number(20)?))
}
