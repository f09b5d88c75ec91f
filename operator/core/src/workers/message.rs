//! What a worker's message changes.

use framewright_crds::wire::{TaskState, ToOperator};
use jiff::Timestamp;

use super::sessions::Sessions;
use super::validate;

/// What a message is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Concerns {
    Nothing,
    /// The worker itself, and so its pool.
    Worker,
    /// The job with this UID.
    Job(String),
}

/// Takes in one message. Every message may come twice.
pub fn receive(
    sessions: &mut Sessions,
    uid: &str,
    message: ToOperator,
    now: Timestamp,
) -> Concerns {
    let Some(message) = validate::message(message) else {
        return Concerns::Nothing;
    };
    let (task, is_known) = match message {
        // Only the first message of a session is a Hello.
        ToOperator::Hello { .. } => return Concerns::Nothing,
        ToOperator::Model {
            name,
            digest,
            state,
        } => {
            sessions.model(uid, &name, &digest, state);
            return Concerns::Worker;
        }
        ToOperator::Started { task } => {
            let is_known = sessions.started(uid, &task, now);
            (task, is_known)
        }
        ToOperator::Progress { task, progress } => {
            let is_known = sessions.moved(uid, &task, TaskState::Running { progress }, now);
            (task, is_known)
        }
        ToOperator::UploadRequest { task, output } => {
            let is_known = sessions.moved(uid, &task, TaskState::Uploading { output }, now);
            (task, is_known)
        }
        ToOperator::Finished { task, outcome } => {
            let is_known = sessions.moved(uid, &task, TaskState::Finished { outcome }, now);
            (task, is_known)
        }
        ToOperator::RenewGrants { task: Some(task) } => {
            let is_known = sessions.wants_grants(uid, &task);
            (task, is_known)
        }
        ToOperator::StoreTrouble { task, trouble } => {
            let is_known = sessions.store_trouble(uid, &task, trouble);
            (task, is_known)
        }
        ToOperator::RenewGrants { task: None } => {
            sessions.unwelcome(uid);
            return Concerns::Worker;
        }
        ToOperator::Draining => {
            sessions.ending(uid);
            return Concerns::Worker;
        }
    };
    // A worker that was told to forget a task may still say something about it.
    if is_known {
        Concerns::Job(task.job_uid)
    } else {
        Concerns::Nothing
    }
}
