//! The messages on a worker's stream: JSON in the text frames of one WebSocket, which the worker opens.
//!
//! # Flow
//! The worker opens with [`ToOperator::Hello`], which lists the tasks it holds. The operator answers [`Order::Welcome`] with
//! its lease's epoch and the pool's models; the worker fetches, verifies and reports each. Tasks come down, events go up. A task
//! ends with [`ToOperator::Finished`], which the worker repeats in each Hello until it is told [`Order::Settled`].
//!
//! # Guarantees
//! Every message can come twice and means the same. A worker acts on no message of a lower epoch than the highest it has seen.

use serde::{Deserialize, Serialize};

use crate::aijob::{Cause, Progress, Upscale};
use crate::modelpool::Device;
use crate::names::TaskId;

/// Version of these messages; a worker of another version is told so and takes no work.
pub const PROTOCOL: u32 = 1;

/// How long a computed output may wait for the store, in seconds. The worker gives up a minute before the operator does, so that its
/// reason is the one that is told.
pub const UPLOAD_LIMIT_SECONDS: u64 = 3600;

/// Largest message, in bytes.
pub const MESSAGE_LIMIT: usize = 1 << 20;

/// How often the operator pings, in seconds.
pub const PING_SECONDS: u64 = 5;

/// A stream on which nothing came for so many seconds is dead, for either side.
pub const SILENCE_SECONDS: u64 = 20;

/// The most tasks that a worker takes at a time.
pub const SLOTS_MAX: u32 = 64;

/// What a worker says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum ToOperator {
    /// First message of each connection.
    Hello {
        /// [`PROTOCOL`].
        protocol: u32,
        /// The program's version.
        version: String,
        /// What the worker computes on.
        device: Device,
        /// Why it cannot: the device is missing, or the driver too old. Such a worker gets no task.
        device_trouble: Option<String>,
        /// How many tasks it takes at a time, at most [`SLOTS_MAX`].
        slots: u32,
        /// The tasks that it holds: running, or finished and not yet settled.
        tasks: Vec<TaskReport>,
        /// The highest epoch that it has seen, if any: a leader of a lower one must take another before the worker listens to it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        epoch: Option<u64>,
    },
    /// A model's state changed.
    Model {
        /// The model's name.
        name: String,
        /// The digest of the weights, as in [`ModelOrder`].
        digest: String,
        /// Its state.
        state: ModelState,
    },
    /// A task is computing.
    Started {
        /// Which.
        task: TaskId,
    },
    /// A task is further. Some times in its first second, then at most once a second.
    Progress {
        /// Which.
        task: TaskId,
        /// How far.
        progress: Progress,
    },
    /// The output is computed; asks for the grant to upload it.
    UploadRequest {
        /// Which.
        task: TaskId,
        /// What came out.
        output: OutputFile,
    },
    /// A grant for an input or for weights expired; asks for the order again.
    RenewGrants {
        /// The task, or none for the pool's weights.
        task: Option<TaskId>,
    },
    /// A transfer from or to the store fails and is tried again, or goes on again.
    StoreTrouble {
        /// Which task's.
        task: TaskId,
        /// Why, as a sentence; none when it goes on.
        trouble: Option<String>,
    },
    /// A task is over.
    Finished {
        /// Which.
        task: TaskId,
        /// How.
        outcome: Outcome,
    },
    /// The worker takes no new task and ends when its present one is over.
    Draining,
}

/// What the operator says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToWorker {
    /// Number of the leader's term; a worker refuses a lower one than it has seen.
    pub epoch: u64,
    /// What.
    pub order: Order,
}

/// An order to a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum Order {
    /// The answer to Hello, and whenever the pool's models or their grants change.
    Welcome {
        /// The pool's models.
        models: Vec<ModelOrder>,
    },
    /// The connection is refused; the sentence says why. Nothing changes soon: a worker tries again after some seconds, and later each time.
    Refused {
        /// Why.
        message: String,
    },
    /// Do this. Repeated orders for a task that is held are ignored, but for renewed grants.
    Run(Box<TaskOrder>),
    /// Stop this task and forget it.
    Cancel {
        /// Which.
        task: TaskId,
    },
    /// PUT the output here.
    Upload {
        /// Which.
        task: TaskId,
        /// The output's digest, as requested.
        sha256: String,
        /// Where.
        url: String,
    },
    /// The task's outcome is recorded; forget it.
    Settled {
        /// Which.
        task: TaskId,
    },
}

/// A model to hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelOrder {
    /// Its name.
    pub name: String,
    /// SHA-256, in hexadecimal, over the lines `path sha256\n` of its files in the order of their paths.
    pub digest: String,
    /// Its files.
    pub files: Vec<FileOrder>,
}

/// A file to fetch and verify.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileOrder {
    /// Its path in the model.
    pub path: String,
    /// Its digest.
    pub sha256: String,
    /// Its size.
    pub bytes: i64,
    /// Where it is.
    pub from: FileSource,
}

/// Where a file is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FileSource {
    /// GET it here.
    Url(String),
    /// Read it here, in the worker's own file system.
    File(String),
    /// It has not been uploaded yet.
    AwaitingUpload,
}

/// A model's state on a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "state",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum ModelState {
    /// Its files are being fetched or verified.
    Loading {
        /// Why that takes long, as a sentence, if something is in the way.
        trouble: Option<String>,
    },
    /// Verified; tasks can use it.
    Ready,
    /// A file has not been uploaded yet.
    AwaitingUpload,
    /// A file is wrong; the sentence names it and says why.
    Failed {
        /// Why.
        message: String,
    },
}

/// Everything a worker needs to do one attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskOrder {
    /// Which.
    pub task: TaskId,
    /// The job, as namespace/name: who is to look when the task's news come, and what logs call it.
    pub job: String,
    /// The model's name, among those of the Welcome.
    pub model: String,
    /// Its digest in the Welcome on which the step was placed: other weights under that name must not run, since the status says these.
    pub digest: String,
    /// What to do.
    pub pipeline: Pipeline,
    /// What to do it to.
    pub inputs: Vec<InputOrder>,
}

/// A pipeline and its parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Pipeline {
    /// Makes an image or a video larger.
    Upscale(Upscale),
}

/// An input to fetch and verify.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InputOrder {
    /// What the pipeline calls it.
    pub name: String,
    /// Its digest.
    pub sha256: String,
    /// Its size.
    pub bytes: i64,
    /// Where to GET it.
    pub url: String,
}

/// A task that a worker holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskReport {
    /// Which.
    pub task: TaskId,
    /// Its job, as namespace/name, as the order gave it.
    pub job: String,
    /// Where it is.
    pub state: TaskState,
}

/// Where a task is on its worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "state",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum TaskState {
    /// Fetching inputs, or waiting for the device.
    Starting,
    /// Computing.
    Running {
        /// How far.
        progress: Progress,
    },
    /// Waiting for the grant to upload.
    Uploading {
        /// What came out.
        output: OutputFile,
    },
    /// Over, and not yet settled.
    Finished {
        /// How.
        outcome: Outcome,
    },
}

/// A file that came out of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutputFile {
    /// Its digest.
    pub sha256: String,
    /// Its size.
    pub bytes: i64,
    /// Such as video/mp4.
    pub media_type: String,
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "outcome",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum Outcome {
    /// The output is in the store.
    Succeeded {
        /// What came out.
        output: OutputFile,
        /// The work done, in the pipeline's units.
        units: i64,
    },
    /// It failed.
    Failed {
        /// Why.
        cause: Cause,
        /// The same as a sentence for a person.
        message: String,
    },
}
