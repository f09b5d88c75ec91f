//! What a worker's message changes: the fleet's knowledge, and who is to look at it.

use framewright_crds::names::TaskId;
use framewright_crds::wire::{TaskState, ToOperator};

use super::identity::Identity;
use crate::context::Context;

/// Takes in one message. Everything may come twice.
pub fn take_in(context: &Context, from: &Identity, message: ToOperator) {
    let (fleet, uid, now) = (&context.fleet, &from.worker.uid, context.now());
    match message {
        // Only the first message of a stream is a Hello.
        ToOperator::Hello { .. } => {}
        ToOperator::Model {
            name,
            digest,
            state,
        } => {
            fleet.model(uid, &name, &digest, state);
            wake_pool(context, from);
        }
        ToOperator::Started { task } => {
            wake_job(context, from, &task, fleet.started(uid, &task, now))
        }
        ToOperator::Progress { task, progress } => {
            let job = fleet.moved(uid, &task, TaskState::Running { progress }, now);
            wake_job(context, from, &task, job);
        }
        ToOperator::UploadRequest { task, output } => {
            let job = fleet.moved(uid, &task, TaskState::Uploading { output }, now);
            wake_job(context, from, &task, job);
        }
        ToOperator::Finished { task, outcome } => {
            let job = fleet.moved(uid, &task, TaskState::Finished { outcome }, now);
            wake_job(context, from, &task, job);
            // The worker has room again, and a next step may be ready.
            context.wake.scheduler.notify_one();
        }
        ToOperator::RenewGrants { task: Some(task) } => {
            let job = fleet.wants_grants(uid, &task);
            wake_job(context, from, &task, job);
        }
        ToOperator::StoreTrouble { task, trouble } => {
            let job = fleet.store_trouble(uid, &task, trouble);
            wake_job(context, from, &task, job);
        }
        ToOperator::RenewGrants { task: None } => {
            fleet.unwelcome(uid);
            wake_pool(context, from);
        }
        ToOperator::Draining => {
            fleet.ending(uid);
            wake_pool(context, from);
        }
    }
}

/// A pool and the scheduler look at what changed with a worker.
pub fn wake_pool(context: &Context, from: &Identity) {
    context.wake.pool(&from.pool.namespace, &from.pool.name);
    context.wake.scheduler.notify_one();
}

fn wake_job(context: &Context, from: &Identity, task: &TaskId, job: Option<String>) {
    match job.as_deref().and_then(|job| job.split_once('/')) {
        Some((namespace, name)) => context.wake.job(namespace, name),
        // It was told to forget this task; what it says of it is of no interest.
        None => {
            tracing::debug!(worker = %from.worker.name, %task, "a message about a task that is not held")
        }
    }
}
