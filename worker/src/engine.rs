//! The one thread that owns the device and the networks on it. Everything that computes goes through here, one after the
//! other, so that the rest of the worker always has time to answer.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use candle_core::Device;
use framewright_crds::aijob::Cause;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info};

use crate::device::{self, compute_dtype};
use crate::error_chain::error_chain;
use crate::models::cache::Held;
use crate::models::loaded::{LoadedModels, LoadedWeights};
use crate::models::verify::Sha256;
use crate::models::{WeightFile, WeightsError, load_network, weight_bytes};
use crate::networks::LoadedNetwork;
use crate::pipelines::{PipelineError, is_out_of_memory};

/// The device and what is loaded on it. Only work on the engine's thread sees it.
pub struct DeviceState {
    device: Device,
    loaded: LoadedModels<Arc<LoadedNetwork>>,
    on_change: OnChange,
}

/// Called on the engine's thread when other weights are loaded than before.
type OnChange = Box<dyn Fn(Vec<LoadedWeights>) + Send>;

/// A network's file, which was verified and stays as long as this is held.
#[derive(Clone, Debug)]
pub struct Weights {
    /// What the pool calls it.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its digest.
    pub sha256: Sha256,
    /// Keeps it in the cache, if it lies there.
    pub held: Option<Arc<Held>>,
}

/// The way to the engine's thread. The thread ends when the last of them is gone.
#[derive(Clone)]
pub struct Engine {
    waiting: mpsc::Sender<Work>,
    tile_bytes: u64,
}

type Work = Box<dyn FnOnce(&mut DeviceState) + Send>;

/// Why work on the device gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    #[error("the worker has a defect; its log has the details ({message})")]
    Panicked { message: String },
    #[error("the device works no more, and only a new process gets it back: {message}")]
    DeviceBroken { message: String },
    #[error("the engine's thread is gone")]
    Gone,
}

impl EngineError {
    /// The kind of failure, as the operator knows it.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            EngineError::Pipeline(error) => error.cause(),
            EngineError::DeviceBroken { .. } | EngineError::Gone => Cause::DeviceError,
            EngineError::Panicked { .. } => Cause::Internal,
        }
    }
}

impl Engine {
    /// Starts the thread on this device.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(device: Device) -> io::Result<Engine> {
        Engine::start_with(device, |_| {})
    }

    /// The same; `on_change` is called on the thread when other weights are loaded than before.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start_with(
        device: Device,
        on_change: impl Fn(Vec<LoadedWeights>) + Send + 'static,
    ) -> io::Result<Engine> {
        let (waiting, mut works) = mpsc::channel::<Work>(1);
        let tile_bytes = device::tile_bytes(&device);
        let mut state = DeviceState {
            loaded: LoadedModels::new(device::models_bytes(&device)),
            device,
            on_change: Box::new(on_change),
        };
        std::thread::Builder::new()
            .name("engine".into())
            .spawn(move || {
                while let Some(work) = works.blocking_recv() {
                    work(&mut state);
                }
            })?;
        Ok(Engine {
            waiting,
            tile_bytes,
        })
    }

    /// Memory that computing a tile may take, weights apart, in bytes.
    #[must_use]
    pub fn tile_bytes(&self) -> u64 {
        self.tile_bytes
    }

    /// Whether the device still computes, when its turn comes.
    ///
    /// # Errors
    /// It does not: only a new process gets it back.
    pub async fn check(&self) -> Result<(), EngineError> {
        let checked = self.compute(|state| Ok(still_computes(&state.device)));
        match checked.await? {
            Some(message) => Err(EngineError::DeviceBroken { message }),
            None => Ok(()),
        }
    }

    /// Does `work` on the engine's thread when its turn comes. Work whose caller has gone by then is left out.
    ///
    /// # Errors
    /// The work's own; a panic within it, which costs nobody else.
    pub async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut DeviceState) -> Result<T, PipelineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let (answer, answered) = oneshot::channel();
        let work: Work = Box::new(move |state| {
            if !answer.is_closed() {
                let _ = answer.send(guarded(state, work));
            }
        });
        self.waiting
            .send(work)
            .await
            .map_err(|_| EngineError::Gone)?;
        answered.await.map_err(|_| EngineError::Gone)?
    }
}

fn guarded<T>(
    state: &mut DeviceState,
    work: impl FnOnce(&mut DeviceState) -> Result<T, PipelineError>,
) -> Result<T, EngineError> {
    let error = match catch_unwind(AssertUnwindSafe(|| work(state))) {
        Ok(Ok(done)) => return Ok(done),
        Ok(Err(PipelineError::Stopped)) => return Err(PipelineError::Stopped.into()),
        Ok(Err(error)) => {
            // The next task gets all of the memory.
            if error.cause() == Cause::OutOfMemory {
                state.unload_all();
            }
            EngineError::Pipeline(error)
        }
        Err(panic) => {
            // What is loaded may be half written.
            state.unload_all();
            let message = panic_message(panic.as_ref());
            error!("what computes panicked: {message}");
            EngineError::Panicked { message }
        }
    };
    match still_computes(&state.device) {
        None => Err(error),
        Some(words) => Err(EngineError::DeviceBroken {
            message: format!("{words}, after: {}", error_chain(&error)),
        }),
    }
}

/// What is wrong with the device, if it is broken: CUDA answers with the same error for ever once a kernel has gone wrong.
fn still_computes(device: &Device) -> Option<String> {
    device_error(|| device::check(device))
}

/// What a check says that is more than a full device.
fn device_error(check: impl FnOnce() -> candle_core::Result<()>) -> Option<String> {
    let words = match catch_unwind(AssertUnwindSafe(check)) {
        Ok(Ok(())) => return None,
        Ok(Err(error)) => error.to_string(),
        Err(panic) => panic_message(panic.as_ref()),
    };
    (!is_out_of_memory(&words)).then_some(words)
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    text.chars().take(200).collect()
}

impl DeviceState {
    /// The network in this file. It is verified and loaded, unless it is loaded already.
    ///
    /// # Errors
    /// The file is another one by now, it holds no network, or the device has no room for it.
    pub fn network(&mut self, weights: &Weights) -> Result<Arc<LoadedNetwork>, PipelineError> {
        if let Some(network) = self.loaded.get(weights.sha256) {
            return Ok(network);
        }
        let failed = |error: WeightsError| PipelineError::Weights(Box::new(error));
        let start = Instant::now();
        let dtype = compute_dtype(&self.device);
        let bytes = weight_bytes(weights.file(), dtype).map_err(failed)?;
        // First out, then in: there may be no room for all.
        if self.loaded.make_room(bytes) {
            (self.on_change)(self.loaded.weights());
        }
        let network = Arc::new(load_network(weights.file(), &self.device).map_err(failed)?);
        info!(
            network = %network.layout(),
            seconds = start.elapsed().as_secs_f64(),
            bytes,
            "loaded weights"
        );
        let sha256 = weights.sha256;
        let weights = LoadedWeights { sha256, bytes };
        self.loaded.insert(weights, Arc::clone(&network));
        (self.on_change)(self.loaded.weights());
        Ok(network)
    }

    fn unload_all(&mut self) {
        if self.loaded.clear() {
            (self.on_change)(Vec::new());
        }
    }
}

impl Weights {
    /// As it is loaded.
    #[must_use]
    pub fn file(&self) -> WeightFile<'_> {
        WeightFile {
            name: &self.name,
            path: &self.path,
            sha256: self.sha256,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_costs_only_its_own_work() {
        let engine = Engine::start(Device::Cpu).expect("a thread");
        let defect = engine
            .compute(|_| -> Result<(), PipelineError> { panic!("index out of bounds") })
            .await
            .expect_err("panicked");
        assert_eq!(defect.cause(), Cause::Internal);
        assert!(
            defect.to_string().contains("index out of bounds"),
            "{defect}"
        );
        assert_eq!(engine.compute(|_| Ok(7)).await.expect("goes on"), 7);
    }

    #[test]
    fn a_device_that_does_not_compute_any_more_is_told_from_one_that_is_full() {
        let says = |words: &str| Err(candle_core::Error::Msg(words.to_owned()));
        assert_eq!(device_error(|| Ok(())), None);
        assert_eq!(device_error(|| says("CUDA_ERROR_OUT_OF_MEMORY")), None);
        assert_eq!(device_error(|| says("CUBLAS_STATUS_ALLOC_FAILED")), None);
        let lost = device_error(|| says("CUDA_ERROR_ILLEGAL_ADDRESS"));
        assert!(lost.is_some_and(|words| words.contains("CUDA_ERROR_ILLEGAL_ADDRESS")));
        let panicked = device_error(|| panic!("the driver is gone"));
        assert!(panicked.is_some_and(|words| words.contains("the driver is gone")));
    }

    #[tokio::test]
    async fn work_whose_caller_has_gone_is_left_out() {
        let engine = Engine::start(Device::Cpu).expect("a thread");
        let (go, may_go) = std::sync::mpsc::channel::<()>();
        let first = tokio::spawn({
            let engine = engine.clone();
            async move { engine.compute(move |_| Ok(may_go.recv().is_ok())).await }
        });
        let (ran, has_run) = std::sync::mpsc::channel::<()>();
        let second = tokio::spawn({
            let engine = engine.clone();
            async move { engine.compute(move |_| Ok(ran.send(()).is_ok())).await }
        });
        tokio::task::yield_now().await;
        second.abort();
        let _ = second.await;
        go.send(()).expect("the first work waits");
        assert!(first.await.expect("no panic").expect("done"));
        engine.compute(|_| Ok(())).await.expect("goes on");
        assert!(has_run.try_recv().is_err());
    }
}
