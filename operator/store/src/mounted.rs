//! Keys and certificate from mounted files, read again when they change: a kubelet replaces them under a running process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum_server::tls_rustls::RustlsConfig;
use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use super::args::StoreArgs;
use crate::grants::{BadKeys, SigningKeys};

/// A mounted file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MountedError {
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("cannot use the keys in {path}")]
    Keys { path: PathBuf, source: BadKeys },
    #[error("{path} is no certificate in PEM")]
    Certificate { path: PathBuf, source: pem::Error },
    #[error("{path} is no private key in PEM")]
    PrivateKey { path: PathBuf, source: pem::Error },
    #[error("cannot serve TLS with {certificate} and {key}")]
    Pair {
        certificate: PathBuf,
        key: PathBuf,
        source: rustls::Error,
    },
}

/// The contents of the files, to see whether they changed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Contents {
    keys: Vec<u8>,
    record_keys: Option<Vec<u8>>,
    certificate: Vec<u8>,
    certificate_key: Vec<u8>,
}

/// Reads all of them.
pub(crate) async fn read(args: &StoreArgs) -> Result<Contents, MountedError> {
    let record_keys = match &args.record_keys {
        Some(path) => Some(read_file(path).await?),
        None => None,
    };
    Ok(Contents {
        keys: read_file(&args.keys).await?,
        record_keys,
        certificate: read_file(&args.certificate).await?,
        certificate_key: read_file(&args.certificate_key).await?,
    })
}

pub(crate) fn signing_keys(
    args: &StoreArgs,
    contents: &Contents,
) -> Result<SigningKeys, MountedError> {
    parsed(&args.keys, &contents.keys)
}

/// The keys that sign links to records, if there is a file with them.
pub(crate) fn record_keys(
    args: &StoreArgs,
    contents: &Contents,
) -> Result<Option<SigningKeys>, MountedError> {
    match (&args.record_keys, &contents.record_keys) {
        (Some(path), Some(text)) => Ok(Some(parsed(path, text)?)),
        (Some(_), None) | (None, Some(_)) | (None, None) => Ok(None),
    }
}

fn parsed(path: &Path, text: &[u8]) -> Result<SigningKeys, MountedError> {
    SigningKeys::parse(&String::from_utf8_lossy(text)).map_err(|source| MountedError::Keys {
        path: path.to_owned(),
        source,
    })
}

/// HTTP/1.1 over TLS 1.2 or 1.3, with ring whatever the process's default provider is.
pub(crate) fn tls(
    args: &StoreArgs,
    contents: &Contents,
) -> Result<Arc<ServerConfig>, MountedError> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&contents.certificate)
        .collect::<Result<_, pem::Error>>()
        .map_err(|source| MountedError::Certificate {
            path: args.certificate.clone(),
            source,
        })?;
    let key = PrivateKeyDer::from_pem_slice(&contents.certificate_key).map_err(|source| {
        MountedError::PrivateKey {
            path: args.certificate_key.clone(),
            source,
        }
    })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key));
    let mut config = config.map_err(|source| MountedError::Pair {
        certificate: args.certificate.clone(),
        key: args.certificate_key.clone(),
        source,
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Looks at the files for ever. What cannot be used is told once, and what was in use stays in use.
pub(crate) async fn follow(
    args: StoreArgs,
    mut seen: Contents,
    keys: watch::Sender<SigningKeys>,
    new_record_keys: Option<watch::Sender<SigningKeys>>,
    certificate: RustlsConfig,
) {
    let mut ticks = tokio::time::interval(args.reload_every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let found = match tokio::time::timeout(Duration::from_secs(10), read(&args)).await {
            Ok(Ok(found)) if found != seen => found,
            Ok(Ok(_)) => continue,
            Ok(Err(error)) => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "keeping keys and certificate"
                );
                continue;
            }
            Err(_) => {
                warn!("mounted files cannot be read in time, keeping keys and certificate");
                continue;
            }
        };
        if found.keys != seen.keys {
            match signing_keys(&args, &found) {
                Ok(new) => {
                    keys.send_replace(new);
                    info!("reading new signing keys");
                }
                Err(error) => warn!(error = &error as &dyn std::error::Error, "keeping the keys"),
            }
        }
        if found.record_keys != seen.record_keys
            && let Some(sender) = &new_record_keys
        {
            match record_keys(&args, &found) {
                Ok(Some(new)) => {
                    sender.send_replace(new);
                    info!("reading new keys for records");
                }
                Ok(None) => {}
                Err(error) => warn!(
                    error = &error as &dyn std::error::Error,
                    "keeping the keys for records"
                ),
            }
        }
        if (&found.certificate, &found.certificate_key)
            != (&seen.certificate, &seen.certificate_key)
        {
            match tls(&args, &found) {
                Ok(new) => {
                    certificate.reload_from_config(new);
                    info!("serving with a new certificate");
                }
                Err(error) => {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "keeping the certificate"
                    );
                }
            }
        }
        seen = found;
    }
}

async fn read_file(path: &Path) -> Result<Vec<u8>, MountedError> {
    tokio::fs::read(path)
        .await
        .map_err(|source| MountedError::Read {
            path: path.to_owned(),
            source,
        })
}
