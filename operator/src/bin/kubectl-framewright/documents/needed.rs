//! Which files the store has to get, and where they lie here.

use std::path::{Path, PathBuf};

use crate::digest::{self, FileDigest, LocalFile};
use crate::documents::files::{self, Named, Place};
use crate::documents::manifest::{Document, kind_name};
use crate::told::screen::Screen;

/// A file that one of the documents needs in the store.
pub(crate) struct Needed {
    /// Index of the document.
    pub document: usize,
    /// What people call it.
    pub label: String,
    pub digest: FileDigest,
    /// Where it lies here, if it does.
    pub path: Option<PathBuf>,
}

/// Why a file cannot be named by its digest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{label}")]
    File {
        label: String,
        #[source]
        source: digest::Error,
    },
    #[error(transparent)]
    Files(#[from] files::Error),
}

/// Reads every file that is named by its path, and looks beside the manifest for those that are named by digest.
pub(crate) async fn resolve(
    screen: &Screen,
    documents: &mut [Document],
    places: &[Place],
    folder: &Path,
) -> Result<Vec<Needed>, Error> {
    let mut needed = Vec::new();
    for place in places {
        let (digest, path) = match &place.named {
            Named::Path {
                path,
                is_argument,
                sha256: _,
            } => {
                // What the command line says is relative to where the command runs.
                let path = if *is_argument {
                    path.clone()
                } else {
                    folder.join(path)
                };
                let LocalFile { path, digest } =
                    digest::of_file(screen, path)
                        .await
                        .map_err(|source| Error::File {
                            label: label_in(documents, place),
                            source,
                        })?;
                files::fill(documents, place, &digest)?;
                (digest, Some(path))
            }
            Named::Digest(digest) if place.is_uploaded => {
                (digest.clone(), beside(screen, folder, digest).await)
            }
            Named::Digest(_) | Named::Nothing => continue,
        };
        if place.is_uploaded {
            needed.push(Needed {
                document: place.document,
                label: place.label.clone(),
                digest,
                path,
            });
        }
    }
    Ok(needed)
}

/// Such as "AIJob demo: input video of step large".
fn label_in(documents: &[Document], place: &Place) -> String {
    match documents.get(place.document) {
        Some(document) => format!(
            "{} {}: {}",
            kind_name(document.kind),
            document.name,
            place.label
        ),
        None => place.label.clone(),
    }
}

/// A file in the manifest's folder that has this content.
async fn beside(screen: &Screen, folder: &Path, wanted: &FileDigest) -> Option<PathBuf> {
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    // A folder that cannot be listed has no such file.
    let entries = std::fs::read_dir(folder).ok()?;
    for entry in entries.flatten() {
        let is_candidate = std::fs::metadata(entry.path())
            .is_ok_and(|metadata| metadata.is_file() && metadata.len() == wanted.bytes);
        if is_candidate
            && let Ok(file) = digest::of_file(screen, entry.path()).await
            && file.digest == *wanted
        {
            return Some(file.path);
        }
    }
    None
}
