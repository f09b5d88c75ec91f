//! The files that have to be in the store, and where they are on this machine.

use std::path::{Path, PathBuf};

use crate::digest::{self, FileDigest, LocalFile};
use crate::documents::files::{self, Named, Place};
use crate::documents::manifest::{Document, kind_name};
use crate::screen::Screen;

/// A file that a document needs in the store.
pub struct Needed {
    /// Index of the document.
    pub document: usize,
    /// The name in messages.
    pub label: String,
    /// Its content.
    pub digest: FileDigest,
    /// The local file, if there is one.
    pub path: Option<PathBuf>,
}

/// Why a path cannot be replaced by a digest.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{label}")]
    File {
        label: String,
        #[source]
        source: digest::Error,
    },
    /// The file is not the one that the manifest wants.
    #[error(transparent)]
    Files(#[from] files::Error),
}

/// Replaces all paths in the documents by digests, and returns the files that have to be uploaded. A file that is named only by its
/// digest is searched for in `folder`, the folder of the manifest.
///
/// # Errors
/// If a file cannot be read or is not the one that the manifest wants.
pub async fn resolve(
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
                // An argument is relative to the working directory.
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
    // A folder that cannot be listed counts as empty.
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
