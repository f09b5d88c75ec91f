//! What goes into the engine and what comes out: events, the answers to requests, effects and requests.

use std::collections::BTreeMap;
use std::time::Duration;

use framewright_crds::names::OwnerKind;
use framewright_crds::protocol::{Command, WorkerMessage};
use framewright_crds::{AIJob, ModelPool};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::jobs::plan::Outcome;
use crate::jobs::transitions::Transition;
use crate::kubernetes_events::KubernetesEvent;
use crate::names::{JobName, ObjectName, PoolName, WorkerRef};
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

/// Identifies a request; no two of a process are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// Something to do.
#[derive(Debug)]
pub enum Effect {
    /// Make a request, if this replica still leads in that epoch, and answer it.
    Request {
        id: RequestId,
        epoch: u64,
        request: Request,
    },
    /// Send a command to a worker. Its session ends if it cannot be queued.
    Send {
        session: SessionId,
        command: Command,
    },
    /// End a session.
    CloseSession { session: SessionId },
    /// Tell whether this file is in the store: now, and whenever that changes. To ask again is harmless.
    WatchFile(FileKey),
    /// The file is of no interest any more.
    UnwatchFile(FileKey),
    /// Publish a Kubernetes Event.
    Publish {
        kind: OwnerKind,
        name: ObjectName,
        uid: String,
        version: String,
        event: KubernetesEvent,
    },
    /// A job's durable status has changed: for the log and the metrics.
    JobChanged {
        name: JobName,
        uid: String,
        transitions: Vec<Transition>,
    },
    /// The API server shows an older state than before, as after the restore of a backup: start again, and read all objects anew.
    Restart { reason: String },
    /// Something that belongs in the log.
    Log(Log),
}

/// A line for the log.
#[derive(Debug)]
pub enum Log {
    /// A task was cancelled because its job is gone.
    OrphanCancelled {
        job: String,
        task: String,
        worker: String,
    },
    /// An object cannot be read.
    Unreadable { name: ObjectName, error: String },
    /// Deciding about an object panicked.
    Panicked { name: ObjectName, error: String },
    /// A request did not come to a good end, and is tried again.
    Failed { what: String, error: String },
}

/// A request to the API server.
#[derive(Debug)]
pub enum Request {
    ReadJob(JobName),
    ReadPool(PoolName),
    /// Write the status, on top of the version that the object has.
    WriteJob(Box<AIJob>),
    WritePool(Box<ModelPool>),
    /// Record what a job that ends has used, before its status says that it is over.
    WriteOutcome {
        name: JobName,
        uid: String,
        outcome: Outcome,
    },
    /// Delete the job, if it is this one and this version.
    DeleteJob {
        name: JobName,
        uid: String,
        version: String,
    },
    /// Read a job's metadata.
    ReadJobMetadata(JobName),
    /// Read the pods that carry the pool's label.
    ListPods(PoolName),
    ReadPodMetadata {
        namespace: String,
        name: String,
    },
    CreatePod(Box<Pod>),
    /// Delete the pod, if it has this UID.
    DeletePod(WorkerRef),
    /// Ask node autoscalers to leave the pod alone, or no longer.
    ProtectPod {
        worker: WorkerRef,
        is_protected: bool,
    },
}

/// A file of an object's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileKey {
    pub namespace: String,
    pub kind: OwnerKind,
    pub uid: String,
    pub sha256: String,
}

/// A status to write.
#[derive(Debug)]
pub struct StatusWrite {
    pub id: RequestId,
    pub epoch: u64,
    pub request: Request,
}
