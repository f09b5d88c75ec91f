//! What a worker meets in a cluster: an operator at the other end of its stream and a store, both over TLS with a certificate
//! authority of their own, played by the test; and the worker itself, as a process.

#![allow(dead_code, reason = "each test file needs a part of it")]

mod media;
mod worker;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{DefaultBodyLimit, Path as UrlPath, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum_server::tls_rustls::RustlsConfig;
use framewright_crds::wire::{
    FileOrder, FileSource, InputOrder, ModelOrder, Order, Pipeline, TaskOrder, ToOperator, ToWorker,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::sync::mpsc;

pub(crate) use media::*;
pub(crate) use worker::Worker;

/// Nothing that a test waits for takes longer.
const PATIENCE: Duration = Duration::from_secs(180);
pub(crate) const TOKEN: &str = "a-projected-token";

/// Operator and store.
pub(crate) struct Peer {
    pub(crate) store: Arc<Store>,
    address: SocketAddr,
    ca: String,
    links: mpsc::Receiver<Link>,
    pub(crate) folder: TempDir,
    /// The digest of each model that was ordered, by name.
    models: Mutex<BTreeMap<String, String>>,
}

/// One worker's stream.
pub(crate) struct Link {
    heard: mpsc::Receiver<ToOperator>,
    say: mpsc::Sender<Message>,
    pub(crate) token: String,
}

/// Artifacts by digest, and faults.
#[derive(Default)]
pub(crate) struct Store {
    artifacts: Mutex<HashMap<String, Vec<u8>>>,
    pub(crate) is_down: AtomicBool,
    /// Grants of a lower number are over.
    pub(crate) oldest_grant: AtomicUsize,
    pub(crate) refused: AtomicUsize,
    /// The operator pings nobody.
    pub(crate) is_silent: AtomicBool,
}

#[derive(Clone)]
struct Shared {
    store: Arc<Store>,
    links: mpsc::Sender<Link>,
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
        let (sender, links) = mpsc::channel(8);
        let store = Arc::new(Store::default());
        let routes = Router::new()
            .route("/v1/link", any(link))
            .route("/v1/artifacts/{digest}", get(download).put(upload))
            .layer(DefaultBodyLimit::disable())
            .with_state(Shared {
                store: Arc::clone(&store),
                links: sender,
            });
        let server = axum_server::from_tcp_rustls(listener, tls).unwrap();
        tokio::spawn(server.serve(routes.into_make_service()));
        Peer {
            store,
            address,
            ca,
            links,
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
        let health = free_port();
        let mut command = Command::new(env!("CARGO_BIN_EXE_framewright-worker"));
        command
            .arg("serve")
            .args([
                "--operator",
                &format!("wss://localhost:{}/v1/link", self.address.port()),
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
            .args(["--health-port", &health.to_string()])
            .args(more)
            .env("FRAMEWRIGHT_CA", &self.ca)
            .envs(environment.iter().copied())
            .stdin(Stdio::null());
        let log = self.folder.path().join(format!("worker-{health}.log"));
        command.stderr(std::fs::File::create(&log).unwrap());
        if !more.contains(&"--device") {
            command.args(["--device", "cpu"]);
        }
        if !more.contains(&"--scratch-limit") {
            command.args(["--scratch-limit", "10000000000"]);
        }
        Worker {
            process: command.spawn().unwrap(),
            health,
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
    pub(crate) async fn accept(&mut self) -> Link {
        within(self.links.recv()).await.expect("the server runs")
    }

    /// Whether no worker has opened a stream.
    pub(crate) fn nobody_came(&mut self) -> bool {
        self.links.try_recv().is_err()
    }

    /// A link to what the store has, or will have, under this digest.
    pub(crate) fn url(&self, digest: &str) -> String {
        self.grant(digest, usize::MAX)
    }

    /// The same, with a number that can be declared to be over.
    pub(crate) fn grant(&self, digest: &str, number: usize) -> String {
        format!(
            "https://localhost:{}/v1/artifacts/{digest}?grant={number}",
            self.address.port()
        )
    }

    /// A model of one file that the store has.
    pub(crate) fn model(&self, name: &str, weights: &[u8]) -> ModelOrder {
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
    ) -> ModelOrder {
        let weights_digest = digest(format!("x.safetensors {sha256}\n").as_bytes());
        let mut models = self.models.lock().unwrap();
        models.insert(name.to_owned(), weights_digest.clone());
        ModelOrder {
            name: name.to_owned(),
            digest: weights_digest,
            files: vec![FileOrder {
                path: "x.safetensors".to_owned(),
                sha256: sha256.to_owned(),
                bytes: bytes as i64,
                from,
            }],
        }
    }

    /// A task with one input that the store has.
    pub(crate) fn task(&self, id: &str, model: &str, input: &str, content: &[u8]) -> TaskOrder {
        let sha256 = self.store.put(content);
        TaskOrder {
            task: id.parse().unwrap(),
            job: "studio/lighthouse".to_owned(),
            model: model.to_owned(),
            digest: self
                .models
                .lock()
                .unwrap()
                .get(model)
                .cloned()
                .unwrap_or_default(),
            pipeline: Pipeline::Upscale(Default::default()),
            inputs: vec![InputOrder {
                name: input.to_owned(),
                bytes: content.len() as i64,
                url: self.url(&sha256),
                sha256,
            }],
        }
    }
}

impl Store {
    /// Gives these bytes to whoever asks for that digest.
    pub(crate) fn lie(&self, digest: &str, content: &[u8]) {
        let mut artifacts = self.artifacts.lock().unwrap();
        artifacts.insert(digest.to_owned(), content.to_vec());
    }

    /// Keeps this and gives its digest.
    pub(crate) fn put(&self, content: &[u8]) -> String {
        let digest = digest(content);
        let mut artifacts = self.artifacts.lock().unwrap();
        artifacts.insert(digest.clone(), content.to_vec());
        digest
    }

    pub(crate) fn get(&self, digest: &str) -> Option<Vec<u8>> {
        self.artifacts.lock().unwrap().get(digest).cloned()
    }

    fn trouble(&self, query: &HashMap<String, String>) -> Option<Response> {
        let problem = |status: StatusCode, message: &str| {
            self.refused.fetch_add(1, Ordering::Relaxed);
            let body = serde_json::json!({"reason": "Test", "message": message});
            Some((status, axum::Json(body)).into_response())
        };
        let grant: usize = query["grant"].parse().unwrap();
        if grant < self.oldest_grant.load(Ordering::Relaxed) {
            return problem(StatusCode::FORBIDDEN, "the link ended");
        }
        if self.is_down.load(Ordering::Relaxed) {
            return problem(StatusCode::INSUFFICIENT_STORAGE, "the volume is full");
        }
        None
    }
}

impl Link {
    /// What the worker says next.
    pub(crate) async fn hear(&mut self) -> ToOperator {
        self.try_hear().await.expect("the stream is open")
    }

    /// The same, or nothing when the worker has closed the stream.
    pub(crate) async fn try_hear(&mut self) -> Option<ToOperator> {
        within(self.heard.recv()).await
    }

    /// Skips messages until one is as wanted.
    pub(crate) async fn hear_until<T>(&mut self, wanted: impl Fn(ToOperator) -> Option<T>) -> T {
        loop {
            if let Some(found) = wanted(self.hear().await) {
                return found;
            }
        }
    }

    /// Says this as the leader of epoch 1.
    pub(crate) async fn order(&self, order: Order) {
        self.order_of_epoch(1, order).await;
    }

    pub(crate) async fn order_of_epoch(&self, epoch: u64, order: Order) {
        let text = serde_json::to_string(&ToWorker { epoch, order }).unwrap();
        let _ = self.say.send(Message::text(text)).await;
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

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

async fn link(
    State(shared): State<Shared>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let authorization = headers.get("authorization").unwrap().to_str().unwrap();
    let token = authorization.strip_prefix("Bearer ").unwrap().to_owned();
    upgrade.on_upgrade(move |socket| converse(socket, token, shared))
}

async fn converse(mut socket: WebSocket, token: String, shared: Shared) {
    let Shared { store, links } = shared;
    let mut pings = tokio::time::interval(Duration::from_secs(5));
    let (say, mut to_say) = mpsc::channel(64);
    let (hearing, heard) = mpsc::channel(64);
    if links.send(Link { heard, say, token }).await.is_err() {
        return;
    }
    loop {
        tokio::select! {
            _ = pings.tick() => if !store.is_silent.load(Ordering::Relaxed) {
                let _ = socket.send(Message::Ping(Bytes::new())).await;
            },
            message = to_say.recv() => match message {
                Some(message) => if socket.send(message).await.is_err() { return },
                // The test has dropped its end: the connection breaks.
                None => return,
            },
            message = socket.recv() => match message {
                Some(Ok(Message::Text(text))) => {
                    let said = serde_json::from_str(&text).expect("a message");
                    if hearing.send(said).await.is_err() { return }
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
        }
    }
}

async fn download(
    State(shared): State<Shared>,
    UrlPath(digest): UrlPath<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    if let Some(trouble) = shared.store.trouble(&query) {
        return trouble;
    }
    match shared.store.get(&digest) {
        Some(content) => content.into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn upload(
    State(shared): State<Shared>,
    UrlPath(wanted): UrlPath<String>,
    Query(query): Query<HashMap<String, String>>,
    content: Bytes,
) -> Response {
    if let Some(trouble) = shared.store.trouble(&query) {
        return trouble;
    }
    if digest(&content) != wanted {
        return StatusCode::UNPROCESSABLE_ENTITY.into_response();
    }
    shared.store.put(&content);
    StatusCode::CREATED.into_response()
}
