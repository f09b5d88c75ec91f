//! What does the process take from its machine, and how does it end?

use framewright_crds::aijob::Cause;
use framewright_crds::protocol::{Command, Outcome, WorkerMessage};

use crate::conversation::{TASK, configured, finished, hello, id, started, uploaded};
use crate::peer::{self, Peer, clip, picture};

#[cfg(not(feature = "cuda"))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_without_its_device_says_so_and_takes_no_task() {
    let mut peer = Peer::start().await;
    let _worker = peer.worker_with(&["--device", "cuda"]);
    let mut stream = peer.accept().await;
    let WorkerMessage::Hello(hello) = stream.hear().await else {
        panic!("not a Hello");
    };
    assert_eq!(hello.device, framewright_crds::modelpool::Device::Cuda);
    assert!(hello.device_error.unwrap().contains("built without CUDA"));
    assert_eq!(hello.memory, None);
    stream
        .send(Command::Configure {
            models: vec![peer.model("twice", &peer::weights())],
        })
        .await;
    let run = peer.task(TASK, "twice", "image", &picture(peer.folder.path()));
    stream.send(Command::Run(Box::new(run))).await;
    let (_, outcome) = stream.hear_until(finished).await;
    assert!(
        matches!(
            outcome,
            Outcome::Failed {
                cause: Cause::DeviceError,
                ..
            }
        ),
        "{outcome:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_threads_compute_as_the_worker_is_told_and_never_more_than_there_are_cores() {
    for (told, threads) in [("1", 1), ("100000", num_cpus::get())] {
        let mut peer = Peer::start().await;
        let worker = peer.worker_in(&[("FRAMEWRIGHT_THREADS", told)], &[]);
        let mut stream = configured(&mut peer).await;
        let run = peer.task(TASK, "twice", "image", &picture(peer.folder.path()));
        stream.send(Command::Run(Box::new(run))).await;
        uploaded(&peer, &mut stream).await;
        assert_eq!(worker.computing_threads(), threads, "told {told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_told_to_end_finishes_its_task_first() {
    let mut peer = Peer::start().await;
    let mut worker = peer.worker();
    let mut stream = configured(&mut peer).await;
    let run = peer.task(TASK, "twice", "video", &clip(peer.folder.path(), 300));
    stream.send(Command::Run(Box::new(run))).await;
    stream.hear_until(started).await;
    worker.signal("TERM");
    stream
        .hear_until(|said| matches!(said, WorkerMessage::Draining).then_some(()))
        .await;
    let late = "0b5c/late/0/1";
    let run = peer.task(late, "twice", "image", &picture(peer.folder.path()));
    stream.send(Command::Run(Box::new(run))).await;
    let (task, outcome) = stream.hear_until(finished).await;
    assert_eq!(task, id(late));
    assert!(
        matches!(
            outcome,
            Outcome::Failed {
                cause: Cause::WorkerDrained,
                ..
            }
        ),
        "{outcome:?}"
    );
    stream.send(Command::Ack { task }).await;

    uploaded(&peer, &mut stream).await;
    let (task, outcome) = stream.hear_until(finished).await;
    assert!(matches!(outcome, Outcome::Succeeded { .. }), "{outcome:?}");
    stream.send(Command::Ack { task }).await;
    assert_eq!(worker.ended().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_the_worker_at_once() {
    let mut peer = Peer::start().await;
    let mut worker = peer.worker();
    let mut stream = configured(&mut peer).await;
    let run = peer.task(TASK, "twice", "video", &peer::long_clip(peer.folder.path()));
    stream.send(Command::Run(Box::new(run))).await;
    stream.hear_until(started).await;
    worker.signal("TERM");
    stream
        .hear_until(|said| matches!(said, WorkerMessage::Draining).then_some(()))
        .await;
    worker.signal("TERM");
    worker.ended().await;

    // What the killed run left is cleared by the next.
    let scratch = peer.folder.path().join("scratch");
    std::fs::create_dir_all(scratch.join("task-of-a-killed-run")).unwrap();
    let _worker = peer.worker();
    peer.accept().await.hear_until(hello).await;
    assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 0);
}
