//! What a GPU does, as the driver's management library (NVML) tells it: for metrics, and for errors that no task has met yet.
//! Where there is no such library, or it does not know something, that is absent. Built with the cuda feature alone.

use std::convert::Infallible;
use std::thread;
use std::time::Duration;

use candle_core::CudaDevice;
use nvml_wrapper::Device;
use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;
use tracing::{error, info};

use crate::metrics::{Gpu, Metrics};

const PERIOD: Duration = Duration::from_secs(5);

/// Follows the device on a thread of its own, for as long as the process lives. `on_xid` is told each critical error, by its number.
pub(super) fn follow(device: &CudaDevice, metrics: Metrics, on_xid: impl Fn(u64) + Send + 'static) {
    let Ok(uuid) = device.cuda_stream().context().uuid() else {
        return;
    };
    let uuid = uuid_text(uuid.bytes.map(|byte| byte as u8));
    let thread = thread::Builder::new().name("nvml".into());
    // Without the thread there are no metrics of the GPU, which is no reason not to work.
    let _ = thread.spawn(move || {
        let Err(error) = watch(&uuid, &metrics, on_xid);
        info!("no metrics of the GPU: {error}");
        metrics.gpu(Gpu::default());
    });
}

/// The version of the NVIDIA driver, where the library tells it.
pub(super) fn driver_version() -> Option<String> {
    let nvml = Nvml::init().ok()?;
    nvml.sys_driver_version().ok()
}

fn watch(uuid: &str, metrics: &Metrics, on_xid: impl Fn(u64)) -> Result<Infallible, NvmlError> {
    let nvml = Nvml::init()?;
    let named = |kind| nvml.device_by_uuid(format!("{kind}-{uuid}"));
    let device = named("GPU").or_else(|_| named("MIG"))?;
    let mut events = nvml.create_event_set().ok().and_then(|set| {
        let errors = EventTypes::CRITICAL_XID_ERROR;
        device.register_events(errors, set).ok()
    });
    loop {
        metrics.gpu(read(&device)?);
        let Some(set) = &events else {
            thread::sleep(PERIOD);
            continue;
        };
        match set.wait(PERIOD.as_millis() as u32) {
            Ok(event) => {
                if let Some(XidError::Value(xid)) = event.event_data {
                    error!(xid, "the driver reports a critical error of the GPU");
                    metrics.xid(xid);
                    on_xid(xid);
                }
            }
            Err(NvmlError::Timeout) => {}
            Err(_) => events = None,
        }
    }
}

/// What the device tells of itself; parts of a GPU (MIG) do not know all of it.
///
/// # Errors
/// The device is gone.
fn read(device: &Device<'_>) -> Result<Gpu, NvmlError> {
    let memory = known(device.memory_info())?;
    let busy = known(device.utilization_rates())?;
    Ok(Gpu {
        memory_used_bytes: memory.as_ref().map(|memory| memory.used as f64),
        memory_total_bytes: memory.map(|memory| memory.total as f64),
        busy_ratio: busy.map(|busy| f64::from(busy.gpu) / 100.0),
        temperature_celsius: known(device.temperature(TemperatureSensor::Gpu))?.map(f64::from),
        power_watts: known(device.power_usage())?.map(|milliwatts| f64::from(milliwatts) / 1000.0),
    })
}

fn known<T>(told: Result<T, NvmlError>) -> Result<Option<T>, NvmlError> {
    match told {
        Ok(value) => Ok(Some(value)),
        Err(error @ (NvmlError::GpuLost | NvmlError::Uninitialized)) => Err(error),
        Err(_) => Ok(None),
    }
}

/// As NVML writes it, after the kind of device.
fn uuid_text(bytes: [u8; 16]) -> String {
    let text = hex::encode(bytes);
    let [first, second, third, fourth, fifth] =
        [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &text[part]);
    format!("{first}-{second}-{third}-{fourth}-{fifth}")
}
