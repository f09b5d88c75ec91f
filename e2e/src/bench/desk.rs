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
use kube::api::PostParams;
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

/// The input of every job.
/// Statuses of one job that may wait to be looked at; a job has a handful.
const WAITING: usize = 256;
const INPUT: &[u8] = b"a clip that nobody looks at";
const PATIENCE: Duration = Duration::from_secs(120);
/// Creates and uploads that are under way at one time.
const AT_ONCE: usize = 32;
/// Namespaces that jobs are submitted to.
pub(super) const NAMESPACES: [&str; 4] = ["bench-1", "bench-3", "bench-latency", "bench-crowd"];

/// When what happened to a job.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// The create request was sent.
    pub(super) asked: Instant,
    /// The store has confirmed the upload.
    pub(super) uploaded: Instant,
    /// A worker got the first task.
    pub(super) begun: Instant,
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
    pub(super) async fn open(stage: &Stage, mut begun: Receiver<Begun>) -> Result<Desk> {
        for namespace in NAMESPACES {
            stage.namespace(namespace).await?;
        }
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
        Ok(Desk {
            client: stage.client.clone(),
            known,
            at_once: Semaphore::new(AT_ONCE),
        })
    }

    /// Submits a job and waits until it has succeeded.
    pub(super) async fn run(&self, namespace: &str, name: &str, steps: usize) -> Result<Times> {
        let key = format!("{namespace}/{name}");
        let (watching, watched) = channel(WAITING);
        lock(&self.known.watched).insert(key.clone(), watching);
        let ran = tokio::time::timeout(PATIENCE, self.submit(namespace, name, steps, watched));
        let (asked, uploaded) = ran
            .await
            .with_context(|| format!("{key} did not end within {} s", PATIENCE.as_secs()))??;
        lock(&self.known.watched).remove(&key);
        let begun = lock(&self.known.begun)
            .remove(&key)
            .with_context(|| format!("{key} has ended and never begun"))?;
        Ok(Times {
            asked,
            uploaded,
            begun,
        })
    }

    async fn submit(
        &self,
        namespace: &str,
        name: &str,
        steps: usize,
        mut watched: Receiver<AIJob>,
    ) -> Result<(Instant, Instant)> {
        let jobs: Api<AIJob> = Api::namespaced(self.client.clone(), namespace);
        let wanted = manifest(name, steps)?;
        let permit = self.at_once.acquire().await?;
        let asked = Instant::now();
        jobs.create(&PostParams::default(), &wanted).await?;
        drop(permit);
        let mut uploaded = None;
        while let Some(job) = watched.recv().await {
            let status = job.status.unwrap_or_default();
            if is_true(&status.conditions, job::FINISHED) {
                let end = get(&status.conditions, job::SUCCEEDED).context("no end")?;
                ensure!(
                    end.status == "True",
                    "{name}: {}: {}",
                    end.reason,
                    end.message
                );
                return Ok((asked, uploaded.context("it needed no upload")?));
            }
            let link = status
                .uploads
                .first()
                .and_then(|upload| upload.link.clone());
            if let (None, Some(link)) = (uploaded, link) {
                let _permit = self.at_once.acquire().await?;
                put(&link).await?;
                uploaded = Some(Instant::now());
            }
        }
        anyhow::bail!("the watch has ended")
    }
}

/// Steps in a row, the first with an upload.
pub(super) fn manifest(name: &str, steps: usize) -> Result<AIJob> {
    let sha256 = hex::encode(digest(&SHA256, INPUT));
    let step = |index: usize| {
        let input = match index.checked_sub(1) {
            None => json!({"name": "video", "upload": {"sha256": sha256, "bytes": INPUT.len()}}),
            Some(before) => {
                json!({"name": "video", "fromStep": {"name": format!("step-{before}")}})
            }
        };
        json!({"name": format!("step-{index}"), "model": MODEL, "upscale": {}, "inputs": [input]})
    };
    let steps: Vec<Value> = (0..steps).map(step).collect();
    let job = json!({
        "apiVersion": "framewright.dev/v1alpha1",
        "kind": "AIJob",
        "metadata": {"name": name},
        "spec": {"steps": steps},
    });
    serde_json::from_value(job).context("a job")
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
