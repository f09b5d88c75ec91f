//! Whom the worker believes: the one certificate authority of operator and store, and nobody else.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// Where the authority's certificates are.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Here, as PEM.
    Text(String),
    /// In this PEM file, which is read anew for each connection, so that it can be replaced.
    File(PathBuf),
}

/// Why nobody can be believed.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("cannot read the certificate authority's file {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "the certificate authority's PEM cannot be read; it needs -----BEGIN CERTIFICATE----- lines"
    )]
    Pem {
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    #[error("the certificate authority's PEM holds no certificate")]
    Empty,
    #[error("TLS cannot be set up with the certificate authority's certificates")]
    Tls {
        #[source]
        source: rustls::Error,
    },
}

impl Trust {
    /// How to open TLS connections to operator and store.
    ///
    /// # Errors
    /// The file or its content cannot be used; the sentence says why.
    pub fn tls(&self) -> Result<ClientConfig, TrustError> {
        let pem = match self {
            Trust::Text(text) => text.clone().into_bytes(),
            Trust::File(path) => fs::read(path).map_err(|source| TrustError::Read {
                path: path.clone(),
                source,
            })?,
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|source| TrustError::Pem { source })?;
            roots
                .add(certificate)
                .map_err(|source| TrustError::Tls { source })?;
        }
        if roots.is_empty() {
            return Err(TrustError::Empty);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|source| TrustError::Tls { source })?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_without_certificates_is_refused_with_a_sentence() {
        let error = Trust::Text("hello".into()).tls().expect_err("refused");
        assert!(error.to_string().contains("no certificate"), "{error}");
        let error = Trust::File("/nowhere/ca.pem".into())
            .tls()
            .expect_err("refused");
        assert!(error.to_string().contains("/nowhere/ca.pem"), "{error}");
    }
}
