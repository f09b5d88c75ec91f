//! What the worker's own networks do.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use framewright_worker::device::tile_bytes;
use framewright_worker::frame::{tiling_on_device, upscale_rgb8};

use crate::Setting;
use crate::networks::Network;

const AT_LEAST: Duration = Duration::from_secs(2);
const ROUNDS: u32 = 3;

pub(crate) struct Ours {
    /// Frames a second, from pixels in memory to pixels in memory: with copies, conversion and tiles.
    pub(crate) rate: f64,
    pub(crate) peak_bytes: u64,
}

pub(crate) fn measure(
    network: &Network,
    setting: &Setting,
    width: usize,
    height: usize,
) -> Result<Ours> {
    let upscaler = network.load(setting.dtype, &setting.device)?;
    let pixels: Vec<u8> = (0..3 * width * height)
        .map(|index| (index * 31 % 251) as u8)
        .collect();
    let tiling = tiling_on_device(&upscaler, tile_bytes(&setting.device));
    let frame = || upscale_rgb8(&upscaler, &pixels, width, height, tiling, &|| false);
    forget_peak(&setting.device);
    let rate = rate(|| Ok(frame().map(drop)?))?;
    Ok(Ours {
        rate,
        peak_bytes: peak(&setting.device),
    })
}

/// How fast this device multiplies matrices, in 10^12 operations a second.
pub(crate) fn multiplying(setting: &Setting) -> Result<f64> {
    let side = setting.matrix;
    let matrix = Tensor::ones((side, side), setting.dtype, &setting.device)?;
    let rate = rate(|| {
        let mut product = matrix.matmul(&matrix)?;
        for _ in 0..9 {
            product = matrix.matmul(&matrix)?;
        }
        // Waits for the last one, and with it for all.
        product
            .narrow(0, 0, 1)?
            .flatten_all()?
            .to_device(&Device::Cpu)?;
        Ok(())
    })?;
    Ok(rate * 10.0 * 2.0 * (side as f64).powi(3) / 1e12)
}

/// How often a second it can be done, once it is warm.
fn rate(mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    work().context("the first time")?;
    let (start, mut rounds) = (Instant::now(), 0);
    while start.elapsed() < AT_LEAST || rounds < ROUNDS {
        work()?;
        rounds += 1;
    }
    Ok(f64::from(rounds) / start.elapsed().as_secs_f64())
}

/// The most of the GPU's memory that was in use since [`forget_peak`]; 0 on a CPU.
fn peak(device: &Device) -> u64 {
    pool(device, false).unwrap_or(0)
}

fn forget_peak(device: &Device) {
    // A peak that cannot be forgotten is too high, which is to be seen in the table.
    let _ = pool(device, true);
}

#[allow(
    unsafe_code,
    reason = "CUDA's functions; the pool was just given out by CUDA itself, and this attribute is 64 bits"
)]
fn pool(device: &Device, is_reset: bool) -> Option<u64> {
    use candle_core::cuda_backend::cudarc::driver::{result, sys};
    let Device::Cuda(device) = device else {
        return None;
    };
    let high = sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_USED_MEM_HIGH;
    let mut bytes = 0u64;
    let context = device.cuda_stream().context().clone();
    context.bind_to_thread().ok()?;
    // SAFETY: the pool belongs to the device of a context that is alive, and `bytes` outlives the call.
    unsafe {
        let pool = result::device::get_default_mem_pool(context.cu_device()).ok()?;
        let value = (&raw mut bytes).cast();
        if is_reset {
            result::mem_pool::set_attribute(pool, high, value).ok()?;
        } else {
            result::mem_pool::get_attribute(pool, high, value).ok()?;
        }
    }
    Some(bytes)
}
