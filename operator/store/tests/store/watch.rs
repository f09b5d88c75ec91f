//! The stream on which the store says which files are there.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use axum::extract::ws::WebSocketUpgrade;
use axum::routing::any;
use framewright_store::client::StoreClient;
use framewright_store::grants::Verb;
use framewright_store::key::ArtifactKey;
use framewright_store::watch::{FileEvent, FileEvents, FileWatch, FileWatchHandle, WatchTimes};
use futures::StreamExt;
use tokio_tungstenite::connect_async;

use crate::fixture::{Mounts, Store, content, key_of, keys, link, owner, reason};

const DEADLINE: Duration = Duration::from_secs(20);
/// Long enough for anything that is wrongly told to arrive.
const QUIET: Duration = Duration::from_millis(600);

/// An operator's end.
struct Watcher {
    handle: FileWatchHandle,
    events: FileEvents,
}

impl Watcher {
    async fn of(store: &Store) -> Result<Watcher> {
        Watcher::with(store, WatchTimes::default()).await
    }

    async fn with(store: &Store, times: WatchTimes) -> Result<Watcher> {
        let (handle, events) = FileWatch::start_with(store.client()?, times);
        let mut watcher = Watcher { handle, events };
        ensure!(watcher.next().await? == FileEvent::Back);
        Ok(watcher)
    }

    async fn next(&mut self) -> Result<FileEvent> {
        let next = tokio::time::timeout(DEADLINE, self.events.recv()).await;
        next.context("nothing was told")
    }

    async fn says_nothing(&mut self) -> Result<()> {
        if let Ok(event) = tokio::time::timeout(QUIET, self.events.recv()).await {
            bail!("told without need: {event:?}");
        }
        Ok(())
    }

    /// Watches a file that is not there.
    async fn await_missing(&mut self, key: &ArtifactKey) -> Result<()> {
        self.handle.watch(key.clone());
        ensure!(self.next().await? == missing(key));
        Ok(())
    }
}

fn missing(key: &ArtifactKey) -> FileEvent {
    FileEvent::Missing { key: key.clone() }
}

fn present(key: &ArtifactKey, bytes: u64) -> FileEvent {
    FileEvent::Present {
        key: key.clone(),
        bytes,
    }
}

/// The default repeat is a minute: a test that waits for less is told by the change itself.
fn repeated() -> WatchTimes {
    WatchTimes {
        repeat_every: Duration::from_millis(300),
        ..WatchTimes::default()
    }
}

/// Puts a file on the volume as another process would, without the store's knowing.
fn put_unseen(mounts: &Mounts, key: &ArtifactKey, bytes: &[u8]) -> Result<()> {
    let path = mounts.volume.join("artifacts").join(key.to_string());
    std::fs::create_dir_all(path.parent().context("a folder")?)?;
    Ok(std::fs::write(path, bytes)?)
}

#[tokio::test]
async fn a_file_is_told_to_all_who_wait_for_it_when_it_comes_and_when_it_is_deleted() -> Result<()>
{
    let store = Store::new().await?;
    let bytes = content(1000);
    let key = key_of("a", &bytes)?;
    let mut watchers = [Watcher::of(&store).await?, Watcher::of(&store).await?];
    for watcher in &mut watchers {
        watcher.await_missing(&key).await?;
    }
    assert_eq!(store.put(&key, bytes.clone()).await?.status(), 201);
    for watcher in &mut watchers {
        assert_eq!(watcher.next().await?, present(&key, 1000));
    }
    let mut late = Watcher::of(&store).await?;
    late.handle.watch(key.clone());
    assert_eq!(late.next().await?, present(&key, 1000));

    assert_eq!(store.client()?.delete(&owner("a")?).await?, 1);
    for watcher in watchers.iter_mut().chain([&mut late]) {
        assert_eq!(watcher.next().await?, missing(&key));
    }
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn other_files_and_files_that_nobody_waits_for_any_more_are_not_told() -> Result<()> {
    let store = Store::new().await?;
    let mut watcher = Watcher::of(&store).await?;
    let (kept, dropped) = (key_of("a", &content(10))?, key_of("a", &content(20))?);
    watcher.await_missing(&kept).await?;
    watcher.await_missing(&dropped).await?;
    watcher.handle.unwatch(&dropped);
    assert_eq!(watcher.handle.count(), 1);
    for (owner, count) in [("b", 10), ("a", 20), ("a", 30)] {
        let bytes = content(count);
        let put = store.put(&key_of(owner, &bytes)?, bytes).await?;
        assert_eq!(put.status(), 201);
    }
    watcher.says_nothing().await?;
    assert_eq!(store.put(&kept, content(10)).await?.status(), 201);
    assert_eq!(watcher.next().await?, present(&kept, 10));
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_wish_that_is_repeated_is_answered_again_and_else_nothing_is_told_twice() -> Result<()> {
    let store = Store::new().await?;
    let mut watcher = Watcher::with(&store, repeated()).await?;
    let key = key_of("a", &content(10))?;
    watcher.await_missing(&key).await?;
    watcher.says_nothing().await?;
    watcher.await_missing(&key).await?;
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_change_that_the_store_did_not_see_is_told_with_the_next_repeat() -> Result<()> {
    let store = Store::new().await?;
    let key = key_of("a", &content(10))?;
    let mut repeats = Watcher::with(&store, repeated()).await?;
    let mut waits = Watcher::of(&store).await?;
    repeats.await_missing(&key).await?;
    waits.await_missing(&key).await?;
    put_unseen(&store.mounts, &key, &content(10))?;
    assert_eq!(repeats.next().await?, present(&key, 10));
    waits.says_nothing().await?;
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn wishes_outlive_a_store_that_is_away() -> Result<()> {
    let store = Store::new().await?;
    let base = store.base.clone();
    let (before, meanwhile) = (key_of("a", &content(10))?, key_of("a", &content(20))?);
    let mut watcher = Watcher::of(&store).await?;
    watcher.await_missing(&before).await?;
    let began = Instant::now();
    let mounts = store.stop().await?;
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "a stream holds up no stop: {:?}",
        began.elapsed()
    );
    let FileEvent::Away { error } = watcher.next().await? else {
        bail!("the store is away");
    };
    assert!(
        error.starts_with(&format!("the store at {base} cannot be reached")),
        "{error}"
    );
    assert!(error.contains("refused"), "the cause is told: {error}");
    watcher.handle.watch(meanwhile.clone());
    put_unseen(&mounts, &before, &content(10))?;

    let address = base.trim_start_matches("https://").parse()?;
    let store = Store::with(mounts, |args| args.listen = address).await?;
    assert_eq!(watcher.next().await?, FileEvent::Back);
    let told = HashSet::from([watcher.next().await?, watcher.next().await?]);
    assert_eq!(
        told,
        HashSet::from([present(&before, 10), missing(&meanwhile)])
    );
    assert_eq!(store.put(&meanwhile, content(20)).await?.status(), 201);
    assert_eq!(watcher.next().await?, present(&meanwhile, 20));
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn streams_begin_anew_with_new_signing_keys_and_nobody_need_know() -> Result<()> {
    let store = Store::new().await?;
    let key = key_of("a", &content(10))?;
    let mut watcher = Watcher::of(&store).await?;
    watcher.await_missing(&key).await?;
    store.mounts.write_keys(&[2, 1])?;
    assert_eq!(watcher.next().await?, FileEvent::Back, "a new stream");
    assert_eq!(store.put(&key, content(10)).await?.status(), 201);
    assert_eq!(watcher.next().await?, present(&key, 10));

    store.mounts.write_keys(&[2])?;
    let FileEvent::Away { error } = watcher.next().await? else {
        bail!("its key is worth nothing any more");
    };
    assert!(
        error.contains("403") && error.contains("WrongSignature"),
        "{error}"
    );
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_store_that_falls_silent_is_away() -> Result<()> {
    let silent = async |upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async |socket| {
            tokio::time::sleep(DEADLINE).await;
            drop(socket);
        })
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}", listener.local_addr()?);
    let router = axum::Router::new().fallback(any(silent));
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });

    let authority = Mounts::new()?.authority.pem;
    let client = StoreClient::new(&base, authority.as_bytes(), keys(1)?)?;
    let times = WatchTimes {
        ping_every: Duration::from_millis(100),
        silence: Duration::from_secs(1),
        ..WatchTimes::default()
    };
    let (_handle, mut events) = FileWatch::start_with(client, times);
    assert_eq!(events.recv().await, FileEvent::Back);
    let away = tokio::time::timeout(DEADLINE, events.recv()).await?;
    let error = format!("the store at {base} said nothing for 1 s");
    assert_eq!(away, FileEvent::Away { error });
    serving.abort();
    Ok(())
}

#[tokio::test]
async fn a_client_that_falls_silent_loses_its_stream_and_one_that_pings_does_not() -> Result<()> {
    let store = Store::with(Mounts::new()?, |args| {
        args.watch_idle = Duration::from_secs(1);
    })
    .await?;
    let times = WatchTimes {
        ping_every: Duration::from_millis(200),
        ..WatchTimes::default()
    };
    let mut pings = Watcher::with(&store, times).await?;
    let address = link(&store.local, Verb::Watch)?.replacen("http", "ws", 1);
    let (mut silent, _) = connect_async(address).await?;
    let ended = tokio::time::timeout(DEADLINE, async {
        while let Some(Ok(_)) = silent.next().await {}
    });
    let began = Instant::now();
    ended.await.context("it is never closed")?;
    assert!(
        began.elapsed() > Duration::from_millis(900),
        "{:?}",
        began.elapsed()
    );
    tokio::time::sleep(Duration::from_secs(1)).await;
    pings.says_nothing().await?;
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_volume_that_fails_is_told_as_the_store_being_away() -> Result<()> {
    let store = Store::new().await?;
    let key = key_of("a", &content(10))?;
    // A file where the owner's folder should be: no question about it can be answered.
    let obstacle = store.mounts.volume.join("artifacts/studio/aijobs/a");
    std::fs::create_dir_all(obstacle.parent().context("a folder")?)?;
    std::fs::write(&obstacle, "x")?;
    let mut watcher = Watcher::of(&store).await?;
    watcher.handle.watch(key.clone());
    let FileEvent::Away { error } = watcher.next().await? else {
        bail!("nothing can be said");
    };
    assert!(
        error.starts_with("the store cannot watch for files now: VolumeFailed"),
        "{error}"
    );
    std::fs::remove_file(&obstacle)?;
    loop {
        match watcher.next().await? {
            FileEvent::Back | FileEvent::Away { .. } => {}
            told @ (FileEvent::Present { .. } | FileEvent::Missing { .. }) => {
                assert_eq!(told, missing(&key));
                break;
            }
        }
    }
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_stream_follows_no_more_files_than_allowed_and_still_learns_of_all() -> Result<()> {
    let store = Store::with(Mounts::new()?, |args| args.max_watched = 1).await?;
    let (first, second) = (key_of("a", &content(10))?, key_of("a", &content(20))?);
    let mut repeats = Watcher::with(&store, repeated()).await?;
    let mut waits = Watcher::of(&store).await?;
    for watcher in [&mut repeats, &mut waits] {
        watcher.await_missing(&first).await?;
        watcher.await_missing(&second).await?;
    }
    assert_eq!(store.put(&second, content(20)).await?.status(), 201);
    assert_eq!(repeats.next().await?, present(&second, 20));
    waits.says_nothing().await?;
    assert_eq!(store.put(&first, content(10)).await?.status(), 201);
    for watcher in [&mut repeats, &mut waits] {
        assert_eq!(watcher.next().await?, present(&first, 10));
    }
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_link_to_a_stream_opens_a_stream_and_nothing_else() -> Result<()> {
    let store = Store::new().await?;
    let watch = link(&store.base, Verb::Watch)?;
    let answer = store.http.get(&watch).send().await?;
    assert_eq!(reason(answer).await?, (426, "NoWebSocket".into()));
    let answer = store.http.delete(&watch).send().await?;
    assert_eq!(reason(answer).await?, (403, "NotAllowed".into()));
    let list = link(&store.local, Verb::List)?.replacen("http", "ws", 1);
    assert!(connect_async(list).await.is_err());
    store.stop().await?;
    Ok(())
}

/// The times are figures, not claims.
#[tokio::test]
async fn ten_thousand_files_are_waited_for_and_each_is_told() -> Result<()> {
    let store = Store::new().await?;
    let mut watcher = Watcher::of(&store).await?;
    let began = Instant::now();
    let all: Vec<ArtifactKey> = (0..10_000)
        .map(|number: u32| key_of(&format!("uid-{number}"), &number.to_be_bytes()))
        .collect::<Result<_>>()?;
    for key in &all {
        watcher.handle.watch(key.clone());
    }
    let mut told = HashSet::new();
    while told.len() < all.len() {
        let FileEvent::Missing { key } = watcher.next().await? else {
            bail!("none is there");
        };
        told.insert(key);
    }
    println!("10,000 answers: {:.0?}", began.elapsed());

    let mut waits = Duration::ZERO;
    for (number, key) in (0_u32..).zip(&all).step_by(500) {
        let began = Instant::now();
        let put = store.put(key, number.to_be_bytes().to_vec());
        let (answer, event) = tokio::join!(put, watcher.next());
        assert_eq!(answer?.status(), 201);
        assert_eq!(event?, present(key, 4));
        waits += began.elapsed();
    }
    println!("one of them, put and told: {:.1?}", waits / 20);
    store.stop().await?;
    Ok(())
}
