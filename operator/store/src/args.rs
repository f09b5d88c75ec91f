//! The settings of `framewright-operator store`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use framewright_crds::names::{HEALTH_PORT, STORE_LOCAL_PORT, STORE_PORT};

/// Of both families, and IPv4 alone where there is no IPv6.
const EVERYWHERE: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
const THIS_POD: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Keeps artifacts, and serves them to requests with a link that the operator has signed.
#[derive(Clone, Debug, clap::Args)]
pub struct StoreArgs {
    /// Folder of the volume for the artifacts. Only one store at a time may use it
    #[arg(long, env = "FRAMEWRIGHT_STORE_VOLUME", value_name = "FOLDER")]
    pub volume: PathBuf,
    /// File with the keys that sign links: one line of 64 hexadecimal characters for each, newest first. Read again when it changes
    #[arg(long, env = "FRAMEWRIGHT_STORE_KEYS", value_name = "FILE")]
    pub keys: PathBuf,
    /// File with the keys that sign links to records, in the same form. Without it the store keeps no records. Read again when it changes
    #[arg(long, env = "FRAMEWRIGHT_STORE_RECORD_KEYS", value_name = "FILE")]
    pub record_keys: Option<PathBuf>,
    /// File with the certificate chain (PEM). Read again when it changes
    #[arg(long, env = "FRAMEWRIGHT_STORE_CERTIFICATE", value_name = "FILE")]
    pub certificate: PathBuf,
    /// File with the certificate's private key (PEM). Read again when it changes
    #[arg(long, env = "FRAMEWRIGHT_STORE_CERTIFICATE_KEY", value_name = "FILE")]
    pub certificate_key: PathBuf,
    /// Address for workers and operator (TLS)
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::new(EVERYWHERE, STORE_PORT))]
    pub listen: SocketAddr,
    /// Address for port-forwards (plain HTTP, so keep it on the loopback address)
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::new(THIS_POD, STORE_LOCAL_PORT))]
    pub listen_local: SocketAddr,
    /// Address of /healthz, /readyz and /metrics (plain HTTP)
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::new(EVERYWHERE, HEALTH_PORT))]
    pub listen_health: SocketAddr,
    /// Maximum of simultaneous uploads, at most half of them from one namespace. Others wait for ten seconds and are then refused with Retry-After
    #[arg(long, value_name = "COUNT", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub max_uploads: u32,
    /// An upload ends with an error if for this time it sends nothing, or less than 16 KiB per second
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub upload_idle: Duration,
    /// Maximum of simultaneous downloads, at most half of them from one namespace. Others wait for ten seconds and are then refused with Retry-After
    #[arg(long, value_name = "COUNT", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub max_downloads: u32,
    /// A download ends with an error if for this time its receiver takes nothing, or less than 16 KiB per second
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = seconds)]
    pub download_idle: Duration,
    /// A watch stream is closed if its client sends nothing for this time. The operator sends something every ten seconds
    #[arg(long, value_name = "SECONDS", default_value = "45", value_parser = seconds)]
    pub watch_idle: Duration,
    /// Maximum number of files that one watch stream follows. Changes of other files are reported only when the client asks, which the operator does once a minute
    #[arg(long, value_name = "COUNT", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_watched: u32,
    /// Interval between checks for changed keys and certificates
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub reload_every: Duration,
    /// Interval between removals of files that interrupted uploads have left
    #[arg(long, value_name = "SECONDS", default_value = "3600", value_parser = seconds)]
    pub sweep_every: Duration,
    /// Time for transfers to finish after SIGTERM. It must be less than the pod's terminationGracePeriodSeconds
    #[arg(long, value_name = "SECONDS", default_value = "25", value_parser = seconds)]
    pub grace: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u32>() {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(u64::from(seconds))),
        Ok(_) | Err(_) => Err("must be a whole number of seconds, 1 or more".to_owned()),
    }
}
