//! What the command line and the environment say.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use framewright_crds::modelpool::Device;
use framewright_crds::names::{HEALTH_PORT, env};
use framewright_crds::protocol::SLOTS_MAX;

use crate::agent::trust::Trust;
use crate::media::Programs;

/// Runs video models: for an operator, or for one file.
#[derive(Debug, Parser)]
#[command(name = "framewright-worker", version)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Threads that compute on the CPU, at most one a core that the process may use, which is the default.
    #[arg(long, global = true, env = env::THREADS)]
    pub threads: Option<usize>,
    /// What is logged, such as info or framewright_worker=debug. Default: info for serve, warn for run.
    #[arg(long, global = true, env = env::LOG)]
    pub log: Option<String>,
    /// How it is logged.
    #[arg(long, global = true, env = "FRAMEWRIGHT_LOG_FORMAT", default_value = "text", value_parser = ["text", "json"])]
    pub log_format: String,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Dials in to the operator and works on the tasks that it sends.
    Serve(Box<ServeArgs>),
    /// Does one job on this machine, without a cluster: FILE holds an AIJob and the ModelPools that it uses.
    Run(RunArgs),
}

/// Settings of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The operator's stream for workers, such as wss://framewright-operator.framewright.svc:9443/v1/stream.
    #[arg(long, env = env::OPERATOR, value_parser = secure_url)]
    pub operator: String,
    /// The certificate authority of operator and store, as PEM text.
    #[arg(
        long,
        env = env::CA,
        hide_env_values = true,
        required_unless_present = "ca_file"
    )]
    pub ca: Option<String>,
    /// The same as a file, which may be replaced while the worker runs.
    #[arg(long, env = "FRAMEWRIGHT_CA_FILE", conflicts_with = "ca")]
    pub ca_file: Option<PathBuf>,
    /// The projected service account token, with the operator's audience.
    #[arg(long, env = env::TOKEN_FILE)]
    pub token_file: PathBuf,
    /// What to compute on: cpu or cuda. Never guessed.
    #[arg(long, env = env::DEVICE)]
    pub device: Device,
    /// How many tasks to work on at a time; they share the device.
    #[arg(long, env = "FRAMEWRIGHT_SLOTS", default_value_t = 1, value_parser = slots)]
    pub slots: usize,
    /// Where verified weights are kept.
    #[arg(long, env = env::WEIGHTS)]
    pub weights_cache: PathBuf,
    /// The most that they may take, in bytes.
    #[arg(long, env = env::WEIGHTS_LIMIT)]
    pub weights_cache_limit: u64,
    /// Where tasks keep their files.
    #[arg(long, env = env::SCRATCH)]
    pub scratch: PathBuf,
    /// The most that they may take, in bytes.
    #[arg(long, env = env::SCRATCH_LIMIT)]
    pub scratch_limit: u64,
    /// Port of /healthz, /readyz and /metrics; 0 takes a free one, and the log says which.
    #[arg(long, env = "FRAMEWRIGHT_HEALTH_PORT", default_value_t = HEALTH_PORT)]
    pub health_port: u16,
    /// Where ffmpeg is.
    #[command(flatten)]
    pub media: MediaArgs,
}

/// Settings of `run`.
#[derive(Debug, Args)]
#[command(
    after_help = "In FILE an input names a local file by its path, relative to FILE: `upload: {file: clip.mp4}`; or by its content, \
`upload: {digest: …, bytes: …}`, and is looked for beside FILE then. Where all three are there, the file is checked. \
So may a file of a ModelPool: `file: weights.safetensors` beside its path."
)]
pub struct RunArgs {
    /// A YAML or JSON file with one AIJob and one or more ModelPools, or several files that hold them.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// A file for an upload input: STEP.NAME=PATH, or NAME=PATH where one input alone is called so. Default: what FILE names, by path
    /// or by content.
    #[arg(long = "input", value_name = "NAME=PATH", value_parser = named_path)]
    pub inputs: Vec<(String, PathBuf)>,
    /// Where weights are: a file or a folder. Default: beside FILE.
    #[arg(long, value_name = "PATH")]
    pub weights: Vec<PathBuf>,
    /// Where results go.
    #[arg(long, default_value = ".", value_name = "FOLDER")]
    pub output: PathBuf,
    /// Overwrite existing output files. Without this flag the run stops before it computes if an output file exists.
    #[arg(long)]
    pub overwrite: bool,
    /// Keep finished parts of videos here. If the run is killed, the same command goes on from them, and the result has the same bytes. They
    /// are removed when the job is done.
    #[arg(long, value_name = "FOLDER")]
    pub checkpoint: Option<PathBuf>,
    /// What to compute on, instead of what the pool says.
    #[arg(long)]
    pub device: Option<Device>,
    /// Where ffmpeg is.
    #[command(flatten)]
    pub media: MediaArgs,
}

/// Programs that read and write video.
#[derive(Debug, Args)]
pub struct MediaArgs {
    /// ffmpeg, 5.1 or later, with libx264.
    #[arg(long, env = "FRAMEWRIGHT_FFMPEG", default_value = "ffmpeg")]
    pub ffmpeg: PathBuf,
    /// ffprobe of the same version.
    #[arg(long, env = "FRAMEWRIGHT_FFPROBE", default_value = "ffprobe")]
    pub ffprobe: PathBuf,
}

impl MediaArgs {
    /// As the media code takes them.
    #[must_use]
    pub fn programs(&self) -> Programs {
        Programs {
            ffmpeg: self.ffmpeg.clone(),
            ffprobe: self.ffprobe.clone(),
        }
    }
}

impl ServeArgs {
    /// Whom to believe.
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
