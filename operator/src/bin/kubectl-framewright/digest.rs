//! What a local file is called by its content; and the command that prints it.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256};

use crate::Ended;
use crate::args::Digest;
use crate::told::screen::Screen;

/// SHA-256 in 64 lower-case hexadecimal digits, and the size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileDigest {
    pub sha256: String,
    pub bytes: u64,
}

/// A file here, with its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LocalFile {
    pub path: PathBuf,
    pub digest: FileDigest,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} is a folder; name a file")]
    Folder { path: PathBuf },
}

pub(crate) async fn run(screen: &Screen, args: Digest) -> Result<Ended, Error> {
    let Digest { paths } = args;
    let is_one = paths.len() == 1;
    for path in paths {
        let LocalFile { path, digest } = of_file(screen, path).await?;
        let FileDigest { sha256, bytes } = digest;
        let remark = if is_one {
            String::new()
        } else {
            format!(" # {}", path.display())
        };
        println!("{{sha256: {sha256}, bytes: {bytes}}}{remark}");
    }
    Ok(Ended::Well)
}

/// Reads the whole file, in a thread of its own, with a bar where it takes long.
pub(crate) async fn of_file(screen: &Screen, path: PathBuf) -> Result<LocalFile, Error> {
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
    let digest = match reading.await {
        Ok(digest) => digest.map_err(failed)?,
        Err(stopped) => return Err(failed(std::io::Error::other(stopped))),
    };
    Ok(LocalFile { path, digest })
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
        sha256: hex::encode(context.finish()),
        bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_called_by_its_sha256() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("abc");
        std::fs::write(&path, "abc").expect("is written");
        assert_eq!(
            read(&path, |_| {}).expect("is read"),
            FileDigest {
                sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".into(),
                bytes: 3
            }
        );
    }
}
