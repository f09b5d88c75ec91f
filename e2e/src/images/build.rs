//! The operator's and the worker's images, built from the Containerfile at the root of the repository.
//!
//! The base is bootstrapped from Debian's packages, once for each release. Layers are kept, so a
//! changed program costs one thin layer. All storage is this user's own, apart from other tools'.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ring::digest::{SHA256, digest};
use tokio::process::Command;

use crate::checkout::root;
use crate::command::output;
use crate::lock;
use crate::progress::Progress;
use crate::tools::{Part, Tools, cache};

const PATIENCE: Duration = Duration::from_secs(900);

/// How the file begins that a base is bootstrapped into.
const BASE_PREFIX: &str = ".base-";
/// Without what no program reads: documentation, translations.
const BASE: [&str; 7] = [
    "--variant=essential",
    "--include=ca-certificates",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/info/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
];

/// An image that lies ready as an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// Such as `docker.io/framewright/worker:dev`.
    pub name: String,
    /// To be loaded with [`crate::Options::images`] or [`crate::Cluster::load`].
    pub archive: PathBuf,
}

/// An image of the Containerfile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    name: &'static str,
    /// What must lie in the context, and what puts it there.
    programs: &'static [&'static str],
    made_by: &'static str,
}

/// The images of a cluster without GPUs.
pub const CPU: [Target; 2] = [
    Target {
        name: "operator",
        programs: &["framewright-operator"],
        made_by: "make dist",
    },
    Target {
        name: "worker",
        programs: &["framewright-worker", "ffmpeg", "ffprobe"],
        made_by: "make dist",
    },
];

/// The image of workers for NVIDIA GPUs.
pub const CUDA: [Target; 1] = [Target {
    name: "worker-cuda",
    programs: &[
        "cuda/framewright-worker",
        "cuda/lib/libcublas.so.13",
        "ffmpeg",
        "ffprobe",
    ],
    made_by: "make dist worker-cuda",
}];

/// Builds images from the programs in `context`. What has not changed is not built again.
///
/// # Errors
/// If a program is missing from `context`, or with what the builder said.
pub async fn build(context: &Path, targets: &[Target]) -> Result<Vec<Built>> {
    for target in targets {
        for program in target.programs {
            if !context.join(program).is_file() {
                bail!(
                    "{} lacks {program}; `{}` puts it there",
                    context.display(),
                    target.made_by
                );
            }
        }
    }
    Tools::install(&[Part::Images]).await?;
    let progress = Progress::new("images");
    let builder = Builder::new()?;
    let _lock = lock::wait(&builder.folder.join("lock"), PATIENCE).await?;
    builder.clear()?;
    let base = builder.base(&progress).await?;
    let mut built = Vec::new();
    for Target { name, .. } in targets {
        built.push(builder.image(&base, name, context).await?);
        progress.say(&format!("{name} is built"));
    }
    // The images that lost their names to these.
    builder
        .run(&["rmi", "--prune"])
        .await
        .context("remove earlier images")?;
    Ok(built)
}

/// Pushes a built image to a registry, under another name, with TLS or over plain HTTP. Its digest there.
///
/// # Errors
/// With what the registry or the builder said.
pub async fn push(image: &Built, name: &str, is_plain: bool) -> Result<String> {
    let builder = Builder::new()?;
    let digest = tempfile::NamedTempFile::new().context("make a file for the image's digest")?;
    let mut push = builder.buildah();
    push.args(["push", "--quiet", "--log-level=error", "--digestfile"])
        .arg(digest.path());
    if is_plain {
        push.arg("--tls-verify=false");
    }
    push.arg(&image.name).arg(format!("docker://{name}"));
    output(&mut push, PATIENCE)
        .await
        .with_context(|| format!("push {name}"))?;
    let digest = fs::read_to_string(digest.path()).context("read the image's digest")?;
    Ok(digest.trim().to_owned())
}

struct Builder {
    folder: PathBuf,
    containerfile: PathBuf,
}

impl Builder {
    fn new() -> Result<Builder> {
        let folder = cache()?.join("images");
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        Ok(Builder {
            folder,
            containerfile: root()?.join("Containerfile"),
        })
    }

    /// buildah with storage of our own, in namespaces that take its mounts and processes with them.
    fn buildah(&self) -> Command {
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "buildah",
        ]);
        command
            .arg("--root")
            .arg(self.folder.join("storage"))
            .arg("--runroot")
            .arg(self.folder.join("run"));
        if std::env::var_os("STORAGE_DRIVER").is_none() {
            command.args(["--storage-driver", "overlay"]);
        }
        command
    }

    async fn run(&self, arguments: &[&str]) -> Result<String> {
        output(self.buildah().args(arguments), PATIENCE).await
    }

    /// The name of the base image, of the same Debian release as this machine, since its programs are built here.
    async fn base(&self, progress: &Progress) -> Result<String> {
        let release = fs::read_to_string("/etc/os-release").context("read /etc/os-release")?;
        let release = release
            .lines()
            .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
            .context("/etc/os-release names no release of Debian")?;
        let recipe = hex::encode(digest(&SHA256, BASE.concat().as_bytes()));
        let name = format!(
            "localhost/framewright-base:{release}-{}",
            recipe.get(..12).unwrap_or(&recipe)
        );
        if self
            .run(&[
                "inspect",
                "--type",
                "image",
                "--format",
                "{{.FromImageID}}",
                &name,
            ])
            .await
            .is_ok()
        {
            return Ok(name);
        }
        progress.say("bootstrapping the base from Debian's packages, once (about a minute)");
        let partial = tempfile::Builder::new()
            .prefix(BASE_PREFIX)
            .suffix(".tar")
            .tempfile_in(&self.folder)
            .context("make the base")?;
        let mut mmdebstrap = Command::new("mmdebstrap");
        output(
            mmdebstrap.args(BASE).arg(release).arg(partial.path()),
            PATIENCE,
        )
        .await
        .context("bootstrap the base")?;
        let container = self.run(&["from", "scratch"]).await?;
        let container = container.trim();
        self.run(&[
            "add",
            "--quiet",
            container,
            &partial.path().display().to_string(),
            "/",
        ])
        .await?;
        self.run(&["commit", "--quiet", "--rm", container, &name])
            .await?;
        progress.say("the base is there");
        Ok(name)
    }

    async fn image(&self, base: &str, target: &str, context: &Path) -> Result<Built> {
        let name = format!("docker.io/framewright/{target}:dev");
        let id_file = tempfile::NamedTempFile::new().context("make a file for the image's id")?;
        let mut build = self.buildah();
        build.args([
            "bud",
            "--quiet",
            "--layers",
            "--pull-never",
            "--isolation",
            "chroot",
            "--network",
            "host",
        ]);
        build.args([
            "--build-arg",
            &format!("BASE={base}"),
            "--target",
            target,
            "--tag",
            &name,
        ]);
        build
            .arg("--iidfile")
            .arg(id_file.path())
            .arg("--file")
            .arg(&self.containerfile)
            .arg(context);
        output(&mut build, PATIENCE)
            .await
            .with_context(|| format!("build the image of the {target}"))?;
        let id = fs::read_to_string(id_file.path()).context("read the image's id")?;
        let id = id.trim().trim_start_matches("sha256:");
        // Not `worker-`, which the archives of other workers begin with too.
        let prefix = format!("{target}@");
        let archive = self
            .folder
            .join(format!("{prefix}{}.tar", id.get(..12).unwrap_or(id)));
        if !archive.exists() {
            self.forget(&prefix)?;
            let partial = archive.with_extension("partial");
            // An OCI archive would be compressed, which costs more than it saves on the way to a neighbouring folder.
            let to = format!("docker-archive:{}:{name}", partial.display());
            self.run(&["push", "--quiet", id, &to])
                .await
                .with_context(|| format!("write {}", archive.display()))?;
            fs::rename(&partial, &archive)
                .with_context(|| format!("write {}", archive.display()))?;
        }
        Ok(Built { name, archive })
    }

    /// Removes what a killed build has left. The lock says that no other one runs.
    fn clear(&self) -> Result<()> {
        for entry in fs::read_dir(&self.folder)
            .context("list the images")?
            .flatten()
        {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(BASE_PREFIX) || name.ends_with(".partial") {
                fs::remove_file(entry.path())
                    .with_context(|| format!("remove {}", entry.path().display()))?;
            }
        }
        Ok(())
    }

    /// Removes archives of builds that nobody can be loading any more.
    fn forget(&self, prefix: &str) -> Result<()> {
        for entry in fs::read_dir(&self.folder)
            .context("list the images")?
            .flatten()
        {
            let age = entry
                .metadata()
                .and_then(|metadata| metadata.modified())
                .ok()
                .and_then(|time| time.elapsed().ok());
            let is_old = age.is_some_and(|age| age > Duration::from_secs(3600));
            if is_old && entry.file_name().to_string_lossy().starts_with(prefix) {
                fs::remove_file(entry.path())
                    .with_context(|| format!("remove {}", entry.path().display()))?;
            }
        }
        Ok(())
    }
}
