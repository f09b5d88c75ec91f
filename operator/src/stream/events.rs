//! What a worker's message changes: the fleet's knowledge, and who is to look at it.

use framewright_crds::names::TaskId;
use framewright_crds::wire::{TaskState, ToOperator};

use jiff::Timestamp;

use super::fleet::Fleet;
use super::identity::Identity;
use crate::context::Context;
use framewright_core::workers::validate;

/// Who is to look at what a message changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Concerns {
    Nobody,
    /// The worker's pool.
    Pool,
    /// A job, by namespace/name, if the task is known.
    Task {
        task: TaskId,
        job: Option<String>,
    },
}

/// Takes in one message, and has those look whom it concerns.
pub fn take_in(context: &Context, from: &Identity, message: ToOperator) {
    match learn(&context.fleet, &from.worker.uid, message, context.now()) {
        Concerns::Nobody => {}
        Concerns::Pool => wake_pool(context, from),
        Concerns::Task { task, job } => wake_job(context, from, &task, job),
    }
}

/// What the fleet knows after one message. Everything may come twice.
pub fn learn(fleet: &Fleet, uid: &str, message: ToOperator, now: Timestamp) -> Concerns {
    let Some(message) = validate::message(message) else {
        return Concerns::Nobody;
    };
    let (task, job) = match message {
        // Only the first message of a stream is a Hello.
        ToOperator::Hello { .. } => return Concerns::Nobody,
        ToOperator::Model {
            name,
            digest,
            state,
        } => {
            fleet.model(uid, &name, &digest, state);
            return Concerns::Pool;
        }
        ToOperator::Started { task } => {
            let job = fleet.started(uid, &task, now);
            (task, job)
        }
        ToOperator::Progress { task, progress } => {
            let job = fleet.moved(uid, &task, TaskState::Running { progress }, now);
            (task, job)
        }
        ToOperator::UploadRequest { task, output } => {
            let job = fleet.moved(uid, &task, TaskState::Uploading { output }, now);
            (task, job)
        }
        ToOperator::Finished { task, outcome } => {
            let job = fleet.moved(uid, &task, TaskState::Finished { outcome }, now);
            (task, job)
        }
        ToOperator::RenewGrants { task: Some(task) } => {
            let job = fleet.wants_grants(uid, &task);
            (task, job)
        }
        ToOperator::StoreTrouble { task, trouble } => {
            let job = fleet.store_trouble(uid, &task, trouble);
            (task, job)
        }
        ToOperator::RenewGrants { task: None } => {
            fleet.unwelcome(uid);
            return Concerns::Pool;
        }
        ToOperator::Draining => {
            fleet.ending(uid);
            return Concerns::Pool;
        }
    };
    Concerns::Task { task, job }
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
