//! The command line of `kubectl framewright`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use framewright_client::cluster::Connection;
use framewright_client::documents::inputs::InputFile;
use framewright_client::objects::owner::Owner;
use framewright_crds::names::OwnerKind;

/// Submit AI video jobs, follow them, get their results
#[derive(Debug, clap::Parser)]
#[command(
    name = "kubectl-framewright",
    bin_name = "kubectl framewright",
    version
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub cluster: ClusterArgs,
    #[command(subcommand)]
    pub command: Command,
}

/// The cluster, as kubectl chooses it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ClusterArgs {
    /// Namespace of the job or pool [default: the namespace of the context]
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// The kubeconfig file [default: $KUBECONFIG, then ~/.kube/config]
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig [default: the current context]
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// Namespace in which Framewright is installed [default: framewright-system, then a search in all namespaces]
    #[arg(long, global = true, value_name = "NAMESPACE")]
    pub system_namespace: Option<String>,
}

impl From<ClusterArgs> for Connection {
    fn from(args: ClusterArgs) -> Connection {
        let ClusterArgs {
            namespace,
            kubeconfig,
            context,
            system_namespace,
        } = args;
        Connection {
            namespace,
            kubeconfig,
            context,
            system_namespace,
        }
    }
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Apply AIJobs and ModelPools, upload the local files that they name, follow the jobs, download the results
    Submit(Submit),
    /// Download a job's results; without a name, list the jobs
    Get(Get),
    /// Upload files that a job or pool waits for
    Upload(Upload),
    /// Follow a job until it has finished
    Follow(Follow),
    /// Stop a job and delete it, with the results of its finished steps
    Cancel(Cancel),
    /// Print the digest and size of files, in the form of a manifest
    Digest(Digest),
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "In FILE, an input may name a local file, relative to FILE: `upload: {file: clip.mp4}`. \
A file of a ModelPool may do so, too: `file: weights.safetensors` beside its path. \
The plugin replaces `file` by digest and size. If FILE names a file by its digest only, the plugin searches for it beside FILE."
)]
pub(crate) struct Submit {
    /// YAML or JSON with AIJobs and ModelPools, such as what `kubectl get -o yaml` prints; - reads standard input
    pub file: PathBuf,
    /// The local file for an input: STEP.INPUT=PATH, or INPUT=PATH if only one input has this name
    #[arg(long = "input", value_name = "NAME=PATH")]
    pub inputs: Vec<InputFile>,
    /// Folder for the results
    #[arg(short, long, value_name = "FOLDER", default_value = ".")]
    pub output: PathBuf,
    /// Return when everything is uploaded, without following the jobs
    #[arg(long)]
    pub no_wait: bool,
    /// Overwrite fields of a ModelPool that another manager has set, such as replicas after `kubectl scale`
    #[arg(long)]
    pub force_conflicts: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Get {
    /// The name of the job. Without it, all jobs are listed
    pub job: Option<String>,
    /// Folder for the results
    #[arg(short, long, value_name = "FOLDER", default_value = ".")]
    pub output: PathBuf,
    /// List the jobs of all namespaces
    #[arg(short = 'A', long, conflicts_with = "job")]
    pub all_namespaces: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Upload {
    /// job/NAME or pool/NAME
    pub owner: OwnerName,
    /// The files. The job or pool must wait for their digests
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Follow {
    /// The name of the job
    pub job: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Cancel {
    /// The name of the job
    pub job: String,
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub yes: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Digest {
    /// The files
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
}

/// A job or a pool, as `job/NAME` or `pool/NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnerName {
    pub kind: OwnerKind,
    pub name: String,
}

impl From<&Owner> for OwnerName {
    fn from(owner: &Owner) -> OwnerName {
        OwnerName {
            kind: owner.kind,
            name: owner.name.clone(),
        }
    }
}

impl fmt::Display for OwnerName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            OwnerKind::AIJobs => "job",
            OwnerKind::ModelPools => "pool",
        };
        write!(out, "{kind}/{}", self.name)
    }
}

impl FromStr for OwnerName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, name) = text
            .split_once('/')
            .filter(|(_, name)| !name.is_empty())
            .ok_or("write job/NAME or pool/NAME")?;
        let kind = match kind.to_ascii_lowercase().as_str() {
            "job" | "aijob" | "aijobs" => OwnerKind::AIJobs,
            "pool" | "modelpool" | "modelpools" => OwnerKind::ModelPools,
            other => {
                return Err(format!(
                    "{other:?} is not a kind; write job/NAME or pool/NAME"
                ));
            }
        };
        Ok(OwnerName {
            kind,
            name: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
    }

    #[test]
    fn an_owner_is_a_job_or_a_pool() {
        for text in ["pool/upscaler", "job/demo"] {
            let owner: OwnerName = text.parse().expect("an owner");
            assert_eq!(owner.to_string(), text);
        }
        assert!("upscaler".parse::<OwnerName>().is_err());
        assert!("pod/upscaler".parse::<OwnerName>().is_err());
    }
}
