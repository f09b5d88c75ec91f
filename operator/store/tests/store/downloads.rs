//! What a browser, a player and the operator get.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use framewright_store::client::StoreError;
use framewright_store::grants::Verb;

use crate::fixture::{
    Mounts, Raw, Store, content, eventually, get_link, key_of, link, owner, reason, trusting,
};

#[tokio::test]
async fn what_goes_in_through_tls_comes_out_the_same() -> Result<()> {
    let store = Store::new().await?;
    let bytes = content(3_000_000);
    let key = key_of("a", &bytes)?;

    let put = store.put(&key, bytes.clone()).await?;
    assert_eq!(put.status(), 201);
    let body: serde_json::Value = serde_json::from_slice(&put.bytes().await?)?;
    assert_eq!(
        body,
        serde_json::json!({"sha256": key.sha256(), "bytes": 3_000_000})
    );

    let got = store.get(&key).await?;
    assert_eq!(got.status(), 200);
    let header = |name: &str| {
        got.headers()
            .get(name)
            .map(|value| value.to_str().unwrap_or("?"))
    };
    assert_eq!(header("content-type"), Some("video/mp4"));
    assert_eq!(header("content-length"), Some("3000000"));
    assert_eq!(
        header("content-disposition"),
        Some("inline; filename=\"large.mp4\"")
    );
    assert_eq!(header("accept-ranges"), Some("bytes"));
    assert_eq!(
        header("etag"),
        Some(format!("\"{}\"", key.sha256()).as_str())
    );
    assert_eq!(header("x-content-type-options"), Some("nosniff"));
    assert!(header("cache-control").is_some_and(|value| value.starts_with("private")));
    assert_eq!(got.bytes().await?, bytes);

    // The same artifact, through a port-forward.
    let local = store.http.get(get_link(&store.local, &key)?).send().await?;
    assert_eq!(local.bytes().await?, bytes);
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_film_can_be_played_from_the_middle() -> Result<()> {
    let store = Store::new().await?;
    let bytes = content(1_000_000);
    let key = key_of("a", &bytes)?;
    assert_eq!(store.put(&key, bytes.clone()).await?.status(), 201);
    let link = get_link(&store.base, &key)?;

    for (range, first, last) in [
        ("bytes=0-0", 0, 0),
        ("bytes=500000-", 500_000, 999_999),
        ("bytes=300000-799999", 300_000, 799_999),
        ("bytes=-10", 999_990, 999_999),
        ("bytes=999999-5000000", 999_999, 999_999),
    ] {
        let part = store.http.get(&link).header("range", range).send().await?;
        assert_eq!(part.status(), 206, "{range}");
        assert_eq!(
            part.headers()["content-range"],
            format!("bytes {first}-{last}/1000000").as_str()
        );
        assert_eq!(part.bytes().await?, bytes[first..=last], "{range}");
    }

    let behind = store
        .http
        .get(&link)
        .header("range", "bytes=1000000-")
        .send()
        .await?;
    assert_eq!(behind.headers()["content-range"], "bytes */1000000");
    assert_eq!(reason(behind).await?, (416, "RangeNotSatisfiable".into()));

    let several = store
        .http
        .get(&link)
        .header("range", "bytes=0-1,4-5")
        .send()
        .await?;
    assert_eq!(several.status(), 200);

    let changed = store
        .http
        .get(&link)
        .header("range", "bytes=0-1")
        .header("if-range", "\"x\"");
    assert_eq!(changed.send().await?.status(), 200);

    let held = format!("\"{}\"", key.sha256());
    let known = store
        .http
        .get(&link)
        .header("if-none-match", held)
        .send()
        .await?;
    assert_eq!(known.status(), 304);

    let head = store
        .http
        .head(&link)
        .header("range", "bytes=0-1")
        .send()
        .await?;
    assert_eq!(
        (head.status().as_u16(), &head.headers()["content-length"]),
        (200, &"1000000".parse()?)
    );
    assert!(head.bytes().await?.is_empty());
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn an_empty_file_is_an_artifact_too() -> Result<()> {
    let store = Store::new().await?;
    let key = key_of("a", b"")?;
    assert_eq!(store.put(&key, Vec::new()).await?.status(), 201);
    let got = store.get(&key).await?;
    assert_eq!((got.status().as_u16(), got.bytes().await?.len()), (200, 0));
    assert_eq!(store.client()?.stat(&key).await?, Some(0));
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn the_operator_sees_what_arrived_and_deletes_by_owner() -> Result<()> {
    let store = Store::new().await?;
    let client = store.client()?;
    assert_eq!(client.owners().await?, []);
    assert_eq!(client.delete(&owner("a")?).await?, 0);

    let (first, second) = (content(10), content(20));
    let (of_a, also_of_a, of_b) = (
        key_of("a", &first)?,
        key_of("a", &second)?,
        key_of("b", &first)?,
    );
    assert_eq!(client.stat(&of_a).await?, None);
    store.put(&of_a, first.clone()).await?.error_for_status()?;
    store
        .put(&also_of_a, second.clone())
        .await?
        .error_for_status()?;
    store.put(&of_b, first.clone()).await?.error_for_status()?;
    assert_eq!(client.stat(&of_a).await?, Some(10));

    let owners = client.owners().await?;
    let seen: Vec<(&str, u64, u64)> = owners
        .iter()
        .map(|used| (used.owner.as_str(), used.artifacts, used.bytes))
        .collect();
    assert_eq!(
        seen,
        [("studio/aijobs/a", 2, 30), ("studio/aijobs/b", 1, 10)]
    );

    assert_eq!(client.delete(&owner("a")?).await?, 2);
    assert_eq!(client.delete(&owner("a")?).await?, 0);
    assert_eq!(client.stat(&of_a).await?, None);
    assert_eq!(client.stat(&of_b).await?, Some(10));
    assert_eq!(
        reason(store.get(&of_a).await?).await?,
        (404, "NotFound".into())
    );
    assert_eq!(store.files()?.len(), 1, "{:?}", store.files()?);
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_store_that_is_away_is_told_from_one_that_refuses() -> Result<()> {
    let store = Store::new().await?;
    let key = key_of("a", b"x")?;
    let authority = store.mounts.authority.pem.clone();
    let stranger = framewright_store::client::StoreClient::new(
        &store.base,
        authority.as_bytes(),
        crate::fixture::keys(9)?,
    )?;
    let refused = stranger.owners().await;
    assert!(
        matches!(&refused, Err(StoreError::Refused { problem, .. }) if problem.reason == "WrongSignature"),
        "{refused:?}"
    );
    assert!(matches!(
        stranger.stat(&key).await,
        Err(StoreError::Refused { .. })
    ));

    let client = store.client()?;
    let mounts = store.stop().await?;
    let away = client.stat(&key).await;
    assert!(matches!(away, Err(StoreError::Away { .. })), "{away:?}");
    let text = format!("{away:?}");
    assert!(!text.contains("sig="), "a link is a secret: {text}");
    drop(mounts);
    Ok(())
}

#[tokio::test]
async fn a_new_certificate_is_served_without_a_restart() -> Result<()> {
    let store = Store::new().await?;
    let key = key_of("a", b"x")?;
    store.put(&key, b"x".to_vec()).await?.error_for_status()?;
    let strange = trusting(&crate::fixture::Authority::new()?)?;
    assert!(
        strange
            .get(get_link(&store.base, &key)?)
            .send()
            .await
            .is_err()
    );

    // A certificate for another address: clients that look now must refuse it.
    store.mounts.write_certificate("192.0.2.1")?;
    eventually("the new certificate is served", || async {
        let fresh = trusting(&store.mounts.authority)?;
        Ok(fresh
            .get(get_link(&store.base, &key)?)
            .send()
            .await
            .is_err())
    })
    .await?;
    // Rubbish keeps what was there; the next good pair is taken.
    std::fs::write(store.mounts.path("tls.crt"), "rubbish")?;
    store.mounts.write_certificate("127.0.0.1")?;
    eventually("a good certificate is served again", || async {
        let fresh = trusting(&store.mounts.authority)?;
        Ok(fresh.get(get_link(&store.base, &key)?).send().await.is_ok())
    })
    .await?;
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn health_readiness_and_metrics_need_no_link() -> Result<()> {
    let store = Store::new().await?;
    let key = key_of("a", b"xyz")?;
    store.put(&key, b"xyz".to_vec()).await?.error_for_status()?;
    store.get(&key).await?.error_for_status()?.bytes().await?;
    for path in ["healthz", "readyz"] {
        let answer = store
            .http
            .get(format!("{}/{path}", store.health))
            .send()
            .await?;
        assert_eq!(answer.status(), 200, "{path}");
    }
    let metrics = store
        .http
        .get(format!("{}/metrics", store.health))
        .send()
        .await?;
    let text = metrics.text().await?;
    for line in [
        "framewright_store_requests_total{verb=\"put\",code=\"201\"} 1",
        "framewright_store_requests_total{verb=\"get\",code=\"200\"} 1",
        "framewright_store_received_bytes_total 3",
        "framewright_store_sent_bytes_total 3",
        "framewright_store_uploads_running 0",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    let free = text
        .lines()
        .find_map(|line| line.strip_prefix("framewright_store_free_bytes "));
    assert!(free.context("free bytes")?.parse::<u64>()? > 0);
    // Artifacts are not served there, nor health at the artifacts' port.
    let elsewhere = store
        .http
        .get(link(&store.health, Verb::List)?)
        .send()
        .await?;
    assert_eq!(elsewhere.status(), 404);
    let elsewhere = store
        .http
        .get(format!("{}/metrics", store.base))
        .send()
        .await?;
    assert_eq!(reason(elsewhere).await?, (404, "NoSuchPath".into()));
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_receiver_that_takes_nothing_is_cut_off() -> Result<()> {
    let store = Store::with(Mounts::new()?, |args| {
        args.download_idle = Duration::from_secs(1);
    })
    .await?;
    // More than the buffers of both ends hold.
    let bytes = content(40_000_000);
    let key = key_of("a", &bytes)?;
    store.put(&key, bytes).await?;
    let link = get_link(&store.local, &key)?;
    let raw = Raw::get(&store.local, &link).await?;
    for is_open in [true, false] {
        eventually("the artifact is opened, and closed again", || async {
            Ok(is_open_here(&store.mounts.volume) == is_open)
        })
        .await?;
    }
    drop(raw);
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn downloads_have_a_bound() -> Result<()> {
    let store = Store::with(Mounts::new()?, |args| args.max_downloads = 1).await?;
    let bytes = content(40_000_000);
    let key = key_of("a", &bytes)?;
    store.put(&key, bytes).await?;
    let raw = Raw::get(&store.local, &get_link(&store.local, &key)?).await?;
    eventually("the artifact is opened", || async {
        Ok(is_open_here(&store.mounts.volume))
    })
    .await?;
    assert_eq!(reason(store.get(&key).await?).await?, (503, "Busy".into()));
    drop(raw);
    assert_eq!(store.get(&key).await?.status(), 200);
    store.stop().await?;
    Ok(())
}

/// Whether this process has a file below `folder` open.
fn is_open_here(folder: &Path) -> bool {
    let open = std::fs::read_dir("/proc/self/fd").into_iter().flatten();
    let mut files = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    files.any(|file| file.starts_with(folder) && file.is_file())
}
