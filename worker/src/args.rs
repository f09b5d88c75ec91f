//! The command line and the environment variables.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use framewright_crds::modelpool::Device;
use framewright_crds::names::{HEALTH_PORT, env};
use framewright_crds::protocol::SLOTS_MAX;

use crate::agent::trust::Trust;
use crate::media::Programs;

/// Runs video models: for an operator, or for one job without a cluster.
#[derive(Debug, Parser)]
#[command(name = "framewright-worker", version)]
pub struct Arguments {
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
    /// Number of threads that compute on the CPU. Default and maximum: the number of cores that the process may use.
    #[arg(long, global = true, env = env::THREADS)]
    pub threads: Option<usize>,
    /// Log filter, such as info or framewright_worker=debug. Default: info for serve, warn for run.
    #[arg(long, global = true, env = env::LOG)]
    pub log: Option<String>,
    /// Format of the log.
    #[arg(long, global = true, env = "FRAMEWRIGHT_LOG_FORMAT", default_value = "text", value_parser = ["text", "json"])]
    pub log_format: String,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Connect to the operator and run the tasks that it sends.
    Serve(Box<ServeArgs>),
    /// Run one job on this machine, without a cluster. FILE contains an AIJob and the ModelPools that it uses.
    Run(RunArgs),
}

/// Settings of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// URL of the operator's stream for workers, such as wss://framewright-operator.framewright-system.svc:9443/v1/stream.
    #[arg(long, env = env::OPERATOR, value_parser = secure_url)]
    pub operator: String,
    /// Certificate of the authority of operator and store, as PEM text.
    #[arg(
        long,
        env = env::CA,
        hide_env_values = true,
        required_unless_present = "ca_file"
    )]
    pub ca: Option<String>,
    /// The same certificate as a file, which may be replaced while the worker runs.
    #[arg(long, env = "FRAMEWRIGHT_CA_FILE", conflicts_with = "ca")]
    pub ca_file: Option<PathBuf>,
    /// File with the projected service account token, with the operator's audience.
    #[arg(long, env = env::TOKEN_FILE)]
    pub token_file: PathBuf,
    /// Device to compute on: cpu or cuda. There is no default.
    #[arg(long, env = env::DEVICE)]
    pub device: Device,
    /// Number of tasks to run at a time; they share the device.
    #[arg(long, env = "FRAMEWRIGHT_SLOTS", default_value_t = 1, value_parser = slots)]
    pub slots: usize,
    /// Folder for verified weights.
    #[arg(long, env = env::WEIGHTS)]
    pub weights_cache: PathBuf,
    /// Maximum size of the weights cache, in bytes.
    #[arg(long, env = env::WEIGHTS_LIMIT)]
    pub weights_cache_limit: u64,
    /// Folder for the files of tasks.
    #[arg(long, env = env::SCRATCH)]
    pub scratch: PathBuf,
    /// Maximum size of the scratch folder, in bytes.
    #[arg(long, env = env::SCRATCH_LIMIT)]
    pub scratch_limit: u64,
    /// Port of /healthz, /readyz and /metrics; 0 takes a free one, and the log says which.
    #[arg(long, env = "FRAMEWRIGHT_HEALTH_PORT", default_value_t = HEALTH_PORT)]
    pub health_port: u16,
    /// Paths of ffmpeg and ffprobe.
    #[command(flatten)]
    pub media: MediaArgs,
}

/// Settings of `run`.
#[derive(Debug, Args)]
#[command(
    after_help = "In FILE, an input may name a local file by its path, relative to FILE: `upload: {file: clip.mp4}`; or by its content: \
`upload: {digest: …, bytes: …}`. The worker then searches for a file with this content beside FILE. If an input has both, the worker checks \
that the file has this content. A file of a ModelPool may also name a local file: `file: weights.safetensors` beside its path."
)]
pub struct RunArgs {
    /// YAML or JSON with one AIJob and one or more ModelPools, in one file or several.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The local file for an input: STEP.INPUT=PATH, or INPUT=PATH if only one input has this name. Default: the file that FILE names, by
    /// path or by content.
    #[arg(long = "input", value_name = "NAME=PATH", value_parser = named_path)]
    pub inputs: Vec<(String, PathBuf)>,
    /// A file or a folder with weights. Default: the folder of FILE.
    #[arg(long, value_name = "PATH")]
    pub weights: Vec<PathBuf>,
    /// Folder for the results.
    #[arg(long, default_value = ".", value_name = "FOLDER")]
    pub output: PathBuf,
    /// Overwrite existing output files. Without this flag the run stops before it computes if an output file exists.
    #[arg(long)]
    pub overwrite: bool,
    /// Keep finished parts of videos here. If the run is killed, the same command goes on from them, and the result has the same bytes. They
    /// are removed when the job is done.
    #[arg(long, value_name = "FOLDER")]
    pub checkpoint: Option<PathBuf>,
    /// Device to compute on: cpu or cuda. Default: the pool's device.
    #[arg(long)]
    pub device: Option<Device>,
    /// Paths of ffmpeg and ffprobe.
    #[command(flatten)]
    pub media: MediaArgs,
}

/// Programs that read and write video.
#[derive(Debug, Args)]
pub struct MediaArgs {
    /// Path of ffmpeg, version 5.1 or later, with libx264.
    #[arg(long, env = "FRAMEWRIGHT_FFMPEG", default_value = "ffmpeg")]
    pub ffmpeg: PathBuf,
    /// Path of ffprobe, of the same version.
    #[arg(long, env = "FRAMEWRIGHT_FFPROBE", default_value = "ffprobe")]
    pub ffprobe: PathBuf,
}

impl MediaArgs {
    /// The paths for the media code.
    #[must_use]
    pub fn programs(&self) -> Programs {
        Programs {
            ffmpeg: self.ffmpeg.clone(),
            ffprobe: self.ffprobe.clone(),
        }
    }
}

impl ServeArgs {
    /// The source of the trusted authority.
    #[must_use]
    pub fn trust(&self) -> Trust {
        match &self.ca_file {
            Some(path) => Trust::File(path.clone()),
            None => Trust::Text(self.ca.clone().unwrap_or_default()),
        }
    }
}

fn secure_url(text: &str) -> Result<String, String> {
    if text.starts_with("wss://") {
        return Ok(text.to_owned());
    }
    Err("the operator's address must begin with wss://; a worker does not send its token in the clear".into())
}

fn slots(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(slots @ 1..=SLOTS_MAX) => Ok(slots as usize),
        Ok(_) | Err(_) => Err(format!("give 1 to {SLOTS_MAX}")),
    }
}

fn named_path(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok((name.to_owned(), path.into()))
        }
        Some(_) | None => Err("give NAME=PATH, such as video=clip.mp4".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_never_leaves_in_the_clear() {
        assert!(secure_url("ws://operator/v1/stream").is_err());
        assert!(secure_url("wss://operator/v1/stream").is_ok());
    }
}
