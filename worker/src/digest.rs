//! What is a file's digest?

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256};

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
    let file = File::open(path).map_err(failed)?;
    let (digest, bytes) = digest_through(file).map_err(failed)?;
    Ok((hex::encode(digest), bytes))
}

/// SHA-256 of all that is still to be read, and how many bytes that was.
///
/// # Errors
/// The reader's own.
pub fn digest_through(mut bytes: impl Read) -> io::Result<([u8; 32], u64)> {
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 1 << 20];
    let mut count = 0;
    loop {
        match bytes.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                context.update(&buffer[..read]);
                count += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    Ok((digest, count))
}
