//! A worker that finishes a task as soon as it gets it. It speaks protocol 2; its output is its input.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use framewright_crds::aijob::{OutputRole, Usage};
use framewright_crds::modelpool::Device;
use framewright_crds::names::{STREAM_PATH, STREAM_PORT};
use framewright_crds::pipelines::{PIPELINES, PipelineSpec};
use framewright_crds::protocol::{
    Command, Hello, InputFile, ModelState, OperatorMessage, Outcome, OutputFile, PROTOCOLS,
    RunTask, TaskRecord, WorkerMessage,
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

/// The version in its messages.
const VERSION: &str = "bench";

/// The SHA-256 of no bytes.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

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

    /// Works until the stream ends.
    ///
    /// # Errors
    /// Why it ended.
    pub(super) async fn work(mut self, slots: u32, begun: Sender<Begun>) -> Result<()> {
        let hello = Hello {
            protocols: PROTOCOLS,
            version: VERSION.to_owned(),
            device: Device::Cpu,
            device_error: None,
            memory: None,
            slots,
            pipelines: PIPELINES.iter().map(|spec| spec.name.to_owned()).collect(),
            loaded: Vec::new(),
            tasks: Vec::new(),
            epoch: None,
        };
        self.send(&WorkerMessage::Hello(Box::new(hello))).await?;
        while let Some(message) = self.0.next().await {
            match message? {
                Message::Text(text) => {
                    let OperatorMessage { command, .. } = serde_json::from_str(&text)?;
                    self.handle(command, &begun).await?;
                }
                Message::Ping(_) => self.0.flush().await?,
                Message::Close(_) => bail!("the operator closed the stream"),
                Message::Binary(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
        bail!("the stream ended")
    }

    async fn handle(&mut self, command: Command, begun: &Sender<Begun>) -> Result<()> {
        match command {
            Command::Configure { models } => {
                for model in models {
                    let ready = WorkerMessage::Model {
                        name: model.name,
                        digest: model.digest,
                        state: ModelState::Ready,
                    };
                    self.send(&ready).await?;
                }
                Ok(())
            }
            Command::Run(task) => self.run(*task, begun).await,
            Command::Refused { message } => bail!("the operator refuses the worker: {message}"),
            // A task is over before another command comes.
            Command::Cancel { task } => self.send(&WorkerMessage::Stopped { task }).await,
            // It uploads nothing and keeps nothing.
            Command::Proceed { .. }
            | Command::Upload { .. }
            | Command::Ack { .. }
            | Command::Unknown => Ok(()),
        }
    }

    async fn run(&mut self, command: RunTask, begun: &Sender<Begun>) -> Result<()> {
        let RunTask {
            task,
            job,
            pipeline,
            models,
            inputs,
            seed,
            ..
        } = command;
        // Nobody receives when the bench ends.
        let _ = begun.send((job, Instant::now())).await;
        self.send(&WorkerMessage::Started { task: task.clone() })
            .await?;
        let spec = pipeline.spec();
        let outcome = Outcome::Succeeded {
            outputs: output(spec, inputs).into_iter().collect(),
            usage: Usage {
                unit: spec.unit.to_owned(),
                amount: 1,
            },
            record: TaskRecord {
                version: VERSION.to_owned(),
                device: Device::Cpu.to_string(),
                driver: None,
                models: models.into_iter().map(|model| model.digest).collect(),
                seed,
                prepare_ms: 0,
                compute_ms: 0,
            },
        };
        self.send(&WorkerMessage::Finished { task, outcome }).await
    }

    async fn send(&mut self, message: &WorkerMessage) -> Result<()> {
        let text = serde_json::to_string(message)?;
        self.0.send(Message::text(text)).await?;
        Ok(())
    }
}

/// The input under the name of the first output, as if the task had not changed it. Without an input it is an empty file.
fn output(spec: &PipelineSpec, inputs: Vec<InputFile>) -> Option<OutputFile> {
    let input = inputs.into_iter().next();
    let name = input.as_ref().map(|input| input.name.clone());
    let slots = spec.outputs;
    let named = slots.iter().find(|slot| name.as_deref() == Some(slot.name));
    let slot = named.or(slots.first())?;
    let (digest, bytes) = input.map_or_else(
        || (framewright_crds::names::digest(EMPTY), 0),
        |input| (input.digest, input.bytes),
    );
    Some(OutputFile {
        name: slot.name.to_owned(),
        role: slot.role,
        digest,
        bytes,
        media_type: match slot.role {
            OutputRole::Result => "video/mp4",
            OutputRole::Poster | OutputRole::Data | OutputRole::Unknown => {
                "application/octet-stream"
            }
        }
        .to_owned(),
        facts: Vec::new(),
    })
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
