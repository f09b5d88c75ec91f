//! What becomes of weights in a worker's cache.

use framewright_crds::aijob::Cause;
use framewright_crds::protocol::{Command, ModelState, Outcome, WorkerMessage};

use crate::conversation::{TASK, configured, finished, hello, state_of, uploaded};
use crate::peer::{Peer, clip, digest, weights};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_that_were_damaged_in_the_cache_are_fetched_again() {
    let mut peer = Peer::start().await;
    let good = weights();
    let cached = peer.folder.path().join("weights").join(digest(&good));
    std::fs::create_dir_all(cached.parent().unwrap()).unwrap();
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(&cached, &damaged).unwrap();
    let _worker = peer.worker();
    let mut stream = peer.accept().await;
    stream.hear_until(hello).await;
    let models = vec![peer.model("twice", &good)];
    stream.send(Command::Configure { models }).await;
    stream
        .hear_until(|said| {
            if let WorkerMessage::Model {
                state: ModelState::Failed { message },
                ..
            } = &said
            {
                panic!("{message}");
            }
            state_of(said, "twice", ModelState::Ready)
        })
        .await;
    assert_eq!(std::fs::read(&cached).unwrap(), good);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_that_were_damaged_after_they_were_verified_cost_one_attempt() {
    let mut peer = Peer::start().await;
    let _worker = peer.worker();
    let mut stream = configured(&mut peer).await;
    let good = weights();
    let cached = peer.folder.path().join("weights").join(digest(&good));
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(&cached, &damaged).unwrap();

    let input = clip(peer.folder.path(), 2);
    let run = peer.task(TASK, "twice", "video", &input);
    stream.send(Command::Run(Box::new(run))).await;
    // Either may come first.
    let (mut outcome, mut is_ready) = (None, false);
    stream
        .hear_until(|said| {
            outcome = outcome.take().or(finished(said.clone()));
            is_ready |= state_of(said, "twice", ModelState::Ready).is_some();
            (outcome.is_some() && is_ready).then_some(())
        })
        .await;
    let Some((_, Outcome::Failed { cause, message, .. })) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(cause, Cause::WeightsFailed, "{message}");

    let run = peer.task(&TASK.replace("/1", "/2"), "twice", "video", &input);
    stream.send(Command::Run(Box::new(run))).await;
    uploaded(&peer, &mut stream).await;
    let (_, outcome) = stream.hear_until(finished).await;
    assert!(matches!(outcome, Outcome::Succeeded { .. }), "{outcome:?}");
    assert_eq!(std::fs::read(&cached).unwrap(), good);
}
