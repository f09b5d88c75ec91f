//! `serve`: dials in to the operator, holds the pool's models and works on the tasks that come.
//!
//! *Layout*: `event_loop` turns what happens into what is done, by the pure [`framewright_queue`]; `stream` keeps the connection
//! to the operator open; `model_store` fetches and keeps the models; `task` is one task from its command to its outcome; `scratch`, `trust`
//! and `backoff` are what these need.

pub mod backoff;
mod event_loop;
mod model_store;
mod scratch;
mod stream;
mod task;
pub mod trust;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use framewright_crds::protocol::LoadedModel;
use framewright_queue::{Event, Identity, Queue};
use tokio::sync::{mpsc, watch};
use tracing::info;

use crate::args::ServeArgs;
use crate::device::{self, DeviceError};
use crate::engine::{Engine, EngineError};
use crate::error_chain::error_chain;
use crate::fetch::Store;
use crate::health::{self, Health};
use crate::media::MediaError;
use crate::models::cache::{Cache, CacheError};
use crate::models::loaded::LoadedWeights;
use crate::pipelines;
use event_loop::EventLoop;
use model_store::{ModelFetcher, ModelStore};
use scratch::Scratch;
pub use scratch::ScratchError;
use stream::Dialer;
use task::Tools;
use trust::TrustError;

/// How long a worker without its device reports that, before a new process tries to open the device again.
const TRY_DEVICE_AGAIN: Duration = Duration::from_secs(30);
const PROGRAMS_DEADLINE: Duration = Duration::from_secs(30);
/// How long new links are waited for, before they are asked for again.
const LINK_WAIT: Duration = Duration::from_secs(15);
/// Events that may wait for the event loop, which waits for nothing else.
const WAITING_EVENTS: usize = 256;

/// Why the worker does not serve.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("the operator's certificate authority cannot be used")]
    Trust {
        #[source]
        source: TrustError,
    },
    #[error("video can be neither read nor written")]
    Programs {
        #[source]
        source: MediaError,
    },
    #[error("there is no room for tasks")]
    Scratch {
        #[source]
        source: ScratchError,
    },
    #[error("there is no room for weights")]
    Cache {
        #[source]
        source: CacheError,
    },
    #[error("cannot listen on port {port} for health checks")]
    Health {
        port: u16,
        #[source]
        source: io::Error,
    },
    #[error("the system gives no thread for the engine")]
    Engine {
        #[source]
        source: io::Error,
    },
    #[error(
        "a task that nobody wants does not stop: the device hangs, and only a new process gets it back"
    )]
    DeviceHangs,
    #[error("ends, so that a new process opens the device anew: {error}")]
    DeviceLost { error: String },
    #[error("the system gives no notice of SIGTERM")]
    Signals {
        #[source]
        source: io::Error,
    },
}

/// Serves until a signal ends it.
///
/// # Errors
/// It cannot begin: a setting is wrong, or a program, folder or port is not to be had.
pub async fn serve(args: ServeArgs) -> Result<(), AgentError> {
    let trust = args.trust();
    trust.tls().map_err(|source| AgentError::Trust { source })?;
    let programs = args.media.programs();
    let checked = programs.clone();
    tokio::task::spawn_blocking(move || checked.check(PROGRAMS_DEADLINE))
        .await
        .unwrap_or(Ok(()))
        .map_err(|source| AgentError::Programs { source })?;
    let scratch = Scratch::open(&args.scratch, args.scratch_limit, args.slots)
        .map_err(|source| AgentError::Scratch { source })?;
    let cache = Cache::open(&args.weights_cache, args.weights_cache_limit)
        .map_err(|source| AgentError::Cache { source })?;
    let health = Health::default();
    let no_port = |source| AgentError::Health {
        port: args.health_port,
        source,
    };
    let listener = health::listen(args.health_port).map_err(no_port)?;
    let port = listener.local_addr().map_err(no_port)?.port();
    tracing::info!("health and metrics on port {port}");
    tokio::spawn(health::serve(listener, health.clone()));

    // A worker without its device computes nothing, on no device.
    let (device, error) = match device::open(args.device) {
        Ok(device) => (device, None),
        Err(error) => (candle_core::Device::Cpu, Some(error)),
    };
    let device_error = error.as_ref().map(|error| error_chain(error));
    if let Some(error) = &device_error {
        tracing::error!("takes no task: {error}");
    }
    let info = device::describe(&device);
    let (events, happened) = mpsc::channel(WAITING_EVENTS);
    let models = ModelStore::default();
    let engine = Engine::start_with(device.clone(), {
        let (device, models, events) = (device.clone(), models.clone(), events.clone());
        move |loaded| {
            let event = loaded_event(loaded, &models, &device);
            let _ = events.blocking_send(event);
        }
    })
    .map_err(|source| AgentError::Engine { source })?;
    let identity = Identity {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        device: args.device,
        memory: info.memory.filter(|_| device_error.is_none()),
        device_error,
        slots: args.slots,
        pipelines: pipelines::names(),
    };
    info!(version = identity.version, device = %args.device, name = info.name, slots = args.slots, threads = rayon::current_num_threads(), "serves");

    if let Some(error) = error.filter(DeviceError::may_pass) {
        tokio::spawn(end_soon(error_chain(&error), events.clone()));
    }
    let (xids, reported) = mpsc::channel(1);
    // One that finds no room is looked into with the one before.
    device::follow(&device, health.metrics.clone(), move |xid| {
        let _ = xids.try_send(xid);
    });
    tokio::spawn(look_into(reported, engine.clone(), events.clone()));
    let (stream_events, streamed) = mpsc::channel(WAITING_EVENTS);
    let (configured, wanted) = watch::channel(Vec::new());
    let store = Store::new(trust.clone());
    let fetcher = ModelFetcher {
        store: store.clone(),
        cache: Arc::new(cache),
        wanted,
        events: events.clone(),
        models: models.clone(),
    };
    tokio::spawn(fetcher.work());
    let dialer = Dialer {
        operator: args.operator,
        token_file: args.token_file,
        trust,
    };
    tokio::spawn(stream::keep(dialer, stream_events));
    let tools = Tools {
        store,
        models,
        engine,
        device: info,
        scratch,
        programs,
        metrics: health.metrics.clone(),
        has_operator: Arc::clone(&health.is_ready),
    };
    let event_loop = EventLoop::new(Queue::new(identity), tools, configured, events, health);
    event_loop.work(streamed, happened).await
}

/// What is loaded on the device, by the digests of the models.
fn loaded_event(
    loaded: Vec<LoadedWeights>,
    models: &ModelStore,
    device: &candle_core::Device,
) -> Event {
    let loaded = loaded
        .into_iter()
        .flat_map(|LoadedWeights { sha256, bytes }| {
            let digests = models.digests_of(sha256).into_iter();
            digests.map(move |digest| LoadedModel { digest, bytes })
        });
    Event::Loaded {
        models: loaded.collect(),
        free: device::free_memory(device),
    }
}

/// Errors that the GPU's driver reports: many concern another process, or are over; after some nothing works any more.
async fn look_into(mut reported: mpsc::Receiver<u64>, engine: Engine, events: mpsc::Sender<Event>) {
    while let Some(xid) = reported.recv().await {
        if let Err(EngineError::DeviceBroken { message }) = engine.check().await {
            let message = format!("{message} (Xid {xid})");
            let _ = events.send(Event::DeviceLost { message }).await;
            return;
        }
    }
}

/// A process that could not open its device reports that for a while; then another one tries, as the kubelet spaces them.
async fn end_soon(message: String, events: mpsc::Sender<Event>) {
    tokio::time::sleep(TRY_DEVICE_AGAIN).await;
    let _ = events.send(Event::DeviceLost { message }).await;
}
