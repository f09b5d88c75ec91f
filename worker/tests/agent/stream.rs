//! Which operator a worker obeys, and what becomes of its tasks when the stream is away.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use framewright_crds::protocol::{Command, ModelState, Outcome, TaskState};

use crate::conversation::{TASK, configured, finished, hello, id, started, state_of, uploaded};
use crate::peer::{Peer, clip, eventually, picture, weights};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_goes_on_while_the_stream_is_away_and_its_outcome_is_repeated_until_acknowledged() {
    let mut peer = Peer::start().await;
    let _worker = peer.worker();
    let mut stream = configured(&mut peer).await;
    let run = peer.task(TASK, "twice", "video", &clip(peer.folder.path(), 300));
    stream.send(Command::Run(Box::new(run))).await;
    stream.hear_until(started).await;
    drop(stream);

    let mut stream = peer.accept().await;
    let held = stream.hear_until(hello).await;
    assert_eq!(held.len(), 1);
    assert_eq!(
        (&held[0].task, held[0].job.as_str()),
        (&id(TASK), "studio/lighthouse")
    );
    assert!(matches!(
        held[0].state,
        TaskState::Running { .. } | TaskState::Uploading { .. }
    ));
    let output = uploaded(&peer, &mut stream).await;
    let (_, outcome) = stream.hear_until(finished).await;
    let Outcome::Succeeded { outputs, usage, .. } = &outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!((outputs, usage.amount), (&vec![output], 128 * 72 * 300));
    drop(stream);

    for _ in 0..2 {
        let held = peer.accept().await.hear_until(hello).await;
        assert_eq!(
            held[0].state,
            TaskState::Finished {
                outcome: outcome.clone()
            }
        );
    }
    let mut stream = peer.accept().await;
    stream.hear_until(hello).await;
    stream.send(Command::Ack { task: id(TASK) }).await;
    // An answer to something later proves that the command has come.
    stream
        .send(Command::Configure {
            models: vec![peer.model("twice", &weights())],
        })
        .await;
    stream
        .hear_until(|said| state_of(said, "twice", ModelState::Ready))
        .await;
    drop(stream);
    assert_eq!(peer.accept().await.hear_until(hello).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_operator_is_refused_and_left() {
    let mut peer = Peer::start().await;
    let _worker = peer.worker();
    let mut stream = peer.accept().await;
    stream.hear_until(hello).await;
    let models = vec![peer.model("twice", &weights())];
    stream
        .send_in_epoch(
            5,
            Command::Configure {
                models: models.clone(),
            },
        )
        .await;
    stream
        .hear_until(|said| state_of(said, "twice", ModelState::Ready))
        .await;

    let run = Box::new(peer.task(TASK, "twice", "image", &picture(peer.folder.path())));
    stream.send_in_epoch(4, Command::Run(run.clone())).await;
    while stream.try_hear().await.is_some() {}

    let mut stream = peer.accept().await;
    assert_eq!(
        stream.hear_until(hello).await,
        [],
        "the older command had no effect"
    );
    stream.send_in_epoch(5, Command::Configure { models }).await;
    stream.send_in_epoch(5, Command::Run(run)).await;
    assert_eq!(stream.hear_until(started).await, id(TASK));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_operator_is_dialled_again() {
    let mut peer = Peer::start().await;
    peer.store.is_silent.store(true, Ordering::Relaxed);
    let _worker = peer.worker();
    let mut stream = peer.accept().await;
    stream.hear_until(hello).await;
    let start = Instant::now();
    let mut again = peer.accept().await;
    again.hear_until(hello).await;
    assert!(
        start.elapsed() > Duration::from_secs(15),
        "it was left too soon"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_of_another_authority_gets_no_token() {
    let peer = Peer::start().await;
    let mut impostor = peer.impostor().await;
    let worker = impostor.worker();
    eventually("the worker says what is wrong", || {
        worker.log().contains("certificate").then_some(())
    })
    .await;
    assert!(impostor.nobody_came());
    assert_eq!(worker.get("/readyz").await.0, 503);
}
