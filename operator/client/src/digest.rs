//! The digest and size of a local file.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use framewright_crds::names;
use ring::digest::{Context, SHA256};

use crate::screen::Screen;

/// The digest and size of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileDigest {
    /// `sha256:` and 64 lower-case hexadecimal digits.
    pub digest: String,
    /// The size.
    pub bytes: u64,
}

/// A local file with its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it contains.
    pub content: FileDigest,
}

/// A local file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system does not let us read it.
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A folder has no digest.
    #[error("{path} is a folder; name a file")]
    Folder { path: PathBuf },
}

/// Computes the digest of a file on a thread of its own. A large file gets a progress bar.
///
/// # Errors
/// If the file is a folder or cannot be read.
pub async fn of_file(screen: &Screen, path: PathBuf) -> Result<LocalFile, Error> {
    let failed = |source| Error::Read {
        path: path.clone(),
        source,
    };
    let metadata = std::fs::metadata(&path).map_err(failed)?;
    if metadata.is_dir() {
        return Err(Error::Folder { path });
    }
    let meter = screen.transfer(format!("reads {}", path.display()), metadata.len(), 0);
    let here = path.clone();
    let reading = tokio::task::spawn_blocking(move || read(&here, |bytes| meter.moved(bytes)));
    let content = match reading.await {
        Ok(content) => content.map_err(failed)?,
        Err(stopped) => return Err(failed(std::io::Error::other(stopped))),
    };
    Ok(LocalFile { path, content })
}

fn read(path: &Path, moved: impl Fn(u64)) -> std::io::Result<FileDigest> {
    let mut file = File::open(path)?;
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let count = file.read(&mut buffer)?;
        let Some(chunk) = buffer.get(..count).filter(|chunk| !chunk.is_empty()) else {
            break;
        };
        context.update(chunk);
        bytes += count as u64;
        moved(count as u64);
    }
    Ok(FileDigest {
        digest: names::digest(&hex::encode(context.finish())),
        bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_by_its_sha256() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("abc");
        std::fs::write(&path, "abc").expect("is written");
        assert_eq!(
            read(&path, |_| {}).expect("is read"),
            FileDigest {
                digest: "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
                    .into(),
                bytes: 3
            }
        );
    }
}
