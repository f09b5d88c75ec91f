//! A file that nobody can work on ends its own job, once, and nothing else.

use std::fs;

use anyhow::{Context, Result, ensure};
use framewright_crds::conditions::{self, job, job_reason};

use crate::fleet::{KSTATUS, condition, restarts, steps, true_conditions, uid, with_fleet};
use crate::installation::root;

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_fails_its_job_once_with_a_sentence_and_the_worker_goes_on() -> Result<()> {
    with_fleet("bad-files", async |fleet| {
        fleet.ready_pool(1).await?;
        let worker = uid(&fleet.only_pod().await?)?;
        let clip = fs::read(root().join("manifests/examples/clip.mp4"))?;
        let half = clip.get(..clip.len() / 2).context("the clip is empty")?;
        let bad: [(&str, &[u8]); 3] = [
            ("text", b"I am a text, whatever I am called.\n"),
            ("truncated", half),
            ("empty", b""),
        ];
        for (name, bytes) in bad {
            let file = format!("{name}.mp4");
            fs::write(fleet.file(&file), bytes)?;
            fleet.submit(name, &file, "").await?;
        }
        fs::write(fleet.file("enormous.png"), ENORMOUS)?;
        fleet.submit_steps("enormous", IMAGE, "").await?;
        for name in bad.map(|(name, _)| name).into_iter().chain(["enormous"]) {
            let failed = fleet.finished(name).await?;
            for type_ in [job::SUCCEEDED, job::FINISHED] {
                let condition = condition(&failed, type_).context(type_)?;
                ensure!(
                    condition.reason == job_reason::INVALID_INPUT,
                    "{name}: {type_} is {}: {}",
                    condition.reason,
                    condition.message
                );
                // One sentence, once.
                let is_sentence = condition.message.split_whitespace().count() >= 5;
                ensure!(
                    is_sentence == (type_ == job::SUCCEEDED)
                        && is_sentence != condition.message.is_empty(),
                    "{name}: {type_} says {:?}",
                    condition.message
                );
                if is_sentence {
                    println!("{name}: {}", condition.message);
                }
            }
            ensure!(true_conditions(&failed, &KSTATUS) == [conditions::STALLED]);
            let attempts = steps(&failed).first().map(|step| step.attempts_made);
            ensure!(attempts == Some(1), "{name}: {attempts:?} attempts");
        }

        fleet.clip("good.mp4", 1).await?;
        fleet.submit_steps("good", GOOD, "").await?;
        fleet.succeeded("good").await?;
        let pod = fleet.only_pod().await?;
        ensure!(uid(&pod)? == worker, "the worker was replaced");
        ensure!(restarts(&pod) == 0, "the worker was restarted");
        Ok(())
    })
    .await
}

/// The header of a PNG of 60,000 by 60,000 pixels, which would take 10 GB.
const ENORMOUS: &[u8] = b"\x89PNG\x0d\x0a\x1a\x0a\x00\x00\x00\x0dIHDR\x00\x00\xea`\x00\x00\xea`\x08\x02\x00\x00\x00\x0f\xb0\xe2\x15";

const IMAGE: &str = r"
  - {name: large, model: framewright-x2, upscale: {}, inputs: [{name: image, upload: {file: enormous.png}}]}
";

const GOOD: &str = r"
  - {name: large, model: framewright-x2, upscale: {frames: 2}, inputs: [{name: video, upload: {file: good.mp4}}]}
";
