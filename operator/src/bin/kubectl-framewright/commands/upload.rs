//! `upload`: gives a job or pool the files that it waits for.

use framewright_crds::names::OwnerKind;

use crate::Ended;
use crate::args::{OwnerName, Upload};
use crate::cluster::Cluster;
use crate::digest;
use crate::objects::owner::Owner;
use crate::told::screen::Screen;
use crate::transfers::send;
use crate::transfers::store::Store;

/// Why a file did not get there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    File(#[from] digest::Error),
    #[error(transparent)]
    Send(#[from] send::Error),
}

impl Error {
    /// Whether a file here is wrong.
    pub(crate) fn is_usage(&self) -> bool {
        match self {
            Error::File(_) => true,
            Error::Send(_) => false,
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
        send::send(&store, screen, &owner, &file).await?;
    }
    Ok(Ended::Well)
}
