//! The messages between operator and worker, in few words.

use framewright_crds::names::ArtifactRole;
use framewright_crds::names::TaskId;
use framewright_crds::protocol::{
    Command, ModelState, Outcome, OutputFile, TaskReport, WorkerMessage,
};

use crate::peer::{Peer, Stream, weights};

pub(crate) const TASK: &str = "0b5c/large/0/1";

/// A worker that holds the model `twice`.
pub(crate) async fn configured(peer: &mut Peer) -> Stream {
    let mut stream = peer.accept().await;
    let tasks = stream.hear_until(hello).await;
    assert_eq!(tasks, []);
    let models = vec![peer.model("twice", &weights())];
    stream.send(Command::Configure { models }).await;
    stream
        .hear_until(|said| state_of(said, "twice", ModelState::Ready))
        .await;
    stream
}

/// Gives a link for the upload that is asked for.
pub(crate) async fn uploaded(peer: &Peer, stream: &mut Stream) -> OutputFile {
    let (task, output) = stream.hear_until(upload_request).await;
    send_link(peer, stream, &task, &output).await;
    output
}

pub(crate) async fn send_link(peer: &Peer, stream: &Stream, task: &TaskId, output: &OutputFile) {
    let command = Command::Upload {
        task: task.clone(),
        role: ArtifactRole::Output,
        name: output.name.clone(),
        digest: output.digest.clone(),
        url: peer.url(&output.digest),
    };
    stream.send(command).await;
}

pub(crate) fn id(text: &str) -> TaskId {
    text.parse().unwrap()
}

pub(crate) fn hello(said: WorkerMessage) -> Option<Vec<TaskReport>> {
    match said {
        WorkerMessage::Hello(hello) => Some(hello.tasks),
        _ => None,
    }
}

pub(crate) fn prepared(said: WorkerMessage) -> Option<(TaskId, u64)> {
    match said {
        WorkerMessage::Prepared { task, units } => Some((task, units)),
        _ => None,
    }
}

pub(crate) fn started(said: WorkerMessage) -> Option<TaskId> {
    match said {
        WorkerMessage::Started { task } => Some(task),
        _ => None,
    }
}

pub(crate) fn progress(said: WorkerMessage) -> Option<TaskId> {
    match said {
        WorkerMessage::Progress { task, .. } => Some(task),
        _ => None,
    }
}

pub(crate) fn renewal(said: WorkerMessage) -> Option<Option<TaskId>> {
    match said {
        WorkerMessage::RenewLinks { task } => Some(task),
        _ => None,
    }
}

pub(crate) fn store_error(said: WorkerMessage) -> Option<(TaskId, Option<String>)> {
    match said {
        WorkerMessage::StoreError { task, error } => Some((task, error)),
        _ => None,
    }
}

pub(crate) fn upload_request(said: WorkerMessage) -> Option<(TaskId, OutputFile)> {
    match said {
        WorkerMessage::UploadRequest { task, role, file } => {
            assert_eq!(role, ArtifactRole::Output);
            Some((task, file))
        }
        _ => None,
    }
}

pub(crate) fn finished(said: WorkerMessage) -> Option<(TaskId, Outcome)> {
    match said {
        WorkerMessage::Finished { task, outcome } => Some((task, outcome)),
        _ => None,
    }
}

pub(crate) fn stopped(said: WorkerMessage) -> Option<TaskId> {
    match said {
        WorkerMessage::Stopped { task } => Some(task),
        _ => None,
    }
}

pub(crate) fn state_of(said: WorkerMessage, model: &str, wanted: ModelState) -> Option<()> {
    match said {
        WorkerMessage::Model { name, state, .. } if name == model => {
            (state == wanted).then_some(())
        }
        _ => None,
    }
}
