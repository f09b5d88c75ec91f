//! Pickles are refused, by name and by content, and the refusal says how to convert them.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

const ENDINGS: [&str; 5] = [".pth", ".pt", ".ckpt", ".bin", ".pkl"];

#[derive(Debug, thiserror::Error)]
pub enum PickleError {
    #[error("cannot read {file}")]
    Read { file: String, source: io::Error },
    #[error(
        "{file} is {what}: pickles can run code when they are read, so only safetensors are; convert it with {command}, and pin the result"
    )]
    Refused {
        file: String,
        what: &'static str,
        command: String,
    },
}

impl PickleError {
    pub fn blames_the_file(&self) -> bool {
        match self {
            PickleError::Read { .. } => false,
            PickleError::Refused { .. } => true,
        }
    }
}

/// Refuses a file that is a pickle, or is called like one.
pub fn refuse(name: &str, path: &Path) -> Result<(), PickleError> {
    let start = start(path).map_err(|source| PickleError::Read {
        file: name.to_owned(),
        source,
    })?;
    match kind(name, &start) {
        None => Ok(()),
        Some(what) => Err(PickleError::Refused {
            file: name.to_owned(),
            what,
            command: command(name),
        }),
    }
}

fn start(path: &Path) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    File::open(path)?.take(4).read_to_end(&mut start)?;
    Ok(start)
}

fn kind(name: &str, start: &[u8]) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    match start {
        [b'P', b'K', 3, 4] => Some("a PyTorch archive, a pickle in a zip file"),
        [0x80, 2..=5, ..] => Some("a pickle"),
        _ if ENDINGS.iter().any(|ending| name.ends_with(ending)) => Some("named like a pickle"),
        _ => None,
    }
}

/// The command line that converts a file in the current folder.
pub fn command(name: &str) -> String {
    let file = name.rsplit('/').next().unwrap_or(name);
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let mut result = format!("{stem}.safetensors");
    if result == file {
        result = format!("{stem}-converted.safetensors");
    }
    format!(
        "python3 worker/tools/convert.py {} {}",
        quoted(file),
        quoted(&result)
    )
}

/// As a shell takes for one word.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte);
    if word.bytes().all(plain) && !word.starts_with('-') {
        return word.to_owned();
    }
    format!("'./{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pickles_are_told_by_content_and_by_name() {
        for (name, start) in [
            ("x.safetensors", b"PK\x03\x04".as_slice()),
            ("x.safetensors", b"\x80\x02}q"),
            ("x.safetensors", b"\x80\x05"),
            ("x.PTH", b"\x10\0\0\0"),
            ("x.ckpt", b""),
            ("x.bin", b"\0"),
        ] {
            assert!(kind(name, start).is_some(), "{name} {start:?}");
        }
        for (name, start) in [
            ("x.safetensors", b"\x40\0\0\0".as_slice()),
            ("x.safetensors", b"\x80\0\0\0"),
            ("pth", b""),
        ] {
            assert!(kind(name, start).is_none(), "{name} {start:?}");
        }
    }

    #[test]
    fn the_refusal_holds_the_command() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"PK\x03\x04").unwrap();
        let error = refuse("weights/RealESRGAN_x4plus.pth", file.path()).unwrap_err();
        let command =
            "python3 worker/tools/convert.py RealESRGAN_x4plus.pth RealESRGAN_x4plus.safetensors";
        assert!(error.to_string().contains(command), "{error}");
    }

    #[test]
    fn a_pickle_in_disguise_is_not_converted_onto_itself() {
        assert!(command("a/x.safetensors").ends_with(" x.safetensors x-converted.safetensors"));
    }

    #[test]
    fn odd_names_stay_one_word_of_the_command() {
        let command = command("a b'; rm -rf x.pth");
        assert!(
            command.ends_with(r"'./a b'\''; rm -rf x.pth' './a b'\''; rm -rf x.safetensors'"),
            "{command}"
        );
        assert!(super::command("-rf.pth").contains("'./-rf.pth'"));
    }
}
