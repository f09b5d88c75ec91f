//! Exactly the granted bytes are kept, or none.

use std::time::Duration;

use anyhow::Result;

use tokio::io::AsyncWriteExt;

use crate::fixture::{
    Mounts, Raw, Store, answer, content, eventually, key_in, key_of, put_link, reason,
};

#[tokio::test]
async fn other_bytes_than_the_granted_are_never_visible() -> Result<()> {
    let store = Store::new().await?;
    let bytes = content(3_000_000);
    let key = key_of("a", &bytes)?;
    let mut broken = bytes.clone();
    broken[2_999_999] ^= 1;
    assert_eq!(
        reason(store.put(&key, broken).await?).await?,
        (422, "DigestMismatch".into())
    );
    assert_eq!(store.client()?.stat(&key).await?, None);
    assert_eq!(store.files()?, [""; 0]);
    // The same link still takes the right ones.
    assert_eq!(store.put(&key, bytes).await?.status(), 201);
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn more_or_fewer_bytes_than_granted_are_refused_before_they_are_read() -> Result<()> {
    let store = Store::new().await?;
    let bytes = content(1000);
    let key = key_of("a", &bytes)?;
    for (granted, expected) in [(999, (413, "TooLarge")), (1001, (422, "TooSmall"))] {
        let link = put_link(&store.base, &key, granted)?;
        let answer = store.http.put(link).body(bytes.clone()).send().await?;
        assert_eq!(reason(answer).await?, (expected.0, expected.1.to_owned()));
    }
    assert_eq!(store.files()?, [""; 0]);
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_body_that_does_not_say_its_length_is_cut_off_at_the_granted() -> Result<()> {
    let store = Store::new().await?;
    let bytes = content(5_000_000);
    let key = key_of("a", &bytes)?;
    for (granted, expected) in [
        (4_000_000, (413, "TooLarge")),
        (6_000_000, (422, "TooSmall")),
    ] {
        let link = put_link(&store.base, &key, granted)?;
        let answer = store.http.put(link).body(streamed(&bytes)).send().await?;
        assert_eq!(reason(answer).await?, (expected.0, expected.1.to_owned()));
    }
    assert_eq!(store.files()?, [""; 0]);
    let link = put_link(&store.base, &key, 5_000_000)?;
    let answer = store.http.put(link).body(streamed(&bytes)).send().await?;
    assert_eq!(answer.status(), 201);
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn the_same_artifact_may_come_twice_and_at_once() -> Result<()> {
    let store = Store::new().await?;
    let bytes = content(4_000_000);
    let key = key_of("a", &bytes)?;
    let (first, second) = tokio::try_join!(
        store.put(&key, bytes.clone()),
        store.put(&key, bytes.clone())
    )?;
    for answer in [first, second] {
        assert!(
            [200, 201].contains(&answer.status().as_u16()),
            "{}",
            answer.status()
        );
    }
    assert_eq!(store.put(&key, bytes.clone()).await?.status(), 200);
    let mut broken = bytes.clone();
    broken[0] ^= 1;
    assert_eq!(
        reason(store.put(&key, broken).await?).await?,
        (422, "DigestMismatch".into()),
        "what is there does not make other bytes right"
    );
    assert_eq!(store.get(&key).await?.bytes().await?, bytes);
    assert_eq!(store.files()?.len(), 1);
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn another_media_type_than_the_granted_is_refused() -> Result<()> {
    let store = Store::new().await?;
    let bytes = content(10);
    let key = key_of("a", &bytes)?;
    let put = |media_type: &'static str| {
        let link = put_link(&store.base, &key, 10);
        let request = store.http.put(link.unwrap_or_default()).body(bytes.clone());
        request.header("content-type", media_type).send()
    };
    assert_eq!(
        reason(put("text/html").await?).await?,
        (415, "MediaTypeMismatch".into())
    );
    assert_eq!(put("video/mp4").await?.status(), 201);
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing() -> Result<()> {
    let store = Store::new().await?;
    let bytes = content(4_000_000);
    let key = key_of("a", &bytes)?;
    let link = put_link(&store.local, &key, 4_000_000)?;
    let mut raw = Raw::put(&store.local, &link, 4_000_000).await?;
    raw.send(&bytes[..3_000_000]).await?;
    eventually("a part is on the volume", || async {
        Ok(store.files()?.len() == 1)
    })
    .await?;
    assert_eq!(
        store.client()?.stat(&key).await?,
        None,
        "a part is no artifact"
    );
    assert_eq!(store.client()?.owners().await?, []);
    drop(raw);
    eventually("the part is gone", || async {
        Ok(store.files()?.is_empty())
    })
    .await?;
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_sender_that_falls_silent_is_given_up() -> Result<()> {
    let store = Store::with(Mounts::new()?, |args| {
        args.upload_idle = Duration::from_secs(1);
    })
    .await?;
    let bytes = content(1000);
    let key = key_of("a", &bytes)?;
    let link = put_link(&store.local, &key, 1000)?;
    let mut raw = Raw::put(&store.local, &link, 1000).await?;
    raw.send(&bytes[..10]).await?;
    let answer = raw.answer().await?;
    assert!(
        answer.contains(" 408 ") && answer.contains("Stalled"),
        "{answer}"
    );
    assert_eq!(store.files()?, [""; 0]);
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn no_link_takes_every_place() -> Result<()> {
    let store = Store::new().await?;
    let bytes = content(1000);
    let key = key_of("a", &bytes)?;
    let link = put_link(&store.local, &key, 1000)?;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut raw = Raw::put(&store.local, &link, 1000).await?;
        raw.send(&bytes[..10]).await?;
        open.push(raw);
    }
    eventually("both are at work", || async {
        Ok(store.files()?.len() == 2)
    })
    .await?;
    let third = store.put(&key, bytes.clone()).await?;
    assert!(third.headers().contains_key("retry-after"));
    assert_eq!(reason(third).await?, (503, "Busy".into()));
    let other = key_of("b", &bytes)?;
    assert_eq!(store.put(&other, bytes).await?.status(), 201);
    drop(open);
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn no_namespace_takes_every_place() -> Result<()> {
    let store = Store::with(Mounts::new()?, |args| args.max_uploads = 2).await?;
    let bytes = content(1000);
    let mut open = Vec::new();
    for uid in ["a", "b"] {
        let link = put_link(&store.local, &key_of(uid, &bytes)?, 1000)?;
        let mut raw = Raw::put(&store.local, &link, 1000).await?;
        raw.send(&bytes[..10]).await?;
        open.push(raw);
    }
    eventually("one is at work, and one waits", || async {
        Ok(store.files()?.len() == 1)
    })
    .await?;
    let other = key_in("lab", "a", &bytes)?;
    assert_eq!(store.put(&other, bytes).await?.status(), 201);
    drop(open);
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_sender_that_sends_a_byte_now_and_then_is_given_up() -> Result<()> {
    let store = Store::with(Mounts::new()?, |args| {
        args.upload_idle = Duration::from_secs(1);
    })
    .await?;
    let large = content(10_000_000);
    let link = put_link(&store.local, &key_of("a", &large)?, 10_000_000)?;
    let raw = Raw::put(&store.local, &link, 10_000_000).await?;
    let (reading, mut writing) = raw.0.into_split();
    let sending = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(200));
        loop {
            ticks.tick().await;
            if writing.write_all(b"x").await.is_err() {
                return;
            }
        }
    });
    let answer = answer(reading).await?;
    assert!(
        answer.contains(" 408 ") && answer.contains("bytes a second"),
        "{answer}"
    );
    sending.abort();
    assert_eq!(store.files()?, [""; 0]);
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn stopping_lets_an_upload_finish() -> Result<()> {
    let store = Store::new().await?;
    let bytes = content(1000);
    let key = key_of("a", &bytes)?;
    let link = put_link(&store.local, &key, 1000)?;
    let mut raw = Raw::put(&store.local, &link, 1000).await?;
    raw.send(&bytes[..10]).await?;
    eventually("the upload runs", || async {
        Ok(store.files()?.len() == 1)
    })
    .await?;
    let (http, health) = (store.http.clone(), store.health.clone());
    let stopping = tokio::spawn(store.stop());
    eventually("no new connection is taken", || async {
        Ok(http.get(format!("{health}/healthz")).send().await.is_err())
    })
    .await?;
    raw.send(&bytes[10..]).await?;
    let answer = raw.answer().await?;
    assert!(answer.contains(" 201 "), "{answer}");
    let mounts = stopping.await??;
    let store = Store::with(mounts, |_| {}).await?;
    assert_eq!(store.client()?.stat(&key).await?, Some(1000));
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn an_upload_that_cannot_be_completed_leaves_nothing() -> Result<()> {
    let store = Store::new().await?;
    let bytes = content(3_000_000);
    let key = key_of("a", &bytes)?;
    // A folder where the artifact should be: all can be written, and the last step fails.
    let obstacle = store.mounts.volume.join("artifacts").join(key.to_string());
    std::fs::create_dir_all(&obstacle)?;
    assert_eq!(
        reason(store.put(&key, bytes.clone()).await?).await?,
        (500, "VolumeFailed".into())
    );
    assert_eq!(store.files()?, [""; 0]);
    std::fs::remove_dir(&obstacle)?;
    assert_eq!(store.put(&key, bytes).await?.status(), 201);
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn uploads_do_not_mind_deletes_beside_them() -> Result<()> {
    let store = Store::new().await?;
    let client = store.client()?;
    let one = async |uid: String| -> Result<()> {
        for round in 0..100 {
            let bytes = content(round);
            let key = key_of(&uid, &bytes)?;
            assert_eq!(store.put(&key, bytes).await?.status(), 201);
            assert_eq!(client.delete(key.owner()).await?, 1);
        }
        Ok(())
    };
    let all = (0..4).map(|number| one(format!("uid-{number}")));
    futures::future::try_join_all(all).await?;
    assert_eq!(store.files()?, [""; 0]);
    store.stop().await?;
    Ok(())
}

fn streamed(bytes: &[u8]) -> reqwest::Body {
    let pieces: Vec<std::io::Result<Vec<u8>>> = bytes
        .chunks(100_000)
        .map(|piece| Ok(piece.to_vec()))
        .collect();
    reqwest::Body::wrap_stream(futures::stream::iter(pieces))
}
