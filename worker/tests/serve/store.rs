//! What does a worker do about a store that gives wrong bytes, refuses or is full?

use std::sync::atomic::Ordering;

use framewright_crds::wire::{FileSource, ModelOrder, ModelState, Order, Outcome, ToOperator};

use crate::conversation::{
    TASK, finished, grant, hello, id, renewal, started, state_of, store_trouble, upload_request,
    welcomed,
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
    stream.order(Order::Welcome { models }).await;

    let mut states = std::collections::BTreeMap::new();
    while states.len() < 7 {
        if let ToOperator::Model { name, state, .. } = stream.hear().await
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
    stream.order(Order::Welcome { models }).await;
    stream
        .hear_until(|said| state_of(said, "later", ModelState::Ready))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_store_is_waited_for_and_nothing_is_computed_twice() {
    let mut peer = Peer::start().await;
    let worker = peer.worker();
    let mut stream = welcomed(&mut peer).await;
    let order = peer.task(TASK, "twice", "video", &clip(peer.folder.path(), 10));
    stream.order(Order::Run(Box::new(order))).await;
    let (task, output) = stream.hear_until(upload_request).await;
    peer.store.is_down.store(true, Ordering::Relaxed);
    grant(&peer, &stream, &task, &output).await;
    let (_, trouble) = stream.hear_until(store_trouble).await;
    assert!(
        trouble
            .as_ref()
            .is_some_and(|trouble| trouble.contains("waits for the store: the store says 5")),
        "{trouble:?}"
    );
    // Each try asks for a grant of its own.
    let (task, again) = stream.hear_until(upload_request).await;
    assert_eq!(again, output);
    grant(&peer, &stream, &task, &output).await;
    let (task, _) = stream.hear_until(upload_request).await;
    assert!(peer.store.refused.load(Ordering::Relaxed) >= 2);
    peer.store.is_down.store(false, Ordering::Relaxed);
    grant(&peer, &stream, &task, &output).await;

    let (_, outcome) = stream.hear_until(finished).await;
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
    let mut stream = peer.accept().await;
    stream.hear_until(hello).await;
    peer.store.oldest_grant.store(7, Ordering::Relaxed);
    let mut model = peer.model("twice", &weights());
    let sha256 = model.files[0].sha256.clone();
    model.files[0].from = FileSource::Url(peer.grant(&sha256, 6));
    stream
        .order(Order::Welcome {
            models: vec![model.clone()],
        })
        .await;
    assert_eq!(stream.hear_until(renewal).await, None);
    model.files[0].from = FileSource::Url(peer.grant(&sha256, 7));
    stream
        .order(Order::Welcome {
            models: vec![model],
        })
        .await;
    stream
        .hear_until(|said| state_of(said, "twice", ModelState::Ready))
        .await;

    let mut order = peer.task(TASK, "twice", "image", &picture(peer.folder.path()));
    let sha256 = order.inputs[0].sha256.clone();
    order.inputs[0].url = peer.grant(&sha256, 6);
    stream.order(Order::Run(Box::new(order.clone()))).await;
    assert_eq!(stream.hear_until(renewal).await, Some(id(TASK)));
    order.inputs[0].url = peer.grant(&sha256, 7);
    stream.order(Order::Run(Box::new(order))).await;
    assert_eq!(stream.hear_until(started).await, id(TASK));
}
