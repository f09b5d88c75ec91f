//! Starts watches, the event loop, the workers' sessions and the other tasks, and ends them in order.
//!
//! Every replica watches, so that a standby knows all objects; only the leader decides, sends and writes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, Config};
use tokio::sync::{Notify, mpsc, watch};

use crate::args::RunArgs;
use crate::certificates;
use crate::context::{Context, template_settings};
use crate::leadership::Candidate;
use crate::link_signer::LinkSigner;
use crate::metrics::Metrics;
use crate::sessions::{endpoint_slice, server};
use crate::watches::WATCHED;
use crate::{event_loop, event_publisher, garbage_collector, health, served_crds, watches};
use framewright_core::engine::{Engine, Settings};
use framewright_core::jobs::admission::AdmitAll;
use framewright_store::client::StoreClient;
use framewright_store::watch::FileWatch;

/// How long the API server may be silent in the middle of an answer. Watches have a limit of their own.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);

/// Why the operator cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot create a client for the API server")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("cannot prepare keys and certificates")]
    Certificates(#[source] certificates::Error),
    #[error("cannot create a client for the store")]
    Store(#[source] framewright_store::client::ClientError),
    #[error("cannot use the certificate for workers' streams")]
    Tls(#[source] std::io::Error),
    #[error("cannot listen for {what}")]
    Listen {
        what: &'static str,
        source: std::io::Error,
    },
    #[error("{what} ended unexpectedly: this process ends, and another replica leads")]
    Stopped {
        what: &'static str,
        source: std::io::Error,
    },
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// [`Error`] when it cannot start, or a part of it fails for good.
pub async fn run(args: RunArgs) -> Result<(), Error> {
    let client = client().await.map_err(Error::Client)?;
    let metrics = Arc::new(Metrics::default());
    let is_ready = Arc::new(AtomicBool::new(false));
    let health = tokio::spawn(health::serve(Arc::clone(&is_ready), Arc::clone(&metrics)));
    let keys = prepare(&client, &args).await?;
    let tls = axum_server::tls_rustls::RustlsConfig::from_pem(
        keys.stream.0.clone(),
        keys.stream.1.clone(),
    )
    .await
    .map_err(Error::Tls)?;
    let store = StoreClient::new(
        &args.store_url,
        keys.authority.as_bytes(),
        keys.signing.clone(),
    )
    .map_err(Error::Store)?;
    let links = LinkSigner::new(
        keys.signing.clone(),
        args.store_url.clone(),
        args.store_external_url.clone(),
    );

    let (fill, mut filled) = watch::channel(BTreeSet::new());
    let leases: Api<Lease> = Api::namespaced(client.clone(), &args.namespace);
    let identity = format!("{}_{}", args.pod_name, std::process::id());
    let (candidate, leadership) = Candidate::new(leases, args.lease.clone(), identity);
    let (publisher, publishing) = event_publisher::publisher(client.clone(), &args.pod_name);
    let (files, file_events) = FileWatch::start(store.clone());
    let (inputs, waiting) = mpsc::channel(event_loop::INPUTS_WAITING);
    let (serving, served) = watch::channel(None);
    let engine = Engine::new(Settings {
        template: template_settings(&args, &keys.authority),
        catalog: args.catalog_namespaces.clone(),
        signer: Box::new(links),
        gate: Box::new(AdmitAll),
    });
    let context = Arc::new(Context {
        client: client.clone(),
        leadership: leadership.clone(),
        store,
        files,
        metrics,
        publisher,
        inputs,
        serving: served,
        deleted: Notify::new(),
        args,
    });

    let mut background = tokio::task::JoinSet::new();
    background.spawn(event_loop::run(
        engine,
        Arc::clone(&context),
        waiting,
        serving,
    ));
    background.spawn(event_loop::follow_leadership(Arc::clone(&context)));
    background.spawn(event_loop::follow_store(Arc::clone(&context), file_events));
    background.spawn(publishing);
    watches::start(&context, &fill, &mut background);
    tokio::spawn(served_crds::compare(client.clone()));
    background.spawn(garbage_collector::run(Arc::clone(&context)));
    background.spawn(endpoint_slice::run(Arc::clone(&context)));
    let renewal = tokio::spawn(certificates::renew(Arc::clone(&context), tls.clone(), keys));
    let streams = tokio::spawn(server::serve(Arc::clone(&context), tls));
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    // A standby that could not serve must not lead: it takes part once it knows all objects.
    let mut election = tokio::spawn(async move {
        if filled
            .wait_for(|lists| lists.len() == WATCHED.len())
            .await
            .is_err()
        {
            return;
        }
        tracing::info!("all objects are read");
        is_ready.store(true, Ordering::Release);
        candidate.run(async move { drop(ended.await) }).await;
    });

    let outcome = tokio::select! {
        () = shutdown() => Ok(()),
        ended = streams => Err(listener_ended("workers", ended)),
        ended = health => Err(listener_ended("health checks", ended)),
        Some(ended) = background.join_next() => Err(stopped("a background task", ended)),
        ended = &mut election => Err(stopped("the leader election", ended)),
        ended = renewal => ended.map_err(|error| stopped("the renewal of certificates", Err(error))),
    };
    tracing::info!("ending");
    let _ = end.send(());
    if !election.is_finished() {
        let _ = tokio::time::timeout(Duration::from_secs(10), election).await;
    }
    outcome
}

/// A client of the API server whose requests end: an answer that never comes, without the connection breaking, is an error in time.
async fn client() -> Result<Client, Box<dyn std::error::Error + Send + Sync>> {
    client_of(Config::infer().await?)
}

pub(crate) fn client_of(
    mut config: Config,
) -> Result<Client, Box<dyn std::error::Error + Send + Sync>> {
    config.read_timeout = Some(ANSWER_LIMIT);
    // It counts from the request, not from when the connection was last used.
    config.reset_reader_on_write = true;
    // Retries are the engine's: a repeated write would meet its own first try.
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

/// Keys and certificates; the API server may not be reachable in the first moments of a pod.
async fn prepare(client: &Client, args: &RunArgs) -> Result<certificates::Keys, Error> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &args.namespace);
    let mut tries = 0;
    loop {
        match certificates::ensure(
            &secrets,
            &args.namespace,
            &args.service,
            jiff::Timestamp::now(),
        )
        .await
        {
            Ok(keys) => return Ok(keys),
            Err(error) if tries < 10 => {
                tracing::warn!(error = %crate::chain(&error), "cannot prepare keys and certificates; trying again");
                tries += 1;
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            Err(error) => return Err(Error::Certificates(error)),
        }
    }
}

async fn shutdown() {
    let mut terminate =
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(terminate) => terminate,
            Err(error) => {
                tracing::warn!(%error, "cannot listen for SIGTERM");
                return std::future::pending().await;
            }
        };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

fn listener_ended(
    what: &'static str,
    ended: Result<std::io::Result<()>, tokio::task::JoinError>,
) -> Error {
    let source = match ended {
        Ok(Ok(())) => std::io::Error::other("it ended"),
        Ok(Err(error)) => error,
        Err(error) => std::io::Error::other(error),
    };
    Error::Listen { what, source }
}

/// A part that runs for ever is over: the process must not go on without it.
fn stopped(what: &'static str, ended: Result<(), tokio::task::JoinError>) -> Error {
    let source = match ended {
        Ok(()) => std::io::Error::other("it had nothing more to do"),
        Err(error) => std::io::Error::other(error),
    };
    Error::Stopped { what, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_background_task_that_panics_ends_the_process_with_what_it_said() {
        let mut background = tokio::task::JoinSet::new();
        background.spawn(std::future::pending());
        background.spawn(async { panic!("too many") });
        let ended = background.join_next().await.expect("one of them ends");
        let told = crate::chain(&stopped("a background task", ended)).to_string();
        assert!(told.starts_with("a background task ended"), "{told}");
        assert!(told.contains("too many"), "{told}");
    }
}
