//! The first CUDA device: what there is of it, opened, and whether it still works. Built with the cuda feature alone.

use candle_core::backend::BackendDevice;
use candle_core::cuda_backend::cudarc::driver::{CudaContext, DriverError, result, sys};
use candle_core::{CudaDevice, DType, Device, Tensor};
use tracing::{info, warn};

use super::gpu_error::{self, Gpu, GpuError, Memory, Refusal};

const FIRST: i32 = 0;

/// Opens the device, which computes by the time that this returns.
pub(super) fn open() -> Result<Device, GpuError> {
    let gpu = look().map_err(|error| gpu_error::of_refusal(refusal(error)))?;
    gpu_error::of_gpu(&gpu)?;
    // Before candle makes libraries ready on it, which fail in words of their own where there is little memory.
    let refused = |error| gpu_error::of_trial(&gpu, &refusal(error).words);
    let context = CudaContext::new(0).map_err(refused)?;
    let memory = free_memory(&context).map_err(refused)?;
    gpu_error::of_memory(&gpu, memory)?;
    let on_trial = |error: candle_core::Error| gpu_error::of_trial(&gpu, &error.to_string());
    let device = CudaDevice::new(0).map_err(on_trial)?;
    keep_memory();
    let device = Device::Cuda(device);
    check(&device).map_err(on_trial)?;
    info!(
        gpu = gpu.name,
        capability = format!("{}.{}", gpu.capability.0, gpu.capability.1),
        driver_cuda = format!("{}.{}", gpu.driver_cuda.0, gpu.driver_cuda.1),
        free_bytes = memory.free,
        "opened the GPU"
    );
    Ok(device)
}

/// The device's name.
pub(super) fn name() -> Option<String> {
    result::device::get(FIRST)
        .and_then(result::device::get_name)
        .ok()
}

/// Computes a little, and waits for it: after an error that poisons the process, nothing works any more.
///
/// # Errors
/// CUDA's words.
pub(super) fn check(device: &Device) -> candle_core::Result<()> {
    let ones = Tensor::ones(64, DType::F32, device)?;
    let sum = (ones * 2.0)?.sum_all()?.to_scalar::<f32>()?;
    if sum != 128.0 {
        candle_core::bail!("64 times 2 is {sum} on this GPU");
    }
    Ok(())
}

/// The device's memory, as it is now.
pub(super) fn memory(device: &CudaDevice) -> Result<Memory, DriverError> {
    free_memory(device.cuda_stream().context())
}

fn free_memory(context: &CudaContext) -> Result<Memory, DriverError> {
    let (free, total) = context.mem_get_info()?;
    Ok(Memory {
        free: free as u64,
        total: total as u64,
    })
}

#[allow(
    unsafe_code,
    reason = "CUDA's functions; each handle was just given out by CUDA itself"
)]
fn look() -> Result<Gpu, DriverError> {
    use sys::CUdevice_attribute_enum::{
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
    };
    result::init()?;
    let mut version = 0;
    // SAFETY: the pointer is to a local that outlives the call.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }.result()?;
    let device = result::device::get(FIRST)?;
    // SAFETY: the device was given out by the line above.
    let attribute = |which| unsafe { result::device::get_attribute(device, which) };
    Ok(Gpu {
        name: result::device::get_name(device)?,
        driver_cuda: (positive(version) / 1000, positive(version) % 1000 / 10),
        capability: (
            positive(attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?),
            positive(attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?),
        ),
    })
}

/// Freed memory stays with the process, for the next tile: by default it goes back to the driver at each synchronisation, which
/// costs more than many a kernel. Without it everything works, slower.
#[allow(
    unsafe_code,
    reason = "CUDA's functions; each handle was just given out by CUDA itself"
)]
fn keep_memory() {
    let mut everything = u64::MAX;
    // SAFETY: the device and its pool are CUDA's own, and this attribute is read as 64 bits.
    let kept = result::device::get(FIRST).and_then(|device| unsafe {
        let pool = result::device::get_default_mem_pool(device)?;
        result::mem_pool::set_attribute(
            pool,
            sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
            (&raw mut everything).cast(),
        )
    });
    if let Err(error) = kept {
        warn!("the GPU's memory goes back to the driver after each tile: {error}");
    }
}

fn refusal(error: DriverError) -> Refusal {
    let words = match error.error_name() {
        Ok(name) => name.to_string_lossy().into_owned(),
        Err(_) => format!("{:?}", error.0),
    };
    Refusal {
        code: error.0 as u32,
        words,
    }
}

fn positive(value: i32) -> u32 {
    u32::try_from(value).unwrap_or(0)
}
