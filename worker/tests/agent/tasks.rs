//! Does a task that the operator sends get done, or stopped, or refused with a sentence?

use std::time::Duration;

use framewright_crds::aijob::{Cause, Fact, OutputRole, Progress};
use framewright_crds::pipelines::Pipeline;
use framewright_crds::pipelines::upscale::Upscale;
use framewright_crds::protocol::{
    Command, LoadedModel, Outcome, PROTOCOLS, TaskState, WorkerMessage,
};

use crate::conversation::{
    TASK, configured, finished, hello, id, prepared, progress, started, stopped, upload_request,
    uploaded,
};
use crate::peer::{self, Peer, Worker, clip, eventually, picture, size_of};

/// The work of the whole step for a clip of 64 x 36 pixels that becomes twice as large.
const FRAME: u64 = 128 * 72;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_goes_from_command_to_outcome() {
    let mut peer = Peer::start().await;
    let worker = peer.worker();
    let mut stream = configured(&mut peer).await;
    assert_eq!(stream.token, peer::TOKEN);

    let run = peer.task(TASK, "twice", "video", &clip(peer.folder.path(), 10));
    stream.send(Command::Run(Box::new(run))).await;
    let units = 10 * FRAME;
    assert_eq!(stream.hear_until(prepared).await, (id(TASK), units));
    assert_eq!(stream.hear_until(started).await, id(TASK));
    let output = uploaded(&peer, &mut stream).await;
    let (task, outcome) = stream.hear_until(finished).await;

    assert_eq!(task, id(TASK));
    let Outcome::Succeeded {
        outputs,
        usage,
        record,
    } = outcome
    else {
        panic!("{outcome:?}");
    };
    assert_eq!(outputs, std::slice::from_ref(&output));
    assert_eq!(
        (output.name.as_str(), output.role),
        ("video", OutputRole::Result)
    );
    let fact = |(name, value): (&str, &str)| Fact {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    let facts = [("width", "128"), ("height", "72"), ("frames", "10")];
    assert_eq!(output.facts, facts.map(fact));
    assert_eq!(usage.unit, "pixels");
    assert_eq!(u64::try_from(usage.amount), Ok(units), "as prepared");
    assert_eq!(record.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(record.models, [peer.model_digest("twice")]);
    assert_eq!((record.seed, record.driver), (7, None));
    assert!(!record.device.is_empty() && record.compute_ms > 0);
    let video = peer.folder.path().join("result.mp4");
    std::fs::write(&video, peer.store.get(&output.digest).unwrap()).unwrap();
    assert_eq!(size_of(&video), "128,72,10");

    stream.send(Command::Ack { task }).await;
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
    let mut stream = configured(&mut peer).await;
    let see_through =
        image::RgbaImage::from_fn(9, 7, |x, y| image::Rgba([x as u8, y as u8, 9, 99]));
    let mut png = std::io::Cursor::new(Vec::new());
    see_through
        .write_to(&mut png, image::ImageFormat::Png)
        .unwrap();
    let run = peer.task(TASK, "twice", "image", png.get_ref());
    stream.send(Command::Run(Box::new(run))).await;
    let output = uploaded(&peer, &mut stream).await;
    let (_, outcome) = stream.hear_until(finished).await;
    let Outcome::Succeeded { outputs, usage, .. } = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(outputs, std::slice::from_ref(&output));
    assert_eq!(
        (output.name.as_str(), output.facts.len(), usage.amount),
        ("image", 2, 18 * 14)
    );
    assert_eq!(output.media_type, "image/png");
    let result = image::load_from_memory(&peer.store.get(&output.digest).unwrap()).unwrap();
    assert_eq!((result.width(), result.height()), (18, 14));
    assert!(result.to_rgba8().pixels().all(|pixel| pixel.0[3] == 99));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_task_stops_and_the_next_one_is_done() {
    let mut peer = Peer::start().await;
    let _worker = peer.worker();
    let mut stream = configured(&mut peer).await;
    let run = peer.task(TASK, "twice", "video", &peer::long_clip(peer.folder.path()));
    stream.send(Command::Run(Box::new(run))).await;
    stream.hear_until(progress).await;
    stream.send(Command::Cancel { task: id(TASK) }).await;
    let next = "0b5c/poster/0/1";
    let run = peer.task(next, "twice", "image", &picture(peer.folder.path()));
    stream.send(Command::Run(Box::new(run))).await;

    assert_eq!(stream.hear_until(stopped).await, id(TASK));
    let (task, _) = stream.hear_until(upload_request).await;
    assert_eq!(task, id(next), "the cancelled task computes no more");
    let scratch = std::fs::read_dir(peer.folder.path().join("scratch")).unwrap();
    assert_eq!(scratch.count(), 1, "its files are gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_is_cancelled_before_its_turn_stops_though_another_one_computes() {
    let mut peer = Peer::start().await;
    let worker = peer.worker_with(&["--slots", "2"]);
    let mut stream = configured(&mut peer).await;
    let run = peer.task(TASK, "twice", "video", &peer::long_clip(peer.folder.path()));
    stream.send(Command::Run(Box::new(run))).await;
    stream.hear_until(progress).await;
    let before = fetched(&worker).await;
    let waiting = "0b5c/poster/0/1";
    let picture = picture(peer.folder.path());
    let run = peer.task(waiting, "twice", "image", &picture);
    stream.send(Command::Run(Box::new(run))).await;
    // What is counted when its inputs are fetched.
    let fetching = async {
        while fetched(&worker).await == before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let deadline = Duration::from_secs(60);
    tokio::time::timeout(deadline, fetching).await.unwrap();

    let task = id(waiting);
    stream.send(Command::Cancel { task }).await;
    eventually("it stops", || {
        worker.log().contains("stopped").then_some(())
    })
    .await;
    assert!(!worker.log().contains("computed"), "{}", worker.log());
    assert_eq!(stream.hear_until(progress).await, id(TASK));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_with_a_limit_computes_when_the_operator_lets_it() {
    let mut peer = Peer::start().await;
    let worker = peer.worker();
    let mut stream = configured(&mut peer).await;
    let mut run = peer.task(TASK, "twice", "video", &clip(peer.folder.path(), 10));
    run.max_units = Some(10 * FRAME);
    stream.send(Command::Run(Box::new(run))).await;
    assert_eq!(stream.hear_until(prepared).await, (id(TASK), 10 * FRAME));
    drop(stream);

    let mut stream = peer.accept().await;
    let held = stream.hear_until(hello).await;
    assert_eq!(held[0].state, TaskState::Prepared { units: 10 * FRAME });
    assert!(!worker.log().contains("loaded weights"), "{}", worker.log());
    stream.send(Command::Proceed { task: id(TASK) }).await;
    assert_eq!(stream.hear_until(started).await, id(TASK));
    uploaded(&peer, &mut stream).await;
    let (_, outcome) = stream.hear_until(finished).await;
    assert!(matches!(outcome, Outcome::Succeeded { .. }), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_beyond_its_limit_fails_before_it_computes_and_both_numbers_are_named() {
    let mut peer = Peer::start().await;
    let worker = peer.worker();
    let mut stream = configured(&mut peer).await;
    let mut run = peer.task(TASK, "twice", "video", &clip(peer.folder.path(), 10));
    run.max_units = Some(10 * FRAME - 1);
    stream.send(Command::Run(Box::new(run))).await;
    let (_, outcome) = stream.hear_until(finished).await;
    let Outcome::Failed {
        cause,
        message,
        usage,
    } = outcome
    else {
        panic!("{outcome:?}");
    };
    assert_eq!((cause, usage), (Cause::InvalidInput, None));
    assert!(
        message.contains("takes 92160 pixels") && message.contains("at most 92159"),
        "{message}"
    );
    assert!(!worker.log().contains("loaded weights"), "{}", worker.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_waits_for_the_operator_can_be_cancelled_and_another_one_sent() {
    let mut peer = Peer::start().await;
    let _worker = peer.worker();
    let mut stream = configured(&mut peer).await;
    let image = picture(peer.folder.path());
    let mut run = peer.task(TASK, "twice", "image", &image);
    run.max_units = Some(u64::MAX);
    stream.send(Command::Run(Box::new(run))).await;
    stream.hear_until(prepared).await;
    stream.send(Command::Cancel { task: id(TASK) }).await;
    assert_eq!(stream.hear_until(stopped).await, id(TASK));
    let next = "0b5c/poster/0/1";
    let run = peer.task(next, "twice", "image", &image);
    stream.send(Command::Run(Box::new(run))).await;
    assert_eq!(stream.hear_until(started).await, id(next));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_and_fields_of_later_versions_are_ignored() {
    let mut peer = Peer::start().await;
    let _worker = peer.worker();
    let mut stream = configured(&mut peer).await;
    let dance = r#"{"epoch": 1, "command": {"type": "dance", "steps": [1, 2]}, "mood": "good"}"#;
    stream.send_text(dance.to_owned()).await;
    let run = peer.task(TASK, "twice", "image", &picture(peer.folder.path()));
    stream.send(Command::Run(Box::new(run))).await;
    assert_eq!(stream.hear_until(started).await, id(TASK));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_says_what_it_is_and_which_model_it_has_loaded() {
    let mut peer = Peer::start().await;
    let _worker = peer.worker();
    let mut stream = configured(&mut peer).await;
    let run = peer.task(TASK, "twice", "image", &picture(peer.folder.path()));
    stream.send(Command::Run(Box::new(run))).await;
    let loaded = stream
        .hear_until(|said| match said {
            WorkerMessage::Loaded { models, .. } => Some(models),
            _ => None,
        })
        .await;
    let [LoadedModel { digest, bytes }] = &loaded[..] else {
        panic!("{loaded:?}");
    };
    assert_eq!(*digest, peer.model_digest("twice"));
    let file = u64::try_from(peer::weights().len()).unwrap();
    assert!((file / 2..=file).contains(bytes), "{bytes} of {file}");
    drop(stream);

    let WorkerMessage::Hello(hello) = peer.accept().await.hear().await else {
        panic!("not a Hello");
    };
    assert_eq!(hello.protocols, PROTOCOLS);
    assert_eq!(hello.pipelines, ["upscale", "interpolate"]);
    assert_eq!(hello.loaded, loaded);
    assert!(hello.memory.is_some_and(|bytes| bytes > 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_worker_cannot_do_fails_with_a_sentence() {
    let mut peer = Peer::start().await;
    let _worker = peer.worker();
    let mut stream = configured(&mut peer).await;
    let image = picture(peer.folder.path());
    let mut other = peer.task("0b5c/other/0/1", "twice", "image", &image);
    other.pipeline = Pipeline::Noop(Default::default());
    let mut adapter = peer.task("0b5c/adapter/0/1", "twice", "image", &image);
    adapter.models[0].role = "adapter".to_owned();
    for (run, words) in [
        (other, "cannot do the pipeline noop, only upscale"),
        (adapter, "upscale needs a model with the role base"),
    ] {
        stream.send(Command::Run(Box::new(run))).await;
        let (_, outcome) = stream.hear_until(finished).await;
        let Outcome::Failed { cause, message, .. } = outcome else {
            panic!("{words}: {outcome:?}");
        };
        assert_eq!(cause, Cause::Internal, "{message}");
        assert!(message.contains(words), "{words}: {message}");
    }
}

/// Progress beyond the first frame.
fn first_frame(said: WorkerMessage) -> Option<()> {
    match said {
        WorkerMessage::Progress {
            progress: Progress { done, .. },
            ..
        } => done.filter(|done| *done > 0).map(drop),
        _ => None,
    }
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
    let mut stream = configured(&mut peer).await;
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
        let run = peer.task(&task, "twice", input, content);
        stream.send(Command::Run(Box::new(run))).await;
        let (finished, outcome) = stream.hear_until(finished).await;
        assert_eq!(finished, id(&task));
        let Outcome::Failed {
            cause,
            message,
            usage,
        } = outcome
        else {
            panic!("{words}: {outcome:?}");
        };
        assert_eq!((cause, usage), (Cause::InvalidInput, None), "{message}");
        assert!(message.contains(words), "{words}: {message}");
        assert!(!message.contains("scratch"), "{message}");
    }
    let mut too_large = peer.task(TASK, "twice", "image", &image);
    too_large.pipeline = Pipeline::Upscale(Upscale {
        scale: Some(4),
        frames: None,
    });
    stream.send(Command::Run(Box::new(too_large))).await;
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

    let run = peer.task("0b5c/good/0/1", "twice", "image", &image);
    stream.send(Command::Run(Box::new(run))).await;
    uploaded(&peer, &mut stream).await;
    assert_eq!(worker.get("/healthz").await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_needs_more_scratch_than_there_is_says_so() {
    let mut peer = Peer::start().await;
    let _worker = peer.worker_with(&["--scratch-limit", "60000"]);
    let mut stream = configured(&mut peer).await;
    let large = clip(peer.folder.path(), 600);
    let noise = peer::noise(peer.folder.path());
    assert!(large.len() > 60_000 && noise.len() < 20_000);
    for (number, (input, content)) in [("video", large), ("image", noise)].into_iter().enumerate() {
        let run = peer.task(&format!("0b5c/step-{number}/0/1"), "twice", input, &content);
        stream.send(Command::Run(Box::new(run))).await;
        let (_, outcome) = stream.hear_until(finished).await;
        let Outcome::Failed { cause, message, .. } = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(cause, Cause::ScratchFull, "{message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ffmpeg_that_is_killed_alone_is_told_as_out_of_memory() {
    let mut peer = Peer::start().await;
    let worker = peer.worker();
    let mut stream = configured(&mut peer).await;
    let run = peer.task(TASK, "twice", "video", &peer::long_clip(peer.folder.path()));
    stream.send(Command::Run(Box::new(run))).await;
    stream.hear_until(first_frame).await;
    worker.kill_ffmpeg().await;

    let (_, outcome) = stream.hear_until(finished).await;
    let Outcome::Failed {
        cause,
        message,
        usage,
    } = outcome
    else {
        panic!("{outcome:?}");
    };
    assert_eq!(cause, Cause::OutOfMemory, "{message}");
    let done = usage.map(|usage| u64::try_from(usage.amount).unwrap());
    assert!(
        done.is_some_and(|done| done > 0 && done % FRAME == 0),
        "the frames that were computed are counted: {done:?}"
    );
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
    let mut stream = configured(&mut peer).await;
    let run = peer.task(TASK, "twice", "image", &picture(peer.folder.path()));
    stream.send(Command::Run(Box::new(run))).await;
    uploaded(&peer, &mut stream).await;
    stream.hear_until(finished).await;
    let log = eventually("the task is over", || {
        Some(worker.log()).filter(|log| log.contains("succeeded"))
    })
    .await;
    for word in ["connected", "studio/lighthouse", "computed", "uploaded"] {
        assert!(log.contains(word), "{word} is not in {log}");
    }
    for secret in [peer::TOKEN, "link=", "/v1/artifacts"] {
        assert!(!log.contains(secret), "{secret} is in {log}");
    }
    assert!(log.lines().count() < 12, "{log}");
}
