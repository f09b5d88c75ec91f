//! `serve` against an operator and a store: whole tasks, and what goes wrong on the way.

#[allow(dead_code, reason = "shared with the tests of the networks")]
mod golden;
#[allow(dead_code, reason = "shared with the tests of run")]
mod peer;

use std::sync::atomic::Ordering;
use std::time::Duration;

use framewright_crds::aijob::Cause;
use framewright_crds::names::TaskId;
use framewright_crds::wire::{
    FileSource, ModelState, Order, Outcome, OutputFile, TaskReport, TaskState, ToOperator,
};
use peer::{Link, Peer, clip, digest, eventually, picture, size_of, weights};

const TASK: &str = "0b5c/large/0/1";

#[tokio::test]
async fn a_task_goes_from_order_to_outcome() {
    let mut peer = Peer::start().await;
    let worker = peer.worker();
    let mut link = welcomed(&mut peer).await;
    assert_eq!(link.token, peer::TOKEN);

    let order = peer.task(TASK, "twice", "video", &clip(peer.folder.path(), 10));
    link.order(Order::Run(Box::new(order))).await;
    assert_eq!(link.hear_until(started).await, id(TASK));
    let output = uploaded(&peer, &mut link).await;
    let (task, outcome) = link.hear_until(finished).await;

    assert_eq!(task, id(TASK));
    let units = 128 * 72 * 10;
    assert_eq!(
        outcome,
        Outcome::Succeeded {
            output: output.clone(),
            units
        }
    );
    let video = peer.folder.path().join("result.mp4");
    std::fs::write(&video, peer.store.get(&output.sha256).unwrap()).unwrap();
    assert_eq!(size_of(&video), "128,72,10");

    link.order(Order::Settled { task }).await;
    eventually("scratch is empty", || {
        let mut left = std::fs::read_dir(peer.folder.path().join("scratch")).unwrap();
        left.next().is_none().then_some(())
    })
    .await;
    assert_eq!(worker.get("/healthz").await.0, 200);
    assert_eq!(worker.get("/ready").await.0, 200);
    let (_, metrics) = worker.get("/metrics").await;
    assert!(
        metrics.contains("framewright_worker_frames_total 10"),
        "{metrics}"
    );
    assert!(
        metrics.contains("tasks_total{outcome=\"Succeeded\"} 1"),
        "{metrics}"
    );
}

/// A worker that holds the model `twice`.
async fn welcomed(peer: &mut Peer) -> Link {
    let mut link = peer.accept().await;
    let tasks = link.hear_until(hello).await;
    assert_eq!(tasks, []);
    let models = vec![peer.model("twice", &weights())];
    link.order(Order::Welcome { models }).await;
    link.hear_until(|said| state_of(said, "twice", ModelState::Ready))
        .await;
    link
}

/// Grants the upload that is asked for.
async fn uploaded(peer: &Peer, link: &mut Link) -> OutputFile {
    let (task, output) = link.hear_until(upload_request).await;
    grant(peer, link, &task, &output).await;
    output
}

async fn grant(peer: &Peer, link: &Link, task: &TaskId, output: &OutputFile) {
    let order = Order::Upload {
        task: task.clone(),
        sha256: output.sha256.clone(),
        url: peer.url(&output.sha256),
    };
    link.order(order).await;
}

fn id(text: &str) -> TaskId {
    text.parse().unwrap()
}

fn hello(said: ToOperator) -> Option<Vec<TaskReport>> {
    match said {
        ToOperator::Hello { tasks, .. } => Some(tasks),
        _ => None,
    }
}

fn started(said: ToOperator) -> Option<TaskId> {
    match said {
        ToOperator::Started { task } => Some(task),
        _ => None,
    }
}

fn upload_request(said: ToOperator) -> Option<(TaskId, OutputFile)> {
    match said {
        ToOperator::UploadRequest { task, output } => Some((task, output)),
        _ => None,
    }
}

fn finished(said: ToOperator) -> Option<(TaskId, Outcome)> {
    match said {
        ToOperator::Finished { task, outcome } => Some((task, outcome)),
        _ => None,
    }
}

fn state_of(said: ToOperator, model: &str, wanted: ModelState) -> Option<()> {
    match said {
        ToOperator::Model { name, state, .. } if name == model => (state == wanted).then_some(()),
        _ => None,
    }
}
