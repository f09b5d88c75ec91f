//! What a person does with `kubectl framewright` after the submit: follow, list, get, cancel; and with a finished job: new links, its
//! end.

use std::fs;

use anyhow::{Context, Result, ensure};
use framewright_e2e::eventually;

use crate::fleet::{PATIENCE, with_fleet};
use crate::installation::measured;

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_followed_listed_fetched_and_cancelled_and_a_done_one_leaves_in_time() -> Result<()>
{
    with_fleet("plugin", async |fleet| {
        fleet.ready_pool(1).await?;
        fleet.clip("clip.mp4", 1).await?;
        fleet.clip("long.mp4", 60).await?;
        fleet.submit("job", "clip.mp4", "").await?;
        let story = fleet.plugin(&["follow", "job"]).await?;
        ensure!(story.contains("large") && story.contains("done"), "{story}");
        fleet.submit("long", "long.mp4", "").await?;
        fleet.running("long").await?;

        let list = fleet.plugin(&["get"]).await?;
        let row = |name: &str| list.lines().find(|line| line.starts_with(name));
        ensure!(
            row("job").is_some_and(|row| row.contains("Succeeded")),
            "{list}"
        );
        ensure!(
            row("long").is_some_and(|row| row.contains("Running")),
            "{list}"
        );
        let early = fleet.plugin(&["get", "long"]).await;
        let early = early.err().map(|error| format!("{error:#}"));
        let early = early.context("results of a job that runs")?;
        ensure!(early.contains("has not finished"), "{early}");

        let results = fleet.file("results");
        let output = ["get", "job", "--output", &results.display().to_string()];
        fleet.plugin(&output).await?;
        ensure!(measured(&results.join("job-large.mp4")).await? == (384, 216, 48));

        let unasked = fleet.plugin(&["cancel", "long"]).await;
        ensure!(unasked.is_err(), "cancelled without a yes: {unasked:?}");
        fleet.jobs.get("long").await?;
        fleet.plugin(&["cancel", "long", "--yes"]).await?;
        ensure!(fleet.jobs.get_opt("long").await?.is_none());

        let two = fleet.file("two.yaml");
        fs::write(&two, TWO)?;
        let wrong = fleet.plugin(&["submit", &two.display().to_string()]).await;
        let wrong = wrong.err().map(|error| format!("{error:#}"));
        let wrong = wrong.context("a job with a field that is not there")?;
        ensure!(
            wrong.contains("second") && wrong.contains("scal"),
            "{wrong}"
        );
        let first = fleet.jobs.get_opt("first").await?;
        ensure!(
            first.is_none(),
            "the first of two was made, though the second is wrong"
        );

        let link = async || -> Result<String> {
            let status = fleet.jobs.get("job").await?.status.unwrap_or_default();
            let output = status.outputs.into_iter().next().context("no result")?;
            output.link.context("no link")
        };
        let first = link().await?;
        let renew = ["annotate", "aijob/job", "framewright.dev/renew-links=again"];
        // Links count whole seconds.
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        fleet.kubectl(&renew).await?;
        eventually(PATIENCE, "the result has a new link", async || {
            ensure!(link().await? != first, "it is the old one");
            Ok::<_, anyhow::Error>(())
        })
        .await?;

        let ttl = r#"{"spec": {"ttlSecondsAfterFinished": 60}}"#;
        fleet
            .kubectl(&["patch", "aijob/job", "--type=merge", "--patch", ttl])
            .await?;
        eventually(PATIENCE, "the done job has left", async || {
            let found = fleet.jobs.get_opt("job").await?;
            ensure!(found.is_none(), "it is there");
            Ok::<_, anyhow::Error>(())
        })
        .await
    })
    .await
}

/// The second one has a misspelt field.
const TWO: &str = r"
apiVersion: framewright.dev/v1alpha1
kind: AIJob
metadata: {name: first}
spec:
  steps: [{name: large, model: framewright-x2, upscale: {}, inputs: [{name: video, upload: {file: clip.mp4}}]}]
---
apiVersion: framewright.dev/v1alpha1
kind: AIJob
metadata: {name: second}
spec:
  steps: [{name: large, model: framewright-x2, upscale: {scal: 1}, inputs: [{name: video, upload: {file: clip.mp4}}]}]
";
