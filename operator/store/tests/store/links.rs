//! Only a link opens anything, and only what it was made for.

use anyhow::{Context, Result};
use framewright_crds::names::{ArtifactRole, OwnerKind};
use framewright_store::answers::Problem;
use framewright_store::grants::{self, Grant, Verb};
use framewright_store::key::{ArtifactKey, Owner};
use jiff::{SignedDuration, Timestamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fixture::{
    Store, content, eventually, get_link, key_of, keys, link, owner, put_link, reason,
};

#[tokio::test]
async fn a_link_that_ended_says_when_and_how_to_get_another() -> Result<()> {
    let store = Store::new().await?;
    let bytes = content(10);
    let key = key_of("a", &bytes)?;
    store.put(&key, bytes).await?.error_for_status()?;
    let verb = Verb::Get {
        key,
        file_name: "x".into(),
        media_type: "video/mp4".into(),
    };
    let expires = Timestamp::now() - SignedDuration::from_secs(1);
    let link = grants::sign(&store.base, &Grant { verb, expires }, &keys(1)?);
    let answer = store.http.get(link).send().await?;
    assert_eq!(answer.status(), 403);
    let problem: Problem = serde_json::from_slice(&answer.bytes().await?)?;
    assert_eq!(problem.reason, "Expired");
    assert!(
        problem.message.contains("framewright.dev/renew-links"),
        "{}",
        problem.message
    );
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_digest_opens_nothing() -> Result<()> {
    let store = Store::new().await?;
    let bytes = content(10);
    let key = key_of("a", &bytes)?;
    store.put(&key, bytes).await?.error_for_status()?;
    let plain = format!("{}/v1/artifacts/{key}", store.base);
    assert_eq!(
        reason(store.http.get(&plain).send().await?).await?,
        (403, "NotSigned".into())
    );
    let forged = format!("{plain}?verb=get&expires=99999999999&type=a%2Fb&name=x&sig=AAAA");
    assert_eq!(
        reason(store.http.get(forged).send().await?).await?,
        (403, "WrongSignature".into())
    );
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_link_with_any_field_exchanged_opens_nothing() -> Result<()> {
    let store = Store::new().await?;
    let (bytes, other) = (content(10), content(11));
    let key = key_of("a", &bytes)?;
    let elsewhere = Owner::new("other", OwnerKind::AIJobs, "a")?;
    let keys = [
        key_of("a", &other)?,
        key_of("b", &bytes)?,
        ArtifactKey::new(elsewhere, key.role(), key.sha256())?,
        ArtifactKey::new(key.owner().clone(), ArtifactRole::Output, key.sha256())?,
        ArtifactKey::new(
            Owner::new("studio", OwnerKind::ModelPools, "a")?,
            key.role(),
            key.sha256(),
        )?,
    ];
    let get = get_link(&store.base, &key)?;
    let put = put_link(&store.base, &key, 10)?;
    let mut changed: Vec<String> = Vec::new();
    for link in [&get, &put] {
        for other in &keys {
            changed.push(link.replace(&key.to_string(), &other.to_string()));
        }
        for (from, to) in [
            ("verb=get", "verb=put"),
            ("verb=put", "verb=get"),
            ("verb=put", "verb=delete"),
            ("expires=", "expires=9"),
            ("bytes=10", "bytes=11"),
            ("type=video", "type=image"),
            ("name=large", "name=small"),
            ("&sig=", "&verb=delete&sig="),
        ] {
            if link.contains(from) {
                changed.push(link.replace(from, to));
            }
        }
    }
    assert_eq!(changed.len(), 2 * keys.len() + 11, "{changed:#?}");
    for link in changed {
        for method in [
            reqwest::Method::GET,
            reqwest::Method::PUT,
            reqwest::Method::DELETE,
        ] {
            let answer = store
                .http
                .request(method, &link)
                .body(bytes.clone())
                .send()
                .await?;
            assert_eq!(
                reason(answer).await?,
                (403, "WrongSignature".into()),
                "{link}"
            );
        }
    }
    assert_eq!(store.files()?, [""; 0]);
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_link_with_any_byte_changed_opens_nothing() -> Result<()> {
    let store = Store::new().await?;
    let bytes = content(10);
    let key = key_of("a", &bytes)?;
    store.put(&key, bytes).await?.error_for_status()?;
    let link = get_link(&store.local, &key)?;
    let target = link
        .strip_prefix(&store.local)
        .context("a link to this store")?;
    let address = store.local.strip_prefix("http://").context("plain HTTP")?;
    let mut connection = TcpStream::connect(address).await?;
    assert_eq!(status(&mut connection, target.as_bytes()).await?, 200);
    for position in 1..target.len() {
        for flip in [0x01, 0x02, 0x10, 0x80] {
            let mut changed = target.as_bytes().to_vec();
            changed[position] ^= flip;
            let status = status(&mut connection, &changed).await?;
            let shown = String::from_utf8_lossy(&changed);
            // 404 where the path is no longer an artifact's, 400 where the request is none.
            assert!([400, 403, 404].contains(&status), "{status} {shown}");
            if position >= "/v1/artifacts".len() {
                assert!([400, 403].contains(&status), "{status} {shown}");
            }
            if status == 400 {
                connection = TcpStream::connect(address).await?;
            }
        }
    }
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_link_for_one_thing_does_no_other() -> Result<()> {
    let store = Store::new().await?;
    let bytes = content(10);
    let key = key_of("a", &bytes)?;
    store.put(&key, bytes.clone()).await?.error_for_status()?;
    let (get, head, put, delete, post) = (
        reqwest::Method::GET,
        reqwest::Method::HEAD,
        reqwest::Method::PUT,
        reqwest::Method::DELETE,
        reqwest::Method::POST,
    );
    for (link, allowed) in [
        (get_link(&store.base, &key)?, vec![&get, &head]),
        (put_link(&store.base, &key, 10)?, vec![&put]),
        (
            link(&store.base, Verb::Stat { key: key.clone() })?,
            vec![&head],
        ),
        (link(&store.base, Verb::List)?, vec![&get]),
        (
            link(
                &store.base,
                Verb::Delete {
                    owner: owner("a")?,
                    role: None,
                },
            )?,
            vec![&delete],
        ),
    ] {
        for method in [&get, &head, &put, &post, &delete] {
            let request = store
                .http
                .request(method.clone(), &link)
                .body(bytes.clone());
            let status = request.send().await?.status().as_u16();
            let expected = if allowed.contains(&method) { 200 } else { 403 };
            assert_eq!(status, expected, "{method} {link}");
        }
    }
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn keys_change_without_a_restart() -> Result<()> {
    let store = Store::new().await?;
    let bytes = content(10);
    let key = key_of("a", &bytes)?;
    store.put(&key, bytes).await?.error_for_status()?;
    store.mounts.write_keys(&[2, 1])?;
    let verb = Verb::Stat { key: key.clone() };
    let expires = Timestamp::now() + SignedDuration::from_secs(600);
    let new = grants::sign(&store.base, &Grant { verb, expires }, &keys(2)?);
    let status =
        async || -> Result<u16> { Ok(store.http.head(&new).send().await?.status().as_u16()) };
    eventually("the new key opens", || async { Ok(status().await? == 200) }).await?;
    assert_eq!(
        store.client()?.stat(&key).await?,
        Some(10),
        "the old one still does"
    );
    store.mounts.write_keys(&[2])?;
    eventually("the old key opens nothing", || async {
        Ok(store.client()?.stat(&key).await.is_err())
    })
    .await?;
    // A broken file changes nothing.
    std::fs::write(store.mounts.path("keys"), "rubbish")?;
    store.mounts.write_certificate("127.0.0.1")?;
    assert_eq!(status().await?, 200);
    store.stop().await?;
    Ok(())
}

/// Sends one GET on a connection that is kept, and reads the whole answer.
async fn status(connection: &mut TcpStream, target: &[u8]) -> Result<u16> {
    let request = [b"GET ", target, b" HTTP/1.1\r\nHost: store\r\n\r\n"].concat();
    connection.write_all(&request).await?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = connection.read(&mut buffer).await?;
        answer.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        let status: u16 = text.get(9..12).context("a status line")?.parse()?;
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length: usize = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(Ok(0), str::parse)?;
        if count == 0 || body.len() >= length {
            return Ok(status);
        }
    }
}
