//! How `framewright-operator store` is set.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use framewright_crds::names::{HEALTH_PORT, STORE_LOCAL_PORT, STORE_PORT};

/// Of both families, and IPv4 alone where there is no IPv6.
const EVERYWHERE: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
const THIS_POD: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Keeps artifacts and gives them to whoever holds a link signed by the operator.
#[derive(Clone, Debug, clap::Args)]
pub struct StoreArgs {
    /// Folder of the volume that keeps the artifacts. One store at a time may use it
    #[arg(long, env = "FRAMEWRIGHT_STORE_VOLUME", value_name = "FOLDER")]
    pub volume: PathBuf,
    /// File with the keys that sign links: a line of 64 hexadecimal characters each, newest first. Read again when it changes
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
    /// Where workers and operator come in (TLS)
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::new(EVERYWHERE, STORE_PORT))]
    pub listen: SocketAddr,
    /// Where port-forwards come in (plain HTTP; keep it on the pod's own address)
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::new(THIS_POD, STORE_LOCAL_PORT))]
    pub listen_local: SocketAddr,
    /// Where /healthz, /readyz and /metrics are (plain HTTP)
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::new(EVERYWHERE, HEALTH_PORT))]
    pub listen_health: SocketAddr,
    /// Uploads at the same time, half of them from one namespace; more wait ten seconds for their turn and are then asked to come back
    #[arg(long, value_name = "COUNT", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub max_uploads: u32,
    /// An upload that sends nothing for so long, or less than 16 KiB a second, is given up
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub upload_idle: Duration,
    /// Downloads at the same time, half of them from one namespace; more wait ten seconds for their turn and are then asked to come back
    #[arg(long, value_name = "COUNT", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub max_downloads: u32,
    /// A download whose receiver takes nothing for so long, or less than 16 KiB a second, is given up
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = seconds)]
    pub download_idle: Duration,
    /// A watch stream whose client says nothing for so long is closed; our client says something every ten seconds
    #[arg(long, value_name = "SECONDS", default_value = "45", value_parser = seconds)]
    pub watch_idle: Duration,
    /// Files that one watch stream may follow; it learns of more only when it asks, which our client does once a minute
    #[arg(long, value_name = "COUNT", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_watched: u32,
    /// How often keys and certificate are looked at
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub reload_every: Duration,
    /// How often leftovers of broken uploads are looked for
    #[arg(long, value_name = "SECONDS", default_value = "3600", value_parser = seconds)]
    pub sweep_every: Duration,
    /// How long transfers may take to finish after SIGTERM; less than the pod's terminationGracePeriodSeconds
    #[arg(long, value_name = "SECONDS", default_value = "25", value_parser = seconds)]
    pub grace: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u32>() {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(u64::from(seconds))),
        Ok(_) | Err(_) => Err("must be a whole number of seconds, 1 or more".to_owned()),
    }
}
