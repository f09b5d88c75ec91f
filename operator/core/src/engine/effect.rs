//! What is to be done: everything that the engine asks for. The shell does each effect and decides nothing.

use framewright_crds::names::OwnerKind;
use framewright_crds::protocol::Command;
use framewright_crds::{AIJob, ModelPool};
use k8s_openapi::api::core::v1::Pod;

use crate::events::KubernetesEvent;
use crate::jobs::plan::Outcome;
use crate::jobs::transitions::Transition;
use crate::names::{JobName, ObjectName, PoolName, WorkerRef};
use crate::workers::sessions::SessionId;

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
