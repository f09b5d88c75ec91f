//! Finds the places in a manifest that name files, and replaces local paths by digests. No I/O.

use std::path::PathBuf;

use serde_json::{Value, json};

use framewright_crds::names::OwnerKind;

use crate::digest::FileDigest;
use crate::documents::manifest::Document;

/// A place in a document that names a file, or could name one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index of the document.
    pub document: usize,
    /// JSON pointer to the object that contains sha256 and bytes, or will contain them.
    pub pointer: String,
    /// The name in messages, such as "input video of step large".
    pub label: String,
    /// Step and input; None in a ModelPool.
    pub input: Option<(String, String)>,
    /// Whether the file is uploaded to the store. False where a pool reads it from a volume.
    pub is_uploaded: bool,
    /// How the file is named.
    pub named: Named,
}

/// How a place names its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// By a local path.
    Path {
        /// As it was written.
        path: PathBuf,
        /// Whether it comes from an [`InputFile`](crate::documents::inputs::InputFile). Such a path is relative to the working
        /// directory, and any other to the manifest.
        is_argument: bool,
        /// The digest that the file must have, if the manifest has one, too.
        sha256: Option<String>,
    },
    /// By digest only.
    Digest(FileDigest),
    /// Not at all.
    Nothing,
}

/// Why a file in a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The value is not a path.
    #[error("{label}: file must be a path in quotes or plain text, and is {found}")]
    NoPath { label: String, found: String },
    /// The file has another digest than the manifest.
    #[error(
        "{label}: {path} has SHA-256 {found}, and the manifest wants {wanted}; correct one of them, or remove sha256 and bytes from the manifest"
    )]
    OtherContent {
        label: String,
        path: PathBuf,
        found: String,
        wanted: String,
    },
    /// The file has another size than the manifest.
    #[error(
        "{label}: {path} has {found} bytes, and the manifest wants {wanted}; correct one of them, or remove bytes from the manifest"
    )]
    OtherSize {
        label: String,
        path: PathBuf,
        found: u64,
        wanted: u64,
    },
}

/// All places of the documents, in order.
///
/// # Errors
/// If the value of a `file` is not a path.
pub fn places(documents: &[Document]) -> Result<Vec<Place>, Error> {
    let mut places = Vec::new();
    for (index, document) in documents.iter().enumerate() {
        match document.kind {
            OwnerKind::AIJobs => inputs(index, &document.object, &mut places)?,
            OwnerKind::ModelPools => weights(index, &document.object, &mut places)?,
        }
    }
    Ok(places)
}

fn inputs(document: usize, object: &Value, places: &mut Vec<Place>) -> Result<(), Error> {
    for (i, step) in list(object.pointer("/spec/steps")) {
        for (j, input) in list(step.get("inputs")) {
            if input.get("fromStep").is_some() {
                continue;
            }
            let (step, input_name) = (name(step), name(input));
            let label = format!("input {input_name} of step {step}");
            places.push(Place {
                document,
                pointer: format!("/spec/steps/{i}/inputs/{j}/upload"),
                named: named(&label, input.get("upload"))?,
                label,
                input: Some((step, input_name)),
                is_uploaded: true,
            });
        }
    }
    Ok(())
}

fn weights(document: usize, object: &Value, places: &mut Vec<Place>) -> Result<(), Error> {
    for (i, model) in list(object.pointer("/spec/models")) {
        let is_uploaded = model.pointer("/source/upload").is_some();
        for (j, file) in list(model.get("files")) {
            let path = file
                .get("path")
                .and_then(Value::as_str)
                .unwrap_or("without a path");
            let label = format!("file {path} of model {}", name(model));
            places.push(Place {
                document,
                pointer: format!("/spec/models/{i}/files/{j}"),
                named: named(&label, Some(file))?,
                label,
                input: None,
                is_uploaded,
            });
        }
    }
    Ok(())
}

fn list(value: Option<&Value>) -> impl Iterator<Item = (usize, &Value)> {
    value
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .enumerate()
}

fn name(value: &Value) -> String {
    let name = value.get("name").and_then(Value::as_str);
    name.unwrap_or("without a name").to_owned()
}

fn named(label: &str, holder: Option<&Value>) -> Result<Named, Error> {
    let Some(holder) = holder else {
        return Ok(Named::Nothing);
    };
    let sha256 = holder
        .get("sha256")
        .and_then(Value::as_str)
        .map(str::to_owned);
    if let Some(file) = holder.get("file") {
        let path = file.as_str().filter(|path| !path.is_empty());
        let path = path.map(PathBuf::from).ok_or_else(|| Error::NoPath {
            label: label.to_owned(),
            found: file.to_string(),
        })?;
        return Ok(Named::Path {
            path,
            is_argument: false,
            sha256,
        });
    }
    let bytes = holder.get("bytes").and_then(Value::as_u64);
    Ok(match (sha256, bytes) {
        (Some(sha256), Some(bytes)) => Named::Digest(FileDigest { sha256, bytes }),
        // What else is wrong with it, the API server says better.
        (Some(_) | None, _) => Named::Nothing,
    })
}

/// Replaces a path by digest and size.
pub(crate) fn fill(
    documents: &mut [Document],
    place: &Place,
    found: &FileDigest,
) -> Result<(), Error> {
    if let Named::Path {
        path,
        is_argument: _,
        sha256: Some(wanted),
    } = &place.named
        && *wanted != found.sha256
    {
        return Err(Error::OtherContent {
            label: place.label.clone(),
            path: path.clone(),
            found: found.sha256.clone(),
            wanted: wanted.clone(),
        });
    }
    let Some(document) = documents.get_mut(place.document) else {
        return Ok(());
    };
    let holder = match document.object.pointer_mut(&place.pointer) {
        Some(holder) => Some(holder),
        // An input that `--input` fills may have had no upload member.
        None => place
            .pointer
            .rsplit_once('/')
            .and_then(|(parent, member)| Some((document.object.pointer_mut(parent)?, member)))
            .and_then(|(parent, member)| {
                Some(parent.as_object_mut()?.entry(member).or_insert(json!({})))
            }),
    };
    let Some(holder) = holder else {
        return Ok(());
    };
    if !holder.is_object() {
        *holder = json!({});
    }
    if let Some(members) = holder.as_object_mut() {
        if let (Named::Path { path, .. }, Some(wanted)) =
            (&place.named, members.get("bytes").and_then(Value::as_u64))
            && wanted != found.bytes
        {
            return Err(Error::OtherSize {
                label: place.label.clone(),
                path: path.clone(),
                found: found.bytes,
                wanted,
            });
        }
        members.remove("file");
        members.insert("sha256".into(), json!(found.sha256));
        members.insert("bytes".into(), json!(found.bytes));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::manifest;

    const JOB: &str = "
apiVersion: framewright.dev/v1alpha1
kind: AIJob
metadata: {name: demo}
spec:
  steps:
  - name: large
    model: x2
    upscale: {}
    inputs: [{name: video, upload: {file: clips/sea.mp4}}]
  - name: larger
    model: x2
    upscale: {}
    inputs: [{name: video, fromStep: {name: large}}]
  - name: poster
    model: x2
    upscale: {}
    inputs: [{name: image}]
";
    const POOL: &str = "
apiVersion: framewright.dev/v1alpha1
kind: ModelPool
metadata: {name: upscaler}
spec:
  device: cpu
  models:
  - name: x2
    source: {upload: {}}
    files: [{path: x2.safetensors, file: ../x2.safetensors}]
  - name: x4
    source: {volume: {claimName: weights}}
    files: [{path: x4.safetensors, file: x4.safetensors}]
";

    #[test]
    fn a_job_names_its_inputs_and_a_pool_its_weights() {
        let seen: Vec<_> = places(&documents(&format!("{JOB}---{POOL}")))
            .expect("is fine")
            .into_iter()
            .map(|place| {
                (
                    place.label,
                    place.is_uploaded,
                    matches!(place.named, Named::Path { .. }),
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("input video of step large".to_owned(), true, true),
                ("input image of step poster".to_owned(), true, false),
                ("file x2.safetensors of model x2".to_owned(), true, true),
                ("file x4.safetensors of model x4".to_owned(), false, true),
            ]
        );
    }

    #[test]
    fn digest_and_size_take_the_place_of_the_path() {
        let mut documents = documents(&format!("{JOB}---{POOL}"));
        let mut places = places(&documents).expect("is fine");
        let poster = places.get_mut(1).expect("the poster's input");
        poster.named = Named::Path {
            path: "sea.png".into(),
            is_argument: true,
            sha256: None,
        };
        for place in &places {
            fill(&mut documents, place, &digest("a")).expect("wants no other");
        }
        let upload = json!({"sha256": "a".repeat(64), "bytes": 7});
        let [job, pool] = documents.as_slice() else {
            panic!("two objects")
        };
        assert_eq!(
            job.object.pointer("/spec/steps/0/inputs/0/upload"),
            Some(&upload)
        );
        assert_eq!(
            job.object.pointer("/spec/steps/2/inputs/0/upload"),
            Some(&upload)
        );
        assert_eq!(
            pool.object.pointer("/spec/models/0/files/0"),
            Some(&json!({"path": "x2.safetensors", "sha256": "a".repeat(64), "bytes": 7}))
        );
    }

    #[test]
    fn a_file_of_another_digest_than_the_manifest_wants_is_refused() {
        let pinned = JOB.replace(
            "file: clips/sea.mp4",
            &format!("file: sea.mp4, sha256: {}", "b".repeat(64)),
        );
        let mut documents = documents(&pinned);
        let places = places(&documents).expect("is fine");
        assert!(matches!(
            fill(&mut documents, &places[0], &digest("a")),
            Err(Error::OtherContent { .. })
        ));
    }

    #[test]
    fn a_file_of_another_size_than_the_manifest_wants_is_refused() {
        let pinned = JOB.replace("file: clips/sea.mp4", "file: sea.mp4, bytes: 9");
        let mut documents = documents(&pinned);
        let places = places(&documents).expect("is fine");
        assert!(matches!(
            fill(&mut documents, &places[0], &digest("a")),
            Err(Error::OtherSize {
                found: 7,
                wanted: 9,
                ..
            })
        ));
    }

    #[test]
    fn a_path_that_is_no_text_is_refused() {
        let wrong = JOB.replace("file: clips/sea.mp4", "file: [a]");
        assert!(matches!(
            places(&documents(&wrong)),
            Err(Error::NoPath { .. })
        ));
    }

    fn documents(text: &str) -> Vec<Document> {
        manifest::parse("x.yaml", text.as_bytes(), None).expect("is fine")
    }

    fn digest(letter: &str) -> FileDigest {
        FileDigest {
            sha256: letter.repeat(64),
            bytes: 7,
        }
    }
}
