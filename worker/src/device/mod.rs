//! Which device computes: the one place that chooses, and it never falls back to another.
//!
//! Layout: `trouble` (what is wrong with a GPU, in a sentence; pure) · `cuda` (asks the driver) · `vitals` (follows a GPU while it
//! works); the last two are built with the cuda feature alone.

#[cfg(feature = "cuda")]
mod cuda;
pub mod trouble;
#[cfg(feature = "cuda")]
mod vitals;

use candle_core::{DType, Device};
use framewright_crds::modelpool;

use crate::memory;
use crate::metrics::Metrics;

#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    #[cfg(not(feature = "cuda"))]
    #[error(
        "this worker was built without CUDA: use an image built with the cuda feature, or ask for device cpu"
    )]
    CudaNotBuilt,
    #[error(transparent)]
    Gpu(#[from] trouble::Trouble),
}

impl DeviceError {
    /// Whether it may be over soon, though nobody changes anything.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            #[cfg(not(feature = "cuda"))]
            DeviceError::CudaNotBuilt => false,
            DeviceError::Gpu(trouble) => trouble.may_pass(),
        }
    }
}

/// Opens what a pool or a command line asks for, or says why it can't: of CUDA devices, the first that the process sees.
pub fn open(wanted: modelpool::Device) -> Result<Device, DeviceError> {
    match wanted {
        modelpool::Device::Cpu => Ok(Device::Cpu),
        modelpool::Device::Cuda => open_cuda(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_opens_everywhere() {
        assert!(open(modelpool::Device::Cpu).unwrap().is_cpu());
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn cuda_without_the_feature_is_an_error_and_never_the_cpu() {
        let error = open(modelpool::Device::Cuda).unwrap_err();
        assert!(error.to_string().contains("built without CUDA"), "{error}");
    }
}
