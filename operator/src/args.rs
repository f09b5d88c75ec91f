//! The command line: subcommands and their settings. Environment variables can set them, too.

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
    /// Format of the log.
    #[arg(long, env = "FRAMEWRIGHT_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text, global = true)]
    pub log_format: LogFormat,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator: reconcile AIJobs and ModelPools.
    Run(Box<RunArgs>),
    /// Run the store: keep artifacts on a volume.
    Store(Box<StoreArgs>),
    /// Check whether operator and store answer; for `helm test`.
    Check(CheckArgs),
}

/// Format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// Settings of the operator.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Namespace of the operator.
    #[arg(long, env = "POD_NAMESPACE")]
    pub namespace: String,
    /// Name of the operator's pod.
    #[arg(long, env = "POD_NAME")]
    pub pod_name: String,
    /// IP address of the operator's pod. Workers connect to it while this replica leads.
    #[arg(long, env = "POD_IP")]
    pub pod_ip: IpAddr,
    /// The Service that workers connect to. It has no selector; the leader writes its EndpointSlice.
    #[arg(
        long,
        env = "FRAMEWRIGHT_SERVICE",
        default_value = "framewright-operator"
    )]
    pub service: String,
    /// URL of the store for operator and workers, such as https://framewright-store.framewright-system.svc:8443.
    #[arg(long, env = "FRAMEWRIGHT_STORE_URL")]
    pub store_url: String,
    /// URL of the store for users outside the cluster; links in statuses begin with it. Default: --store-url.
    #[arg(long, env = "FRAMEWRIGHT_STORE_EXTERNAL_URL")]
    pub store_external_url: Option<String>,
    /// Image of worker pods.
    #[arg(long, env = "FRAMEWRIGHT_WORKER_IMAGE")]
    pub worker_image: String,
    /// Image of worker pods whose pool computes on GPUs (device: cuda). Default: --worker-image.
    #[arg(long, env = "FRAMEWRIGHT_WORKER_IMAGE_CUDA")]
    pub worker_image_cuda: Option<String>,
    /// imagePullPolicy of worker pods: Always, IfNotPresent or Never.
    #[arg(
        long,
        env = "FRAMEWRIGHT_WORKER_IMAGE_PULL_POLICY",
        default_value = "IfNotPresent"
    )]
    pub worker_image_pull_policy: String,
    /// Log filter of worker pods, in the format of RUST_LOG.
    #[arg(long, env = "FRAMEWRIGHT_WORKER_LOG", default_value = "info")]
    pub worker_log: String,
    /// Whether worker pods set user and group 65532. Set false if the namespace sets a user, as on OpenShift.
    #[arg(long, env = "FRAMEWRIGHT_WORKER_FIXED_USER", default_value_t = true, action = ArgAction::Set)]
    pub worker_fixed_user: bool,
    /// Namespaces whose pools jobs of other namespaces can use without a poolRef, if the pool's access allows it. May be given several times.
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
    /// Whether a worker's stream must come from an address of its own pod. Set false if the network rewrites source addresses of pods.
    #[arg(long, env = "FRAMEWRIGHT_CHECK_PEER_ADDRESS", default_value_t = true, action = ArgAction::Set)]
    pub check_peer_address: bool,
}

impl RunArgs {
    /// Host and port that workers connect to.
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
    /// Timeout in seconds; until then failed URLs are tried again.
    #[arg(long, default_value_t = 60)]
    pub timeout: u64,
}
