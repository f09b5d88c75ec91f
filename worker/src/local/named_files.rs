//! Which files does a manifest name by their paths, as in `upload: {file: clip.mp4}`? Digest and size take the place of each path, so
//! that all that follows sees what the API server would.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use framewright_crds::names::{bare, digest};
use serde_json::{Map, Value, json};

use super::documents;
use super::find::FindError;
use crate::digest::digest_of;

/// Where files lie, by their SHA-256.
pub(super) type NamedFiles = HashMap<String, PathBuf>;

/// Pins the files that inputs and models name by path, relative to `folder`, or that `given` names for an input that is not pinned.
///
/// # Errors
/// One of them cannot be read, or is another one than the manifest pins beside its path.
pub(super) fn pin(
    documents: &mut [Value],
    folder: &Path,
    given: &[(String, PathBuf)],
    named_files: &mut NamedFiles,
) -> Result<(), FindError> {
    for document in documents {
        if documents::is_of_kind(document, "AIJob") {
            inputs(document, folder, given, named_files)?;
        } else if documents::is_of_kind(document, "ModelPool") {
            weights(document, folder, named_files)?;
        }
    }
    Ok(())
}

fn inputs(
    job: &mut Value,
    folder: &Path,
    given: &[(String, PathBuf)],
    named_files: &mut NamedFiles,
) -> Result<(), FindError> {
    for step in list(job.pointer_mut("/spec/steps")) {
        let step_name = text(step, "name");
        for input in list(step.get_mut("inputs")) {
            let input_name = text(input, "name");
            let argument = argument(given, &step_name, &input_name);
            let Some(members) = input.as_object_mut() else {
                continue;
            };
            // An input that the command line fills may have no upload member.
            let is_missing = !members.contains_key("upload");
            if is_missing && (argument.is_none() || members.contains_key("fromStep")) {
                continue;
            }
            let upload = members.entry("upload").or_insert_with(|| json!({}));
            let Some(upload) = upload.as_object_mut() else {
                continue;
            };
            let is_pinned = upload.contains_key("digest") && upload.contains_key("bytes");
            let what = format!("input {input_name} of step {step_name}");
            let path = match (argument, upload.get("file")) {
                // Of those that the command line names, the one with that content is looked for.
                (_, None) if is_pinned => continue,
                (Some(path), _) => path.clone(),
                (None, Some(file)) => folder.join(path(file, &what)?),
                (None, None) => {
                    let input = format!("{step_name}.{input_name}");
                    return Err(FindError::Unnamed { what, input });
                }
            };
            pin_to(upload, what, path, named_files)?;
        }
    }
    Ok(())
}

fn weights(pool: &mut Value, folder: &Path, named_files: &mut NamedFiles) -> Result<(), FindError> {
    for model in list(pool.pointer_mut("/spec/models")) {
        let model_name = text(model, "name");
        for file in list(model.get_mut("files")) {
            let what = format!("model {model_name}: {}", text(file, "path"));
            let Some(members) = file.as_object_mut() else {
                continue;
            };
            if let Some(named) = members.get("file") {
                let path = folder.join(path(named, &what)?);
                pin_to(members, what, path, named_files)?;
            }
        }
    }
    Ok(())
}

/// The last one that is named for this input of this step, or else for inputs of that name.
fn argument<'a>(given: &'a [(String, PathBuf)], step: &str, input: &str) -> Option<&'a PathBuf> {
    let last = |wanted: &str| given.iter().rfind(|(name, _)| name == wanted);
    let found = last(&format!("{step}.{input}")).or_else(|| last(input));
    found.map(|(_, path)| path)
}

fn pin_to(
    holder: &mut Map<String, Value>,
    what: String,
    path: PathBuf,
    named_files: &mut NamedFiles,
) -> Result<(), FindError> {
    let (sha256, bytes) = match digest_of(&path) {
        Ok(found) => found,
        Err(source) => return Err(FindError::Named { what, source }),
    };
    let wanted = holder.get("digest").and_then(Value::as_str).map(bare);
    let wanted_bytes = holder.get("bytes").and_then(Value::as_i64);
    let is_other = wanted.is_some_and(|wanted| wanted != sha256)
        || wanted_bytes.is_some_and(|wanted| u64::try_from(wanted) != Ok(bytes));
    if is_other {
        return Err(FindError::Differs {
            what,
            path,
            wanted: wanted.unwrap_or(&sha256).to_owned(),
            wanted_bytes: wanted_bytes.unwrap_or(i64::try_from(bytes).unwrap_or(i64::MAX)),
            found: sha256,
            found_bytes: bytes,
        });
    }
    holder.remove("file");
    holder
        .entry("digest")
        .or_insert_with(|| json!(digest(&sha256)));
    holder.entry("bytes").or_insert_with(|| json!(bytes));
    named_files.insert(sha256, path);
    Ok(())
}

fn path<'a>(file: &'a Value, what: &str) -> Result<&'a str, FindError> {
    let path = file.as_str().filter(|path| !path.is_empty());
    path.ok_or_else(|| FindError::NoPath {
        what: what.to_owned(),
        found: file.to_string(),
    })
}

fn list(value: Option<&mut Value>) -> impl Iterator<Item = &mut Value> {
    value.and_then(Value::as_array_mut).into_iter().flatten()
}

fn text(value: &Value, member: &str) -> String {
    let text = value.get(member).and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error_chain::error_chain;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    /// What becomes of the upload of an input named video, with a file of three letters beside the manifest.
    fn pinned(upload: &str, given: &[&str]) -> Result<Value, String> {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("abc.mp4"), "abc").expect("written");
        let text = format!(
            "{{apiVersion: framewright.dev/v1alpha1, kind: AIJob, spec: {{steps: [{{name: large, inputs: [{{name: video{upload}}}]}}]}}}}"
        );
        let mut documents = framewright_crds::manifest::read(text.as_bytes()).expect("YAML");
        let given: Vec<_> = given
            .iter()
            .map(|name| ((*name).to_owned(), folder.path().join("abc.mp4")))
            .collect();
        let mut named_files = NamedFiles::new();
        pin(&mut documents, folder.path(), &given, &mut named_files)
            .map_err(|error| error_chain(&error))?;
        Ok(documents[0]["spec"]["steps"][0]["inputs"][0]["upload"].take())
    }

    #[test]
    fn digest_and_size_take_the_place_of_the_path() {
        let upload = Ok(json!({"digest": digest(ABC), "bytes": 3}));
        assert_eq!(pinned(", upload: {file: abc.mp4}", &[]), upload);
        let all = format!(", upload: {{file: abc.mp4, bytes: 3, digest: 'sha256:{ABC}'}}");
        assert_eq!(pinned(&all, &[]), upload);
        for given in ["video", "large.video"] {
            for named in ["", ", upload: {}", ", upload: {file: nowhere.mp4}"] {
                assert_eq!(pinned(named, &[given]), upload, "{named}");
            }
        }
        let by_content = ", upload: {digest: 'sha256:aa', bytes: 5}";
        let upload = Ok(json!({"digest": "sha256:aa", "bytes": 5}));
        assert_eq!(pinned(by_content, &["video"]), upload);
        assert_eq!(pinned(", fromStep: {name: a}", &["video"]), Ok(Value::Null));
    }

    #[test]
    fn what_is_wrong_with_a_path_is_said() {
        for (upload, words) in [
            (
                "file: nowhere.mp4",
                "input video of step large: cannot read ",
            ),
            ("file: [a]", "file must be a path"),
            (
                "file: abc.mp4, digest: 'sha256:aa'",
                "but aa with 3 bytes is pinned",
            ),
            ("file: abc.mp4, bytes: 9", "with 9 bytes is pinned"),
            ("bytes: 9", "or say --input large.video=PATH"),
        ] {
            let error = pinned(&format!(", upload: {{{upload}}}"), &[]).expect_err("refused");
            assert!(error.contains(words), "{words}: {error}");
        }
    }
}
