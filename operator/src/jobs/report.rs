//! Writes a job's status, if it changed, on top of the version that the plan was made from and no other.

use std::time::Duration;

use framewright_crds::AIJob;
use framewright_crds::aijob::{AIJobStatus, StepState};
use kube::ResourceExt;
use kube::api::{Api, PostParams};

use super::plan::{Plan, is_finished};
use super::seen::Observed;
use crate::context::Context;

/// A write that takes longer is tried again.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// What could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot write the status")]
    Write(#[source] Box<kube::Error>),
    #[error("the API server did not take the status in {} s", WRITE_LIMIT.as_secs())]
    Late,
    #[error("this replica no longer leads")]
    NotLeading,
}

/// Whether something was written.
///
/// # Errors
/// [`Error`], a conflict included: somebody wrote in between, so the plan is made anew.
pub async fn report(
    context: &Context,
    job: &AIJob,
    seen: &Observed,
    plan: &Plan,
) -> Result<bool, Error> {
    if job.status.as_ref() == Some(&plan.status) {
        return Ok(false);
    }
    if context.leadership.epoch().is_none() {
        return Err(Error::NotLeading);
    }
    let namespace = job.namespace().unwrap_or_default();
    let jobs: Api<AIJob> = Api::namespaced(context.client.clone(), &namespace);
    let mut wanted = job.clone();
    wanted.metadata.managed_fields = None;
    wanted.status = Some(plan.status.clone());
    let name = job.name_any();
    let params = PostParams::default();
    let writing = jobs.replace_status(&name, &params, &wanted);
    let written = match tokio::time::timeout(WRITE_LIMIT, writing).await {
        Ok(Ok(written)) => written,
        Ok(Err(kube::Error::Api(status))) if status.is_not_found() => return Ok(false),
        Ok(Err(error)) => {
            // What is remembered may be what is wrong; what the cache shows may be older still. Orders wait for a live read.
            context.recent_jobs.forget(&seen.uid);
            return Err(Error::Write(Box::new(error)));
        }
        Err(_) => {
            // It may have been taken all the same.
            context.recent_jobs.forget(&seen.uid);
            return Err(Error::Late);
        }
    };
    context.recent_jobs.wrote(&written, context.now());
    context.placements.written(&seen.uid, &plan.status);
    context.metrics.job_written(&plan.status);
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
