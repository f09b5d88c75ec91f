//! What is typed: subcommands and their settings. Each can be given by the environment, too.

use std::net::IpAddr;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use framewright_crds::names::STREAM_PORT;

use framewright_store::StoreArgs;

/// Framewright: AI video on Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "framewright-operator", version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// How the log looks.
    #[arg(long, env = "FRAMEWRIGHT_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text, global = true)]
    pub log_format: LogFormat,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Reconciles AIJobs and ModelPools.
    Run(Box<RunArgs>),
    /// Keeps artifacts on a volume.
    Store(Box<StoreArgs>),
    /// Asks whether operator and store answer; for `helm test`.
    Check(CheckArgs),
}

/// How the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// Settings of the operator.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// The operator's own namespace.
    #[arg(long, env = "POD_NAMESPACE")]
    pub namespace: String,
    /// The operator's own pod.
    #[arg(long, env = "POD_NAME")]
    pub pod_name: String,
    /// The operator's own address, to which workers are led while it leads.
    #[arg(long, env = "POD_IP")]
    pub pod_ip: IpAddr,
    /// The Service that workers dial; it has no selector, the leader writes its EndpointSlice.
    #[arg(
        long,
        env = "FRAMEWRIGHT_SERVICE",
        default_value = "framewright-operator"
    )]
    pub service: String,
    /// The store, as operator and workers reach it, such as https://framewright-store.framewright-system.svc:8443.
    #[arg(long, env = "FRAMEWRIGHT_STORE_URL")]
    pub store_url: String,
    /// The store, as people reach it from outside; links in statuses begin so. Default: --store-url.
    #[arg(long, env = "FRAMEWRIGHT_STORE_EXTERNAL_URL")]
    pub store_external_url: Option<String>,
    /// Image of worker pods.
    #[arg(long, env = "FRAMEWRIGHT_WORKER_IMAGE")]
    pub worker_image: String,
    /// Image of worker pods whose pool computes on GPUs (device: cuda). Default: --worker-image.
    #[arg(long, env = "FRAMEWRIGHT_WORKER_IMAGE_CUDA")]
    pub worker_image_cuda: Option<String>,
    /// Always, IfNotPresent or Never.
    #[arg(
        long,
        env = "FRAMEWRIGHT_WORKER_IMAGE_PULL_POLICY",
        default_value = "IfNotPresent"
    )]
    pub worker_image_pull_policy: String,
    /// Log filter of worker pods, as RUST_LOG has it.
    #[arg(long, env = "FRAMEWRIGHT_WORKER_LOG", default_value = "info")]
    pub worker_log: String,
    /// Whether worker pods say as which user and group they run (65532). false where the namespace gives them one, as on OpenShift.
    #[arg(long, env = "FRAMEWRIGHT_WORKER_FIXED_USER", default_value_t = true, action = ArgAction::Set)]
    pub worker_fixed_user: bool,
    /// Namespaces whose pools anybody may find by a model's name, if the pool's access allows it. May be given several times.
    #[arg(
        long = "catalog-namespace",
        env = "FRAMEWRIGHT_CATALOG_NAMESPACES",
        value_delimiter = ','
    )]
    pub catalog_namespaces: Vec<String>,
    /// The Lease that elects the leader.
    #[arg(
        long,
        env = "FRAMEWRIGHT_LEASE",
        default_value = "framewright-operator"
    )]
    pub lease: String,
    /// Whether a worker's stream must come from an address of its own pod. false where the network rewrites what pods send to Services.
    #[arg(long, env = "FRAMEWRIGHT_CHECK_PEER_ADDRESS", default_value_t = true, action = ArgAction::Set)]
    pub check_peer_address: bool,
}

impl RunArgs {
    /// Host and port that workers dial.
    #[must_use]
    pub fn stream_address(&self) -> String {
        format!("{}.{}.svc:{STREAM_PORT}", self.service, self.namespace)
    }
}

/// Settings of the check.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// URLs that must answer 200.
    #[arg(required = true)]
    pub urls: Vec<String>,
    /// How long to try, in seconds.
    #[arg(long, default_value_t = 60)]
    pub timeout: u64,
}
