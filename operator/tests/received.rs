//! What the operator believes of the store: a file that has come is there, until there is a reason to doubt it.

#[allow(dead_code, reason = "the store's own tests use the rest")]
#[path = "../store/tests/store/fixture.rs"]
mod fixture;

use std::collections::BTreeSet;

use anyhow::Result;
use framewright_core::links::Place;
use framewright_crds::aijob::UploadStatus;
use framewright_crds::names::OwnerKind;
use framewright_operator::received::{Doubt, Received};
use jiff::{SignedDuration, Timestamp};

use fixture::{Store, content, key_of};

#[tokio::test]
async fn a_file_that_the_store_has_lost_is_awaited_again_once_somebody_misses_it() -> Result<()> {
    let store = Store::new().await?;
    let bytes = content(1000);
    let key = key_of("a", &bytes)?;
    assert_eq!(store.put(&key, bytes).await?.status(), 201);
    let upload = UploadStatus {
        sha256: key.sha256().to_owned(),
        bytes: 1000,
        received: true,
        link: None,
        expires_at: None,
    };
    let place = Place {
        namespace: key.owner().namespace(),
        kind: OwnerKind::AIJobs,
        uid: key.owner().uid(),
    };
    let (client, received) = (store.client()?, Received::default());
    let mut now = Timestamp::from_second(1000)?;
    let mut ask = async |doubt| {
        now += SignedDuration::from_secs(10);
        let uploads = (&[upload.clone()][..], doubt);
        let times = (Timestamp::UNIX_EPOCH, now);
        received.ask(&client, &place, uploads, times).await.received
    };
    let there = BTreeSet::from([key.sha256().to_owned()]);
    assert_eq!(ask(Doubt::None).await, there);
    assert_eq!(ask(Doubt::Worker).await, there);

    assert_eq!(client.delete(key.owner()).await?, 1);
    assert_eq!(ask(Doubt::None).await, there, "nobody doubts it");
    assert_eq!(ask(Doubt::Worker).await, BTreeSet::new());
    // The status says otherwise until the next write.
    assert_eq!(ask(Doubt::None).await, BTreeSet::new());

    assert_eq!(store.put(&key, content(1000)).await?.status(), 201);
    assert_eq!(ask(Doubt::None).await, there);
    assert_eq!(ask(Doubt::Person).await, there);
    store.stop().await?;
    Ok(())
}
