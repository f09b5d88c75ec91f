//! What is killed in the middle of a step: a worker's work is done again elsewhere, an operator's is not done again.

use anyhow::{Context, Result, bail, ensure};
use framewright_crds::AIJob;
use framewright_crds::aijob::{Attempt, Cause};
use framewright_e2e::eventually;

use crate::fleet::{Fleet, PATIENCE, last_attempt, restarts, steps, uid, with_fleet};
use crate::installation::{SYSTEM, said};

#[tokio::test(flavor = "multi_thread")]
async fn a_step_whose_worker_pod_is_deleted_by_force_is_done_by_another() -> Result<()> {
    with_fleet("pod-lost", async |fleet| {
        let attempt = started(fleet, 2).await?;
        let delete = ["delete", "pod", "--force", "--grace-period=0"];
        fleet
            .kubectl(&[&delete[..], &[&attempt.worker.name]].concat())
            .await?;
        let job = fleet.succeeded("job").await?;
        second_attempt(&job, &attempt, Cause::WorkerDrained)?;
        let failures = steps(&job).first().map(|step| step.failures);
        ensure!(failures == Some(0), "it counts as {failures:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_whose_worker_process_is_killed_is_done_by_another() -> Result<()> {
    with_fleet("process-lost", async |fleet| {
        let attempt = started(fleet, 2).await?;
        let mut kill = fleet.cluster.inside("bash");
        let script = signal("KILL", "framewright-wor");
        said(kill.args(["-c", &script, "kill", &attempt.worker.name])).await?;
        let job = fleet.succeeded("job").await?;
        second_attempt(&job, &attempt, Cause::WorkerLost)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_goes_on_while_the_leading_operator_is_killed_and_is_not_done_again() -> Result<()> {
    with_fleet("leader-lost", async |fleet| {
        fleet.ready_pool(1).await?;
        fleet.clip("clip.mp4", 2).await?;
        fleet.submit_steps("job", TWO_STEPS, "").await?;
        let before = fleet.running("job").await?;
        let leader = leader(fleet).await?;
        let delete = ["--namespace", SYSTEM, "delete", "pod", "--force"];
        fleet
            .cluster
            .kubectl(&[&delete[..], &["--grace-period=0", &leader]].concat())
            .await?;
        let job = fleet.succeeded("job").await?;
        let attempts: Vec<i32> = steps(&job).iter().map(|step| step.attempts_made).collect();
        ensure!(attempts == [1, 1], "attempts: {attempts:?}");
        let after = last_attempt(steps(&job).first())?;
        ensure!(
            after.started_at == before.started_at,
            "it was started again"
        );
        let pod = fleet.only_pod().await?;
        ensure!(uid(&pod)? == before.worker.uid && restarts(&pod) == 0);
        eventually(PATIENCE, "another one leads", async || {
            let now = self::leader(fleet).await?;
            ensure!(now != leader, "{now} leads");
            Ok(())
        })
        .await
    })
    .await
}

/// A pool, and a job on it that computes.
async fn started(fleet: &Fleet<'_>, workers: u32) -> Result<Attempt> {
    fleet.ready_pool(workers).await?;
    fleet.clip("clip.mp4", 20).await?;
    fleet.submit("job", "clip.mp4", "").await?;
    fleet.running("job").await
}

/// The job was done by a second attempt, on another worker than the first.
pub(crate) fn second_attempt(job: &AIJob, lost: &Attempt, cause: Cause) -> Result<()> {
    let step = steps(job).first().context("no step")?;
    let [first, second] = &step.attempts[..] else {
        bail!("the attempts are {:?}", step.attempts)
    };
    ensure!(step.attempts_made == 2, "{} attempts", step.attempts_made);
    ensure!(first.worker.uid == lost.worker.uid);
    ensure!(first.cause == Some(cause), "{:?}", first.cause);
    println!("the first attempt: {:?}", first.message);
    ensure!(
        second.worker.uid != first.worker.uid,
        "it was done by the same worker"
    );
    Ok(())
}

pub(crate) async fn leader(fleet: &Fleet<'_>) -> Result<String> {
    let holder = fleet
        .cluster
        .kubectl(&[
            "--namespace",
            SYSTEM,
            "get",
            "lease",
            "framewright-operator",
            "--output=jsonpath={.spec.holderIdentity}",
        ])
        .await?;
    let (pod, _) = holder
        .split_once('_')
        .with_context(|| format!("the lease is held by {holder:?}"))?;
    Ok(pod.to_owned())
}

/// A script that sends a signal to the process of pod $1 whose program is called so, as far as the kernel remembers names.
pub(crate) fn signal(signal: &str, program: &str) -> String {
    with_process(program, &format!(r#"kill -{signal} "${{process#/proc/}}""#))
}

/// A script that finds such a process, and does something with its folder, $process.
pub(crate) fn with_process(program: &str, action: &str) -> String {
    FIND.replace("PROGRAM", program).replace("ACTION", action)
}

const FIND: &str = r#"
for process in /proc/[0-9]*; do
  if [[ $(cat "$process/comm" 2>/dev/null) == PROGRAM* ]] && tr '\0' '\n' 2>/dev/null <"$process/environ" | grep -qx "HOSTNAME=$1"; then
    ACTION && exit 0
  fi
done
echo "no PROGRAM of pod $1 did it" >&2
exit 1
"#;

const TWO_STEPS: &str = r"
  - {name: large, model: framewright-x2, upscale: {}, inputs: [{name: video, upload: {file: clip.mp4}}]}
  - {name: larger, model: framewright-x2, upscale: {frames: 2}, inputs: [{name: video, fromStep: {name: large}}]}
";
