//! A volume without room, on a real file system of a few megabytes.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::fixture::{Mounts, Raw, Store, content, eventually, key_of, put_link, reason};

#[tokio::test]
async fn an_upload_that_cannot_fit_is_refused_before_it_is_sent() -> Result<()> {
    let Some((mounts, _mounted)) = small_volume("size=8m")? else {
        return Ok(());
    };
    let store = Store::with(mounts, |_| {}).await?;
    let (small, large) = (content(5_000_000), content(10_000_000));
    let large_key = key_of("a", &large)?;
    assert_eq!(
        reason(store.put(&large_key, large).await?).await?,
        (507, "StoreFull".into())
    );
    let small_key = key_of("a", &small)?;
    assert_eq!(store.put(&small_key, small.clone()).await?.status(), 201);
    assert_eq!(
        store.put(&small_key, small.clone()).await?.status(),
        200,
        "it needs no more room"
    );
    let again = key_of("b", &small)?;
    assert_eq!(
        reason(store.put(&again, small.clone()).await?).await?,
        (507, "StoreFull".into())
    );
    assert_eq!(store.files()?.len(), 1);
    // Room that is made is used.
    store.client()?.delete(small_key.owner()).await?;
    assert_eq!(store.put(&again, small).await?.status(), 201);
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_volume_that_fills_up_under_an_upload_keeps_no_part_of_it() -> Result<()> {
    let Some((mounts, _mounted)) = small_volume("size=8m")? else {
        return Ok(());
    };
    let filler = mounts.volume.join("filler");
    let store = Store::with(mounts, |_| {}).await?;
    let bytes = content(6_000_000);
    let key = key_of("a", &bytes)?;
    let link = put_link(&store.local, &key, 6_000_000)?;
    let mut raw = Raw::put(&store.local, &link, 6_000_000).await?;
    raw.send(&bytes[..2_000_000]).await?;
    eventually("a part is on the volume", || async {
        Ok(store.files()?.len() == 1)
    })
    .await?;
    std::fs::write(&filler, content(5_000_000))?;
    raw.send(&bytes[2_000_000..]).await?;
    let answer = raw.answer().await?;
    assert!(
        answer.contains(" 507 ") && answer.contains("StoreFull"),
        "{answer}"
    );
    assert_eq!(store.files()?, [filler.display().to_string()]);
    std::fs::remove_file(&filler)?;
    assert_eq!(store.put(&key, bytes).await?.status(), 201);
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn uploads_at_once_are_not_promised_the_same_room() -> Result<()> {
    let Some((mounts, _mounted)) = small_volume("size=8m")? else {
        return Ok(());
    };
    let store = Store::with(mounts, |_| {}).await?;
    let bytes = content(5_000_000);
    let first = key_of("a", &bytes)?;
    let link = put_link(&store.local, &first, 5_000_000)?;
    let mut raw = Raw::put(&store.local, &link, 5_000_000).await?;
    raw.send(&bytes[..10]).await?;
    eventually("the first has begun", || async {
        Ok(store.files()?.len() == 1)
    })
    .await?;
    let second = key_of("b", &bytes)?;
    assert_eq!(
        reason(store.put(&second, bytes.clone()).await?).await?,
        (507, "StoreFull".into())
    );
    raw.send(&bytes[10..]).await?;
    assert!(raw.answer().await?.contains(" 201 "));
    store.stop().await?;
    Ok(())
}

/// Unmounts when it goes.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// A volume of its own; `None`, and a line that says so, for a user who may not mount one. Root may, and CI is root.
fn small_volume(options: &str) -> Result<Option<(Mounts, Mounted)>> {
    let mounts = Mounts::new()?;
    let output = Command::new("mount")
        .args(["-t", "tmpfs", "-o", options, "tmpfs"])
        .arg(&mounts.volume)
        .output()?;
    if output.status.success() {
        let mounted = Mounted(mounts.volume.clone());
        return Ok(Some((mounts, mounted)));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let is_root = Command::new("id").arg("-u").output()?.stdout == b"0\n";
    ensure!(!is_root, "root cannot mount a small volume: {said}");
    println!("skipped, since only root may mount a small volume: {said}");
    Ok(None)
}
