//! What does not fit a worker: more memory or scratch space than it has.

use anyhow::{Context, Result, ensure};
use framewright_crds::AIJob;
use framewright_crds::aijob::Cause;
use framewright_crds::conditions::{job, job_reason};
use kube::ResourceExt;

use crate::fleet::{Fleet, condition, last_attempt, restarts, steps, with_fleet};
use crate::installation::{ffmpeg, root, said};
use crate::losses::{second_attempt, with_process};

#[tokio::test(flavor = "multi_thread")]
async fn a_small_worker_says_what_it_lacks_and_one_out_of_memory_is_relieved_by_another()
-> Result<()> {
    with_fleet("small", async |fleet| {
        fleet.ready_pool_within(2, "256Mi", "2Mi").await?;
        large_picture(fleet).await?;
        fleet.submit_steps("large", PICTURE, "").await?;
        let failed = fleet.finished("large").await?;
        let says = outcome(&failed, job_reason::INVALID_INPUT)?;
        println!("large: {says}");
        ensure!(
            says.contains("this worker may use 256 MiB")
                && says.contains("raise the pool's memory limit to")
        );

        fleet.clip("long.mp4", 20).await?;
        fleet
            .submit("long", "long.mp4", "  backoffLimit: 0\n")
            .await?;
        let failed = fleet.finished("long").await?;
        println!(
            "long: {}",
            outcome(&failed, job_reason::BACKOFF_LIMIT_EXCEEDED)?
        );
        let attempt = last_attempt(steps(&failed).first())?;
        ensure!(attempt.cause == Some(Cause::ScratchFull), "{attempt:?}");
        for pod in fleet.pods.list(&Default::default()).await?.items {
            ensure!(restarts(&pod) == 0, "{} was blamed", pod.name_any());
        }

        fleet.clip("clip.mp4", 5).await?;
        fleet.submit("job", "clip.mp4", "").await?;
        let first = fleet.running("job").await?;
        let mut hog = fleet.cluster.inside("bash");
        let script = with_process("framewright-wor", HOG);
        said(hog.args(["-c", &script, "hog", &first.worker.name])).await?;
        let done = fleet.succeeded("job").await?;
        second_attempt(&done, &first, Cause::OutOfMemory)
    })
    .await
}

/// Of few bytes and many pixels.
async fn large_picture(fleet: &Fleet<'_>) -> Result<()> {
    let clip = root().join("manifests/examples/clip.mp4");
    let (clip, target) = (clip.display().to_string(), fleet.file("large.png"));
    let plain = "scale=2:2,scale=4000:3000:flags=neighbor,format=rgb24";
    let picture = ["-i", &clip, "-frames:v", "1", "-vf", plain, "-c:v", "png"];
    let file = ["-f", "rawvideo", &target.display().to_string()];
    ffmpeg(&[&picture[..], &file].concat()).await
}

/// The sentence that the job ended with, for this reason.
fn outcome(job: &AIJob, reason: &str) -> Result<String> {
    let outcome = condition(job, job::SUCCEEDED).context("no condition Succeeded")?;
    let says = format!("{}: {}", outcome.reason, outcome.message);
    ensure!(outcome.reason == reason, "{says}");
    Ok(says)
}

const PICTURE: &str = r"
  - {name: large, model: framewright-x2, upscale: {}, inputs: [{name: image, upload: {file: large.png}}]}
";
/// Takes all the memory that the worker may have, inside of its cgroup, until the worker is gone: the
/// kernel ends containers before what runs outside of them.
const HOG: &str = r#"{
      group=$(sed -n 's|^[0-9]*:memory:|/sys/fs/cgroup/memory|p; s|^0::|/sys/fs/cgroup|p' "$process/cgroup" | head -n 1)
      (echo $BASHPID >"$group/cgroup.procs" && exec tail /dev/zero) &
      for _ in {1..300}; do
        [ -e "$process/exe" ] || break
        sleep 0.1
      done
      kill -KILL $!
      [ ! -e "$process/exe" ]
    }"#;
