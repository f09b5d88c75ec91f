//! Does a task that the operator orders get done, or stopped, or refused in words?

use std::time::Duration;

use framewright_crds::aijob::{Cause, Upscale};
use framewright_crds::wire::{Order, Outcome, Pipeline};

use crate::conversation::{
    TASK, finished, id, progress, started, upload_request, uploaded, welcomed,
};
use crate::peer::{self, Peer, Worker, clip, eventually, picture, size_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_goes_from_order_to_outcome() {
    let mut peer = Peer::start().await;
    let worker = peer.worker();
    let mut stream = welcomed(&mut peer).await;
    assert_eq!(stream.token, peer::TOKEN);

    let order = peer.task(TASK, "twice", "video", &clip(peer.folder.path(), 10));
    stream.order(Order::Run(Box::new(order))).await;
    assert_eq!(stream.hear_until(started).await, id(TASK));
    let output = uploaded(&peer, &mut stream).await;
    let (task, outcome) = stream.hear_until(finished).await;

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

    stream.order(Order::Settled { task }).await;
    eventually("scratch is empty", || {
        let mut left = std::fs::read_dir(peer.folder.path().join("scratch")).unwrap();
        left.next().is_none().then_some(())
    })
    .await;
    assert_eq!(worker.get("/healthz").await.0, 200);
    assert_eq!(worker.get("/readyz").await.0, 200);
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
async fn an_image_keeps_its_alpha_and_gets_twice_the_size() {
    let mut peer = Peer::start().await;
    let _worker = peer.worker();
    let mut stream = welcomed(&mut peer).await;
    let see_through =
        image::RgbaImage::from_fn(9, 7, |x, y| image::Rgba([x as u8, y as u8, 9, 99]));
    let mut png = std::io::Cursor::new(Vec::new());
    see_through
        .write_to(&mut png, image::ImageFormat::Png)
        .unwrap();
    let order = peer.task(TASK, "twice", "image", png.get_ref());
    stream.order(Order::Run(Box::new(order))).await;
    let output = uploaded(&peer, &mut stream).await;
    let (_, outcome) = stream.hear_until(finished).await;
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
    let mut stream = welcomed(&mut peer).await;
    let order = peer.task(TASK, "twice", "video", &peer::long_clip(peer.folder.path()));
    stream.order(Order::Run(Box::new(order))).await;
    stream.hear_until(progress).await;
    stream.order(Order::Cancel { task: id(TASK) }).await;
    let next = "0b5c/poster/0/1";
    let order = peer.task(next, "twice", "image", &picture(peer.folder.path()));
    stream.order(Order::Run(Box::new(order))).await;

    let (task, _) = stream.hear_until(upload_request).await;
    assert_eq!(task, id(next), "the cancelled task computes no more");
    let scratch = std::fs::read_dir(peer.folder.path().join("scratch")).unwrap();
    assert_eq!(scratch.count(), 1, "its files are gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_is_cancelled_before_its_turn_stops_though_another_one_computes() {
    let mut peer = Peer::start().await;
    let worker = peer.worker_with(&["--slots", "2"]);
    let mut stream = welcomed(&mut peer).await;
    let order = peer.task(TASK, "twice", "video", &peer::long_clip(peer.folder.path()));
    stream.order(Order::Run(Box::new(order))).await;
    stream.hear_until(progress).await;
    let before = fetched(&worker).await;
    let waiting = "0b5c/poster/0/1";
    let picture = picture(peer.folder.path());
    let order = peer.task(waiting, "twice", "image", &picture);
    stream.order(Order::Run(Box::new(order))).await;
    // What is counted when its inputs are fetched.
    let fetching = async {
        while fetched(&worker).await == before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let deadline = Duration::from_secs(60);
    tokio::time::timeout(deadline, fetching).await.unwrap();

    let task = id(waiting);
    stream.order(Order::Cancel { task }).await;
    eventually("it stops", || {
        worker.log().contains("stopped").then_some(())
    })
    .await;
    assert!(!worker.log().contains("computed"), "{}", worker.log());
    assert_eq!(stream.hear_until(progress).await, id(TASK));
}

/// The line of the metrics that says how long tasks have fetched.
async fn fetched(worker: &Worker) -> Option<String> {
    let (_, metrics) = worker.get("/metrics").await;
    let mut lines = metrics.lines();
    let line = lines.find(|line| line.contains("stage_seconds_total{stage=\"fetch\"}"));
    line.map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_fails_with_a_sentence_and_the_worker_goes_on() {
    let mut peer = Peer::start().await;
    let worker = peer.worker();
    let mut stream = welcomed(&mut peer).await;
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
        stream.order(Order::Run(Box::new(order))).await;
        let (finished, outcome) = stream.hear_until(finished).await;
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
    stream.order(Order::Run(Box::new(too_large))).await;
    let (_, outcome) = stream.hear_until(finished).await;
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
    stream.order(Order::Run(Box::new(order))).await;
    uploaded(&peer, &mut stream).await;
    assert_eq!(worker.get("/healthz").await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_needs_more_scratch_than_there_is_says_so() {
    let mut peer = Peer::start().await;
    let _worker = peer.worker_with(&["--scratch-limit", "60000"]);
    let mut stream = welcomed(&mut peer).await;
    let large = clip(peer.folder.path(), 600);
    let noise = peer::noise(peer.folder.path());
    assert!(large.len() > 60_000 && noise.len() < 20_000);
    for (number, (input, content)) in [("video", large), ("image", noise)].into_iter().enumerate() {
        let order = peer.task(&format!("0b5c/step-{number}/0/1"), "twice", input, &content);
        stream.order(Order::Run(Box::new(order))).await;
        let (_, outcome) = stream.hear_until(finished).await;
        let Outcome::Failed { cause, message } = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(cause, Cause::ScratchFull, "{message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ffmpeg_that_is_killed_alone_is_told_as_out_of_memory() {
    let mut peer = Peer::start().await;
    let worker = peer.worker();
    let mut stream = welcomed(&mut peer).await;
    let order = peer.task(TASK, "twice", "video", &peer::long_clip(peer.folder.path()));
    stream.order(Order::Run(Box::new(order))).await;
    stream.hear_until(progress).await;
    worker.kill_ffmpeg().await;

    let (_, outcome) = stream.hear_until(finished).await;
    let Outcome::Failed { cause, message } = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(cause, Cause::OutOfMemory, "{message}");
    assert!(
        message.contains("raise the pool's memory limit"),
        "{message}"
    );
    assert_eq!(worker.get("/healthz").await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_tells_the_story_and_no_secret() {
    let mut peer = Peer::start().await;
    let worker = peer.worker();
    let mut stream = welcomed(&mut peer).await;
    let order = peer.task(TASK, "twice", "image", &picture(peer.folder.path()));
    stream.order(Order::Run(Box::new(order))).await;
    uploaded(&peer, &mut stream).await;
    stream.hear_until(finished).await;
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
