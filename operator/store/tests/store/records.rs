//! Records: files without an owner in Kubernetes, written once.

use anyhow::{Result, bail};
use framewright_store::client::StoreError;
use framewright_store::grants::{SigningKeys, Verb};
use framewright_store::record::{
    NAMES_MAX, RECORD_BYTES_MAX, RecordClient, RecordFolder, RecordGrant, RecordKey, RecordVerb,
    sign,
};
use jiff::{SignedDuration, Timestamp};

use crate::fixture::{Mounts, Store, content, key_of, keys, link, reason};

/// The byte of the key that signs links to records.
const KEY: u8 = 9;

async fn store_with_records() -> Result<Store> {
    let mounts = Mounts::new()?;
    std::fs::write(mounts.path("record-keys"), SigningKeys::file([KEY; 32]))?;
    let file = mounts.path("record-keys");
    Store::with(mounts, |args| args.record_keys = Some(file)).await
}

fn client(store: &Store, key: u8) -> Result<RecordClient> {
    let authority = store.mounts.authority.pem.as_bytes();
    Ok(RecordClient::new(&store.base, authority, keys(key)?)?)
}

fn signed(store: &Store, verb: RecordVerb) -> Result<String> {
    let expires = Timestamp::now() + SignedDuration::from_secs(600);
    Ok(sign(
        &store.base,
        &RecordGrant { verb, expires },
        &keys(KEY)?,
    ))
}

fn refused(answer: Result<bool, StoreError>) -> Result<String> {
    match answer {
        Err(StoreError::Refused { problem, .. }) => Ok(problem.reason),
        answer => bail!("it is not refused: {answer:?}"),
    }
}

#[tokio::test]
async fn a_record_is_written_once_and_never_replaced() -> Result<()> {
    let store = store_with_records().await?;
    let records = client(&store, KEY)?;
    let key = RecordKey::parse("ledger/receipts/1f2e")?;
    assert_eq!(records.read(&key).await?, None);
    assert!(records.append(&key, b"paid".to_vec()).await?);
    assert!(!records.append(&key, b"paid".to_vec()).await?, "a repeat");
    let replaced = records.append(&key, b"free".to_vec()).await;
    assert_eq!(refused(replaced)?, "RecordExists");
    assert_eq!(records.read(&key).await?, Some(b"paid".to_vec()));
    assert!(!store.client()?.owners().await?.iter().any(|_| true));

    let mounts = store.stop().await?;
    let file = mounts.path("record-keys");
    let store = Store::with(mounts, |args| args.record_keys = Some(file)).await?;
    let read = client(&store, KEY)?.read(&key).await?;
    assert_eq!(read, Some(b"paid".to_vec()), "after a restart");
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn of_many_who_append_under_one_name_at_once_one_wins_and_none_sees_another() -> Result<()> {
    let store = store_with_records().await?;
    let records = client(&store, KEY)?;
    let key = RecordKey::parse("ledger/journal/000001.jsonl")?;
    let all = (0..4_u8).map(|number| records.append(&key, vec![number; 100_000]));
    let answers = futures::future::join_all(all).await;
    let won = answers.iter().filter(|answer| matches!(answer, Ok(true)));
    assert_eq!(won.count(), 1, "{answers:?}");
    let winner = answers.iter().position(|answer| matches!(answer, Ok(true)));
    let bytes = vec![u8::try_from(winner.unwrap_or_default())?; 100_000];
    assert_eq!(records.read(&key).await?, Some(bytes));
    assert_eq!(store.files()?.len(), 1);
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn names_are_listed_in_order_from_any_place_on() -> Result<()> {
    let store = store_with_records().await?;
    let records = client(&store, KEY)?;
    let folder = RecordFolder::parse("ledger/receipts")?;
    assert_eq!(records.names(&folder, "").await?, [""; 0]);
    for name in ["c", "a", "b"] {
        let key = RecordKey::new(folder.clone(), name)?;
        records.append(&key, Vec::new()).await?;
    }
    let elsewhere = RecordKey::parse("ledger/journal/d")?;
    records.append(&elsewhere, Vec::new()).await?;
    assert_eq!(records.names(&folder, "").await?, ["a", "b", "c"]);
    assert_eq!(records.names(&folder, "a").await?, ["b", "c"]);
    assert_eq!(records.names(&folder, "c").await?, [""; 0]);

    for number in 0..NAMES_MAX {
        let path = store.mounts.volume.join("records/ledger/receipts");
        std::fs::write(path.join(format!("d{number:04}")), "x")?;
    }
    let names = records.names(&folder, "").await?;
    assert_eq!((names.len(), names[3].as_str()), (NAMES_MAX, "d0000"));
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn only_the_key_for_records_opens_records_and_it_opens_nothing_else() -> Result<()> {
    let store = store_with_records().await?;
    let key = RecordKey::parse("ledger/receipts/1f2e")?;
    let operator = client(&store, 1)?;
    let forged = operator.append(&key, b"forged".to_vec()).await;
    assert_eq!(refused(forged)?, "WrongSignature");
    assert!(client(&store, KEY)?.append(&key, b"paid".to_vec()).await?);
    assert!(operator.read(&key).await.is_err());

    let read = signed(
        &store,
        RecordVerb::Read {
            key,
            file_name: "receipt.json".into(),
            media_type: "application/json".into(),
        },
    )?;
    let answer = store.http.get(&read).send().await?;
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert_eq!(answer.bytes().await?, "paid");
    for method in [reqwest::Method::PUT, reqwest::Method::DELETE] {
        let answer = store.http.request(method, &read).send().await?;
        assert_eq!(reason(answer).await?, (403, "NotAllowed".into()));
    }
    let owners = link(&store.base, Verb::List)?.replace("/v1/artifacts", "/v1/records");
    let answer = store.http.get(owners).send().await?;
    assert_eq!(reason(answer).await?, (403, "WrongSignature".into()));
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn other_bytes_than_the_signed_and_too_many_are_refused() -> Result<()> {
    let store = store_with_records().await?;
    let append = |bytes: u64, sha256: &str| {
        signed(
            &store,
            RecordVerb::Append {
                key: RecordKey::parse("ledger/receipts/1f2e")?,
                bytes,
                sha256: sha256.to_owned(),
            },
        )
    };
    let content = content(10);
    let sha256 = key_of("a", &content)?.sha256().to_owned();
    for (bytes, digest, expected) in [
        (9, sha256.as_str(), (413, "TooLarge")),
        (11, &sha256, (422, "TooSmall")),
        (10, &"ab".repeat(32), (422, "DigestMismatch")),
        (RECORD_BYTES_MAX + 1, &sha256, (413, "RecordTooLarge")),
    ] {
        let put = store.http.put(append(bytes, digest)?).body(content.clone());
        let answer = reason(put.send().await?).await?;
        assert_eq!(answer, (expected.0, expected.1.to_owned()));
    }
    assert_eq!(store.files()?, [""; 0]);
    let put = store.http.put(append(10, &sha256)?).body(content);
    assert_eq!(put.send().await?.status(), 201);
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_store_without_the_key_keeps_no_records_and_says_which_setting_is_missing() -> Result<()>
{
    let store = Store::new().await?;
    let key = RecordKey::parse("ledger/receipts/1f2e")?;
    match client(&store, KEY)?.append(&key, b"paid".to_vec()).await {
        Err(StoreError::Refused { problem, .. }) => {
            assert_eq!(problem.reason, "NoRecords");
            assert!(problem.message.contains("--record-keys"), "{problem:?}");
        }
        answer => bail!("it is not refused: {answer:?}"),
    }
    assert!(!store.mounts.volume.join("records").exists());
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn keys_for_records_change_without_a_restart() -> Result<()> {
    let store = store_with_records().await?;
    let key = RecordKey::parse("ledger/receipts/1f2e")?;
    std::fs::write(
        store.mounts.path("record-keys"),
        SigningKeys::file([KEY + 1; 32]),
    )?;
    crate::fixture::eventually("the new key is read", || async {
        Ok(client(&store, KEY + 1)?.read(&key).await.is_ok())
    })
    .await?;
    assert!(client(&store, KEY)?.read(&key).await.is_err());
    store.stop().await?;
    Ok(())
}
