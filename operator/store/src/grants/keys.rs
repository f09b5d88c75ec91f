//! The keys that sign links, and the file that they are mounted in.

use std::fmt;

use ring::hmac;

/// The keys that sign links. The first signs, all verify.
#[derive(Clone)]
pub struct SigningKeys {
    first: hmac::Key,
    older: Vec<hmac::Key>,
}

/// A key file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKeys {
    #[error("the key file is empty; write one line of 64 hexadecimal characters (32 random bytes)")]
    Empty,
    #[error("line {line} of the key file is not 64 hexadecimal characters (32 random bytes)")]
    Line { line: usize },
}

impl SigningKeys {
    /// Reads a key file: one key a line, 64 hexadecimal characters each, the newest first.
    ///
    /// To rotate without refusing anybody: add the new key as last line, wait until every store has read it, then move it up.
    ///
    /// # Errors
    /// `BadKeys`, which never holds key material.
    pub fn parse(text: &str) -> Result<SigningKeys, BadKeys> {
        let mut keys = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            match hex::decode(line) {
                Ok(bytes) if bytes.len() == 32 => {
                    keys.push(hmac::Key::new(hmac::HMAC_SHA256, &bytes));
                }
                Ok(_) | Err(_) => return Err(BadKeys::Line { line: index + 1 }),
            }
        }
        let mut keys = keys.into_iter();
        let first = keys.next().ok_or(BadKeys::Empty)?;
        Ok(SigningKeys {
            first,
            older: keys.collect(),
        })
    }

    /// The text of a key file with one key, from 32 random bytes.
    #[must_use]
    pub fn file(random: [u8; 32]) -> String {
        format!("{}\n", hex::encode(random))
    }

    pub(super) fn sign(&self, message: &[u8]) -> hmac::Tag {
        hmac::sign(&self.first, message)
    }

    /// Compares in constant time.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        std::iter::once(&self.first)
            .chain(&self.older)
            .any(|key| hmac::verify(key, message, signature).is_ok())
    }
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "SigningKeys({})", 1 + self.older.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_key_file_is_named_by_its_line_and_never_shown() {
        assert_eq!(SigningKeys::parse("\n \n").err(), Some(BadKeys::Empty));
        let text = format!("{}\nsecret\n", "ab".repeat(32));
        assert_eq!(
            SigningKeys::parse(&text).err(),
            Some(BadKeys::Line { line: 2 })
        );
        assert_eq!(
            SigningKeys::parse(&"ab".repeat(31)).err(),
            Some(BadKeys::Line { line: 1 })
        );
    }
}
