//! `upload`: uploads files that a job or pool waits for.

use framewright_client::cluster::{ApiError, Cluster};
use framewright_client::digest::{self, LocalFile};
use framewright_client::objects::owner::Owner;
use framewright_client::screen::Screen;
use framewright_client::transfers::store::Store;
use framewright_client::transfers::upload;
use framewright_crds::aijob::FileStatus;

use crate::Ended;
use crate::args::Upload;

/// Why a file was not uploaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    File(#[from] digest::Error),
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Upload(#[from] upload::Error),
}

impl Error {
    /// Whether a local file is wrong.
    pub(crate) fn is_usage(&self) -> bool {
        match self {
            Error::File(_) => true,
            Error::Api(_) | Error::Upload(_) => false,
        }
    }
}

pub(crate) async fn run(cluster: &Cluster, screen: &Screen, args: Upload) -> Result<Ended, Error> {
    let Upload {
        owner: asked,
        paths,
    } = args;
    screen.set_farewell(format!(
        "stopped; to upload the remaining files: kubectl framewright upload {asked} FILE… -n {}",
        cluster.namespace
    ));
    let owner = Owner {
        kind: asked.kind,
        namespace: cluster.namespace.clone(),
        name: asked.name,
    };
    let mut files = Vec::new();
    for path in paths {
        files.push(digest::of_file(screen, path).await?);
    }
    sort(&mut files, &owner.files(cluster).await?.uploads);
    let store = Store { cluster };
    for file in files {
        upload::upload(&store, screen, &owner, &file).await?;
    }
    Ok(Ended::Well)
}

/// Sorts local files by their order in the status, since of many files only the first ones have links.
fn sort(files: &mut [LocalFile], uploads: &[FileStatus]) {
    files.sort_by_key(|file| {
        let position = uploads
            .iter()
            .position(|upload| upload.digest == file.content.digest);
        position.unwrap_or(usize::MAX)
    });
}

#[cfg(test)]
mod tests {
    use framewright_client::digest::FileDigest;
    use serde_json::json;

    use super::*;

    #[test]
    fn files_are_uploaded_in_the_order_of_the_status() {
        let uploads = ["a", "b", "a"].map(|digest| {
            let file = json!({"name": "x", "source": "upload", "state": "Awaited", "digest": digest, "bytes": 1});
            serde_json::from_value(file).expect("a file")
        });
        let mut files = ["c", "b", "a"].map(|digest| LocalFile {
            path: digest.into(),
            content: FileDigest {
                digest: digest.to_owned(),
                bytes: 1,
            },
        });
        sort(&mut files, &uploads);
        assert_eq!(files.map(|file| file.content.digest), ["a", "b", "c"]);
    }
}
