//! Which device computes: the one place that chooses, and it never falls back to another.

use std::fmt;
use std::str::FromStr;

use candle_core::{DType, Device};

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
    #[cfg(feature = "cuda")]
    #[error(
        "no CUDA device can be opened: give the pod a GPU (limits: nvidia.com/gpu) and the nvidia runtime class, or ask for device cpu"
    )]
    CudaNotFound { source: candle_core::Error },
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
    Device::new_cuda(0).map_err(|source| DeviceError::CudaNotFound { source })
}

#[cfg(not(feature = "cuda"))]
fn open_cuda() -> Result<Device, DeviceError> {
    Err(DeviceError::CudaNotBuilt)
}

/// The type that networks compute in: float32 on every device so far, whatever the file holds.
/// A CPU has no fast half precision, and float32 is what the golden tensors are compared in.
pub fn compute_dtype(device: &Device) -> DType {
    match device {
        Device::Cpu | Device::Cuda(_) | Device::Metal(_) => DType::F32,
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
