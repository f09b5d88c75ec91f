//! The store as a process: its three listeners, its chores, its end.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::TokioExecutor;
use hyper_util::server::conn::auto::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::args::StoreArgs;
use super::backend::{Backend, BackendError};
use super::health::{self, Metrics};
use super::mounted::{self, MountedError};
use super::patience::Patience;
use super::record::server::Records;
use super::routes::{self, Store};
use super::slots::Slots;
use super::watch::server::STREAMS_MAX;
use crate::grants::SigningKeys;
use crate::listen::everywhere;

/// A leftover this old belongs to no upload that still runs.
const LEFTOVER_AGE: Duration = Duration::from_secs(3600);
/// A repeated upload may overlap with the one that its sender gave up.
const UPLOADS_PER_ARTIFACT: usize = 2;
/// How long a transfer waits for its turn.
const TURN: Duration = Duration::from_secs(10);
/// How long a connection may be silent before and between requests; longer than clients keep theirs, so that they close first.
const HEADERS: Duration = Duration::from_secs(120);

/// Why the store cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot use the volume {folder}")]
    Volume {
        folder: std::path::PathBuf,
        source: BackendError,
    },
    #[error("cannot use the mounted files")]
    Mounted { source: MountedError },
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("cannot wait for SIGTERM")]
    Signal { source: std::io::Error },
    #[error("a listener stopped")]
    Stopped { source: std::io::Error },
}

/// A store that answers.
#[derive(Debug)]
pub struct Running {
    /// TLS.
    pub address: SocketAddr,
    /// Plain HTTP, for port-forwards.
    pub local_address: SocketAddr,
    /// Plain HTTP, health and metrics.
    pub health_address: SocketAddr,
    handles: [Handle<SocketAddr>; 3],
    listeners: JoinSet<std::io::Result<()>>,
    chores: [JoinHandle<()>; 2],
    stopping: CancellationToken,
    grace: Duration,
}

/// Runs the store until SIGTERM or SIGINT, then lets transfers finish.
///
/// # Errors
/// `ServeError` when it cannot start, or when a listener stops by itself.
pub async fn serve(args: StoreArgs) -> Result<(), ServeError> {
    let mut terminate =
        signal(SignalKind::terminate()).map_err(|source| ServeError::Signal { source })?;
    let mut interrupt =
        signal(SignalKind::interrupt()).map_err(|source| ServeError::Signal { source })?;
    let running = start(args).await?;
    running
        .until(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
        .await
}

/// Starts the store; it answers when this returns.
///
/// # Errors
/// `ServeError` that names the folder, file or address that cannot be used.
pub async fn start(args: StoreArgs) -> Result<Running, ServeError> {
    let backend = open(&args).await?;
    let contents = mounted::read(&args).await.map_err(mounted_error)?;
    let keys = mounted::signing_keys(&args, &contents).map_err(mounted_error)?;
    let record_keys = mounted::record_keys(&args, &contents).map_err(mounted_error)?;
    let certificate = mounted::tls(&args, &contents).map_err(mounted_error)?;

    let (keys_sender, keys) = watch::channel(keys);
    let (record_keys_sender, records) = match record_keys {
        Some(record_keys) => {
            let (sender, record_keys) = watch::channel(record_keys);
            (Some(sender), Some(open_records(&args, record_keys).await?))
        }
        None => (None, None),
    };
    let certificate = RustlsConfig::from_config(certificate);
    let stopping = CancellationToken::new();
    let store = Arc::new(Store {
        backend,
        records,
        keys,
        upload_slots: Slots::new(args.max_uploads, UPLOADS_PER_ARTIFACT, TURN),
        download_slots: Slots::new(args.max_downloads, usize::MAX, TURN),
        upload_idle: args.upload_idle,
        watch_streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        watch_idle: args.watch_idle,
        max_watched: usize::try_from(args.max_watched).unwrap_or(usize::MAX),
        stopping: stopping.clone(),
        metrics: Metrics::new(),
    });

    let (listener, address) = listen(args.listen)?;
    let (local_listener, local_address) = listen(args.listen_local)?;
    let (health_listener, health_address) = listen(args.listen_health)?;
    let handles = [Handle::new(), Handle::new(), Handle::new()];
    let [handle, local_handle, health_handle] = handles.clone();
    let artifacts = routes::router(Arc::clone(&store));
    let health = health::router(Arc::clone(&store));
    let patience = Patience {
        window: args.download_idle,
    };
    let mut listeners = JoinSet::new();
    listeners.spawn(tls(
        listener,
        handle,
        certificate.clone(),
        patience,
        artifacts.clone(),
    ));
    listeners.spawn(plain(local_listener, local_handle, patience, artifacts));
    listeners.spawn(plain(health_listener, health_handle, patience, health));

    info!(%address, %local_address, %health_address, volume = %args.volume.display(), "store is ready");
    let grace = args.grace;
    Ok(Running {
        address,
        local_address,
        health_address,
        handles,
        listeners,
        chores: [
            tokio::spawn(sweep(store, args.sweep_every)),
            tokio::spawn(mounted::follow(
                args,
                contents,
                keys_sender,
                record_keys_sender,
                certificate,
            )),
        ],
        stopping,
        grace,
    })
}

impl Running {
    /// Answers until `stop` is over, then takes no more connections and waits for those that transfer, as long as the grace.
    ///
    /// # Errors
    /// `ServeError::Stopped` when a listener stops by itself.
    pub async fn until(self, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
        let Running {
            address: _,
            local_address: _,
            health_address: _,
            handles,
            mut listeners,
            chores,
            stopping,
            grace,
        } = self;
        let stopped = tokio::select! {
            () = stop => None,
            stopped = listeners.join_next() => stopped,
        };
        info!(
            connections = handles.iter().map(Handle::connection_count).sum::<usize>(),
            "store is stopping"
        );
        stopping.cancel();
        for handle in &handles {
            handle.graceful_shutdown(Some(grace));
        }
        let mut outcome = stopped.map_or(Ok(()), ended);
        while let Some(stopped) = listeners.join_next().await {
            outcome = outcome.and(ended(stopped));
        }
        for chore in &chores {
            chore.abort();
        }
        outcome
    }
}

/// Opens the volume and clears what a killed store left on it.
async fn open(args: &StoreArgs) -> Result<Backend, ServeError> {
    let volume_error = |source| ServeError::Volume {
        folder: args.volume.clone(),
        source,
    };
    let backend = Backend::on_volume(&args.volume).map_err(volume_error)?;
    let removed = backend
        .remove_leftovers(Duration::ZERO)
        .await
        .map_err(volume_error)?;
    if removed > 0 {
        info!(removed, "cleared what broken uploads left");
    }
    Ok(backend)
}

/// Opens the folder of records and clears what broken appends left in it.
async fn open_records(
    args: &StoreArgs,
    keys: watch::Receiver<SigningKeys>,
) -> Result<Records, ServeError> {
    let volume_error = |source| ServeError::Volume {
        folder: args.volume.clone(),
        source,
    };
    let records = Records::on_volume(&args.volume, keys, args.upload_idle).map_err(volume_error)?;
    records
        .remove_leftovers(Duration::ZERO)
        .await
        .map_err(volume_error)?;
    Ok(records)
}

async fn sweep(store: Arc<Store>, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match store.backend.remove_leftovers(LEFTOVER_AGE).await {
            Ok(removed) => {
                store.metrics.leftovers.inc_by(removed);
            }
            Err(error) => warn!(
                error = &error as &dyn std::error::Error,
                "cannot sweep the volume"
            ),
        }
        let Some(records) = &store.records else {
            continue;
        };
        match records.remove_leftovers(LEFTOVER_AGE).await {
            Ok(removed) => {
                store.metrics.leftovers.inc_by(removed);
            }
            Err(error) => warn!(
                error = &error as &dyn std::error::Error,
                "cannot sweep the records"
            ),
        }
    }
}

fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let error = |source| ServeError::Listen { address, source };
    let listener = if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        everywhere(address.port())
    } else {
        TcpListener::bind(address)
    };
    let listener = listener.map_err(error)?;
    let bound = listener.local_addr().map_err(error)?;
    Ok((listener, bound))
}

async fn tls(
    listener: TcpListener,
    handle: Handle<SocketAddr>,
    certificate: RustlsConfig,
    patience: Patience,
    router: Router,
) -> std::io::Result<()> {
    let mut server = axum_server::from_tcp(listener)?
        .acceptor(RustlsAcceptor::new(certificate).acceptor(patience))
        .handle(handle);
    only_http1(server.http_builder());
    server.serve(router.into_make_service()).await
}

async fn plain(
    listener: TcpListener,
    handle: Handle<SocketAddr>,
    patience: Patience,
    router: Router,
) -> std::io::Result<()> {
    let mut server = axum_server::from_tcp(listener)?
        .acceptor(patience)
        .handle(handle);
    only_http1(server.http_builder());
    server.serve(router.into_make_service()).await
}

/// axum-server's own switch for this also forbids WebSockets.
fn only_http1(builder: &mut Builder<TokioExecutor>) {
    *builder = builder.clone().http1_only();
    builder.http1().header_read_timeout(Some(HEADERS));
}

fn ended(stopped: Result<std::io::Result<()>, tokio::task::JoinError>) -> Result<(), ServeError> {
    let result = match stopped {
        Ok(result) => result,
        Err(panicked) => Err(std::io::Error::other(panicked)),
    };
    result.map_err(|source| ServeError::Stopped { source })
}

fn mounted_error(source: MountedError) -> ServeError {
    ServeError::Mounted { source }
}
