//! What is a file's digest?

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The file cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", path.display())]
pub struct Unreadable {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// SHA-256 of the file at `path` as 64 lower-case hexadecimal digits, and its size in bytes.
///
/// # Errors
/// The file cannot be read.
pub fn digest_of(path: &Path) -> Result<(String, u64), Unreadable> {
    let failed = |source| Unreadable {
        path: path.into(),
        source,
    };
    let mut file = File::open(path).map_err(failed)?;
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut buffer).map_err(failed)?;
        if read == 0 {
            return Ok((hex::encode(digest.finish()), bytes));
        }
        digest.update(&buffer[..read]);
        bytes += read as u64;
    }
}
