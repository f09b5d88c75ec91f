//! What a worker's message changes.

use framewright_crds::names::ArtifactRole;
use framewright_crds::protocol::{TaskState, WorkerMessage};
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
    message: WorkerMessage,
    now: Timestamp,
) -> Concerns {
    let Some(message) = validate::message(message) else {
        return Concerns::Nothing;
    };
    let (task, is_known) = match message {
        // Only the first message of a session is a Hello.
        WorkerMessage::Hello(_) | WorkerMessage::Unknown => return Concerns::Nothing,
        WorkerMessage::Model {
            name,
            digest,
            state,
        } => {
            sessions.model(uid, &name, &digest, state);
            return Concerns::Worker;
        }
        WorkerMessage::Started { task } => {
            let is_known = sessions.started(uid, &task, now);
            (task, is_known)
        }
        WorkerMessage::Progress { task, progress } => {
            let is_known = sessions.moved(uid, &task, TaskState::Running { progress }, now);
            (task, is_known)
        }
        WorkerMessage::Prepared { task, units } => {
            let is_known = sessions.prepared(uid, &task, units, now);
            (task, is_known)
        }
        WorkerMessage::UploadRequest {
            task,
            role: ArtifactRole::Output,
            file,
        } => {
            let is_known = sessions.wants_upload(uid, &task, file, now);
            (task, is_known)
        }
        // Only outputs are uploaded so far.
        WorkerMessage::UploadRequest { .. } => return Concerns::Nothing,
        WorkerMessage::Loaded { models, free: _ } => {
            sessions.loaded(uid, models);
            return Concerns::Worker;
        }
        WorkerMessage::Finished { task, outcome } => {
            let is_known = sessions.moved(uid, &task, TaskState::Finished { outcome }, now);
            (task, is_known)
        }
        WorkerMessage::RenewLinks { task: Some(task) } => {
            let is_known = sessions.wants_links(uid, &task);
            (task, is_known)
        }
        WorkerMessage::StoreError { task, error } => {
            let is_known = sessions.store_error(uid, &task, error);
            (task, is_known)
        }
        WorkerMessage::Stopped { task } => {
            sessions.stopped(uid, &task, now);
            return Concerns::Worker;
        }
        WorkerMessage::RenewLinks { task: None } => {
            sessions.configure_again(uid);
            return Concerns::Worker;
        }
        WorkerMessage::Draining => {
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
