//! Writes a job's status, if it changed, on top of the version that the plan was made from and no other.

use framewright_crds::AIJob;
use framewright_crds::aijob::{AIJobStatus, StepState};

use crate::context::Context;
use crate::status::Writer;
use crate::writes::Error;
use framewright_core::jobs::plan::{Plan, is_finished};
use framewright_core::jobs::seen::Observed;

/// Whether something was written.
///
/// # Errors
/// [`Error`]
pub async fn report(
    context: &Context,
    job: &AIJob,
    seen: &Observed,
    plan: &Plan,
) -> Result<bool, Error> {
    if job.status.as_ref() == Some(&plan.status) {
        return Ok(false);
    }
    let writer = Writer {
        client: &context.client,
        leadership: &context.leadership,
        recent: &context.recent_jobs,
    };
    let wanted = AIJob {
        status: Some(plan.status.clone()),
        ..job.clone()
    };
    if writer.write(wanted).await?.is_none() {
        return Ok(false);
    }
    context.placements.written(&seen.uid, &plan.status);
    context.metrics.job_written(&seen.status, &plan.status);
    log(seen, &plan.status);
    context.wake.scheduler.notify_one();
    Ok(true)
}

/// A job's story in a handful of lines: bound and retried steps are told by the notes, the end here.
fn log(seen: &Observed, status: &AIJobStatus) {
    let job = format!("{}/{}", seen.namespace, seen.name);
    for step in &status.steps {
        let before = seen.status.steps.iter().find(|old| old.name == step.name);
        if before.map(|old| (old.state, old.attempts_made))
            == Some((step.state, step.attempts_made))
        {
            continue;
        }
        match step.state {
            StepState::Blocked => {}
            StepState::Queued
            | StepState::Starting
            | StepState::Running
            | StepState::Succeeded
            | StepState::Failed
            | StepState::Skipped => {
                let worker = step
                    .attempts
                    .last()
                    .map_or("", |attempt| attempt.worker.as_str());
                tracing::info!(%job, step = %step.name, state = ?step.state, attempt = step.attempts_made, worker, message = step.message.as_deref().unwrap_or(""), "step");
            }
        }
    }
    if is_finished(status) && !is_finished(&seen.status) {
        let reason = framewright_crds::conditions::get(
            &status.conditions,
            framewright_crds::conditions::job::SUCCEEDED,
        )
        .map_or("", |condition| condition.reason.as_str());
        tracing::info!(%job, reason, "job finished");
    }
}
