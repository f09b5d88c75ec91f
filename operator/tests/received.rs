//! What the operator believes of the store: a file that has come is there, until there is a reason to doubt it.

#[allow(dead_code, reason = "the store's own tests use the rest")]
#[path = "../store/tests/store/fixture.rs"]
mod fixture;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};
use framewright_core::links::Place;
use framewright_crds::aijob::UploadStatus;
use framewright_crds::names::OwnerKind;
use framewright_operator::received::{Answer, Doubt, Object, Received};
use framewright_store::key::ArtifactKey;
use framewright_store::watch::{FileEvents, FileWatch, FileWatchHandle, WatchTimes};

use fixture::{Store, content, key_of};

const DEADLINE: Duration = Duration::from_secs(20);

struct Operator {
    store: FileWatchHandle,
    events: FileEvents,
    received: Received,
}

impl Operator {
    fn of(store: &Store) -> Result<Operator> {
        let (handle, events) = FileWatch::start_with(store.client()?, WatchTimes::default());
        Ok(Operator {
            received: Received::new(handle.clone()),
            store: handle,
            events,
        })
    }

    /// What is believed of the file, once the store has said nothing new for a moment.
    async fn look(&mut self, key: &ArtifactKey, is_received: bool, doubt: Doubt) -> Answer {
        self.look_now(key, is_received, doubt);
        let quiet = Duration::from_millis(500);
        while let Ok(event) = tokio::time::timeout(quiet, self.events.recv()).await {
            self.received.note(event);
        }
        self.look_now(key, is_received, doubt)
    }

    fn look_now(&self, key: &ArtifactKey, is_received: bool, doubt: Doubt) -> Answer {
        let upload = UploadStatus {
            sha256: key.sha256().to_owned(),
            bytes: 1000,
            received: is_received,
            link: None,
            expires_at: None,
        };
        let uploads = (&[upload][..], doubt);
        self.received.look(&place(key), "trailer", uploads)
    }

    /// Whom the next news of the store concerns.
    async fn told(&mut self) -> Result<Object> {
        let telling = async {
            loop {
                let event = self.events.recv().await;
                if let Some(object) = self.received.note(event).pop() {
                    return object;
                }
            }
        };
        let told = tokio::time::timeout(DEADLINE, telling).await;
        told.context("the store says nothing")
    }
}

#[tokio::test]
async fn a_job_is_woken_when_its_file_has_come_and_nothing_is_watched_any_more() -> Result<()> {
    let store = Store::new().await?;
    let bytes = content(1000);
    let key = key_of("a", &bytes)?;
    let mut operator = Operator::of(&store)?;
    let nothing = operator.look(&key, false, Doubt::None).await;
    assert_eq!(nothing, Answer::default());
    assert_eq!(operator.store.count(), 1);

    assert_eq!(store.put(&key, bytes).await?.status(), 201);
    let job = Object {
        kind: OwnerKind::AIJobs,
        namespace: "studio".to_owned(),
        name: "trailer".to_owned(),
    };
    assert_eq!(operator.told().await?, job);
    assert_eq!(operator.received.of("a"), there(&key));
    operator.look_now(&key, false, Doubt::None);
    assert_eq!(operator.store.count(), 0);
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_file_that_the_store_has_lost_is_awaited_again_once_somebody_misses_it() -> Result<()> {
    let store = Store::new().await?;
    let bytes = content(1000);
    let key = key_of("a", &bytes)?;
    assert_eq!(store.put(&key, bytes).await?.status(), 201);
    let mut operator = Operator::of(&store)?;
    for doubt in [Doubt::None, Doubt::Worker, Doubt::None] {
        let answer = operator.look(&key, true, doubt).await;
        assert_eq!(answer.received, there(&key), "{doubt:?}");
    }

    assert_eq!(store.client()?.delete(key.owner()).await?, 1);
    let answer = operator.look(&key, true, Doubt::None).await;
    assert_eq!(answer.received, there(&key), "nobody doubts it");
    let answer = operator.look(&key, true, Doubt::Worker).await;
    assert_eq!(answer.received, BTreeSet::new());
    // The status says otherwise until the next write.
    let answer = operator.look(&key, true, Doubt::None).await;
    assert_eq!(answer.received, BTreeSet::new());

    assert_eq!(store.put(&key, content(1000)).await?.status(), 201);
    operator.told().await?;
    for doubt in [Doubt::None, Doubt::Person] {
        let answer = operator.look(&key, false, doubt).await;
        assert_eq!(answer.received, there(&key), "{doubt:?}");
    }
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_person_who_doubts_asks_again_although_a_worker_doubts_already() -> Result<()> {
    let store = Store::new().await?;
    let bytes = content(1000);
    let key = key_of("a", &bytes)?;
    assert_eq!(store.put(&key, bytes).await?.status(), 201);
    let mut operator = Operator::of(&store)?;
    operator.look(&key, true, Doubt::Worker).await;

    // The store does not see this.
    std::fs::remove_file(&store.files()?[0])?;
    let answer = operator.look(&key, true, Doubt::Worker).await;
    assert_eq!(answer.received, there(&key), "it was answered a moment ago");
    let answer = operator.look(&key, true, Doubt::Person).await;
    assert_eq!(answer.received, BTreeSet::new());
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn who_waits_is_told_that_the_store_is_away_and_that_it_is_back() -> Result<()> {
    let store = Store::new().await?;
    let key = key_of("a", &content(1000))?;
    let mut operator = Operator::of(&store)?;
    operator.look(&key, false, Doubt::None).await;
    let base = store.base.clone();
    let mounts = store.stop().await?;
    assert_eq!(operator.told().await?.name, "trailer");
    let trouble = operator.look_now(&key, false, Doubt::None).trouble;
    let trouble = trouble.context("the store is away")?;
    let expected = format!("the store at {base} cannot be reached to watch for files: ");
    assert!(trouble.starts_with(&expected), "{trouble}");

    let address = base.trim_start_matches("https://").parse()?;
    let store = Store::with(mounts, |args| args.listen = address).await?;
    assert_eq!(operator.told().await?.name, "trailer");
    assert_eq!(operator.look_now(&key, false, Doubt::None).trouble, None);
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn nothing_is_watched_for_those_who_are_gone_or_over() -> Result<()> {
    let store = Store::new().await?;
    let (gone, over) = (key_of("a", b"1")?, key_of("b", b"2")?);
    let operator = Operator::of(&store)?;
    operator.look_now(&gone, false, Doubt::None);
    operator.look_now(&over, false, Doubt::None);
    assert_eq!(operator.store.count(), 2);
    operator.received.retain(|uid| uid == "b");
    assert_eq!(operator.store.count(), 1);
    operator.received.forget("b");
    assert_eq!(operator.store.count(), 0);
    store.stop().await?;
    Ok(())
}

fn there(key: &ArtifactKey) -> BTreeSet<String> {
    BTreeSet::from([key.sha256().to_owned()])
}

fn place(key: &ArtifactKey) -> Place<'_> {
    Place {
        namespace: key.owner().namespace(),
        kind: key.owner().kind(),
        uid: key.owner().uid(),
    }
}
