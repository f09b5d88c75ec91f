//! Finds the file that has a digest: among those that were named, then beside the YAML.

use std::fs;
use std::path::{Path, PathBuf};

use crate::digest::{Unreadable, digest_of};

/// A file that somebody named by its content.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    /// What it is, for messages: `input video of step large`, or `model twice: x.safetensors`.
    pub(super) what: &'a str,
    /// Its SHA-256, in hexadecimal.
    pub(super) sha256: &'a str,
    /// Its size.
    pub(super) bytes: i64,
}

/// Why it is not found.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error("{what}")]
    Named {
        what: String,
        #[source]
        source: Unreadable,
    },
    #[error("{what}: file must be a path in quotes or plain text, and is {found}")]
    NoPath { what: String, found: String },
    #[error(
        "{what}: upload names no file; write upload: {{file: PATH}}, or digest and bytes of the file, or say --input {input}=PATH"
    )]
    Unnamed { what: String, input: String },
    #[error("{what}: {} has SHA-256 {found} and {found_bytes} bytes, but {wanted} with {wanted_bytes} bytes is pinned; give that file, or pin this one", path.display())]
    Differs {
        what: String,
        path: PathBuf,
        found: String,
        found_bytes: u64,
        wanted: String,
        wanted_bytes: i64,
    },
    #[error(
        "{what}: no file with SHA-256 {sha256} and {bytes} bytes is in {folders}; say where it is with {option}"
    )]
    Nowhere {
        what: String,
        sha256: String,
        bytes: i64,
        folders: String,
        option: &'static str,
    },
}

/// The file at `path` if it is the wanted one.
///
/// # Errors
/// It is another one, or cannot be read.
pub(super) fn exactly(wanted: Wanted<'_>, path: &Path) -> Result<PathBuf, FindError> {
    let (found, found_bytes) = digest_of(path)?;
    if found == wanted.sha256 {
        return Ok(path.to_path_buf());
    }
    Err(FindError::Differs {
        what: wanted.what.to_owned(),
        path: path.to_path_buf(),
        found,
        found_bytes,
        wanted: wanted.sha256.to_owned(),
        wanted_bytes: wanted.bytes,
    })
}

/// The wanted file among `places`: files, or folders whose own files are looked at, and those `below` them at this path. Only files
/// of the right size are read.
///
/// # Errors
/// It is nowhere, or a candidate cannot be read. `option` is what the user can say.
pub(super) fn among(
    wanted: Wanted<'_>,
    places: &[PathBuf],
    below: Option<&str>,
    option: &'static str,
) -> Result<PathBuf, FindError> {
    for place in places {
        let mut candidates: Vec<PathBuf> = match fs::read_dir(place) {
            Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
            Err(_) => vec![place.clone()],
        };
        candidates.sort();
        candidates.extend(below.map(|below| place.join(below)));
        for candidate in candidates {
            let is_candidate = fs::metadata(&candidate).is_ok_and(|found| {
                found.is_file() && i64::try_from(found.len()) == Ok(wanted.bytes)
            });
            if is_candidate && digest_of(&candidate)?.0 == wanted.sha256 {
                return Ok(candidate);
            }
        }
    }
    let folders: Vec<String> = places
        .iter()
        .map(|place| place.display().to_string())
        .collect();
    Err(FindError::Nowhere {
        what: wanted.what.to_owned(),
        sha256: wanted.sha256.to_owned(),
        bytes: wanted.bytes,
        folders: folders.join(", "),
        option,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_by_its_content_and_another_one_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("any name");
        fs::write(&path, "abc").expect("written");
        let wanted = Wanted {
            what: "input video of step large",
            sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            bytes: 3,
        };
        let places = [folder.path().to_path_buf()];
        assert_eq!(
            among(wanted, &places, None, "--input").expect("found"),
            path
        );
        assert_eq!(exactly(wanted, &path).expect("it is"), path);

        fs::write(&path, "abd").expect("written");
        let differs = exactly(wanted, &path).expect_err("another").to_string();
        assert!(
            differs.contains("input video of step large") && differs.contains("is pinned"),
            "{differs}"
        );
        let nowhere = among(wanted, &places, None, "--input")
            .expect_err("gone")
            .to_string();
        assert!(
            nowhere.contains("say where it is with --input"),
            "{nowhere}"
        );
    }
}
