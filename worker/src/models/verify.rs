//! Whether a file is the one that was pinned.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::str::FromStr;

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

/// Reads all of the file and compares its digest with the pinned one.
pub fn verify(name: &str, path: &Path, pinned: Sha256) -> Result<(), VerifyError> {
    let digest = File::open(path).and_then(Sha256::of);
    let found = digest.map_err(|source| VerifyError::Read {
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
