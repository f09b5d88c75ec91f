//! What is said between operator and worker, in few words.

use framewright_crds::names::TaskId;
use framewright_crds::wire::{ModelState, Order, Outcome, OutputFile, TaskReport, ToOperator};

use crate::peer::{Peer, Stream, weights};

pub(crate) const TASK: &str = "0b5c/large/0/1";

/// A worker that holds the model `twice`.
pub(crate) async fn welcomed(peer: &mut Peer) -> Stream {
    let mut stream = peer.accept().await;
    let tasks = stream.hear_until(hello).await;
    assert_eq!(tasks, []);
    let models = vec![peer.model("twice", &weights())];
    stream.order(Order::Welcome { models }).await;
    stream
        .hear_until(|said| state_of(said, "twice", ModelState::Ready))
        .await;
    stream
}

/// Grants the upload that is asked for.
pub(crate) async fn uploaded(peer: &Peer, stream: &mut Stream) -> OutputFile {
    let (task, output) = stream.hear_until(upload_request).await;
    grant(peer, stream, &task, &output).await;
    output
}

pub(crate) async fn grant(peer: &Peer, stream: &Stream, task: &TaskId, output: &OutputFile) {
    let order = Order::Upload {
        task: task.clone(),
        sha256: output.sha256.clone(),
        url: peer.url(&output.sha256),
    };
    stream.order(order).await;
}

pub(crate) fn id(text: &str) -> TaskId {
    text.parse().unwrap()
}

pub(crate) fn hello(said: ToOperator) -> Option<Vec<TaskReport>> {
    match said {
        ToOperator::Hello { tasks, .. } => Some(tasks),
        _ => None,
    }
}

pub(crate) fn started(said: ToOperator) -> Option<TaskId> {
    match said {
        ToOperator::Started { task } => Some(task),
        _ => None,
    }
}

pub(crate) fn progress(said: ToOperator) -> Option<TaskId> {
    match said {
        ToOperator::Progress { task, .. } => Some(task),
        _ => None,
    }
}

pub(crate) fn renewal(said: ToOperator) -> Option<Option<TaskId>> {
    match said {
        ToOperator::RenewGrants { task } => Some(task),
        _ => None,
    }
}

pub(crate) fn store_trouble(said: ToOperator) -> Option<(TaskId, Option<String>)> {
    match said {
        ToOperator::StoreTrouble { task, trouble } => Some((task, trouble)),
        _ => None,
    }
}

pub(crate) fn upload_request(said: ToOperator) -> Option<(TaskId, OutputFile)> {
    match said {
        ToOperator::UploadRequest { task, output } => Some((task, output)),
        _ => None,
    }
}

pub(crate) fn finished(said: ToOperator) -> Option<(TaskId, Outcome)> {
    match said {
        ToOperator::Finished { task, outcome } => Some((task, outcome)),
        _ => None,
    }
}

pub(crate) fn state_of(said: ToOperator, model: &str, wanted: ModelState) -> Option<()> {
    match said {
        ToOperator::Model { name, state, .. } if name == model => (state == wanted).then_some(()),
        _ => None,
    }
}
