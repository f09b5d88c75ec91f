//! Which device computes: the one place that chooses, and it never falls back to another.
//!
//! Layout: `trouble` (what is wrong with a GPU, in a sentence; pure) · `cuda` (asks the driver) · `vitals` (follows a GPU while it
//! works); the last two are built with the cuda feature alone.

#[cfg(feature = "cuda")]
mod cuda;
pub mod trouble;
#[cfg(feature = "cuda")]
mod vitals;

use std::fmt;
use std::str::FromStr;

use candle_core::{DType, Device};

use crate::memory;
use crate::metrics::Metrics;

/// What a pool or a command line asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    Cpu,
    /// The first CUDA device that the process sees.
    Cuda,
}

#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    #[error("unknown device {name:?}: give cpu or cuda")]
    Unknown { name: String },
    #[cfg(not(feature = "cuda"))]
    #[error(
        "this worker was built without CUDA: use an image built with the cuda feature, or ask for device cpu"
    )]
    CudaNotBuilt,
    #[error(transparent)]
    Gpu(#[from] trouble::Trouble),
}

impl DeviceKind {
    /// Opens the device, or says why it can't.
    pub fn open(self) -> Result<Device, DeviceError> {
        match self {
            DeviceKind::Cpu => Ok(Device::Cpu),
            DeviceKind::Cuda => open_cuda(),
        }
    }
}

#[cfg(feature = "cuda")]
fn open_cuda() -> Result<Device, DeviceError> {
    Ok(cuda::open()?)
}

#[cfg(not(feature = "cuda"))]
fn open_cuda() -> Result<Device, DeviceError> {
    Err(DeviceError::CudaNotBuilt)
}

/// The type that networks compute in, whatever the file holds: half precision on GPUs, where it is several times faster, with
/// sums in float32. A CPU has no fast half precision, and float32 is what the golden tensors are compared in.
///
/// float16 and not bfloat16, which is as fast: pictures come out 17 dB or more nearer to those in float32.
pub fn compute_dtype(device: &Device) -> DType {
    match device {
        Device::Cuda(_) => DType::F16,
        Device::Cpu | Device::Metal(_) => DType::F32,
    }
}

/// Whether the device still computes, after something went wrong on it. A process that CUDA has given up on cannot get the device
/// back; a new one can.
///
/// # Errors
/// The device's words for what is wrong.
pub fn check(device: &Device) -> candle_core::Result<()> {
    match device {
        Device::Cpu | Device::Metal(_) => Ok(()),
        #[cfg(feature = "cuda")]
        Device::Cuda(_) => cuda::check(device),
        #[cfg(not(feature = "cuda"))]
        Device::Cuda(_) => Ok(()),
    }
}

/// Follows a GPU for the metrics, and tells `on_xid` each critical error that the driver reports, by its number. On a CPU there is
/// nothing to follow.
pub fn follow(device: &Device, metrics: Metrics, on_xid: impl Fn(u64) + Send + 'static) {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => vitals::follow(device, metrics, on_xid),
        #[cfg(not(feature = "cuda"))]
        Device::Cuda(_) => drop((metrics, on_xid)),
        Device::Cpu | Device::Metal(_) => drop((metrics, on_xid)),
    }
}

/// A GPU's memory, as it is now.
#[cfg(feature = "cuda")]
#[must_use]
pub fn gpu_memory(device: &Device) -> Option<trouble::Memory> {
    let Device::Cuda(device) = device else {
        return None;
    };
    cuda::memory(device).ok()
}

/// Memory that a tile may take on this device, weights apart, in bytes.
#[must_use]
pub fn tile_bytes(device: &Device) -> u64 {
    match device {
        Device::Cpu | Device::Metal(_) => memory::tile_bytes(),
        // What the networks keep for themselves finds room in the other half.
        #[cfg(feature = "cuda")]
        Device::Cuda(_) => {
            gpu_memory(device).map_or(trouble::NEEDED_MEMORY, |memory| memory.free) / 2
        }
        #[cfg(not(feature = "cuda"))]
        Device::Cuda(_) => memory::tile_bytes(),
    }
}

impl FromStr for DeviceKind {
    type Err = DeviceError;

    fn from_str(name: &str) -> Result<Self, DeviceError> {
        match name {
            "cpu" => Ok(DeviceKind::Cpu),
            "cuda" => Ok(DeviceKind::Cuda),
            _ => Err(DeviceError::Unknown {
                name: name.to_owned(),
            }),
        }
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DeviceKind::Cpu => "cpu",
            DeviceKind::Cuda => "cuda",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_opens_everywhere() {
        assert!(DeviceKind::Cpu.open().unwrap().is_cpu());
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn cuda_without_the_feature_is_an_error_and_never_the_cpu() {
        let error = DeviceKind::Cuda.open().unwrap_err();
        assert!(error.to_string().contains("built without CUDA"), "{error}");
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for kind in [DeviceKind::Cpu, DeviceKind::Cuda] {
            assert_eq!(kind.to_string().parse::<DeviceKind>().unwrap(), kind);
        }
        let error = "gpu".parse::<DeviceKind>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown device \"gpu\": give cpu or cuda"
        );
    }
}
