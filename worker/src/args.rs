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
    /// Threads that compute on the CPU, at most one a core that the process may use, which is the default.
    #[arg(long, global = true, env = "FRAMEWRIGHT_THREADS")]
    pub threads: Option<usize>,
    /// What is logged, such as info or framewright_worker=debug. Default: info for serve, warn for run.
    #[arg(long, global = true, env = "RUST_LOG")]
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
    /// The operator's stream for workers, such as wss://framewright-operator.framewright.svc:9443/v1/link.
    #[arg(long, env = "FRAMEWRIGHT_OPERATOR", value_parser = secure_url)]
    pub operator: String,
    /// The certificate authority of operator and store, as PEM text.
    #[arg(
        long,
        env = "FRAMEWRIGHT_CA",
        hide_env_values = true,
        required_unless_present = "ca_file"
    )]
    pub ca: Option<String>,
    /// The same as a file, which may be replaced while the worker runs.
    #[arg(long, env = "FRAMEWRIGHT_CA_FILE", conflicts_with = "ca")]
    pub ca_file: Option<PathBuf>,
    /// The projected service account token, with the operator's audience.
    #[arg(
        long,
        env = "FRAMEWRIGHT_TOKEN_FILE",
        default_value = "/var/run/framewright/token"
    )]
    pub token_file: PathBuf,
    /// What to compute on: cpu or cuda. Never guessed.
    #[arg(long, env = "FRAMEWRIGHT_DEVICE")]
    pub device: DeviceKind,
    /// How many tasks to work on at a time; they share the device.
    #[arg(long, env = "FRAMEWRIGHT_SLOTS", default_value_t = 1, value_parser = slots)]
    pub slots: usize,
    /// Where verified weights are kept.
    #[arg(
        long,
        env = "FRAMEWRIGHT_WEIGHTS",
        default_value = "/var/lib/framewright/weights"
    )]
    pub weights_cache: PathBuf,
    /// The most that they may take: bytes, or a number with Ki, Mi, Gi, Ti.
    #[arg(long, env = "FRAMEWRIGHT_WEIGHTS_LIMIT", default_value = "20Gi")]
    pub weights_cache_limit: Size,
    /// Where tasks keep their files.
    #[arg(
        long,
        env = "FRAMEWRIGHT_SCRATCH",
        default_value = "/var/lib/framewright/scratch"
    )]
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
#[command(
    after_help = "In FILE an input names a local file by its path, relative to FILE: `upload: {file: clip.mp4}`; or by its content, \
`upload: {sha256: …, bytes: …}`, and is looked for beside FILE then. Where all three are there, the file is checked. \
So may a file of a ModelPool: `file: weights.safetensors` beside its path."
)]
pub struct RunArgs {
    /// A YAML file with one AIJob and one or more ModelPools, or several files that hold them.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// A file for an upload input: NAME=PATH, where NAME is the input's, or STEP.NAME. Default: what FILE names, by path or by
    /// content.
    #[arg(long = "input", value_name = "NAME=PATH", value_parser = named_path)]
    pub inputs: Vec<(String, PathBuf)>,
    /// Where weights are: a file or a folder. Default: beside FILE.
    #[arg(long, value_name = "PATH")]
    pub weights: Vec<PathBuf>,
    /// Where results go.
    #[arg(long, default_value = ".", value_name = "FOLDER")]
    pub output: PathBuf,
    /// Replace files that are called as results are. Without it nothing is computed where one is there.
    #[arg(long)]
    pub overwrite: bool,
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

    /// A quantity as Kubernetes writes it; parts of a byte are left out.
    fn from_str(text: &str) -> Result<Size, String> {
        let wrong = || "give bytes, or a number with Ki, Mi, Gi, Ti, k, M, G or T".to_owned();
        let end = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let factor: f64 = match unit {
            "" => 1.0,
            "k" => 1e3,
            "M" => 1e6,
            "G" => 1e9,
            "T" => 1e12,
            "Ki" => 1024.0,
            "Mi" => 1024.0 * 1024.0,
            "Gi" => 1024.0 * 1024.0 * 1024.0,
            "Ti" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
            "m" => 1e-3,
            _ => unit
                .strip_prefix(['e', 'E'])
                .and_then(|power| power.parse().ok())
                .map(|power| 10_f64.powi(power))
                .ok_or_else(wrong)?,
        };
        let number: f64 = number.parse().map_err(|_| wrong())?;
        Ok(Size((number * factor) as u64))
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
        assert_eq!("1.5Ki".parse(), Ok(Size(1536)));
        assert_eq!("2e3".parse(), Ok(Size(2000)));
        for wrong in ["", "Gi", "10Gb", "-1", "1..2"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_token_never_leaves_in_the_clear() {
        assert!(secure_url("ws://operator/v1/link").is_err());
        assert!(secure_url("wss://operator/v1/link").is_ok());
    }
}
