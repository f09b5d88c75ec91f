//! The store as a process of its own, killed and started again.

use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use framewright_store::serve;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::fixture::{
    Mounts, Raw, content, eventually, files, get_link, key_of, put_link, trusting,
};

const FOLDER: &str = "STORE_TEST_FOLDER";

/// This test binary, started again, is the process: here it serves until it is killed.
#[tokio::test]
async fn the_process_that_other_tests_start() -> Result<()> {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return Ok(());
    };
    let folder = Path::new(&folder);
    let mut args = Mounts::new()?.args()?;
    args.volume = folder.join("volume");
    args.keys = folder.join("keys");
    args.certificate = folder.join("tls.crt");
    args.certificate_key = folder.join("tls.key");
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    Ok(serve(args).await?)
}

struct Process {
    child: Child,
    base: String,
    local: String,
}

impl Process {
    async fn start(mounts: &Mounts) -> Result<Process> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([
                "--exact",
                "process::the_process_that_other_tests_start",
                "--nocapture",
            ])
            .env(FOLDER, mounts.folder.path())
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(child.stderr.take().context("stderr")?).lines();
        let line = loop {
            let line = lines
                .next_line()
                .await?
                .context("it ended before it was ready")?;
            if line.contains("store is ready") {
                break line;
            }
        };
        // Somebody must read what it says, or it would stop at a full pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let address = |name: &str| {
            line.split_whitespace()
                .find_map(|word| word.strip_prefix(name))
                .with_context(|| format!("{name} in {line:?}"))
        };
        Ok(Process {
            base: format!("https://{}", address("address=")?),
            local: format!("http://{}", address("local_address=")?),
            child,
        })
    }
}

#[tokio::test]
async fn a_killed_store_keeps_what_it_answered_and_clears_what_it_did_not() -> Result<()> {
    let mounts = Mounts::new()?;
    let http = trusting(&mounts.authority)?;
    let (kept, lost) = (content(2_000_000), content(4_000_000));
    let (kept_key, lost_key) = (key_of("a", &kept)?, key_of("a", &lost)?);

    let mut process = Process::start(&mounts).await?;
    let link = put_link(&process.base, &kept_key, 2_000_000)?;
    ensure!(http.put(link).body(kept.clone()).send().await?.status() == 201);
    let link = put_link(&process.local, &lost_key, 4_000_000)?;
    let mut raw = Raw::put(&process.local, &link, 4_000_000).await?;
    raw.send(&lost[..3_000_000]).await?;
    eventually("half of it is on the volume", || async {
        Ok(files(&mounts.volume)?.len() == 2)
    })
    .await?;
    process.child.kill().await?;
    assert_eq!(files(&mounts.volume)?.len(), 2, "SIGKILL clears nothing");

    let process = Process::start(&mounts).await?;
    assert_eq!(files(&mounts.volume)?.len(), 1, "the next start does");
    let got = http.get(get_link(&process.base, &kept_key)?).send().await?;
    assert_eq!(got.bytes().await?, kept);
    let got = http.get(get_link(&process.base, &lost_key)?).send().await?;
    assert_eq!(got.status(), 404);
    Ok(())
}

#[tokio::test]
async fn sigterm_ends_an_idle_store_at_once_and_well() -> Result<()> {
    let mounts = Mounts::new()?;
    let mut process = Process::start(&mounts).await?;
    let pid = process.child.id().context("a process id")?;
    let began = Instant::now();
    ensure!(
        Command::new("kill")
            .arg(pid.to_string())
            .status()
            .await?
            .success()
    );
    let status =
        tokio::time::timeout(std::time::Duration::from_secs(10), process.child.wait()).await??;
    assert!(status.success(), "{status}");
    assert!(began.elapsed().as_secs() < 3, "{:?}", began.elapsed());
    Ok(())
}

/// A figure, not a claim: what one connection carries here, TLS, SHA-256 and fsync included.
#[tokio::test]
async fn a_large_artifact_goes_in_and_out() -> Result<()> {
    let mounts = Mounts::new()?;
    let http = trusting(&mounts.authority)?;
    let bytes = axum::body::Bytes::from(content(200_000_000));
    let process = Process::start(&mounts).await?;
    for (way, base) in [("plain", &process.local), ("tls", &process.base)] {
        let key = key_of(way, &bytes)?;
        let began = Instant::now();
        let link = put_link(base, &key, 200_000_000)?;
        let status = http.put(link).body(bytes.clone()).send().await?.status();
        ensure!(status == 201, "{status}");
        let up = began.elapsed();
        let began = Instant::now();
        let got = http
            .get(get_link(base, &key)?)
            .send()
            .await?
            .bytes()
            .await?;
        let down = began.elapsed();
        ensure!(got == bytes);
        println!("200 MB, {way}: up {up:.2?}, down {down:.2?}");
    }
    Ok(())
}
