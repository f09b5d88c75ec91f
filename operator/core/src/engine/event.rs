//! What happens: everything that the engine is told.

use std::collections::BTreeMap;
use std::time::Duration;

use framewright_crds::protocol::WorkerMessage;
use framewright_crds::{AIJob, ModelPool};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::effect::{FileKey, RequestId};
use crate::names::ObjectName;
use crate::workers::sessions::{Greeting, SessionId};

/// The time. Deadlines count in `monotonic`, which no person can set; statuses show `wall`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    pub wall: Timestamp,
    /// Since the process started.
    pub monotonic: Duration,
}

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    Job(Change<AIJob>),
    Pool(Change<ModelPool>),
    Pod(Change<Pod>),
    /// A namespace's labels; none if it is gone.
    Namespace {
        name: String,
        labels: Option<BTreeMap<String, String>>,
    },
    /// All namespaces there are.
    NamespacesListed(BTreeMap<String, BTreeMap<String, String>>),
    /// This replica leads.
    TermBegan {
        epoch: u64,
    },
    /// This replica leads no more.
    TermEnded,
    /// A worker has dialled in.
    SessionOpened {
        session: SessionId,
        greeting: Greeting,
    },
    /// A worker says something.
    SessionMessage {
        session: SessionId,
        worker_uid: String,
        message: WorkerMessage,
    },
    /// A worker's session has ended.
    SessionClosed {
        session: SessionId,
        worker_uid: String,
    },
    /// A file that is watched is in the store, or is not.
    File {
        key: FileKey,
        is_present: bool,
    },
    /// The store cannot be asked, and why; or it can be asked again.
    Store {
        error: Option<String>,
    },
    /// A request has come to an end.
    Answered {
        request: RequestId,
        answer: Answer,
    },
}

/// A change that a watch shows.
#[derive(Debug)]
pub enum Change<K> {
    /// All objects there are: what is not among them is gone.
    Listed(Vec<Read<K>>),
    Applied(Read<K>),
    Deleted {
        name: ObjectName,
        uid: String,
    },
}

/// An object as a watch shows it.
#[derive(Debug)]
pub enum Read<K> {
    Object(Box<K>),
    /// It does not fit the types of this version, and why.
    Unreadable {
        name: ObjectName,
        uid: String,
        version: String,
        error: String,
    },
}

/// How a request ended.
#[derive(Debug)]
pub enum Answer {
    /// The API server did it, and returned the object.
    Job(Box<AIJob>),
    Pool(Box<ModelPool>),
    Pods(Vec<Pod>),
    Metadata(Box<ObjectMeta>),
    /// The API server did it.
    Done,
    /// The object is not there.
    Gone,
    /// Another version or another object of that name is there.
    Conflict,
    /// An object of that name is there already.
    Exists,
    /// The API server, or an admission webhook, refuses it.
    Refused {
        code: u16,
        message: String,
    },
    /// Whether it was done is not known: no answer came, or an error that tells nothing, or it was never sent.
    Unanswered {
        error: String,
    },
}
