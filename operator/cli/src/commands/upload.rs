//! `upload`: uploads files that a job or pool waits for.

use framewright_client::cluster::Cluster;
use framewright_client::digest;
use framewright_client::objects::owner::Owner;
use framewright_client::screen::Screen;
use framewright_client::transfers::store::Store;
use framewright_client::transfers::upload;
use framewright_crds::names::OwnerKind;

use crate::Ended;
use crate::args::{OwnerName, Upload};

/// Why a file was not uploaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    File(#[from] digest::Error),
    #[error(transparent)]
    Upload(#[from] upload::Error),
}

impl Error {
    /// Whether a local file is wrong.
    pub(crate) fn is_usage(&self) -> bool {
        match self {
            Error::File(_) => true,
            Error::Upload(_) => false,
        }
    }
}

pub(crate) async fn run(cluster: &Cluster, screen: &Screen, args: Upload) -> Result<Ended, Error> {
    let Upload {
        owner: OwnerName { kind, name },
        paths,
    } = args;
    let owner = Owner {
        kind,
        namespace: cluster.namespace.clone(),
        name,
    };
    let word = match kind {
        OwnerKind::AIJobs => "job",
        OwnerKind::ModelPools => "pool",
    };
    screen.set_farewell(format!("stopped; what was not uploaded is still waited for, so repeat `kubectl framewright upload {word}/{} …`", owner.name));
    let store = Store { cluster };
    for path in paths {
        let file = digest::of_file(screen, path).await?;
        upload::upload(&store, screen, &owner, &file).await?;
    }
    Ok(Ended::Well)
}
