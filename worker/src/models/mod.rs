//! Model files: from bytes that nobody has looked at to a network on a device.
//!
//! *Layout*: `pickle` (refused before anything else) · `verify` (the pinned digest) · `header` (what the file says about itself,
//! checked against the file) · `recognise` (which network it holds, by the shapes of its tensors) · `cache` (a folder of files by
//! digest) · `loaded` (the models on a device).

pub mod cache;
pub mod header;
pub mod loaded;
pub mod pickle;
pub mod recognise;
pub mod verify;

use std::path::Path;

use candle_core::safetensors::MmapedSafetensors;
use candle_core::{DType, Device};
use candle_nn::VarBuilder;

use crate::device::compute_dtype;
use crate::networks::{LoadedNetwork, NetworkError, NetworkLayout, Upscaler};
use header::{Header, HeaderError};
use pickle::PickleError;
pub use recognise::{DetectError, Shapes, detect, recognise};
use verify::{Sha256, VerifyError};

/// A file of weights that a pool declares.
#[derive(Debug, Clone, Copy)]
pub struct WeightFile<'a> {
    /// What the pool calls it: this is what messages say.
    pub name: &'a str,
    /// Where it lies. Nobody may change it while it is loaded.
    pub path: &'a Path,
    pub sha256: Sha256,
}

#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    #[error(transparent)]
    Pickle(#[from] PickleError),
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error("{file} holds no network that this worker knows")]
    Detect { file: String, source: DetectError },
    #[error("cannot map {file}")]
    Map {
        file: String,
        source: Box<candle_core::Error>,
    },
    #[error("cannot load {file}")]
    Load { file: String, source: NetworkError },
}

/// How the name of a file with weights ends.
const WEIGHTS_END: &str = ".safetensors";

/// A model that lists no file of weights, or several.
#[derive(Debug, thiserror::Error)]
#[error(
    "a model has exactly one {WEIGHTS_END} file, and {listed} are listed; correct spec.models[].files"
)]
pub struct NotOneFile {
    listed: usize,
}

/// The file that holds a model's network, of those that the model lists. No other file is needed: a model may list texts, such as a
/// licence.
pub fn network_file<File>(
    files: &[File],
    path: impl Fn(&File) -> &str,
) -> Result<&File, NotOneFile> {
    let weights = files
        .iter()
        .filter(|file| path(file).ends_with(WEIGHTS_END));
    match weights.collect::<Vec<_>>()[..] {
        [file] => Ok(file),
        ref several => Err(NotOneFile {
            listed: several.len(),
        }),
    }
}

impl WeightsError {
    /// Whether it may be that the file is not any more what was verified: changed, cut short or gone.
    pub fn is_about_the_file(&self) -> bool {
        !matches!(self, WeightsError::Load { .. })
    }

    /// True when the file itself is at fault, so that trying again changes nothing.
    pub fn blames_the_file(&self) -> bool {
        match self {
            WeightsError::Pickle(error) => error.blames_the_file(),
            WeightsError::Verify(error) => error.blames_the_file(),
            WeightsError::Header(error) => error.blames_the_file(),
            WeightsError::Detect { .. } => true,
            WeightsError::Map { .. } | WeightsError::Load { .. } => false,
        }
    }
}

/// Tells which network a safetensors file holds, without loading it.
///
/// *Guarantees:* nothing of the file is parsed before its digest is the pinned one.
pub fn check_network(file: WeightFile<'_>) -> Result<NetworkLayout, WeightsError> {
    let header = verified_header(file)?;
    recognise(&shapes(header)).map_err(|source| WeightsError::Detect {
        file: file.name.to_owned(),
        source,
    })
}

fn verified_header(file: WeightFile<'_>) -> Result<Header, WeightsError> {
    let WeightFile { name, path, sha256 } = file;
    pickle::refuse(name, path)?;
    verify::verify(name, path, sha256)?;
    Ok(Header::read(name, path)?)
}

/// The memory that the weights of a safetensors file take in this type, in bytes.
///
/// *Guarantees:* as for [`check_network`].
pub fn weight_bytes(file: WeightFile<'_>, dtype: DType) -> Result<u64, WeightsError> {
    let header = verified_header(file)?;
    let elements = header
        .tensors
        .into_values()
        .map(|tensor| tensor.shape.iter().product::<usize>());
    Ok((elements.sum::<usize>() * dtype.size_in_bytes()) as u64)
}

/// Loads a network, told by its tensors' shapes, from a safetensors file.
///
/// *Guarantees:* as for [`check_network`]; and nothing is mapped before the header is found to tell
/// the truth about the file. Weights are converted to the type that the device computes in.
pub fn load_network(file: WeightFile<'_>, device: &Device) -> Result<LoadedNetwork, WeightsError> {
    let layout = check_network(file)?;
    let name = || file.name.to_owned();
    let tensors = map(file.path).map_err(|source| WeightsError::Map {
        file: name(),
        source: Box::new(source),
    })?;
    let tensors =
        VarBuilder::from_backend(Box::new(tensors), compute_dtype(device), device.clone());
    layout.load(tensors).map_err(|source| WeightsError::Load {
        file: name(),
        source,
    })
}

/// The same for a network that makes frames larger.
///
/// # Errors
/// As [`load_network`]; or it is a network that does something else.
pub fn load_upscaler(file: WeightFile<'_>, device: &Device) -> Result<Upscaler, WeightsError> {
    match load_network(file, device)? {
        LoadedNetwork::Upscaler(upscaler) => Ok(upscaler),
        LoadedNetwork::Interpolator(other) => Err(WeightsError::Detect {
            file: file.name.to_owned(),
            source: DetectError::NoUpscaler {
                found: other.layout().to_string(),
            },
        }),
    }
}

fn shapes(header: Header) -> Shapes {
    header
        .tensors
        .into_iter()
        .map(|(name, tensor)| (name, tensor.shape))
        .collect()
}

#[allow(
    unsafe_code,
    reason = "a mapped file must not change: it lies in our cache or on a read-only volume"
)]
fn map(path: &Path) -> candle_core::Result<MmapedSafetensors> {
    // SAFETY: the file was verified, and nothing writes to it: the cache renames whole files into
    // place and never opens one for writing again, and volumes of weights are mounted read-only.
    unsafe { MmapedSafetensors::new(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_has_one_file_of_weights_and_any_number_of_texts() {
        let found = |files: &[&'static str]| {
            network_file(files, |file| file)
                .copied()
                .map_err(|error| error.to_string())
        };
        assert_eq!(found(&["x.safetensors"]), Ok("x.safetensors"));
        let files = ["LICENCE.txt", "config.json", "deep/x.safetensors"];
        assert_eq!(found(&files), Ok("deep/x.safetensors"));
        for (files, listed) in [
            (&["config.json"][..], "0 are listed"),
            (&["x.safetensors", "y.safetensors"], "2 are listed"),
        ] {
            let refused = found(files).expect_err(listed);
            assert!(refused.contains(listed), "{refused}");
        }
    }
}
