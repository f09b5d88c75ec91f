//! What happens to a worker's queue, and what is to be done about it. Plain data.

use framewright_crds::aijob::{Progress, Usage};
use framewright_crds::names::{ArtifactRole, TaskId};
use framewright_crds::protocol::{
    LoadedModel, ModelConfig, ModelState, OperatorMessage, Outcome, OutputFile, RunTask,
    WorkerMessage,
};

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A stream to an operator is open; nothing was sent on it.
    Connected,
    /// The stream is gone.
    Disconnected,
    /// A message of the operator has come.
    Received(OperatorMessage),
    /// A model's state has changed.
    Model {
        /// Its name.
        name: String,
        /// Its digest.
        digest: String,
        /// The state.
        state: ModelState,
    },
    /// What is loaded on the device has changed.
    Loaded {
        /// The models that are loaded.
        models: Vec<LoadedModel>,
        /// Bytes of the device's memory that are free, where that is known.
        free: Option<u64>,
    },
    /// The links to the models' files have expired.
    ModelLinksExpired,
    /// A started task has got further.
    Task {
        /// Which.
        task: TaskId,
        /// How.
        event: TaskEvent,
    },
    /// The device no longer works for this process, and no task has noticed yet.
    DeviceLost {
        /// What went wrong.
        message: String,
    },
    /// The worker is to end.
    Drain,
}

/// What happens to a started task.
#[derive(Clone, Debug, PartialEq)]
pub enum TaskEvent {
    /// Its inputs are there and can be worked on. If the task has a limit, it waits for [`Effect::Proceed`].
    Prepared {
        /// The work of the whole step, in the pipeline's unit.
        units: u64,
    },
    /// It computes.
    Started,
    /// It has got further.
    Progress(Progress),
    /// It has computed all of these outputs, and uploads them now.
    Computed(Vec<OutputFile>),
    /// It needs a link to upload this output. Can come again.
    UploadRequested(OutputFile),
    /// The links to its inputs have expired.
    LinksExpired,
    /// A transfer fails and is tried again, for this reason; none when it works again.
    StoreError(Option<String>),
    /// It is over.
    Ended(Outcome),
    /// It has stopped, as it was told to.
    Stopped,
    /// It failed, and the device no longer works for this process.
    DeviceLost {
        /// What went wrong.
        message: String,
        /// The work done all the same.
        usage: Option<Usage>,
    },
    /// It was told to stop and does not: the device is lost to this process.
    Hangs,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Send this on the stream.
    Send(WorkerMessage),
    /// Close the stream: the operator at its other end no longer leads.
    HangUp,
    /// Fetch and verify these models, and forget all others.
    Hold(Vec<ModelConfig>),
    /// Work on this task.
    Start(Box<RunTask>),
    /// Hand new links to a started task.
    Renew(Box<RunTask>),
    /// Let a started task that waits after [`TaskEvent::Prepared`] compute.
    Proceed(TaskId),
    /// Hand the link for an upload to a started task.
    Upload {
        /// Which.
        task: TaskId,
        /// What the file is to the job.
        role: ArtifactRole,
        /// The file's name.
        name: String,
        /// The digest that may be uploaded.
        digest: String,
        /// Where to.
        url: String,
    },
    /// Stop a started task.
    Stop(TaskId),
    /// End: the worker drains, and nothing is left that anybody waits for.
    Exit,
    /// End at once, with an error: only a new process gets the device back.
    Abort,
}
