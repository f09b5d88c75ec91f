//! What a worker does about a store that gives wrong bytes, refuses or is full.

use std::sync::atomic::Ordering;

use framewright_crds::names;
use framewright_crds::protocol::{
    Command, FileConfig, FileSource, ModelConfig, ModelState, Outcome, WorkerMessage,
};

use crate::conversation::{
    TASK, configured, finished, hello, id, renewal, send_link, started, state_of, store_error,
    upload_request,
};
use crate::peer::{Peer, clip, digest, picture, weights};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_weight_file_fails_its_own_model_and_says_which() {
    let mut peer = Peer::start().await;
    let _worker = peer.worker();
    let mut stream = peer.accept().await;
    stream.hear_until(hello).await;
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
    let wrong_volume = ModelConfig {
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
        ModelConfig {
            digest: "third".into(),
            ..wrong_volume
        },
        peer.model_from("later", &digest(b"later"), 5, FileSource::AwaitingUpload),
        peer.model("good", &good),
        volume,
    ];
    stream.send(Command::Configure { models }).await;

    let mut states = std::collections::BTreeMap::new();
    while states.len() < 7 {
        if let WorkerMessage::Model { name, state, .. } = stream.hear().await
            && !matches!(state, ModelState::Loading { .. })
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
    stream.send(Command::Configure { models }).await;
    stream
        .hear_until(|said| state_of(said, "later", ModelState::Ready))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_models_texts_are_verified_and_one_file_of_weights_is_enough() {
    let mut peer = Peer::start().await;
    let _worker = peer.worker();
    let mut stream = peer.accept().await;
    stream.hear_until(hello).await;
    let with = |text: FileConfig| vec![peer.file("deep/x.safetensors", &weights()), text];
    let pinned = digest(b"what the pool pins");
    peer.store.lie(&pinned, b"a licence");
    let lie = FileConfig {
        digest: names::digest(&pinned),
        from: FileSource::Url(peer.url(&pinned)),
        ..peer.file("LICENCE.txt", b"a licence")
    };
    let later = FileConfig {
        from: FileSource::AwaitingUpload,
        ..peer.file("config.json", b"{}")
    };
    let models = vec![
        peer.model_of("good", with(peer.file("LICENCE.txt", b"a licence"))),
        peer.model_of("lie", with(lie)),
        peer.model_of("later", with(later)),
        peer.model_of("texts", vec![peer.file("LICENCE.txt", b"a licence")]),
    ];
    stream.send(Command::Configure { models }).await;
    let mut states = std::collections::BTreeMap::new();
    while states.len() < 4 {
        if let WorkerMessage::Model { name, state, .. } = stream.hear().await
            && !matches!(state, ModelState::Loading { .. })
        {
            states.insert(name, state);
        }
    }
    assert_eq!(states["good"], ModelState::Ready);
    assert_eq!(states["later"], ModelState::AwaitingUpload);
    for (model, words) in [
        ("lie", "file LICENCE.txt: the store gave bytes with SHA-256"),
        ("texts", "exactly one .safetensors file, and 0 are listed"),
    ] {
        let ModelState::Failed { message } = &states[model] else {
            panic!("{model} is {:?}", states[model]);
        };
        assert!(message.contains(words), "{model}: {message}");
    }

    let run = peer.task(TASK, "good", "image", &picture(peer.folder.path()));
    stream.send(Command::Run(Box::new(run))).await;
    assert_eq!(stream.hear_until(started).await, id(TASK));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_store_is_waited_for_and_nothing_is_computed_twice() {
    let mut peer = Peer::start().await;
    let worker = peer.worker();
    let mut stream = configured(&mut peer).await;
    let run = peer.task(TASK, "twice", "video", &clip(peer.folder.path(), 10));
    stream.send(Command::Run(Box::new(run))).await;
    let (task, output) = stream.hear_until(upload_request).await;
    peer.store.is_down.store(true, Ordering::Relaxed);
    send_link(&peer, &stream, &task, &output).await;
    let (_, error) = stream.hear_until(store_error).await;
    assert!(
        error
            .as_ref()
            .is_some_and(|error| error.contains("waits for the store: the store says 5")),
        "{error:?}"
    );
    // Each try asks for a link of its own.
    let (task, again) = stream.hear_until(upload_request).await;
    assert_eq!(again, output);
    send_link(&peer, &stream, &task, &output).await;
    let (task, _) = stream.hear_until(upload_request).await;
    assert!(peer.store.refused.load(Ordering::Relaxed) >= 2);
    peer.store.is_down.store(false, Ordering::Relaxed);
    send_link(&peer, &stream, &task, &output).await;

    let (_, outcome) = stream.hear_until(finished).await;
    assert!(matches!(outcome, Outcome::Succeeded { .. }), "{outcome:?}");
    let (_, metrics) = worker.get("/metrics").await;
    assert!(
        metrics.contains("framewright_worker_frames_total 10"),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_that_have_expired_are_asked_for_again() {
    let mut peer = Peer::start().await;
    let _worker = peer.worker();
    let mut stream = peer.accept().await;
    stream.hear_until(hello).await;
    peer.store.oldest_link.store(7, Ordering::Relaxed);
    let mut model = peer.model("twice", &weights());
    let digest = model.files[0].digest.clone();
    model.files[0].from = FileSource::Url(peer.link(&digest, 6));
    stream
        .send(Command::Configure {
            models: vec![model.clone()],
        })
        .await;
    assert_eq!(stream.hear_until(renewal).await, None);
    model.files[0].from = FileSource::Url(peer.link(&digest, 7));
    stream
        .send(Command::Configure {
            models: vec![model],
        })
        .await;
    stream
        .hear_until(|said| state_of(said, "twice", ModelState::Ready))
        .await;

    let mut run = peer.task(TASK, "twice", "image", &picture(peer.folder.path()));
    let digest = run.inputs[0].digest.clone();
    run.inputs[0].url = peer.link(&digest, 6);
    stream.send(Command::Run(Box::new(run.clone()))).await;
    assert_eq!(stream.hear_until(renewal).await, Some(id(TASK)));
    run.inputs[0].url = peer.link(&digest, 7);
    stream.send(Command::Run(Box::new(run))).await;
    assert_eq!(stream.hear_until(started).await, id(TASK));
}
