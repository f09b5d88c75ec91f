//! The cluster of these tests with the chart installed, and the programs that a person would use with it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use framewright_e2e::{Cluster, Options, images};
use serde_json::Value;
use tokio::process::Command;
use tokio::sync::OnceCell;

/// Framewright's own namespace.
pub(crate) const SYSTEM: &str = "framewright-system";
const PATIENCE: Duration = Duration::from_secs(300);
/// What the tests' release is installed with.
pub(crate) const VALUES: [&str; 7] = [
    "--set=image.tag=dev",
    "--set=image.pullPolicy=Never",
    // A node of these tests has no GPU, and no image for one.
    "--set=workerImage.cuda.repository=framewright/worker",
    "--set=store.persistence.size=5Gi",
    // A person of these tests.
    "--set=storeAccess.subjects[0].kind=ServiceAccount",
    "--set=storeAccess.subjects[0].namespace=default",
    "--set=storeAccess.subjects[0].name=person",
];

/// One for all tests; it ends with their process.
static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();

/// The cluster with the chart installed from this repository, and the images from its programs.
pub(crate) async fn cluster() -> Result<&'static Cluster> {
    CLUSTER.get_or_try_init(install).await
}

async fn install() -> Result<Cluster> {
    let dist = dist()?;
    let archives = images::build(&dist, &images::CPU)
        .await?
        .into_iter()
        .map(|image| image.archive)
        .collect();
    let options = Options {
        images: archives,
        ..Options::default()
    };
    let cluster = Cluster::start("fw-product", options).await?;
    helm(&cluster, "install", &VALUES).await?;
    Ok(cluster)
}

/// Installs the release or upgrades it, with the chart of this repository, and waits until all of it is up.
pub(crate) async fn helm(cluster: &Cluster, verb: &str, values: &[&str]) -> Result<()> {
    let chart = root().join("charts/framewright").display().to_string();
    let release = [verb, "framewright", &chart, "--namespace", SYSTEM];
    let wait = ["--wait", "--timeout=120s"];
    let create: &[&str] = if verb == "install" {
        &["--create-namespace"]
    } else {
        &[]
    };
    cluster
        .helm(&[&release[..], values, &wait, create].concat())
        .await
        .map(drop)
        .context("the chart does not come up")
}

#[tokio::test(flavor = "multi_thread")]
async fn helm_test_finds_the_installation_whole() -> Result<()> {
    let test = ["test", "framewright", "--namespace", SYSTEM];
    let said = cluster().await?.helm(&test).await?;
    ensure!(said.contains("Succeeded"), "{said}");
    Ok(())
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The folder with the programs, from `$FRAMEWRIGHT_DIST`.
pub(crate) fn dist() -> Result<PathBuf> {
    let folder =
        std::env::var_os("FRAMEWRIGHT_DIST").map_or_else(|| root().join("dist"), PathBuf::from);
    for program in [
        "framewright-operator",
        "framewright-worker",
        "kubectl-framewright",
        "ffmpeg",
        "ffprobe",
    ] {
        ensure!(
            folder.join(program).is_file(),
            "{} lacks {program}; run make test, which builds it",
            folder.display()
        );
    }
    Ok(folder)
}

/// Runs `kubectl framewright`; gives all that it says.
///
/// # Errors
/// With what it said, if it failed.
pub(crate) async fn plugin(
    cluster: &Cluster,
    namespace: &str,
    arguments: &[&str],
) -> Result<String> {
    plugin_as(&cluster.kubeconfig(), namespace, arguments).await
}

/// The same as whoever this kubeconfig is for.
pub(crate) async fn plugin_as(
    kubeconfig: &Path,
    namespace: &str,
    arguments: &[&str],
) -> Result<String> {
    let mut command = Command::new(dist()?.join("kubectl-framewright"));
    command
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(["--namespace", namespace])
        .args(arguments);
    said(&mut command).await
}

/// Runs ffmpeg.
///
/// # Errors
/// With what it said, if it failed.
pub(crate) async fn ffmpeg(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new(dist()?.join("ffmpeg"));
    command
        .args(["-hide_banner", "-nostdin", "-y", "-v", "error"])
        .args(arguments);
    said(&mut command).await.map(drop)
}

/// Width, height and frames of a video, each frame decoded.
///
/// # Errors
/// If it is no video.
pub(crate) async fn measured(video: &Path) -> Result<(u32, u32, u32)> {
    let mut command = Command::new(dist()?.join("ffprobe"));
    command.args(["-v", "error", "-select_streams", "v:0", "-count_frames"]);
    command.args([
        "-show_entries",
        "stream=width,height,nb_read_frames",
        "-of",
        "csv=p=0",
    ]);
    let line = said(command.arg(video)).await?;
    let numbers: Vec<u32> = line
        .trim()
        .split(',')
        .map(str::parse)
        .collect::<Result<_, _>>()
        .with_context(|| format!("ffprobe says {line:?}"))?;
    let [width, height, frames] = numbers[..] else {
        anyhow::bail!("ffprobe says {line:?}")
    };
    Ok((width, height, frames))
}

/// All that ffprobe knows of a video and its sound, each frame decoded.
///
/// # Errors
/// If it is no video.
pub(crate) async fn probed(video: &Path) -> Result<Value> {
    let mut command = Command::new(dist()?.join("ffprobe"));
    command.args(["-v", "error", "-count_frames", "-show_streams"]);
    let text = said(command.args(["-of", "json"]).arg(video)).await?;
    serde_json::from_str(&text).with_context(|| format!("ffprobe says {text:?}"))
}

/// The checksums of a video's sound as it is in the file, a packet each.
///
/// # Errors
/// If it has none.
pub(crate) async fn sound(video: &Path) -> Result<Vec<String>> {
    let mut command = Command::new(dist()?.join("ffmpeg"));
    command.args(["-nostdin", "-v", "error", "-i"]).arg(video);
    command.args(["-map", "0:a", "-c", "copy", "-f", "framehash", "-"]);
    let text = said(&mut command).await?;
    let packets = text.lines().filter(|line| !line.starts_with('#'));
    Ok(packets
        .filter_map(|line| line.rsplit(',').next())
        .map(|checksum| checksum.trim().to_owned())
        .collect())
}

/// What a program says on both its outputs; it must succeed.
pub(crate) async fn said(command: &mut Command) -> Result<String> {
    let name = command.as_std().get_program().display().to_string();
    let output = tokio::time::timeout(PATIENCE, command.kill_on_drop(true).output())
        .await
        .with_context(|| format!("{name} did not end"))?
        .with_context(|| format!("start {name}"))?;
    let said = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned();
    ensure!(
        output.status.success(),
        "{name} ended with {}: {said}",
        output.status
    );
    Ok(said)
}
