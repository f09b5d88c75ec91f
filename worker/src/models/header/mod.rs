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
mod tests;
