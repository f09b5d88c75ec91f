//! What a safetensors file says about itself, believed only after it was compared with the file.
//!
//! The format: the header's length (8 bytes, little endian), the header (JSON: tensors by name with
//! type, shape and place), then the tensors' bytes, without holes.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

/// As in the reference implementation.
const LONGEST_HEADER: u64 = 100_000_000;
const MOST_TENSORS: usize = 100_000;
const LONGEST_NAME: usize = 512;
const MOST_DIMENSIONS: usize = 8;

/// The tensors of a file whose header tells the truth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub tensors: BTreeMap<String, TensorInfo>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    pub dtype: WeightType,
    pub shape: Vec<usize>,
}

/// The types that weights are read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightType {
    F16,
    BF16,
    F32,
    F64,
}

#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    #[error("cannot read {file}")]
    Read { file: String, source: io::Error },
    #[error(
        "{file} is no safetensors file: it has {bytes} bytes, and the header's length alone takes 8"
    )]
    TooShort { file: String, bytes: u64 },
    #[error(
        "{file} is no safetensors file: its header would have {length} bytes, of {bytes} in the file (at most {LONGEST_HEADER} are read)"
    )]
    Length {
        file: String,
        length: u64,
        bytes: u64,
    },
    #[error("{file} has a header that is no JSON of the safetensors format")]
    Json {
        file: String,
        source: serde_json::Error,
    },
    #[error("{file} names {count} tensors: at most {MOST_TENSORS} are read")]
    TooMany { file: String, count: usize },
    #[error(
        "{file} has a tensor whose name is empty, longer than {LONGEST_NAME} bytes or not printable: {tensor:?}"
    )]
    Name { file: String, tensor: String },
    #[error("{file} names tensor {tensor} twice")]
    Twice { file: String, tensor: String },
    #[error("{file} has tensor {tensor} of type {dtype:?}: F16, BF16, F32 and F64 are read")]
    Type {
        file: String,
        tensor: String,
        dtype: String,
    },
    #[error("{file} has tensor {tensor} of {count} dimensions: at most {MOST_DIMENSIONS} are read")]
    Dimensions {
        file: String,
        tensor: String,
        count: usize,
    },
    #[error(
        "{file} puts tensor {tensor} at bytes {start} to {end}, but only {bytes} follow the header"
    )]
    Outside {
        file: String,
        tensor: String,
        start: u64,
        end: u64,
        bytes: u64,
    },
    #[error(
        "{file} gives tensor {tensor} {found} bytes, but {dtype:?} of shape {shape:?} does not have that many"
    )]
    Size {
        file: String,
        tensor: String,
        found: u64,
        dtype: WeightType,
        shape: Vec<u64>,
    },
    #[error(
        "{file} puts tensor {tensor} at byte {start}, where the one before it goes on to {end}"
    )]
    Overlap {
        file: String,
        tensor: String,
        start: u64,
        end: u64,
    },
    #[error("{file} has {bytes} bytes that belong to no tensor, before {before}")]
    Hole {
        file: String,
        bytes: u64,
        before: String,
    },
}

impl HeaderError {
    pub fn blames_the_file(&self) -> bool {
        !matches!(self, HeaderError::Read { .. })
    }
}

impl Header {
    /// Reads the file's header, and nothing else of it.
    pub fn read(name: &str, path: &Path) -> Result<Header, HeaderError> {
        let read = |source| HeaderError::Read {
            file: name.to_owned(),
            source,
        };
        let mut file = File::open(path).map_err(read)?;
        let bytes = file.metadata().map_err(read)?.len();
        let Some(rest) = bytes.checked_sub(8) else {
            return Err(HeaderError::TooShort {
                file: name.to_owned(),
                bytes,
            });
        };
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(read)?;
        let length = u64::from_le_bytes(length);
        if length > rest || length > LONGEST_HEADER {
            return Err(HeaderError::Length {
                file: name.to_owned(),
                length,
                bytes,
            });
        }
        let mut header = Vec::new();
        file.take(length).read_to_end(&mut header).map_err(read)?;
        Header::parse(name, &header, rest - length)
    }

    /// Checks a header against the number of bytes that follow it.
    fn parse(file: &str, header: &[u8], bytes: u64) -> Result<Header, HeaderError> {
        let name = file;
        let file = || name.to_owned();
        let Entries { mut tensors } =
            serde_json::from_slice(header).map_err(|source| HeaderError::Json {
                file: file(),
                source,
            })?;
        if tensors.len() > MOST_TENSORS {
            return Err(HeaderError::TooMany {
                file: file(),
                count: tensors.len(),
            });
        }
        tensors.sort_by_key(|(_, entry)| entry.data_offsets);
        let mut checked = BTreeMap::new();
        let mut covered = 0;
        for (tensor, entry) in tensors {
            let info = info(name, &tensor, &entry, bytes)?;
            let (start, end) = entry.data_offsets;
            if start < covered {
                return Err(HeaderError::Overlap {
                    file: file(),
                    tensor,
                    start,
                    end: covered,
                });
            }
            if start > covered {
                let before = format!("tensor {tensor}");
                return Err(HeaderError::Hole {
                    file: file(),
                    bytes: start - covered,
                    before,
                });
            }
            covered = end;
            if checked.insert(tensor.clone(), info).is_some() {
                return Err(HeaderError::Twice {
                    file: file(),
                    tensor,
                });
            }
        }
        if covered < bytes {
            return Err(HeaderError::Hole {
                file: file(),
                bytes: bytes - covered,
                before: "its end".to_owned(),
            });
        }
        Ok(Header { tensors: checked })
    }
}

/// Checks one tensor by itself.
fn info(file: &str, tensor: &str, entry: &Entry, bytes: u64) -> Result<TensorInfo, HeaderError> {
    let Entry {
        dtype,
        shape,
        data_offsets: (start, end),
    } = entry;
    let file = || file.to_owned();
    if tensor.is_empty()
        || tensor.len() > LONGEST_NAME
        || !tensor.chars().all(|letter| letter.is_ascii_graphic())
    {
        let tensor = tensor.chars().take(80).collect();
        return Err(HeaderError::Name {
            file: file(),
            tensor,
        });
    }
    let tensor = || tensor.to_owned();
    let Some(dtype) = WeightType::named(dtype) else {
        let dtype = dtype.chars().take(20).collect();
        return Err(HeaderError::Type {
            file: file(),
            tensor: tensor(),
            dtype,
        });
    };
    if shape.len() > MOST_DIMENSIONS {
        return Err(HeaderError::Dimensions {
            file: file(),
            tensor: tensor(),
            count: shape.len(),
        });
    }
    if start > end || *end > bytes {
        return Err(HeaderError::Outside {
            file: file(),
            tensor: tensor(),
            start: *start,
            end: *end,
            bytes,
        });
    }
    let found = end - start;
    let sizes: Option<Vec<usize>> = shape
        .iter()
        .map(|size| usize::try_from(*size).ok())
        .collect();
    let needed = shape
        .iter()
        .try_fold(dtype.bytes(), |product, size| product.checked_mul(*size));
    match sizes {
        Some(shape) if needed == Some(found) => Ok(TensorInfo { dtype, shape }),
        Some(_) | None => Err(HeaderError::Size {
            file: file(),
            tensor: tensor(),
            found,
            dtype,
            shape: shape.clone(),
        }),
    }
}

impl WeightType {
    fn named(name: &str) -> Option<WeightType> {
        match name {
            "F16" => Some(WeightType::F16),
            "BF16" => Some(WeightType::BF16),
            "F32" => Some(WeightType::F32),
            "F64" => Some(WeightType::F64),
            _ => None,
        }
    }

    fn bytes(self) -> u64 {
        match self {
            WeightType::F16 | WeightType::BF16 => 2,
            WeightType::F32 => 4,
            WeightType::F64 => 8,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// The header's members in their order, so that a name that comes twice is seen.
struct Entries {
    tensors: Vec<(String, Entry)>,
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tensors by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
        let mut tensors = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                map.next_value::<BTreeMap<String, String>>()?;
            } else {
                tensors.push((name, map.next_value()?));
            }
        }
        Ok(Entries { tensors })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRUE: &str = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"F16","shape":[],"data_offsets":[24,26]}}"#;

    #[test]
    fn a_true_header_is_read() {
        let header = Header::parse("x", TRUE.as_bytes(), 26).unwrap();
        assert_eq!(
            header.tensors["a"],
            TensorInfo {
                dtype: WeightType::F32,
                shape: vec![2, 3]
            }
        );
        assert_eq!(
            header.tensors["b"],
            TensorInfo {
                dtype: WeightType::F16,
                shape: vec![]
            }
        );
    }

    #[test]
    fn each_lie_has_its_sentence() {
        let a = |rest: &str| format!(r#"{{"a":{{{rest}}}}}"#);
        let long = "n".repeat(513);
        for (header, bytes, sentence) in [
            (String::new(), 0, "x has a header that is no JSON"),
            ("[]".to_owned(), 0, "x has a header that is no JSON"),
            ("[".repeat(1_000_000), 0, "x has a header that is no JSON"),
            (TRUE[..60].to_owned(), 26, "x has a header that is no JSON"),
            (
                a(r#""dtype":"F32","shape":[-1],"data_offsets":[0,4]"#),
                4,
                "x has a header that is no JSON",
            ),
            (
                a(r#""dtype":"F32","shape":[1],"data_offsets":[0,4],"more":1"#),
                4,
                "x has a header that is no JSON",
            ),
            (
                TRUE.to_owned(),
                25,
                "x puts tensor b at bytes 24 to 26, but only 25 follow the header",
            ),
            (
                TRUE.to_owned(),
                30,
                "x has 4 bytes that belong to no tensor, before its end",
            ),
            (
                TRUE.replace("[24,26]", "[25,27]"),
                27,
                "x has 1 bytes that belong to no tensor, before tensor b",
            ),
            (
                TRUE.replace("[24,26]", "[23,25]"),
                25,
                "x puts tensor b at byte 23, where the one before it goes on to 24",
            ),
            (
                TRUE.replace("[24,26]", "[26,24]"),
                26,
                "x puts tensor b at bytes 26 to 24, but only 26 follow",
            ),
            (
                TRUE.replace("[2,3]", "[2,4]"),
                26,
                "x gives tensor a 24 bytes, but F32 of shape [2, 4] does not",
            ),
            (
                a(&format!(
                    r#""dtype":"F32","shape":[{0},{0}],"data_offsets":[0,0]"#,
                    1u64 << 63
                )),
                0,
                "x gives tensor a 0 bytes",
            ),
            (
                TRUE.replace("F16", "I8"),
                26,
                "x has tensor b of type \"I8\": F16, BF16, F32 and F64 are read",
            ),
            (
                TRUE.replace("[]", "[1,1,1,1,1,1,1,1,1]"),
                26,
                "x has tensor b of 9 dimensions",
            ),
            (
                TRUE.replace("\"b\"", "\"\""),
                26,
                "x has a tensor whose name is empty",
            ),
            (
                TRUE.replace("\"b\"", "\"b\\u001b[2J\""),
                26,
                "x has a tensor whose name is empty, longer",
            ),
            (
                TRUE.replace("\"b\"", &format!("\"{long}\"")),
                26,
                "x has a tensor whose name is empty, longer",
            ),
            (TRUE.replace("\"b\"", "\"a\""), 26, "x names tensor a twice"),
        ] {
            let error = Header::parse("x", header.as_bytes(), bytes).unwrap_err();
            assert!(
                error.to_string().starts_with(sentence),
                "{error}\n{sentence}"
            );
            assert!(error.blames_the_file());
        }
    }

    #[test]
    fn a_length_beyond_the_file_or_the_limit_is_not_read() {
        for (bytes, sentence) in [
            (vec![], "x is no safetensors file: it has 0 bytes"),
            (vec![1; 7], "x is no safetensors file: it has 7 bytes"),
            (
                b"\x03\0\0\0\0\0\0\0{}".to_vec(),
                "x is no safetensors file: its header would have 3 bytes, of 10",
            ),
            (
                vec![0xff; 64],
                "x is no safetensors file: its header would have 18446744073709551615 bytes",
            ),
        ] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), &bytes).unwrap();
            let error = Header::read("x", file.path()).unwrap_err();
            assert!(error.to_string().starts_with(sentence), "{error}");
        }
    }

    #[test]
    fn a_header_over_the_limit_is_refused_though_the_file_is_long_enough() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), (LONGEST_HEADER + 1).to_le_bytes()).unwrap();
        file.as_file().set_len(LONGEST_HEADER + 1000).unwrap();
        let error = Header::read("x", file.path()).unwrap_err();
        assert!(matches!(error, HeaderError::Length { .. }), "{error}");
    }
}
