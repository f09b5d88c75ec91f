//! What a worker meets in a cluster: an operator at the other end of its stream and a store, both over TLS with a certificate
//! authority of their own, played by the test; and the worker itself, as a process.

#![allow(dead_code, reason = "each test file needs a part of it")]

mod media;
mod store;
mod stream;
mod worker;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{any, get};
use axum_server::tls_rustls::RustlsConfig;
use framewright_crds::names;
use framewright_crds::pipelines::{BASE_MODEL, Pipeline};
use framewright_crds::protocol::{
    FileConfig, FileSource, InputFile, ModelConfig, RunTask, TaskModel,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::sync::mpsc;

pub(crate) use media::*;
pub(crate) use store::Store;
pub(crate) use stream::Stream;
pub(crate) use worker::Worker;

/// Nothing that a test waits for takes longer.
const PATIENCE: Duration = Duration::from_secs(180);
pub(crate) const TOKEN: &str = "a-projected-token";

/// Operator and store.
pub(crate) struct Peer {
    pub(crate) store: Arc<Store>,
    address: SocketAddr,
    ca: String,
    streams: mpsc::Receiver<Stream>,
    /// How many workers were started.
    workers: AtomicUsize,
    pub(crate) folder: TempDir,
    /// The digest of each model that was configured, by name.
    models: Mutex<BTreeMap<String, String>>,
}

#[derive(Clone)]
struct Shared {
    store: Arc<Store>,
    streams: mpsc::Sender<Stream>,
}

impl Peer {
    pub(crate) async fn start() -> Peer {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (ca, certificate, key) = certificates();
        let tls = RustlsConfig::from_pem(certificate.into_bytes(), key.into_bytes())
            .await
            .unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, streams) = mpsc::channel(8);
        let store = Arc::new(Store::default());
        let routes = Router::new()
            .route("/v1/stream", any(stream::open))
            .route(
                "/v1/artifacts/{digest}",
                get(store::download).put(store::upload),
            )
            .layer(DefaultBodyLimit::disable())
            .with_state(Shared {
                store: Arc::clone(&store),
                streams: sender,
            });
        let server = axum_server::from_tcp_rustls(listener, tls).unwrap();
        tokio::spawn(server.serve(routes.into_make_service()));
        Peer {
            store,
            address,
            ca,
            streams,
            workers: AtomicUsize::new(0),
            folder: TempDir::new().unwrap(),
            models: Mutex::default(),
        }
    }

    /// Starts a worker that dials this operator.
    pub(crate) fn worker(&self) -> Worker {
        self.worker_with(&[])
    }

    pub(crate) fn worker_with(&self, more: &[&str]) -> Worker {
        self.worker_in(&[], more)
    }

    /// The same with settings from the environment.
    pub(crate) fn worker_in(&self, environment: &[(&str, &str)], more: &[&str]) -> Worker {
        let token = self.folder.path().join("token");
        std::fs::write(&token, format!("{TOKEN}\n")).unwrap();
        let number = self.workers.fetch_add(1, Ordering::Relaxed);
        let mut command = Command::new(env!("CARGO_BIN_EXE_framewright-worker"));
        command
            .arg("serve")
            .args([
                "--operator",
                &format!("wss://localhost:{}/v1/stream", self.address.port()),
            ])
            .args(["--token-file".as_ref(), token.as_os_str()])
            .args([
                "--weights-cache".as_ref(),
                self.folder.path().join("weights").as_os_str(),
            ])
            .args([
                "--scratch".as_ref(),
                self.folder.path().join("scratch").as_os_str(),
            ])
            .args(["--weights-cache-limit", "20000000000"])
            .args(["--health-port", "0"])
            .args(more)
            .env("FRAMEWRIGHT_CA", &self.ca)
            .envs(environment.iter().copied())
            .stdin(Stdio::null());
        let log = self.folder.path().join(format!("worker-{number}.log"));
        command.stderr(std::fs::File::create(&log).unwrap());
        if !more.contains(&"--device") {
            command.args(["--device", "cpu"]);
        }
        if !more.contains(&"--scratch-limit") {
            command.args(["--scratch-limit", "10000000000"]);
        }
        Worker {
            process: command.spawn().unwrap(),
            log,
        }
    }

    /// The same operator under another certificate authority.
    pub(crate) async fn impostor(&self) -> Peer {
        let other = Peer::start().await;
        Peer {
            ca: self.ca.clone(),
            ..other
        }
    }

    /// The next stream that a worker opens.
    pub(crate) async fn accept(&mut self) -> Stream {
        within(self.streams.recv()).await.expect("the server runs")
    }

    /// Whether no worker has opened a stream.
    pub(crate) fn nobody_came(&mut self) -> bool {
        self.streams.try_recv().is_err()
    }

    /// A link to what the store has, or will have, under this digest.
    pub(crate) fn url(&self, digest: &str) -> String {
        self.link(digest, usize::MAX)
    }

    /// The same, with a number that can be declared to have expired.
    pub(crate) fn link(&self, digest: &str, number: usize) -> String {
        format!(
            "https://localhost:{}/v1/artifacts/{}?link={number}",
            self.address.port(),
            names::bare(digest)
        )
    }

    /// A model of one file that the store has.
    pub(crate) fn model(&self, name: &str, weights: &[u8]) -> ModelConfig {
        let sha256 = self.store.put(weights);
        self.model_from(
            name,
            &sha256,
            weights.len(),
            FileSource::Url(self.url(&sha256)),
        )
    }

    pub(crate) fn model_from(
        &self,
        name: &str,
        sha256: &str,
        bytes: usize,
        from: FileSource,
    ) -> ModelConfig {
        let file = FileConfig {
            path: "x.safetensors".to_owned(),
            digest: names::digest(sha256),
            bytes: bytes as i64,
            from,
        };
        self.model_of(name, vec![file])
    }

    /// A model of these files.
    pub(crate) fn model_of(&self, name: &str, files: Vec<FileConfig>) -> ModelConfig {
        let mut lines: Vec<String> = files
            .iter()
            .map(|file| format!("{}  {}\n", names::bare(&file.digest), file.path))
            .collect();
        lines.sort();
        let model = names::digest(&digest(lines.concat().as_bytes()));
        let mut models = self.models.lock().unwrap();
        models.insert(name.to_owned(), model.clone());
        ModelConfig {
            name: name.to_owned(),
            digest: model,
            files,
        }
    }

    /// A file of a model that the store has.
    pub(crate) fn file(&self, path: &str, content: &[u8]) -> FileConfig {
        let sha256 = self.store.put(content);
        FileConfig {
            path: path.to_owned(),
            digest: names::digest(&sha256),
            bytes: content.len() as i64,
            from: FileSource::Url(self.url(&sha256)),
        }
    }

    /// A task with one input that the store has.
    pub(crate) fn task(&self, id: &str, model: &str, input: &str, content: &[u8]) -> RunTask {
        let sha256 = self.store.put(content);
        RunTask {
            task: id.parse().unwrap(),
            job: "studio/lighthouse".to_owned(),
            pipeline: Pipeline::Upscale(Default::default()),
            models: vec![TaskModel {
                role: BASE_MODEL.to_owned(),
                name: model.to_owned(),
                digest: self.model_digest(model),
                scale: None,
            }],
            inputs: vec![InputFile {
                name: input.to_owned(),
                bytes: content.len() as i64,
                url: self.url(&sha256),
                digest: names::digest(&sha256),
            }],
            seed: 7,
            resume: None,
            max_units: None,
        }
    }

    /// The digest of a configured model.
    pub(crate) fn model_digest(&self, name: &str) -> String {
        let models = self.models.lock().unwrap();
        models.get(name).cloned().unwrap_or_default()
    }
}

async fn within<T>(waited_for: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, waited_for)
        .await
        .expect("it comes in time")
}

/// Looks until it finds.
pub(crate) async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn digest(content: &[u8]) -> String {
    hex::encode(ring::digest::digest(&ring::digest::SHA256, content))
}

fn certificates() -> (String, String, String) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .signed_by(&key, &Issuer::new(ca, ca_key))
        .unwrap();
    (ca_pem, certificate.pem(), key.serialize_pem())
}
