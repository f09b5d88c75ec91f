//! Whether a file is the one that was pinned.
//!
//! A file is read once. It is read again when its inode, its size or the time of its last change differ from what they were then.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use framewright_crds::names::is_sha256;

use crate::digest::digest_through;

/// A file's SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha256([u8; 32]);

#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error("cannot read {file}")]
    Read { file: String, source: io::Error },
    #[error(
        "{file} has SHA-256 {found}, but {pinned} is pinned: it is another file, or it was changed; check where it came from before you pin what it is now"
    )]
    Differs {
        file: String,
        found: Sha256,
        pinned: Sha256,
    },
}

impl VerifyError {
    pub fn blames_the_file(&self) -> bool {
        match self {
            VerifyError::Read { .. } => false,
            VerifyError::Differs { .. } => true,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no SHA-256: it has 64 hexadecimal digits, in lower case")]
pub struct NoSha256 {
    text: String,
}

/// Compares the file's digest with the pinned one. Reads all of the file, unless it is known and has not changed.
pub fn verify(name: &str, path: &Path, pinned: Sha256) -> Result<(), VerifyError> {
    let found = digest_of_unchanged(path).map_err(|source| VerifyError::Read {
        file: name.to_owned(),
        source,
    })?;
    if found != pinned {
        return Err(VerifyError::Differs {
            file: name.to_owned(),
            found,
            pinned,
        });
    }
    Ok(())
}

/// Digests of files that were read, by device and inode.
static KNOWN: Mutex<BTreeMap<(u64, u64), (Version, Sha256)>> = Mutex::new(BTreeMap::new());
/// More files than a worker's models have. Beyond it all are read once more.
const MAX_KNOWN: usize = 4096;
/// A file system may give two changes that are nearer to each other the same time.
const SETTLED: Duration = Duration::from_secs(2);

/// What differs when a file has changed.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Version {
    bytes: u64,
    seconds: i64,
    nanoseconds: i64,
}

impl Version {
    fn of(file: &Metadata) -> Version {
        Version {
            bytes: file.size(),
            seconds: file.mtime(),
            nanoseconds: file.mtime_nsec(),
        }
    }
}

fn digest_of_unchanged(path: &Path) -> io::Result<Sha256> {
    let file = File::open(path)?;
    if let Some(known) = known(&file)? {
        return Ok(known);
    }
    let before = file.metadata()?;
    let digest = Sha256::of(&file)?;
    let is_settled = before
        .modified()
        .is_ok_and(|time| time.elapsed().is_ok_and(|age| age > SETTLED));
    if is_settled && Version::of(&before) == Version::of(&file.metadata()?) {
        remember(&file, digest)?;
    }
    Ok(digest)
}

/// The digest of a file that was read before and has not changed since.
pub(super) fn known(file: &File) -> io::Result<Option<Sha256>> {
    let found = file.metadata()?;
    let files = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = files.get(&(found.dev(), found.ino()));
    let same = known.filter(|(version, _)| *version == Version::of(&found));
    Ok(same.map(|(_, digest)| *digest))
}

/// Gives a file that only we write the present time as the time of its last change, and keeps what is known of its content. The
/// time is exact to the nanosecond, so that any later change has another one.
pub(super) fn touch(file: &File, content: Option<Sha256>) -> io::Result<()> {
    file.set_modified(SystemTime::now())?;
    content.map_or(Ok(()), |digest| remember(file, digest))
}

fn remember(file: &File, digest: Sha256) -> io::Result<()> {
    let found = file.metadata()?;
    let mut files = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if files.len() >= MAX_KNOWN {
        files.clear();
    }
    files.insert((found.dev(), found.ino()), (Version::of(&found), digest));
    Ok(())
}

impl Sha256 {
    /// The digest of all that is still to be read.
    pub fn of(bytes: impl Read) -> io::Result<Sha256> {
        Ok(Sha256(digest_through(bytes)?.0))
    }
}

impl FromStr for Sha256 {
    type Err = NoSha256;

    fn from_str(text: &str) -> Result<Self, NoSha256> {
        let mut digest = [0; 32];
        match hex::decode_to_slice(text, &mut digest) {
            Ok(()) if is_sha256(text) => Ok(Sha256(digest)),
            Ok(()) | Err(_) => Err(NoSha256 {
                text: text.chars().take(80).collect(),
            }),
        }
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn the_pinned_file_passes_and_a_changed_byte_does_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc").unwrap();
        verify("x.safetensors", file.path(), ABC.parse().unwrap()).unwrap();
        std::fs::write(file.path(), "abd").unwrap();
        let error = verify("x.safetensors", file.path(), ABC.parse().unwrap()).unwrap_err();
        assert!(error.blames_the_file());
        assert!(
            error
                .to_string()
                .starts_with("x.safetensors has SHA-256 a52d159f"),
            "{error}"
        );
    }

    #[test]
    fn a_file_is_read_once_and_again_when_its_time_or_size_differ() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let is_abc = || verify("x", file.path(), ABC.parse().unwrap()).is_ok();
        let set_age = |seconds| {
            let time = SystemTime::now() - Duration::from_secs(seconds);
            file.as_file().set_modified(time).unwrap();
            time
        };
        std::fs::write(file.path(), "abc").unwrap();
        let time = set_age(60);
        assert!(is_abc());
        // Another content with the same size and time is not read.
        std::fs::write(file.path(), "abd").unwrap();
        file.as_file().set_modified(time).unwrap();
        assert!(is_abc());
        set_age(59);
        assert!(!is_abc());
        std::fs::write(file.path(), "abc").unwrap();
        assert!(is_abc());
        std::fs::write(file.path(), "abcd").unwrap();
        file.as_file().set_modified(time).unwrap();
        assert!(!is_abc());
    }

    #[test]
    fn a_file_that_has_just_changed_is_read_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc").unwrap();
        let time = file.as_file().metadata().unwrap().modified().unwrap();
        verify("x", file.path(), ABC.parse().unwrap()).unwrap();
        std::fs::write(file.path(), "abd").unwrap();
        file.as_file().set_modified(time).unwrap();
        verify("x", file.path(), ABC.parse().unwrap()).unwrap_err();
    }

    #[test]
    fn what_is_known_of_a_file_stays_known_when_it_is_marked_as_used() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let digest: Sha256 = ABC.parse().unwrap();
        touch(file.as_file(), Some(digest)).unwrap();
        assert_eq!(known(file.as_file()).unwrap(), Some(digest));
        std::fs::write(file.path(), "").unwrap();
        assert_eq!(known(file.as_file()).unwrap(), None);
    }

    #[test]
    fn a_file_that_is_not_there_is_not_blamed() {
        let error = verify("x", Path::new("/nowhere/x"), ABC.parse().unwrap()).unwrap_err();
        assert!(!error.blames_the_file());
    }

    #[test]
    fn a_digest_is_read_as_it_is_written_and_nothing_else_is() {
        assert_eq!(ABC.parse::<Sha256>().unwrap().to_string(), ABC);
        for text in [
            "",
            "abc",
            &ABC[1..],
            &ABC.to_uppercase(),
            &format!("sha256:{ABC}"),
        ] {
            text.parse::<Sha256>().unwrap_err();
        }
    }
}
