//! The main job as `make demo` runs it: killed in the middle, it is run again; it ends with a table and with pictures to look at.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use framewright_e2e::cluster::clear;
use image::imageops;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{ChildStderr, Command};

/// A cluster of its own: somebody may be looking at the real demo's.
const CLUSTER: &str = "fw-demo-test";

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_that_is_killed_and_run_again_ends_with_a_table_and_pictures() -> Result<()> {
    let output = tempfile::tempdir()?;
    let shown = demo(output.path()).await;
    let cleared = clear(CLUSTER).await;
    let shown = shown?;
    cleared?;

    for (step, attempt) in [("large", "1"), ("larger", "1"), ("poster", "1")] {
        let line = shown
            .lines()
            .find(|line| line.split_whitespace().next() == Some(step));
        let line = line.with_context(|| format!("no step {step} in the table:\n{shown}"))?;
        let cells: Vec<&str> = line.split_whitespace().collect();
        ensure!(
            cells.contains(&"Succeeded") && cells.contains(&attempt),
            "{line}"
        );
    }
    for words in ["export KUBECONFIG=", "export PATH=", "kubectl get aijobs"] {
        ensure!(shown.contains(words), "it does not say {words:?}:\n{shown}");
    }
    for (file, least) in [("demo-larger.mp4", 100_000), ("demo-poster.png", 10_000)] {
        let bytes = fs::metadata(output.path().join(file))?.len();
        ensure!(bytes > least, "{file} has {bytes} bytes");
    }
    drawn(&output.path().join("contact-sheet.png"))
}

/// The sheet shows three pictures: the source, bicubic and the result differ from each other as little as scalings of one frame do,
/// and none is empty.
fn drawn(sheet: &Path) -> Result<()> {
    let sheet = image::open(sheet)?.to_luma8();
    let column = sheet.width() / 3;
    let means: Vec<f64> = (0..3)
        .map(|index| {
            let part = imageops::crop_imm(&sheet, index * column, 0, column, sheet.height());
            let part = part.to_image();
            let sum: f64 = part.pixels().map(|pixel| f64::from(pixel.0[0])).sum();
            sum / f64::from(part.width() * part.height())
        })
        .collect();
    let (least, most) = means
        .iter()
        .fold((f64::MAX, f64::MIN), |(least, most), &mean| {
            (least.min(mean), most.max(mean))
        });
    ensure!(
        least > 32.0 && most < 224.0 && most - least < 8.0,
        "mean brightness of the columns: {means:?}"
    );
    Ok(())
}

/// Kills one demo while its job runs, and gives what the next one says.
async fn demo(output: &Path) -> Result<String> {
    let mut first = command(output)?.spawn()?;
    let mut lines = lines(first.stderr.take())?;
    loop {
        let line = lines.next_line().await?;
        let line = line.context("the first demo ended before its job ran")?;
        eprintln!("{line}");
        if line.contains("kubectl framewright submit") {
            break;
        }
    }
    first.kill().await?;

    let began = Instant::now();
    let mut second = command(output)?.spawn()?;
    let mut said = String::new();
    let mut table = second.stdout.take().context("it has no output")?;
    let mut lines = self::lines(second.stderr.take())?;
    while let Some(line) = lines.next_line().await? {
        eprintln!("{line}");
        said.push_str(&line);
        said.push('\n');
    }
    table.read_to_string(&mut said).await?;
    let status = second.wait().await?;
    ensure!(status.success(), "the second demo ended with {status}");
    println!("the demo after one that was killed: {:?}", began.elapsed());
    Ok(said)
}

fn command(output: &Path) -> Result<Command> {
    let dist = std::env::var_os("FRAMEWRIGHT_DIST")
        .context("FRAMEWRIGHT_DIST is not set: run make test")?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_framewright-e2e"));
    command
        .args(["demo", "--cluster", CLUSTER, "--dist"])
        .arg(dist)
        .arg("--output")
        .arg(output)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    Ok(command)
}

fn lines(stderr: Option<ChildStderr>) -> Result<Lines<BufReader<ChildStderr>>> {
    Ok(BufReader::new(stderr.context("it says nothing")?).lines())
}
