//! A kernel that goes wrong takes the GPU from its process for ever: the engine says so. Alone in its process, which it spoils.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that panics has failed, which is the point"
)]

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::LaunchConfig;
use candle_core::{CudaDevice, Device};
use framewright_crds::aijob::Cause;
use framewright_crds::modelpool;
use framewright_worker::device;
use framewright_worker::engine::{Engine, EngineError};
use framewright_worker::pipelines::PipelineError;

const FAULT: &str = "
.version 7.0
.target sm_80
.address_size 64
.visible .entry fault() { trap; }
";

#[tokio::test]
async fn a_gpu_that_is_lost_is_a_device_error_and_the_engine_says_that_it_is_lost() {
    let device = device::open(modelpool::Device::Cuda)
        .unwrap_or_else(|trouble| panic!("this test needs an NVIDIA GPU: {trouble}"));
    let engine = Engine::start(device.clone()).unwrap();
    engine.compute(|_| Ok(())).await.unwrap();
    let failed = engine
        .compute(move |_| {
            let Device::Cuda(device) = &device else {
                panic!("not a GPU")
            };
            fault(device).unwrap();
            Err::<(), _>(PipelineError::SingleFrame)
        })
        .await
        .unwrap_err();
    assert!(
        matches!(failed, EngineError::DeviceBroken { .. }),
        "{failed}"
    );
    assert_eq!(failed.cause(), Cause::DeviceError);
}

#[allow(unsafe_code, reason = "a kernel is launched that takes nothing")]
fn fault(device: &CudaDevice) -> candle_core::Result<()> {
    let kernel = device.get_or_load_custom_func("fault", "fault", FAULT)?;
    // SAFETY: the kernel takes no arguments and touches no memory.
    unsafe { kernel.builder().launch(LaunchConfig::for_num_elems(1)) }.w()?;
    Ok(())
}
