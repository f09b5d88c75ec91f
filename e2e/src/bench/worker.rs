//! A worker that is done with a task the moment it gets it: its output is its input.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use framewright_crds::modelpool::Device;
use framewright_crds::names::{STREAM_PATH, STREAM_PORT};
use framewright_crds::wire::{
    ModelState, Order, Outcome, OutputFile, PROTOCOL, TaskOrder, ToOperator, ToWorker,
};
use futures::{SinkExt, StreamExt};
use http::HeaderValue;
use http::header::AUTHORIZATION;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::mpsc::Sender;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream};

use super::stage::SYSTEM;

/// A task has begun: namespace/name of its job, and when.
pub(super) type Begun = (String, Instant);

/// A worker's stream to the operator.
pub(super) struct Stream(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Stream {
    /// Dials the operator at this address as the pod that the token is bound to.
    pub(super) async fn dial(node: Ipv4Addr, authority: &str, token: &str) -> Result<Stream> {
        let address = format!("wss://framewright-operator.{SYSTEM}.svc:{STREAM_PORT}{STREAM_PATH}");
        let mut request = address.into_client_request()?;
        let bearer = HeaderValue::try_from(format!("Bearer {token}"))?;
        request.headers_mut().insert(AUTHORIZATION, bearer);
        let connection = TcpStream::connect((node, STREAM_PORT))
            .await
            .context("the operator does not listen")?;
        connection.set_nodelay(true)?;
        let connector = Connector::Rustls(Arc::new(tls(authority)?));
        let dialled = tokio_tungstenite::client_async_tls_with_config(
            request,
            connection,
            None,
            Some(connector),
        );
        let (stream, _) = dialled.await.context("the operator refuses the worker")?;
        Ok(Stream(stream))
    }

    /// Works for ever.
    ///
    /// # Errors
    /// Why it cannot go on.
    pub(super) async fn work(mut self, slots: u32, begun: Sender<Begun>) -> Result<()> {
        let hello = ToOperator::Hello {
            protocol: PROTOCOL,
            version: "bench".to_owned(),
            device: Device::Cpu,
            device_trouble: None,
            slots,
            tasks: Vec::new(),
            epoch: None,
        };
        self.say(&hello).await?;
        while let Some(message) = self.0.next().await {
            match message? {
                Message::Text(text) => {
                    let ToWorker { order, .. } = serde_json::from_str(&text)?;
                    self.obey(order, &begun).await?;
                }
                Message::Ping(_) => self.0.flush().await?,
                Message::Close(_) => bail!("the operator closed the stream"),
                Message::Binary(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
        bail!("the stream ended")
    }

    async fn obey(&mut self, order: Order, begun: &Sender<Begun>) -> Result<()> {
        match order {
            Order::Welcome { models } => {
                for model in models {
                    let ready = ToOperator::Model {
                        name: model.name,
                        digest: model.digest,
                        state: ModelState::Ready,
                    };
                    self.say(&ready).await?;
                }
                Ok(())
            }
            Order::Run(order) => self.run(*order, begun).await,
            Order::Refused { message } => bail!("the operator refuses the worker: {message}"),
            // The output lies in the store already, and nothing is kept that could be forgotten.
            Order::Upload { .. } | Order::Settled { .. } | Order::Cancel { .. } => Ok(()),
        }
    }

    async fn run(&mut self, order: TaskOrder, begun: &Sender<Begun>) -> Result<()> {
        let TaskOrder {
            task, job, inputs, ..
        } = order;
        // Nobody listens when the bench ends.
        let _ = begun.send((job, Instant::now())).await;
        self.say(&ToOperator::Started { task: task.clone() })
            .await?;
        // The output of a task without input is in no store; nobody fetches it.
        let (sha256, bytes) = match inputs.into_iter().next() {
            Some(input) => (input.sha256, input.bytes),
            None => ("0".repeat(64), 1),
        };
        let output = OutputFile {
            sha256,
            bytes,
            media_type: "video/mp4".to_owned(),
        };
        let outcome = Outcome::Succeeded { output, units: 1 };
        self.say(&ToOperator::Finished { task, outcome }).await
    }

    async fn say(&mut self, message: &ToOperator) -> Result<()> {
        let text = serde_json::to_string(message)?;
        self.0.send(Message::text(text)).await?;
        Ok(())
    }
}

fn tls(authority: &str) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
