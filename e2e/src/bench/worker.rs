//! A worker that finishes a task as soon as it gets it, or never. It speaks protocol 2; its output is its input.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use framewright_crds::aijob::{OutputRole, Progress, Usage};
use framewright_crds::modelpool::Device;
use framewright_crds::names::{STREAM_PATH, STREAM_PORT, TaskId};
use framewright_crds::pipelines::{PIPELINES, PipelineSpec};
use framewright_crds::protocol::{
    Command, Hello, InputFile, ModelState, OperatorMessage, Outcome, OutputFile, PROTOCOLS,
    RunTask, TaskRecord, TaskReport, TaskState, WorkerMessage,
};
use futures::{SinkExt, StreamExt};
use http::HeaderValue;
use http::header::AUTHORIZATION;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream};

use super::lock;
use super::stage::SYSTEM;

/// The version in its messages.
const VERSION: &str = "bench";

/// The SHA-256 of no bytes.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// When a worker got the first task of a job, by the job's namespace/name.
pub(super) type Begun = Arc<Mutex<HashMap<String, Instant>>>;

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

    async fn send(&mut self, message: &WorkerMessage) -> Result<()> {
        let text = serde_json::to_string(message)?;
        self.0.send(Message::text(text)).await?;
        Ok(())
    }
}

/// What a worker does with a task.
pub(super) enum Work {
    /// Finishes it at once, and writes down when it got it.
    Finish(Begun),
    /// Never finishes it.
    Compute,
}

/// A worker; it keeps its tasks from one stream to the next.
pub(super) struct Worker {
    slots: u32,
    work: Work,
    /// The tasks that it computes, with their jobs.
    tasks: BTreeMap<TaskId, String>,
}

impl Worker {
    pub(super) fn new(slots: u32, work: Work) -> Worker {
        Worker {
            slots,
            work,
            tasks: BTreeMap::new(),
        }
    }

    /// Serves until the stream ends.
    ///
    /// # Errors
    /// Why it ended.
    pub(super) async fn serve(&mut self, mut stream: Stream) -> Result<Infallible> {
        let reports = self.tasks.iter().map(|(task, job)| TaskReport {
            task: task.clone(),
            job: job.clone(),
            state: TaskState::Running {
                progress: Progress::default(),
            },
        });
        let hello = Hello {
            protocols: PROTOCOLS,
            version: VERSION.to_owned(),
            device: Device::Cpu,
            device_error: None,
            memory: None,
            slots: self.slots,
            pipelines: PIPELINES.iter().map(|spec| spec.name.to_owned()).collect(),
            loaded: Vec::new(),
            tasks: reports.collect(),
            epoch: None,
        };
        stream.send(&WorkerMessage::Hello(Box::new(hello))).await?;
        while let Some(message) = stream.0.next().await {
            match message? {
                Message::Text(text) => {
                    let OperatorMessage { command, .. } = serde_json::from_str(&text)?;
                    self.handle(command, &mut stream).await?;
                }
                Message::Ping(_) => stream.0.flush().await?,
                Message::Close(_) => bail!("the operator closed the stream"),
                Message::Binary(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
        bail!("the stream ended")
    }

    async fn handle(&mut self, command: Command, stream: &mut Stream) -> Result<()> {
        match command {
            Command::Configure { models } => {
                for model in models {
                    let ready = WorkerMessage::Model {
                        name: model.name,
                        digest: model.digest,
                        state: ModelState::Ready,
                    };
                    stream.send(&ready).await?;
                }
                Ok(())
            }
            Command::Run(task) => self.run(*task, stream).await,
            Command::Refused { message } => bail!("the operator refuses the worker: {message}"),
            Command::Cancel { task } => {
                self.tasks.remove(&task);
                stream.send(&WorkerMessage::Stopped { task }).await
            }
            // It uploads nothing and keeps nothing.
            Command::Proceed { .. }
            | Command::Upload { .. }
            | Command::Ack { .. }
            | Command::Unknown => Ok(()),
        }
    }

    async fn run(&mut self, command: RunTask, stream: &mut Stream) -> Result<()> {
        let RunTask {
            task,
            job,
            pipeline,
            models,
            inputs,
            seed,
            ..
        } = command;
        let started = WorkerMessage::Started { task: task.clone() };
        match &self.work {
            Work::Finish(begun) => {
                lock(begun).entry(job).or_insert_with(Instant::now);
                stream.send(&started).await?;
            }
            Work::Compute => {
                self.tasks.insert(task, job);
                return stream.send(&started).await;
            }
        }
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
        stream
            .send(&WorkerMessage::Finished { task, outcome })
            .await
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
