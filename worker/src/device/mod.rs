//! Which device computes: the one place that chooses, and it never falls back to another.
//!
//! Layout: `gpu_error` (what is wrong with a GPU, in a sentence; pure) · `cuda` (asks the driver) · `telemetry` (follows a GPU while it
//! works); the last two are built with the cuda feature alone.

#[cfg(feature = "cuda")]
mod cuda;
pub mod gpu_error;
#[cfg(feature = "cuda")]
mod telemetry;

use candle_core::{DType, Device};
use framewright_crds::modelpool;

use crate::memory::{self, Limit};
use crate::metrics::Metrics;

#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    #[cfg(not(feature = "cuda"))]
    #[error(
        "this worker was built without CUDA: use an image built with the cuda feature, or ask for device cpu"
    )]
    CudaNotBuilt,
    #[error(transparent)]
    Gpu(#[from] gpu_error::GpuError),
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
        Device::Cuda(device) => telemetry::follow(device, metrics, on_xid),
        #[cfg(not(feature = "cuda"))]
        Device::Cuda(_) => drop((metrics, on_xid)),
        Device::Cpu | Device::Metal(_) => drop((metrics, on_xid)),
    }
}

/// What a device is, as the worker tells the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Such as NVIDIA L4.
    pub name: String,
    /// The version of its driver, where there is one.
    pub driver: Option<String>,
    /// Its memory in bytes, where that is known. For a CPU: what the worker may use.
    pub memory: Option<u64>,
}

/// What this device is.
#[must_use]
pub fn describe(device: &Device) -> DeviceInfo {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(_) => DeviceInfo {
            name: cuda::name().unwrap_or_else(|| "NVIDIA GPU".to_owned()),
            driver: telemetry::driver_version(),
            memory: gpu_memory(device).map(|memory| memory.total),
        },
        #[cfg(not(feature = "cuda"))]
        Device::Cuda(_) => cpu(),
        Device::Cpu | Device::Metal(_) => cpu(),
    }
}

fn cpu() -> DeviceInfo {
    let table = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    DeviceInfo {
        name: cpu_name(&table).unwrap_or_else(|| format!("{} CPU", std::env::consts::ARCH)),
        driver: None,
        memory: memory::limit().map(Limit::bytes),
    }
}

/// The first processor's name in the kernel's table. Not all architectures have one there.
fn cpu_name(table: &str) -> Option<String> {
    let line = table.lines().find(|line| line.starts_with("model name"))?;
    let (_, name) = line.split_once(':')?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// Bytes of the device's memory that are free now, where the device has memory of its own.
#[must_use]
pub fn free_memory(device: &Device) -> Option<u64> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(_) => gpu_memory(device).map(|memory| memory.free),
        #[cfg(not(feature = "cuda"))]
        Device::Cuda(_) => None,
        Device::Cpu | Device::Metal(_) => None,
    }
}

/// A GPU's memory, as it is now.
#[cfg(feature = "cuda")]
#[must_use]
pub fn gpu_memory(device: &Device) -> Option<gpu_error::Memory> {
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
            gpu_memory(device).map_or(gpu_error::NEEDED_MEMORY, |memory| memory.free) / 2
        }
        #[cfg(not(feature = "cuda"))]
        Device::Cuda(_) => memory::tile_bytes(),
    }
}

/// Memory that the weights of several models may take together on this device, in bytes.
///
/// On a CPU none: weights lie in the memory that the estimates of pipelines share out, and loading takes less time than a frame.
#[must_use]
pub fn models_bytes(device: &Device) -> u64 {
    match device {
        Device::Cpu | Device::Metal(_) => 0,
        // Half of what is free is for tiles. The rest is shared by weights and what networks keep for themselves.
        Device::Cuda(_) => free_memory(device).unwrap_or(0) / 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_opens_everywhere_and_has_a_name() {
        let device = open(modelpool::Device::Cpu).unwrap();
        assert!(device.is_cpu());
        let info = describe(&device);
        assert!(!info.name.is_empty() && info.driver.is_none());
        assert!(info.memory.is_some_and(|bytes| bytes > 0));
        assert_eq!(free_memory(&device), None);
    }

    #[test]
    fn a_cpus_name_is_in_the_kernels_table_or_unknown() {
        let table = "processor\t: 0\nmodel name\t: Some CPU @ 3.00GHz\nmodel name\t: Other\n";
        assert_eq!(cpu_name(table).as_deref(), Some("Some CPU @ 3.00GHz"));
        assert_eq!(cpu_name("processor\t: 0\nBogoMIPS\t: 50\n"), None);
        assert_eq!(cpu_name("model name\t:\n"), None);
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn cuda_without_the_feature_is_an_error_and_never_the_cpu() {
        let error = open(modelpool::Device::Cuda).unwrap_err();
        assert!(error.to_string().contains("built without CUDA"), "{error}");
    }
}
