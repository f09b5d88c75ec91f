//! A job is done, and its results are what the status says.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use framewright_crds::aijob::StepState;
use serde_json::Value;

use crate::fleet::{digest_of, steps, with_fleet};
use crate::installation::{self, measured, probed, root};

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
            let digest = digest_of(&file)?;
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
        let source = root().join("manifests/examples/clip.mp4");
        plays_as_it_did(&source, &fleet.file("demo-larger.mp4")).await?;
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

/// The result is an MP4 that every player knows, with its index first, at the source's pace and with its sound.
async fn plays_as_it_did(source: &Path, result: &Path) -> Result<()> {
    let (before, after) = (probed(source).await?, probed(result).await?);
    let [picture, sound] =
        [0, 1].map(|stream| (&before["streams"][stream], &after["streams"][stream]));
    let wanted = [
        ("codec_name", "h264"),
        ("pix_fmt", "yuv420p"),
        ("color_range", "tv"),
        ("color_space", "bt709"),
        ("color_transfer", "bt709"),
        ("color_primaries", "bt709"),
    ];
    for (field, value) in wanted {
        ensure!(picture.1[field] == value, "{field} is {}", picture.1[field]);
    }
    let kept = ["r_frame_rate", "avg_frame_rate", "nb_read_frames"].map(|field| (picture, field));
    let kept_sound = ["codec_name", "sample_rate", "channels"].map(|field| (sound, field));
    for ((before, after), field) in kept.into_iter().chain(kept_sound) {
        ensure!(
            !before[field].is_null() && before[field] == after[field],
            "{field} was {} and is {}",
            before[field],
            after[field]
        );
    }
    let seconds = |stream: &Value| -> Result<f64> {
        let text = stream["duration"].as_str().context("no duration")?;
        Ok(text.parse()?)
    };
    for (before, after) in [picture, sound] {
        let (before, after) = (seconds(before)?, seconds(after)?);
        ensure!((before - after).abs() < 0.05, "{before} s became {after} s");
    }
    let packets = installation::sound(source).await?;
    ensure!(packets.len() > 50 && packets == installation::sound(result).await?);
    let boxes = boxes(&fs::read(result)?)?;
    let place = |name: &str| {
        boxes
            .iter()
            .position(|other| other == name)
            .context(name.to_owned())
    };
    ensure!(
        place("moov")? < place("mdat")?,
        "the file is made of {boxes:?}"
    );
    Ok(())
}

/// The names of an MP4's parts, in their order.
fn boxes(bytes: &[u8]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (head, _) = rest.split_at_checked(8).context("the MP4 is cut off")?;
        let (size, name) = head.split_at(4);
        names.push(String::from_utf8_lossy(name).into_owned());
        let size = usize::try_from(u32::from_be_bytes(size.try_into()?))?;
        ensure!(size >= 8, "{names:?} has {size} bytes");
        rest = rest.get(size..).context("the MP4 is cut off")?;
    }
    Ok(names)
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
