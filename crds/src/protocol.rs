//! The messages on a worker's stream: JSON in the text frames of one WebSocket, which the worker opens. Version 2.
//!
//! # Flow
//! The worker opens with [`WorkerMessage::Hello`], which lists the tasks it holds. The operator answers [`Command::Configure`] with
//! the pool's models; the worker fetches, verifies and reports each. Tasks come down, messages go up. A task that is about to compute
//! says so with [`WorkerMessage::Prepared`]; one with a limit waits for [`Command::Proceed`]. It ends with [`WorkerMessage::Finished`],
//! which the worker repeats in each Hello until it is told [`Command::Ack`].
//!
//! # Guarantees
//! Every message can come twice and means the same. A worker acts on no message of a lower epoch than the highest it has seen. Both sides
//! ignore messages and fields that they do not know.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use crate::aijob::{Cause, Fact, OutputRole, Progress, Usage};
use crate::modelpool::Device;
use crate::names::{ArtifactRole, TaskId};
use crate::pipelines::Pipeline;

/// The versions of these messages that this program speaks, from the lowest to the highest. A worker and an operator that have none in
/// common say so, and the worker takes no work.
pub const PROTOCOLS: [u32; 2] = [2, 2];

/// How long a computed output may wait for the store, in seconds. The worker gives up a minute before the operator does, so that its
/// reason is the one that is shown.
pub const UPLOAD_LIMIT_SECONDS: u64 = 3600;

/// Largest message, in bytes.
pub const MESSAGE_LIMIT: usize = 1 << 20;

/// How often the operator pings, in seconds.
pub const PING_SECONDS: u64 = 5;

/// A stream on which nothing came for so many seconds is dead, for either side.
pub const SILENCE_SECONDS: u64 = 20;

/// The most tasks that a worker takes at a time.
pub const SLOTS_MAX: u32 = 64;

/// Whether two ranges of versions have one in common.
#[must_use]
pub fn is_compatible(ours: [u32; 2], theirs: [u32; 2]) -> bool {
    ours[0] <= theirs[1] && theirs[0] <= ours[1]
}

/// What a worker says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum WorkerMessage {
    /// First message of each connection.
    Hello(Box<Hello>),
    /// A model's state changed.
    Model {
        /// The model's name.
        name: String,
        /// The digest of the model, as in [`ModelConfig`].
        digest: String,
        /// Its state.
        state: ModelState,
    },
    /// What is loaded on the device has changed.
    Loaded {
        /// The models that are loaded.
        models: Vec<LoadedModel>,
        /// Bytes of the device's memory that are free, where that is known.
        #[serde(default)]
        free: Option<u64>,
    },
    /// The inputs of a task are there and can be worked on.
    Prepared {
        /// Which.
        task: TaskId,
        /// The work of the whole step, in the pipeline's unit.
        units: u64,
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
    /// A file is to be uploaded; asks for a link.
    UploadRequest {
        /// The task that made it.
        task: TaskId,
        /// What it is to the job: an output, a checkpoint or a preview.
        role: ArtifactRole,
        /// What came out.
        file: OutputFile,
    },
    /// A link to an input or to weights has expired; asks for the command again.
    RenewLinks {
        /// The task, or none for the pool's weights.
        task: Option<TaskId>,
    },
    /// A transfer from or to the store fails and is tried again, or works again.
    StoreError {
        /// Which task's.
        task: TaskId,
        /// Why, as a sentence; none when it works again.
        error: Option<String>,
    },
    /// A task is over.
    Finished {
        /// Which.
        task: TaskId,
        /// How.
        outcome: Outcome,
    },
    /// A task that was to stop has stopped, or is not held; the worker has forgotten it.
    Stopped {
        /// Which.
        task: TaskId,
    },
    /// The worker takes no new task and ends when its present one is over.
    Draining,
    /// A message that this version does not know.
    #[serde(other)]
    Unknown,
}

/// What a worker says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    /// The lowest and the highest version that it speaks, as in [`PROTOCOLS`].
    #[serde(default)]
    pub protocols: [u32; 2],
    /// The program's version.
    pub version: String,
    /// What the worker computes on.
    pub device: Device,
    /// Why it cannot: the device is missing, or the driver too old. Such a worker gets no task.
    #[serde(default)]
    pub device_error: Option<String>,
    /// The device's memory in bytes, where that is known.
    #[serde(default)]
    pub memory: Option<u64>,
    /// How many tasks it takes at a time, at most [`SLOTS_MAX`].
    pub slots: u32,
    /// The pipelines that it can do.
    #[serde(default)]
    pub pipelines: Vec<String>,
    /// The models that are loaded on the device.
    #[serde(default)]
    pub loaded: Vec<LoadedModel>,
    /// The tasks that it holds: waiting, running, stopping, or finished and not yet acknowledged. One that cannot be read, since it is in
    /// a state of a later version, is left out.
    #[serde(default, deserialize_with = "readable")]
    pub tasks: Vec<TaskReport>,
    /// The highest epoch that it has seen, if any: a leader of a lower one must take another before the worker listens to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
}

/// The entries of a list that can be read.
fn readable<'de, D: Deserializer<'de>, T: DeserializeOwned>(list: D) -> Result<Vec<T>, D::Error> {
    let entries = Vec::<serde_json::Value>::deserialize(list)?.into_iter();
    Ok(entries
        .filter_map(|entry| serde_json::from_value(entry).ok())
        .collect())
}

/// A model that is loaded on a worker's device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadedModel {
    /// The digest of the model, as in [`ModelConfig`].
    pub digest: String,
    /// What it takes of the device's memory.
    pub bytes: u64,
}

/// What the operator says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OperatorMessage {
    /// Number of the leader's term; a worker refuses a lower one than it has seen.
    pub epoch: u64,
    /// What.
    pub command: Command,
}

/// A command to a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum Command {
    /// The answer to Hello, and whenever the pool's models or their links change.
    Configure {
        /// The pool's models.
        models: Vec<ModelConfig>,
    },
    /// The connection is refused; the sentence says why. Nothing changes soon: a worker tries again after some seconds, and later each time.
    Refused {
        /// Why.
        message: String,
    },
    /// Do this. Repeated commands for a task that is held are ignored, but for renewed links.
    Run(Box<RunTask>),
    /// A task that waits after [`WorkerMessage::Prepared`] may compute.
    Proceed {
        /// Which.
        task: TaskId,
    },
    /// Stop this task and forget it; the answer is [`WorkerMessage::Stopped`]. Until then it takes a slot.
    Cancel {
        /// Which.
        task: TaskId,
    },
    /// PUT a file here.
    Upload {
        /// The task that made it.
        task: TaskId,
        /// What it is to the job, as requested.
        role: ArtifactRole,
        /// The file's name, as requested.
        name: String,
        /// The file's digest, as requested.
        digest: String,
        /// Where.
        url: String,
    },
    /// The task's outcome is recorded; forget it.
    Ack {
        /// Which.
        task: TaskId,
    },
    /// A command that this version does not know.
    #[serde(other)]
    Unknown,
}

/// A model to hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelConfig {
    /// Its name.
    pub name: String,
    /// `sha256:` and the SHA-256, in hexadecimal, over the sorted lines `<file digest>  <path>\n` of its files.
    pub digest: String,
    /// Its files.
    pub files: Vec<FileConfig>,
}

/// A file to fetch and verify.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileConfig {
    /// Its path in the model.
    pub path: String,
    /// Its digest.
    pub digest: String,
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
        error: Option<String>,
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
pub struct RunTask {
    /// Which.
    pub task: TaskId,
    /// The job, as namespace/name: which job to reconcile when the task's messages come, and what logs call it.
    pub job: String,
    /// What to do.
    pub pipeline: Pipeline,
    /// What to do it with, among the models of the Configure.
    #[serde(default)]
    pub models: Vec<TaskModel>,
    /// What to do it to.
    #[serde(default)]
    pub inputs: Vec<InputFile>,
    /// What random numbers begin with.
    #[serde(default)]
    pub seed: i64,
    /// The checkpoint to go on from, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<InputFile>,
    /// The most work that the task may do, in the pipeline's unit: it says what it needs in [`WorkerMessage::Prepared`] and waits for
    /// [`Command::Proceed`]. None: it need not wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_units: Option<u64>,
}

/// A model that a task runs with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskModel {
    /// What it is to the pipeline, such as base.
    pub role: String,
    /// Its name, among those of the Configure.
    pub name: String,
    /// Its digest in the Configure on which the step was placed: another model under that name must not run, since the status says this one.
    pub digest: String,
    /// How strongly an adapter counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<f64>,
}

/// An input to fetch and verify.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InputFile {
    /// What the pipeline calls it.
    pub name: String,
    /// Its digest.
    pub digest: String,
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
    /// Its job, as namespace/name, as the command gave it.
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
    /// Its inputs can be worked on; it waits for [`Command::Proceed`].
    Prepared {
        /// The work of the whole step, in the pipeline's unit.
        units: u64,
    },
    /// Computing.
    Running {
        /// How far.
        progress: Progress,
    },
    /// Waiting for links to upload its outputs.
    Uploading {
        /// What came out.
        outputs: Vec<OutputFile>,
    },
    /// It was told to stop and has not stopped yet.
    Stopping,
    /// Over, and not yet acknowledged.
    Finished {
        /// How.
        outcome: Outcome,
    },
}

/// A file that came out of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutputFile {
    /// What the pipeline calls it.
    pub name: String,
    /// What it is for.
    pub role: OutputRole,
    /// Its digest.
    pub digest: String,
    /// Its size.
    pub bytes: i64,
    /// Such as video/mp4.
    pub media_type: String,
    /// What there is to know about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<Fact>,
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "outcome",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum Outcome {
    /// The outputs are in the store.
    Succeeded {
        /// What came out.
        outputs: Vec<OutputFile>,
        /// The work done.
        usage: Usage,
        /// How it was done.
        record: TaskRecord,
    },
    /// It failed.
    Failed {
        /// Why.
        cause: Cause,
        /// The same as a sentence for a person.
        message: String,
        /// The work done all the same.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usage: Option<Usage>,
    },
}

/// How a task was done, as the worker says: for logs and receipts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskRecord {
    /// The worker program's version.
    pub version: String,
    /// The device's name.
    pub device: String,
    /// The driver's version, where there is one.
    pub driver: Option<String>,
    /// The digests of the models.
    pub models: Vec<String>,
    /// What random numbers began with.
    pub seed: i64,
    /// How long the inputs took to fetch and prepare, in milliseconds.
    pub prepare_ms: u64,
    /// How long it computed, in milliseconds.
    pub compute_ms: u64,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn messages_commands_and_fields_of_later_versions_are_ignored() {
        let message = json!({"type": "weather", "wind": 3});
        assert_eq!(
            serde_json::from_value::<WorkerMessage>(message).ok(),
            Some(WorkerMessage::Unknown)
        );
        let command = json!({"type": "dance", "steps": [1, 2]});
        assert_eq!(
            serde_json::from_value::<Command>(command).ok(),
            Some(Command::Unknown)
        );
        let task = TaskId {
            job_uid: "0b5c".to_owned(),
            step: "large".to_owned(),
            replica: 0,
            attempt: 2,
        };
        let ack = json!({"type": "ack", "task": task.to_string(), "thanks": true});
        assert_eq!(
            serde_json::from_value::<Command>(ack).ok(),
            Some(Command::Ack { task })
        );
    }

    #[test]
    fn a_hello_of_another_version_can_be_read_so_that_it_can_be_refused() {
        let task =
            json!({"task": "0b5c/large/0/2", "job": "studio/clip", "state": {"state": "melting"}});
        let hello = json!({"type": "hello", "protocol": 1, "version": "0.1.0", "device": "cpu", "slots": 1, "tasks": [task]});
        let Ok(WorkerMessage::Hello(hello)) = serde_json::from_value(hello) else {
            panic!("no Hello");
        };
        assert!(hello.tasks.is_empty());
        assert!(!is_compatible(PROTOCOLS, hello.protocols));
        assert!(is_compatible(PROTOCOLS, PROTOCOLS));
        assert!(is_compatible([2, 3], [1, 2]) && is_compatible([2, 3], [3, 4]));
        assert!(!is_compatible([2, 3], [4, 5]));
    }
}
