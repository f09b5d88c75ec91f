//! Submits jobs as a user does, uploads their inputs to the links in their statuses, and records when what happened.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use framewright_crds::AIJob;
use framewright_crds::conditions::{get, is_true, job};
use futures::StreamExt;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use kube::api::PostParams;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::fleet::MODEL;
use super::lock;
use super::stage::Stage;
use super::worker::Begun;

/// Statuses of one job that may wait to be read; a job has a handful.
const WAITING: usize = 256;
/// The input of every job that has one.
const INPUT: &[u8] = b"a clip that nobody decodes";
const PATIENCE: Duration = Duration::from_secs(120);
/// Creates and uploads that are under way at one time.
const AT_ONCE: usize = 32;

/// What the first step of a job takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// A file, uploaded to the link in the status. The step is an upscale.
    Upload,
    /// Nothing. The step is a noop.
    None,
}

impl Input {
    /// As the rows of the table call it.
    pub(super) fn label(self) -> &'static str {
        match self {
            Input::Upload => "with an upload",
            Input::None => "without an upload",
        }
    }
}

/// What happened to a job, and when.
#[derive(Debug)]
pub(super) struct Record {
    /// The create request was sent.
    pub(super) created: Instant,
    /// The store has confirmed the upload; none if there was none.
    pub(super) uploaded: Option<Instant>,
    /// A worker got the first task.
    pub(super) begun: Instant,
    /// Its spec.
    pub(super) spec: Value,
    /// Its statuses as they came, each once.
    pub(super) statuses: Vec<Value>,
}

/// Submits jobs.
pub(super) struct Submitter {
    client: Client,
    watched: Watched,
    begun: Begun,
    at_once: Semaphore,
}

/// Who waits for the statuses of a job, by namespace/name.
type Watched = Arc<Mutex<HashMap<String, Sender<AIJob>>>>;

impl Submitter {
    /// Watches all jobs from now on.
    pub(super) fn open(stage: &Stage, begun: Begun) -> Submitter {
        let watched = Watched::default();
        let updates = Arc::clone(&watched);
        let jobs: Api<AIJob> = Api::all(stage.client.clone());
        let updated = watcher(jobs, watcher::Config::default())
            .default_backoff()
            .applied_objects();
        tokio::spawn(updated.for_each(move |job| {
            // After an error the watch is opened again.
            let Ok(job) = job else {
                return futures::future::ready(());
            };
            let namespace = job.namespace().unwrap_or_default();
            let key = format!("{namespace}/{}", job.name_any());
            if let Some(watching) = lock(&updates).get(&key) {
                // A receiver that is gone has seen the end of the job.
                let _ = watching.try_send(job);
            }
            futures::future::ready(())
        }));
        Submitter {
            client: stage.client.clone(),
            watched,
            begun,
            at_once: Semaphore::new(AT_ONCE),
        }
    }

    /// Submits a job and waits until it has succeeded.
    pub(super) async fn run(
        &self,
        namespace: &str,
        name: &str,
        steps: usize,
        input: Input,
    ) -> Result<Record> {
        let key = format!("{namespace}/{name}");
        let (watching, watched) = channel(WAITING);
        lock(&self.watched).insert(key.clone(), watching);
        let job = manifest(name, steps, input)?;
        let ran = tokio::time::timeout(PATIENCE, self.submit(namespace, &job, watched));
        let mut record = ran
            .await
            .with_context(|| format!("{key} did not end within {} s", PATIENCE.as_secs()))??;
        lock(&self.watched).remove(&key);
        record.begun = lock(&self.begun)
            .remove(&key)
            .with_context(|| format!("{key} has ended, and no worker has begun it"))?;
        ensure!(
            record.uploaded.is_some() == (input == Input::Upload),
            "{key}: {input:?}, and uploaded at {:?}",
            record.uploaded
        );
        Ok(record)
    }

    async fn submit(
        &self,
        namespace: &str,
        job: &AIJob,
        mut watched: Receiver<AIJob>,
    ) -> Result<Record> {
        let jobs: Api<AIJob> = Api::namespaced(self.client.clone(), namespace);
        let permit = self.at_once.acquire().await?;
        let created = Instant::now();
        jobs.create(&PostParams::default(), job).await?;
        drop(permit);
        let mut record = Record {
            created,
            uploaded: None,
            begun: created,
            spec: serde_json::to_value(&job.spec)?,
            statuses: Vec::new(),
        };
        while let Some(job) = watched.recv().await {
            let Some(status) = &job.status else { continue };
            let json = serde_json::to_value(status)?;
            if record.statuses.last() != Some(&json) {
                record.statuses.push(json);
            }
            if is_true(&status.conditions, job::FINISHED) {
                let end = get(&status.conditions, job::SUCCEEDED).context("no end")?;
                ensure!(
                    end.status == "True",
                    "{}: {}: {}",
                    job.name_any(),
                    end.reason,
                    end.message
                );
                return Ok(record);
            }
            let link = status.files.first().and_then(|file| file.link.as_deref());
            if let (None, Some(link)) = (record.uploaded, link) {
                let _permit = self.at_once.acquire().await?;
                put(link).await?;
                record.uploaded = Some(Instant::now());
            }
        }
        anyhow::bail!("the watch has ended")
    }
}

/// Steps in a row, the first with this input.
fn manifest(name: &str, steps: usize, input: Input) -> Result<AIJob> {
    let digest = framewright_crds::names::digest(&hex::encode(digest(&SHA256, INPUT)));
    let step = |index: usize| {
        let name = format!("step-{index}");
        let input = match (index.checked_sub(1), input) {
            (None, Input::None) => return json!({"name": name, "noop": {}}),
            (None, Input::Upload) => {
                json!({"name": "video", "upload": {"digest": digest, "bytes": INPUT.len()}})
            }
            (Some(before), _) => {
                json!({"name": "video", "fromStep": {"name": format!("step-{before}")}})
            }
        };
        json!({"name": name, "model": MODEL, "upscale": {}, "inputs": [input]})
    };
    let steps: Vec<Value> = (0..steps).map(step).collect();
    let spec = serde_json::from_value(json!({"steps": steps}))?;
    Ok(AIJob::new(name, spec))
}

/// Sends the input to a link.
async fn put(link: &str) -> Result<()> {
    let uri: http::Uri = link.parse()?;
    let host = uri.authority().context("a link without host")?.to_string();
    let connection = TcpStream::connect(&host).await?;
    connection.set_nodelay(true)?;
    let (mut sender, driver) =
        hyper::client::conn::http1::handshake(TokioIo::new(connection)).await?;
    tokio::spawn(driver);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = http::Request::put(path)
        .header(http::header::HOST, &host)
        .body(Full::new(Bytes::from_static(INPUT)))?;
    let answer = sender.send_request(request).await?;
    ensure!(
        answer.status().is_success(),
        "the store says {}",
        answer.status()
    );
    Ok(())
}
