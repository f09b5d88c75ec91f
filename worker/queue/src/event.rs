//! What happens to a worker's queue, and what it has done. Plain data.

use framewright_crds::aijob::Progress;
use framewright_crds::names::TaskId;
use framewright_crds::wire::{
    ModelOrder, ModelState, Outcome, OutputFile, TaskOrder, ToOperator, ToWorker,
};

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A stream to an operator is open; nothing was said on it.
    Connected,
    /// The stream is gone.
    Lost,
    /// The operator said something.
    Ordered(ToWorker),
    /// A model is in another state.
    Model {
        /// Its name.
        name: String,
        /// Its digest.
        digest: String,
        /// The state.
        state: ModelState,
    },
    /// The grants for weights are over.
    WeightGrantsExpired,
    /// A started task has news.
    Task {
        /// Which.
        task: TaskId,
        /// What.
        news: News,
    },
    /// The device works no more for this process, and no task has met it yet.
    DeviceLost {
        /// What went wrong.
        message: String,
    },
    /// The worker is to end.
    Drain,
}

/// What a started task says of itself.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// It computes.
    Started,
    /// It is further.
    Progress(Progress),
    /// It has computed this, and needs a grant to upload it. Can come again.
    Computed(OutputFile),
    /// The grants for its inputs are over.
    GrantsExpired,
    /// A transfer fails and is tried again, for this reason; none when it goes on.
    StoreTrouble(Option<String>),
    /// It is over.
    Ended(Outcome),
    /// It has stopped, as it was told to.
    Stopped,
    /// It failed, and the device works no more for this process.
    DeviceLost {
        /// What went wrong.
        message: String,
    },
    /// It was told to stop and does not: the device is lost to this process.
    Hangs,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Say this on the stream.
    Say(ToOperator),
    /// Leave the stream: at its other end is an operator that no longer leads.
    HangUp,
    /// Fetch and verify these models, and forget all others.
    Hold(Vec<ModelOrder>),
    /// Work on this task.
    Start(Box<TaskOrder>),
    /// Hand new grants to a started task.
    Renew(Box<TaskOrder>),
    /// Hand the grant for its upload to a started task.
    Grant {
        /// Which.
        task: TaskId,
        /// The digest that may be uploaded.
        sha256: String,
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
