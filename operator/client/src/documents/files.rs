//! Finds the places in a manifest that name files, and replaces local paths by digests. No I/O.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use framewright_crds::names::OwnerKind;

use crate::digest::FileDigest;
use crate::documents::manifest::Document;

/// A place in a document that names a file, or could name one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index of the document.
    pub document: usize,
    /// JSON pointer to the input of a step, or to the file of a model.
    pub pointer: String,
    /// The name that the file has in `status.files`: step/input in a job, model/path in a pool.
    pub name: String,
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
    #[error("{name}: file must be a path as text, but is {found}")]
    NoPath { name: String, found: String },
    /// The file has another digest than the manifest.
    #[error(
        "{name}: {path} has the digest {found}, but the manifest has {wanted}; correct one of them, or remove digest and bytes from the manifest"
    )]
    OtherContent {
        name: String,
        path: PathBuf,
        found: String,
        wanted: String,
    },
    /// The file has another size than the manifest.
    #[error(
        "{name}: {path} has {found} bytes, and the manifest wants {wanted}; correct one of them, or remove bytes from the manifest"
    )]
    OtherSize {
        name: String,
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
            OwnerKind::ModelPools => model_files(index, &document.object, &mut places)?,
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
            let (step, input_name) = (text(step, "name"), text(input, "name"));
            let name = format!("{step}/{input_name}");
            places.push(Place {
                document,
                pointer: format!("/spec/steps/{i}/inputs/{j}"),
                named: named(&name, input.get("upload"))?,
                name,
                input: Some((step.to_owned(), input_name.to_owned())),
                is_uploaded: true,
            });
        }
    }
    Ok(())
}

fn model_files(document: usize, object: &Value, places: &mut Vec<Place>) -> Result<(), Error> {
    for (i, model) in list(object.pointer("/spec/models")) {
        let is_uploaded = model.pointer("/source/upload").is_some();
        for (j, file) in list(model.get("files")) {
            let name = format!("{}/{}", text(model, "name"), text(file, "path"));
            places.push(Place {
                document,
                pointer: format!("/spec/models/{i}/files/{j}"),
                named: named(&name, Some(file))?,
                name,
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

fn text<'a>(object: &'a Value, member: &str) -> &'a str {
    object.get(member).and_then(Value::as_str).unwrap_or("?")
}

fn named(name: &str, holder: Option<&Value>) -> Result<Named, Error> {
    let member = |member: &str| holder.and_then(|holder| holder.get(member));
    if let Some(file) = member("file") {
        let path = file.as_str().filter(|path| !path.is_empty());
        let path = path.map(PathBuf::from).ok_or_else(|| Error::NoPath {
            name: name.to_owned(),
            found: file.to_string(),
        })?;
        return Ok(Named::Path {
            path,
            is_argument: false,
        });
    }
    let digest = member("digest").and_then(Value::as_str).map(str::to_owned);
    let bytes = member("bytes").and_then(Value::as_u64);
    // If one of them is missing or wrong, the API server says so.
    let content = digest.zip(bytes);
    Ok(content.map_or(Named::Nothing, |(digest, bytes)| {
        Named::Digest(FileDigest { digest, bytes })
    }))
}

/// Replaces the path of a local file by its digest and size. `path` is as it was written.
pub(crate) fn fill(
    documents: &mut [Document],
    place: &Place,
    path: &Path,
    found: &FileDigest,
) -> Result<(), Error> {
    let Some(members) = holder(documents, place) else {
        return Ok(());
    };
    let (name, path) = (place.name.clone(), path.to_owned());
    if let Some(wanted) = members.get("digest").and_then(Value::as_str)
        && wanted != found.digest
    {
        return Err(Error::OtherContent {
            name,
            path,
            found: found.digest.clone(),
            wanted: wanted.to_owned(),
        });
    }
    if let Some(wanted) = members.get("bytes").and_then(Value::as_u64)
        && wanted != found.bytes
    {
        return Err(Error::OtherSize {
            name,
            path,
            found: found.bytes,
            wanted,
        });
    }
    members.remove("file");
    members.insert("digest".into(), json!(found.digest));
    members.insert("bytes".into(), json!(found.bytes));
    Ok(())
}

/// The object that contains digest and bytes, or will contain them. It is made if an input has none.
fn holder<'a>(documents: &'a mut [Document], place: &Place) -> Option<&'a mut Map<String, Value>> {
    let document = documents.get_mut(place.document)?;
    let holder = document.object.pointer_mut(&place.pointer)?;
    let members = holder.as_object_mut()?;
    if place.input.is_none() {
        return Some(members);
    }
    let upload = members.entry("upload").or_insert(Value::Null);
    if !upload.is_object() {
        *upload = json!({});
    }
    upload.as_object_mut()
}

#[cfg(test)]
mod tests {
    use framewright_crds::names;

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
    files: [{path: x2.safetensors, file: ../x2.safetensors}, {path: config.json, digest: sha256:00, bytes: 7}]
  - name: x4
    source: {volume: {claimName: weights}}
    files: [{path: x4.safetensors, file: x4.safetensors}]
";

    #[test]
    fn a_job_names_its_inputs_and_a_pool_its_files() {
        let found: Vec<_> = places(&documents(&format!("{JOB}---{POOL}")))
            .expect("is fine")
            .into_iter()
            .map(|place| {
                (
                    place.name,
                    place.is_uploaded,
                    matches!(place.named, Named::Path { .. }),
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                ("large/video".to_owned(), true, true),
                ("poster/image".to_owned(), true, false),
                ("x2/x2.safetensors".to_owned(), true, true),
                ("x2/config.json".to_owned(), true, false),
                ("x4/x4.safetensors".to_owned(), false, true),
            ]
        );
    }

    #[test]
    fn digest_and_size_take_the_place_of_the_path() {
        let mut documents = documents(&format!("{JOB}---{POOL}"));
        let places = places(&documents).expect("is fine");
        let config = Named::Digest(FileDigest {
            digest: "sha256:00".to_owned(),
            bytes: 7,
        });
        assert_eq!(places[3].named, config);
        for place in [&places[0], &places[1], &places[2]] {
            fill(&mut documents, place, Path::new("x"), &digest("a")).expect("wants no other");
        }
        let digest = digest("a").digest;
        let upload = json!({"digest": digest, "bytes": 7});
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
            Some(&json!({"path": "x2.safetensors", "digest": digest, "bytes": 7}))
        );
    }

    #[test]
    fn a_file_of_another_digest_than_the_manifest_wants_is_refused() {
        let pinned = JOB.replace(
            "file: clips/sea.mp4",
            &format!("file: sea.mp4, digest: {}", digest("b").digest),
        );
        let mut documents = documents(&pinned);
        let places = places(&documents).expect("is fine");
        assert!(matches!(
            fill(&mut documents, &places[0], Path::new("x"), &digest("a")),
            Err(Error::OtherContent { .. })
        ));
    }

    #[test]
    fn a_file_of_another_size_than_the_manifest_wants_is_refused() {
        let pinned = JOB.replace("file: clips/sea.mp4", "file: sea.mp4, bytes: 9");
        let mut documents = documents(&pinned);
        let places = places(&documents).expect("is fine");
        assert!(matches!(
            fill(&mut documents, &places[0], Path::new("x"), &digest("a")),
            Err(Error::OtherSize {
                found: 7,
                wanted: 9,
                ..
            })
        ));
    }

    #[test]
    fn a_path_that_is_not_text_is_refused() {
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
            digest: names::digest(&letter.repeat(64)),
            bytes: 7,
        }
    }
}
