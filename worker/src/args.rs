//! What the command line and the environment say.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};
use framewright_crds::names::HEALTH_PORT;

use crate::device::DeviceKind;
use crate::media::Programs;
use crate::serve::trust::Trust;

/// Runs video models: for an operator, or for one file.
#[derive(Debug, Parser)]
#[command(name = "framewright-worker", version)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Threads that compute on the CPU. Default: one a core that the process may use.
    #[arg(long, global = true, env = "FRAMEWRIGHT_THREADS")]
    pub threads: Option<usize>,
    /// What is logged, as in RUST_LOG.
    #[arg(long, global = true, env = "FRAMEWRIGHT_LOG", default_value = "info")]
    pub log: String,
    /// How it is logged.
    #[arg(long, global = true, env = "FRAMEWRIGHT_LOG_FORMAT", default_value = "text", value_parser = ["text", "json"])]
    pub log_format: String,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Dials in to the operator and works on the tasks that it sends.
    Serve(Box<ServeArgs>),
    /// Does one job on this machine, without a cluster: FILE holds an AIJob and its ModelPools.
    Run(RunArgs),
}

/// Settings of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The operator's stream for workers, such as wss://framewright-operator.framewright.svc:9443/v1/link.
    #[arg(long, env = "FRAMEWRIGHT_OPERATOR", value_parser = secure_url)]
    pub operator: String,
    /// The certificate authority of operator and store, as PEM text.
    #[arg(long, env = "FRAMEWRIGHT_CA", hide_env_values = true, required_unless_present = "ca_file")]
    pub ca: Option<String>,
    /// The same as a file, which may be replaced while the worker runs.
    #[arg(long, env = "FRAMEWRIGHT_CA_FILE", conflicts_with = "ca")]
    pub ca_file: Option<PathBuf>,
    /// The projected service account token, with the operator's audience.
    #[arg(long, env = "FRAMEWRIGHT_TOKEN_FILE", default_value = "/var/run/framewright/token")]
    pub token_file: PathBuf,
    /// What to compute on: cpu or cuda. Never guessed.
    #[arg(long, env = "FRAMEWRIGHT_DEVICE")]
    pub device: DeviceKind,
    /// How many tasks to work on at a time; they share the device.
    #[arg(long, env = "FRAMEWRIGHT_SLOTS", default_value_t = 1, value_parser = slots)]
    pub slots: usize,
    /// Where verified weights are kept.
    #[arg(long, env = "FRAMEWRIGHT_WEIGHTS_CACHE", default_value = "/var/lib/framewright/weights")]
    pub weights_cache: PathBuf,
    /// The most that they may take: bytes, or a number with Ki, Mi, Gi, Ti.
    #[arg(long, env = "FRAMEWRIGHT_WEIGHTS_CACHE_LIMIT", default_value = "20Gi")]
    pub weights_cache_limit: Size,
    /// Where tasks keep their files.
    #[arg(long, env = "FRAMEWRIGHT_SCRATCH", default_value = "/var/lib/framewright/scratch")]
    pub scratch: PathBuf,
    /// The most that they may take: bytes, or a number with Ki, Mi, Gi, Ti.
    #[arg(long, env = "FRAMEWRIGHT_SCRATCH_LIMIT", default_value = "10Gi")]
    pub scratch_limit: Size,
    /// Port of /healthz, /ready and /metrics.
    #[arg(long, env = "FRAMEWRIGHT_HEALTH_PORT", default_value_t = HEALTH_PORT)]
    pub health_port: u16,
    /// Where ffmpeg is.
    #[command(flatten)]
    pub media: MediaArgs,
}

/// Settings of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// A YAML file with one AIJob and one or more ModelPools.
    pub file: PathBuf,
    /// A file for an upload input: NAME=PATH, where NAME is the input's, or STEP.NAME. Default: files beside FILE, by digest.
    #[arg(long = "input", value_name = "NAME=PATH", value_parser = named_path)]
    pub inputs: Vec<(String, PathBuf)>,
    /// Where weights are: a file or a folder. Default: beside FILE.
    #[arg(long, value_name = "PATH")]
    pub weights: Vec<PathBuf>,
    /// Where results go.
    #[arg(long, default_value = ".", value_name = "FOLDER")]
    pub output: PathBuf,
    /// What to compute on, instead of what the pool says.
    #[arg(long)]
    pub device: Option<DeviceKind>,
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

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(u64);

impl Size {
    /// The number.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit: u64 = match &text[digits.len()..] {
            "" => 1,
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            "Ti" => 1 << 40,
            "k" => 1000,
            "M" => 1_000_000,
            "G" => 1_000_000_000,
            "T" => 1_000_000_000_000,
            _ => return Err("give bytes, or a number with Ki, Mi, Gi, Ti, k, M, G, T".into()),
        };
        let number: u64 = digits
            .parse()
            .map_err(|_| "give bytes, or a number with Ki, Mi, Gi, Ti, k, M, G, T".to_owned())?;
        number
            .checked_mul(unit)
            .map(Size)
            .ok_or_else(|| "that is more than 16 EiB".into())
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
        Ok(slots @ 1..=64) => Ok(slots),
        Ok(_) | Err(_) => Err("give 1 to 64".into()),
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
    fn sizes_are_read_as_kubernetes_writes_them() {
        assert_eq!("10Gi".parse(), Ok(Size(10 << 30)));
        assert_eq!("500M".parse(), Ok(Size(500_000_000)));
        assert_eq!("123".parse(), Ok(Size(123)));
        for wrong in ["", "Gi", "10Gb", "-1", "99999999999Ti"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_token_never_leaves_in_the_clear() {
        assert!(secure_url("ws://operator/v1/link").is_err());
        assert!(secure_url("wss://operator/v1/link").is_ok());
    }
}
