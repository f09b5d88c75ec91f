//! Submits jobs as a user does, with an upload to the link in the status, and notes when what happens.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use framewright_crds::AIJob;
use framewright_crds::conditions::{get, is_true, job};
use futures::StreamExt;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::fleet::MODEL;
use super::stage::Stage;
use super::worker::Begun;

/// Statuses of one job that may wait to be looked at; a job has a handful.
const WAITING: usize = 256;
/// The input of every job.
const INPUT: &[u8] = b"a clip that nobody looks at";
const PATIENCE: Duration = Duration::from_secs(120);
/// Creates and uploads that are under way at one time.
const AT_ONCE: usize = 32;
/// The pipeline that takes no input, as a step names it. Only a CRD that was made for tests has it.
const WITHOUT_INPUT: &str = "test";

/// What the first step of a job takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// A file, uploaded to the link in the status.
    Upload,
    /// Nothing.
    None,
}

/// What happened to a job, and when.
#[derive(Debug)]
pub(super) struct Story {
    /// The create request was sent.
    pub(super) asked: Instant,
    /// The store has confirmed the upload; none if there was none.
    pub(super) uploaded: Option<Instant>,
    /// A worker got the first task.
    pub(super) begun: Instant,
    /// Its statuses as they came, each once.
    pub(super) statuses: Vec<Value>,
}

/// Submits jobs.
pub(super) struct Desk {
    client: Client,
    known: Arc<Known>,
    at_once: Semaphore,
}

/// What has been seen, by namespace/name.
#[derive(Default)]
struct Known {
    watched: Mutex<HashMap<String, Sender<AIJob>>>,
    begun: Mutex<HashMap<String, Instant>>,
}

impl Desk {
    /// Watches all jobs from now on.
    pub(super) fn open(stage: &Stage, mut begun: Receiver<Begun>) -> Desk {
        let known = Arc::new(Known::default());
        let noting = Arc::clone(&known);
        tokio::spawn(async move {
            while let Some((job, at)) = begun.recv().await {
                lock(&noting.begun).entry(job).or_insert(at);
            }
        });
        let showing = Arc::clone(&known);
        let jobs: Api<AIJob> = Api::all(stage.client.clone());
        let watched = watcher(jobs, watcher::Config::default())
            .default_backoff()
            .applied_objects();
        tokio::spawn(watched.for_each(move |job| {
            // The watch starts anew after an error.
            let Ok(job) = job else {
                return futures::future::ready(());
            };
            let namespace = job.namespace().unwrap_or_default();
            let key = format!("{namespace}/{}", job.name_any());
            if let Some(watching) = lock(&showing.watched).get(&key) {
                // Who does not wait any more has what it wanted.
                let _ = watching.try_send(job);
            }
            futures::future::ready(())
        }));
        Desk {
            client: stage.client.clone(),
            known,
            at_once: Semaphore::new(AT_ONCE),
        }
    }

    /// Whether the API server takes jobs without input.
    pub(super) async fn takes_jobs_without_input(&self, namespace: &str) -> Result<bool> {
        let dry_run = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let wanted = manifest("without-input", 1, Input::None);
        match self.jobs(namespace).create(&dry_run, &wanted).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 422 || status.code == 400 => Ok(false),
            Err(error) => Err(error).context("ask whether a job without input is taken"),
        }
    }

    /// Submits a job and waits until it has succeeded.
    pub(super) async fn run(
        &self,
        namespace: &str,
        name: &str,
        steps: usize,
        input: Input,
    ) -> Result<Story> {
        let key = format!("{namespace}/{name}");
        let (watching, watched) = channel(WAITING);
        lock(&self.known.watched).insert(key.clone(), watching);
        let wanted = manifest(name, steps, input);
        let ran = tokio::time::timeout(PATIENCE, self.submit(namespace, &wanted, watched));
        let mut story = ran
            .await
            .with_context(|| format!("{key} did not end within {} s", PATIENCE.as_secs()))??;
        lock(&self.known.watched).remove(&key);
        story.begun = lock(&self.known.begun)
            .remove(&key)
            .with_context(|| format!("{key} has ended and never begun"))?;
        ensure!(
            story.uploaded.is_some() == (input == Input::Upload),
            "{key}: {input:?}, and uploaded at {:?}",
            story.uploaded
        );
        Ok(story)
    }

    async fn submit(
        &self,
        namespace: &str,
        wanted: &DynamicObject,
        mut watched: Receiver<AIJob>,
    ) -> Result<Story> {
        let permit = self.at_once.acquire().await?;
        let asked = Instant::now();
        self.jobs(namespace)
            .create(&PostParams::default(), wanted)
            .await?;
        drop(permit);
        let mut story = Story {
            asked,
            uploaded: None,
            begun: asked,
            statuses: Vec::new(),
        };
        while let Some(job) = watched.recv().await {
            let Some(status) = job.status else { continue };
            let told = serde_json::to_value(&status)?;
            if story.statuses.last() != Some(&told) {
                story.statuses.push(told);
            }
            if is_true(&status.conditions, job::FINISHED) {
                let end = get(&status.conditions, job::SUCCEEDED).context("no end")?;
                ensure!(
                    end.status == "True",
                    "{}: {}: {}",
                    wanted.name_any(),
                    end.reason,
                    end.message
                );
                return Ok(story);
            }
            let link = status
                .uploads
                .first()
                .and_then(|upload| upload.link.clone());
            if let (None, Some(link)) = (story.uploaded, link) {
                let _permit = self.at_once.acquire().await?;
                put(&link).await?;
                story.uploaded = Some(Instant::now());
            }
        }
        anyhow::bail!("the watch has ended")
    }

    fn jobs(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &resource())
    }
}

fn resource() -> ApiResource {
    ApiResource::erase::<AIJob>(&())
}

/// Steps in a row, the first with this input.
pub(super) fn manifest(name: &str, steps: usize, input: Input) -> DynamicObject {
    let sha256 = hex::encode(digest(&SHA256, INPUT));
    let step = |index: usize| {
        let name = format!("step-{index}");
        let input = match (index.checked_sub(1), input) {
            (None, Input::None) => {
                return json!({"name": name, "model": MODEL, WITHOUT_INPUT: {}, "inputs": []});
            }
            (None, Input::Upload) => {
                json!({"name": "video", "upload": {"sha256": sha256, "bytes": INPUT.len()}})
            }
            (Some(before), _) => {
                json!({"name": "video", "fromStep": {"name": format!("step-{before}")}})
            }
        };
        json!({"name": name, "model": MODEL, "upscale": {}, "inputs": [input]})
    };
    let steps: Vec<Value> = (0..steps).map(step).collect();
    DynamicObject::new(name, &resource()).data(json!({"spec": {"steps": steps}}))
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

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
