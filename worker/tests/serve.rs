//! `serve` against an operator and a store: whole tasks, and what goes wrong on the way.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "what a test does not expect ends it"
)]

mod golden;
mod peer;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use framewright_crds::aijob::{Cause, Upscale};
use framewright_crds::modelpool::Device;
use framewright_crds::names::TaskId;
use framewright_crds::wire::{
    FileSource, ModelOrder, ModelState, Order, Outcome, OutputFile, Pipeline, TaskReport,
    TaskState, ToOperator,
};
use peer::{Link, Peer, clip, digest, eventually, picture, size_of, weights};

const TASK: &str = "0b5c/large/0/1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_tells_the_story_and_no_secret() {
    let mut peer = Peer::start().await;
    let worker = peer.worker();
    let mut link = welcomed(&mut peer).await;
    let order = peer.task(TASK, "twice", "image", &picture(peer.folder.path()));
    link.order(Order::Run(Box::new(order))).await;
    uploaded(&peer, &mut link).await;
    link.hear_until(finished).await;
    let log = eventually("the task is over", || {
        Some(worker.log()).filter(|log| log.contains("succeeded"))
    })
    .await;
    for word in ["connected", "studio/lighthouse", "computed", "uploaded"] {
        assert!(log.contains(word), "{word} is not in {log}");
    }
    for secret in [peer::TOKEN, "grant=", "/v1/artifacts"] {
        assert!(!log.contains(secret), "{secret} is in {log}");
    }
    assert!(log.lines().count() < 12, "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_keeps_its_alpha_and_gets_twice_the_size() {
    let mut peer = Peer::start().await;
    let _worker = peer.worker();
    let mut link = welcomed(&mut peer).await;
    let see_through =
        image::RgbaImage::from_fn(9, 7, |x, y| image::Rgba([x as u8, y as u8, 9, 99]));
    let mut png = std::io::Cursor::new(Vec::new());
    see_through
        .write_to(&mut png, image::ImageFormat::Png)
        .unwrap();
    let order = peer.task(TASK, "twice", "image", png.get_ref());
    link.order(Order::Run(Box::new(order))).await;
    let output = uploaded(&peer, &mut link).await;
    let (_, outcome) = link.hear_until(finished).await;
    assert_eq!(
        outcome,
        Outcome::Succeeded {
            output: output.clone(),
            units: 18 * 14
        }
    );
    assert_eq!(output.media_type, "image/png");
    let result = image::load_from_memory(&peer.store.get(&output.sha256).unwrap()).unwrap();
    assert_eq!((result.width(), result.height()), (18, 14));
    assert!(result.to_rgba8().pixels().all(|pixel| pixel.0[3] == 99));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_task_stops_and_the_next_one_is_done() {
    let mut peer = Peer::start().await;
    let _worker = peer.worker();
    let mut link = welcomed(&mut peer).await;
    let order = peer.task(TASK, "twice", "video", &peer::long_clip(peer.folder.path()));
    link.order(Order::Run(Box::new(order))).await;
    link.hear_until(progress).await;
    link.order(Order::Cancel { task: id(TASK) }).await;
    let next = "0b5c/poster/0/1";
    let order = peer.task(next, "twice", "image", &picture(peer.folder.path()));
    link.order(Order::Run(Box::new(order))).await;

    let (task, _) = link.hear_until(upload_request).await;
    assert_eq!(task, id(next), "the cancelled task computes no more");
    let scratch = std::fs::read_dir(peer.folder.path().join("scratch")).unwrap();
    assert_eq!(scratch.count(), 1, "its files are gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_goes_on_while_the_stream_is_away_and_its_outcome_is_repeated_until_settled() {
    let mut peer = Peer::start().await;
    let _worker = peer.worker();
    let mut link = welcomed(&mut peer).await;
    let order = peer.task(TASK, "twice", "video", &clip(peer.folder.path(), 300));
    link.order(Order::Run(Box::new(order))).await;
    link.hear_until(started).await;
    drop(link);

    let mut link = peer.accept().await;
    let held = link.hear_until(hello).await;
    assert_eq!(held.len(), 1);
    assert_eq!(
        (&held[0].task, held[0].job.as_str()),
        (&id(TASK), "studio/lighthouse")
    );
    assert!(matches!(
        held[0].state,
        TaskState::Running { .. } | TaskState::Uploading { .. }
    ));
    let output = uploaded(&peer, &mut link).await;
    let (_, outcome) = link.hear_until(finished).await;
    assert_eq!(
        outcome,
        Outcome::Succeeded {
            output,
            units: 128 * 72 * 300
        }
    );
    drop(link);

    for _ in 0..2 {
        let held = peer.accept().await.hear_until(hello).await;
        assert_eq!(
            held[0].state,
            TaskState::Finished {
                outcome: outcome.clone()
            }
        );
    }
    let mut link = peer.accept().await;
    link.hear_until(hello).await;
    link.order(Order::Settled { task: id(TASK) }).await;
    // An answer to something later proves that the order was heard.
    link.order(Order::Welcome {
        models: vec![peer.model("twice", &weights())],
    })
    .await;
    link.hear_until(|said| state_of(said, "twice", ModelState::Ready))
        .await;
    drop(link);
    assert_eq!(peer.accept().await.hear_until(hello).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_operator_is_refused_and_left() {
    let mut peer = Peer::start().await;
    let _worker = peer.worker();
    let mut link = peer.accept().await;
    link.hear_until(hello).await;
    let models = vec![peer.model("twice", &weights())];
    link.order_of_epoch(
        5,
        Order::Welcome {
            models: models.clone(),
        },
    )
    .await;
    link.hear_until(|said| state_of(said, "twice", ModelState::Ready))
        .await;

    let order = Box::new(peer.task(TASK, "twice", "image", &picture(peer.folder.path())));
    link.order_of_epoch(4, Order::Run(order.clone())).await;
    while link.try_hear().await.is_some() {}

    let mut link = peer.accept().await;
    assert_eq!(
        link.hear_until(hello).await,
        [],
        "the older order had no effect"
    );
    link.order_of_epoch(5, Order::Welcome { models }).await;
    link.order_of_epoch(5, Order::Run(order)).await;
    assert_eq!(link.hear_until(started).await, id(TASK));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_weight_file_fails_its_own_model_and_says_which() {
    let mut peer = Peer::start().await;
    let _worker = peer.worker();
    let mut link = peer.accept().await;
    link.hear_until(hello).await;
    let good = weights();
    let mut cut = good.clone();
    cut.truncate(good.len() / 2);
    let pinned = digest(b"what the pool pins");
    peer.store.lie(&pinned, &good);
    let on_volume = peer.folder.path().join("volume.safetensors");
    std::fs::write(&on_volume, &good).unwrap();
    let file = |sha256: &str| {
        let from = FileSource::File(on_volume.to_str().unwrap().to_owned());
        peer.model_from("volume", sha256, good.len(), from)
    };
    let mut volume = file(&digest(&good));
    volume.digest = "another".into();
    let wrong_volume = ModelOrder {
        name: "wrong-volume".into(),
        ..file(&pinned)
    };
    let models = vec![
        peer.model("cut", &cut),
        peer.model_from(
            "lie",
            &pinned,
            good.len(),
            FileSource::Url(peer.url(&pinned)),
        ),
        peer.model("pickle", b"PK\x03\x04 archive/data.pkl"),
        ModelOrder {
            digest: "third".into(),
            ..wrong_volume
        },
        peer.model_from("later", &digest(b"later"), 5, FileSource::AwaitingUpload),
        peer.model("good", &good),
        volume,
    ];
    link.order(Order::Welcome { models }).await;

    let mut states = std::collections::BTreeMap::new();
    while states.len() < 7 {
        if let ToOperator::Model { name, state, .. } = link.hear().await
            && state != ModelState::Loading
        {
            states.insert(name, state);
        }
    }
    for (model, words) in [
        ("cut", "only 22456 follow the header"),
        ("lie", "SHA-256"),
        ("pickle", "pickle"),
        ("wrong-volume", "is pinned"),
    ] {
        let ModelState::Failed { message } = &states[model] else {
            panic!("{model} is {:?}", states[model]);
        };
        assert!(message.contains("x.safetensors"), "{model}: {message}");
        assert!(message.contains(words), "{model}: {message}");
    }
    assert_eq!(states["later"], ModelState::AwaitingUpload);
    assert_eq!(states["good"], ModelState::Ready);
    assert_eq!(states["volume"], ModelState::Ready);

    let models = vec![peer.model("later", &good)];
    link.order(Order::Welcome { models }).await;
    link.hear_until(|said| state_of(said, "later", ModelState::Ready))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_fails_with_a_sentence_and_the_worker_goes_on() {
    let mut peer = Peer::start().await;
    let worker = peer.worker();
    let mut link = welcomed(&mut peer).await;
    let video = clip(peer.folder.path(), 10);
    let cut = &video[..video.len() / 2];
    let image = picture(peer.folder.path());
    let cases: [(&str, &[u8], &str); 5] = [
        ("video", b"I am a video, honestly\n", "the file is text"),
        ("video", b"", "empty"),
        ("video", cut, "cut short"),
        ("video", &image, "input video is an image"),
        ("image", &video, "input image is a video"),
    ];
    for (number, (input, content, words)) in cases.into_iter().enumerate() {
        let task = format!("0b5c/step-{number}/0/1");
        let order = peer.task(&task, "twice", input, content);
        link.order(Order::Run(Box::new(order))).await;
        let (finished, outcome) = link.hear_until(finished).await;
        assert_eq!(finished, id(&task));
        let Outcome::Failed { cause, message } = outcome else {
            panic!("{words}: {outcome:?}");
        };
        assert_eq!(cause, Cause::InvalidInput, "{message}");
        assert!(message.contains(words), "{words}: {message}");
        assert!(!message.contains("scratch"), "{message}");
    }
    let mut too_large = peer.task(TASK, "twice", "image", &image);
    too_large.pipeline = Pipeline::Upscale(Upscale {
        scale: Some(4),
        frames: None,
    });
    link.order(Order::Run(Box::new(too_large))).await;
    let (_, outcome) = link.hear_until(finished).await;
    assert!(
        matches!(
            outcome,
            Outcome::Failed {
                cause: Cause::InvalidInput,
                ..
            }
        ),
        "{outcome:?}"
    );

    let order = peer.task("0b5c/good/0/1", "twice", "image", &image);
    link.order(Order::Run(Box::new(order))).await;
    uploaded(&peer, &mut link).await;
    assert_eq!(worker.get("/healthz").await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_needs_more_scratch_than_there_is_says_so() {
    let mut peer = Peer::start().await;
    let _worker = peer.worker_with(&["--scratch-limit", "60k"]);
    let mut link = welcomed(&mut peer).await;
    let large = clip(peer.folder.path(), 600);
    let noise = peer::noise(peer.folder.path());
    assert!(large.len() > 60_000 && noise.len() < 20_000);
    for (number, (input, content)) in [("video", large), ("image", noise)].into_iter().enumerate() {
        let order = peer.task(&format!("0b5c/step-{number}/0/1"), "twice", input, &content);
        link.order(Order::Run(Box::new(order))).await;
        let (_, outcome) = link.hear_until(finished).await;
        let Outcome::Failed { cause, message } = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(cause, Cause::ScratchFull, "{message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_store_is_waited_for_and_nothing_is_computed_twice() {
    let mut peer = Peer::start().await;
    let worker = peer.worker();
    let mut link = welcomed(&mut peer).await;
    let order = peer.task(TASK, "twice", "video", &clip(peer.folder.path(), 10));
    link.order(Order::Run(Box::new(order))).await;
    let (task, output) = link.hear_until(upload_request).await;
    peer.store.is_down.store(true, Ordering::Relaxed);
    grant(&peer, &link, &task, &output).await;
    // Each try asks for a grant of its own.
    let (task, again) = link.hear_until(upload_request).await;
    assert_eq!(again, output);
    grant(&peer, &link, &task, &output).await;
    let (task, _) = link.hear_until(upload_request).await;
    assert!(peer.store.refused.load(Ordering::Relaxed) >= 2);
    peer.store.is_down.store(false, Ordering::Relaxed);
    grant(&peer, &link, &task, &output).await;

    let (_, outcome) = link.hear_until(finished).await;
    assert!(matches!(outcome, Outcome::Succeeded { .. }), "{outcome:?}");
    let (_, metrics) = worker.get("/metrics").await;
    assert!(
        metrics.contains("framewright_worker_frames_total 10"),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grants_that_are_over_are_asked_for_again() {
    let mut peer = Peer::start().await;
    let _worker = peer.worker();
    let mut link = peer.accept().await;
    link.hear_until(hello).await;
    peer.store.oldest_grant.store(7, Ordering::Relaxed);
    let mut model = peer.model("twice", &weights());
    let sha256 = model.files[0].sha256.clone();
    model.files[0].from = FileSource::Url(peer.grant(&sha256, 6));
    link.order(Order::Welcome {
        models: vec![model.clone()],
    })
    .await;
    assert_eq!(link.hear_until(renewal).await, None);
    model.files[0].from = FileSource::Url(peer.grant(&sha256, 7));
    link.order(Order::Welcome {
        models: vec![model],
    })
    .await;
    link.hear_until(|said| state_of(said, "twice", ModelState::Ready))
        .await;

    let mut order = peer.task(TASK, "twice", "image", &picture(peer.folder.path()));
    let sha256 = order.inputs[0].sha256.clone();
    order.inputs[0].url = peer.grant(&sha256, 6);
    link.order(Order::Run(Box::new(order.clone()))).await;
    assert_eq!(link.hear_until(renewal).await, Some(id(TASK)));
    order.inputs[0].url = peer.grant(&sha256, 7);
    link.order(Order::Run(Box::new(order))).await;
    assert_eq!(link.hear_until(started).await, id(TASK));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_told_to_end_finishes_its_task_first() {
    let mut peer = Peer::start().await;
    let mut worker = peer.worker();
    let mut link = welcomed(&mut peer).await;
    let order = peer.task(TASK, "twice", "video", &clip(peer.folder.path(), 300));
    link.order(Order::Run(Box::new(order))).await;
    link.hear_until(started).await;
    worker.signal("TERM");
    link.hear_until(|said| matches!(said, ToOperator::Draining).then_some(()))
        .await;
    let late = "0b5c/late/0/1";
    let order = peer.task(late, "twice", "image", &picture(peer.folder.path()));
    link.order(Order::Run(Box::new(order))).await;
    let (task, outcome) = link.hear_until(finished).await;
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
    link.order(Order::Settled { task }).await;

    uploaded(&peer, &mut link).await;
    let (task, outcome) = link.hear_until(finished).await;
    assert!(matches!(outcome, Outcome::Succeeded { .. }), "{outcome:?}");
    link.order(Order::Settled { task }).await;
    assert_eq!(worker.ended().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_the_worker_at_once() {
    let mut peer = Peer::start().await;
    let mut worker = peer.worker();
    let mut link = welcomed(&mut peer).await;
    let order = peer.task(TASK, "twice", "video", &peer::long_clip(peer.folder.path()));
    link.order(Order::Run(Box::new(order))).await;
    link.hear_until(started).await;
    worker.signal("TERM");
    link.hear_until(|said| matches!(said, ToOperator::Draining).then_some(()))
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

#[cfg(not(feature = "cuda"))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_without_its_device_says_so_and_takes_no_task() {
    let mut peer = Peer::start().await;
    let _worker = peer.worker_with(&["--device", "cuda"]);
    let mut link = peer.accept().await;
    let ToOperator::Hello {
        device,
        device_trouble,
        ..
    } = link.hear().await
    else {
        panic!("not a Hello");
    };
    assert_eq!(device, Device::Cuda);
    assert!(device_trouble.unwrap().contains("built without CUDA"));
    link.order(Order::Welcome {
        models: vec![peer.model("twice", &weights())],
    })
    .await;
    let order = peer.task(TASK, "twice", "image", &picture(peer.folder.path()));
    link.order(Order::Run(Box::new(order))).await;
    let (_, outcome) = link.hear_until(finished).await;
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
async fn a_silent_operator_is_dialled_again() {
    let mut peer = Peer::start().await;
    peer.store.is_silent.store(true, Ordering::Relaxed);
    let _worker = peer.worker();
    let mut link = peer.accept().await;
    link.hear_until(hello).await;
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
    assert_eq!(worker.get("/ready").await.0, 503);
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

fn progress(said: ToOperator) -> Option<TaskId> {
    match said {
        ToOperator::Progress { task, .. } => Some(task),
        _ => None,
    }
}

fn renewal(said: ToOperator) -> Option<Option<TaskId>> {
    match said {
        ToOperator::RenewGrants { task } => Some(task),
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
