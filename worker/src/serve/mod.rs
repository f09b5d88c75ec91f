//! `serve`: dials in to the operator, holds the pool's models and works on the tasks that come.
//!
//! *Layout*: `desk` is the loop that turns what happens into what is done, by the pure [`framewright_queue`]; `stream` keeps the way
//! to the operator open; `shelf` keeps the models; `task` is one task's way; `scratch`, `trust` and `backoff` are what these need.

pub mod backoff;
mod desk;
mod scratch;
mod shelf;
mod stream;
mod task;
pub mod trust;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use framewright_queue::{Event, Identity, Queue};
use tokio::sync::{mpsc, watch};
use tracing::info;

use crate::args::ServeArgs;
use crate::device::{self, DeviceError};
use crate::engine::{Engine, EngineError};
use crate::fetch::Store;
use crate::health::{self, Health};
use crate::media::MediaError;
use crate::sentence::sentence;
use crate::weights::cache::{Cache, CacheError};
use desk::Desk;
use scratch::Scratch;
pub use scratch::ScratchError;
use shelf::{Shelf, Stocker};
use stream::Dialer;
use task::Tools;
use trust::TrustError;

/// How long a worker in trouble tells so before a new process looks whether it is over.
const TRY_DEVICE_AGAIN: Duration = Duration::from_secs(30);
const PROGRAMS_DEADLINE: Duration = Duration::from_secs(30);
/// How long new grants are waited for, before they are asked for again.
const GRANT_WAIT: Duration = Duration::from_secs(15);
/// Events that may wait for the desk, which never waits for anybody.
const WAITING_EVENTS: usize = 256;

/// Why the worker does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
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
    #[error("ends, so that a new process opens the device anew: {trouble}")]
    DeviceLost { trouble: String },
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
pub async fn serve(args: ServeArgs) -> Result<(), ServeError> {
    let trust = args.trust();
    trust.tls().map_err(|source| ServeError::Trust { source })?;
    let programs = args.media.programs();
    let checked = programs.clone();
    tokio::task::spawn_blocking(move || checked.check(PROGRAMS_DEADLINE))
        .await
        .unwrap_or(Ok(()))
        .map_err(|source| ServeError::Programs { source })?;
    let scratch = Scratch::open(&args.scratch, args.scratch_limit, args.slots)
        .map_err(|source| ServeError::Scratch { source })?;
    let cache = Cache::open(&args.weights_cache, args.weights_cache_limit)
        .map_err(|source| ServeError::Cache { source })?;
    let health = Health::default();
    let listener = health::listen(args.health_port).map_err(|source| ServeError::Health {
        port: args.health_port,
        source,
    })?;
    tokio::spawn(health::serve(listener, health.clone()));

    // A worker in trouble computes nothing, on no device.
    let (device, trouble) = match device::open(args.device) {
        Ok(device) => (device, None),
        Err(error) => (candle_core::Device::Cpu, Some(error)),
    };
    let device_trouble = trouble.as_ref().map(|error| sentence(error));
    if let Some(trouble) = &device_trouble {
        tracing::error!("takes no task: {trouble}");
    }
    let engine = Engine::start(device.clone()).map_err(|source| ServeError::Engine { source })?;
    let identity = Identity {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        device: args.device,
        device_trouble,
        slots: args.slots,
    };
    info!(version = identity.version, device = %args.device, slots = args.slots, threads = rayon::current_num_threads(), "serves");

    let (events, happened) = mpsc::channel(WAITING_EVENTS);
    if let Some(trouble) = trouble.filter(DeviceError::may_pass) {
        tokio::spawn(end_soon(sentence(&trouble), events.clone()));
    }
    let (xids, reported) = mpsc::channel(1);
    // One that finds no room is looked into with the one before.
    device::follow(&device, health.metrics.clone(), move |xid| {
        let _ = xids.try_send(xid);
    });
    tokio::spawn(look_into(reported, engine.clone(), events.clone()));
    let (stream_events, streamed) = mpsc::channel(WAITING_EVENTS);
    let (orders, ordered) = watch::channel(Vec::new());
    let shelf = Shelf::default();
    let store = Store::new(trust.clone());
    let stocker = Stocker {
        store: store.clone(),
        cache: Arc::new(cache),
        orders: ordered,
        events: events.clone(),
        shelf: shelf.clone(),
    };
    tokio::spawn(stocker.work());
    let dialer = Dialer {
        operator: args.operator,
        token_file: args.token_file,
        trust,
    };
    tokio::spawn(stream::keep(dialer, stream_events));
    let tools = Tools {
        store,
        shelf,
        engine,
        scratch,
        programs,
        metrics: health.metrics.clone(),
        has_operator: Arc::clone(&health.is_ready),
    };
    let desk = Desk::new(Queue::new(identity), tools, orders, events, health);
    desk.work(streamed, happened).await
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

/// A process that could not open its device tells so for a while; then another one tries, as the kubelet spaces them.
async fn end_soon(message: String, events: mpsc::Sender<Event>) {
    tokio::time::sleep(TRY_DEVICE_AGAIN).await;
    let _ = events.send(Event::DeviceLost { message }).await;
}
