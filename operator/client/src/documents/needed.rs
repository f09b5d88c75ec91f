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
    /// The name that the file has in `status.files`.
    pub name: String,
    /// Its content.
    pub content: FileDigest,
    /// The local file, if there is one.
    pub path: Option<PathBuf>,
}

/// Why a path cannot be replaced by a digest.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{owner}: {name}")]
    File {
        owner: String,
        name: String,
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
        let (content, path) = match &place.named {
            Named::Path { path, is_argument } => {
                // An argument is relative to the working directory.
                let found = if *is_argument {
                    path.clone()
                } else {
                    folder.join(path)
                };
                let found = digest::of_file(screen, found).await;
                let LocalFile {
                    path: found,
                    content,
                } = found.map_err(|source| Error::File {
                    owner: owner(documents, place),
                    name: place.name.clone(),
                    source,
                })?;
                files::fill(documents, place, path, &content)?;
                (content, Some(found))
            }
            Named::Digest(content) if place.is_uploaded => {
                (content.clone(), beside(screen, folder, content).await)
            }
            Named::Digest(_) | Named::Nothing => continue,
        };
        if place.is_uploaded {
            needed.push(Needed {
                document: place.document,
                name: place.name.clone(),
                content,
                path,
            });
        }
    }
    Ok(needed)
}

/// Such as "AIJob demo".
fn owner(documents: &[Document], place: &Place) -> String {
    let owner = documents.get(place.document);
    owner.map_or_else(String::new, |document| {
        format!("{} {}", kind_name(document.kind), document.name)
    })
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
            && file.content == *wanted
        {
            return Some(file.path);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use framewright_crds::aijob::{AIJobSpec, Upload};
    use framewright_crds::modelpool::{ModelFile, ModelPoolSpec};
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::documents::manifest;

    const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const MANIFEST: &str = "
apiVersion: framewright.dev/v1alpha1
kind: AIJob
metadata: {name: demo}
spec:
  steps:
  - {name: large, model: x2, upscale: {}, inputs: [{name: video, upload: {file: abc.mp4}}]}
  - {name: larger, model: x2, upscale: {}, inputs: [{name: video, upload: {digest: DIGEST, bytes: 3}}]}
---
apiVersion: framewright.dev/v1alpha1
kind: ModelPool
metadata: {name: upscaler}
spec:
  device: cpu
  models:
  - name: x2
    source: {volume: {claimName: weights}}
    files: [{path: x2.safetensors, file: abc.mp4}]
";

    #[tokio::test]
    async fn local_files_become_digests_that_the_types_of_the_api_accept() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("abc.mp4");
        std::fs::write(&path, "abc").expect("is written");
        let text = MANIFEST.replace("DIGEST", ABC);
        let mut documents = manifest::parse("x.yaml", text.as_bytes(), None).expect("is fine");
        let places = files::places(&documents).expect("is fine");
        let needed = resolve(&Screen::new(), &mut documents, &places, folder.path()).await;
        let needed = needed.expect("the file is there");

        let content = FileDigest {
            digest: ABC.to_owned(),
            bytes: 3,
        };
        let names: Vec<&str> = needed.iter().map(|needed| needed.name.as_str()).collect();
        assert_eq!(names, ["large/video", "larger/video"]);
        for needed in &needed {
            assert_eq!(needed.content, content);
            assert_eq!(needed.path.as_ref(), Some(&path));
        }
        let job: AIJobSpec = spec(&documents[0]);
        let upload = Upload {
            digest: ABC.to_owned(),
            bytes: 3,
        };
        for step in &job.steps {
            assert_eq!(step.inputs[0].upload.as_ref(), Some(&upload));
        }
        let pool: ModelPoolSpec = spec(&documents[1]);
        let file = ModelFile {
            path: "x2.safetensors".to_owned(),
            digest: ABC.to_owned(),
            bytes: 3,
        };
        assert_eq!(pool.models[0].files, [file]);
    }

    #[tokio::test]
    async fn a_file_that_is_missing_is_named_with_its_object() {
        let text = MANIFEST.replace("DIGEST", ABC);
        let mut documents = manifest::parse("x.yaml", text.as_bytes(), None).expect("is fine");
        let places = files::places(&documents).expect("is fine");
        let folder = tempfile::tempdir().expect("a folder");
        let result = resolve(&Screen::new(), &mut documents, &places, folder.path()).await;
        let error = result.err().expect("there is no file");
        assert_eq!(error.to_string(), "AIJob demo: large/video");
    }

    fn spec<Spec: DeserializeOwned>(document: &Document) -> Spec {
        serde_json::from_value(document.object["spec"].clone()).expect("a spec")
    }
}
