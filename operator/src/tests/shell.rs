//! An operator's event loop, with an API server in this process.

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Parser;
use framewright_core::engine::interface::{Change, Event, Read};
use framewright_core::engine::{Engine, Settings};
use framewright_core::jobs::admission::AdmitAll;
use framewright_crds::{AIJob, ModelPool};
use framewright_store::client::StoreClient;
use framewright_store::grants::SigningKeys;
use framewright_store::watch::FileWatch;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;

use super::api_server::ApiServer;
use crate::args::{Cli, Command};
use crate::context::{Context, template_settings};
use crate::event_loop::{self, Input};
use crate::leadership::Leadership;
use crate::link_signer::LinkSigner;
use crate::metrics::Metrics;
use crate::{event_publisher, run};

/// The store is at an address at which nobody listens.
const STORE: &str = "https://127.0.0.1:1";

/// What the parts of an operator share, and what the event loop needs besides.
pub(super) struct Parts {
    pub(super) context: Arc<Context>,
    pub(super) waiting: mpsc::Receiver<Input>,
    pub(super) serving: watch::Sender<Option<u64>>,
    keys: SigningKeys,
}

/// The parts of an operator that leads in this epoch, if any.
pub(super) fn parts(client: kube::Client, epoch: Option<u64>) -> Parts {
    let keys = SigningKeys::parse(&SigningKeys::file([7; 32])).expect("is a key");
    let authority = rcgen::generate_simple_self_signed(["store".to_owned()]).expect("is made");
    let store = StoreClient::new(STORE, authority.cert.pem().as_bytes(), keys.clone());
    let store = store.expect("is a client");
    let (files, _) = FileWatch::start(store.clone());
    let (publisher, publishing) = event_publisher::publisher(client.clone(), "operator-0");
    tokio::spawn(publishing);
    let (inputs, waiting) = mpsc::channel(event_loop::INPUTS_WAITING);
    let (serving, served) = watch::channel(None);
    let context = Context {
        client,
        args: args(),
        leadership: Leadership::for_test(epoch),
        store,
        files,
        metrics: Arc::new(Metrics::default()),
        publisher,
        inputs,
        serving: served,
        deleted: Notify::new(),
    };
    Parts {
        context: Arc::new(context),
        waiting,
        serving,
        keys,
    }
}

fn args() -> crate::args::RunArgs {
    let words = [
        "framewright-operator",
        "run",
        "--namespace=system",
        "--pod-name=operator-0",
        "--pod-ip=10.0.0.1",
        "--worker-image=worker",
        "--store-url",
        STORE,
    ];
    let Command::Run(args) = Cli::parse_from(words).command else {
        panic!("it is to run");
    };
    *args
}

/// An operator's event loop.
pub(super) struct Shell {
    pub(super) api: ApiServer,
    pub(super) context: Arc<Context>,
    pub(super) running: JoinHandle<()>,
}

impl Shell {
    /// It knows these jobs and pools, and does not lead.
    pub(super) async fn knows(api: ApiServer, jobs: Vec<AIJob>, pools: Vec<ModelPool>) -> Shell {
        let shell = Shell::empty(api);
        shell.tell(Event::Job(Change::Listed(listed(jobs)))).await;
        shell.tell(Event::Pool(Change::Listed(listed(pools)))).await;
        shell
            .tell(Event::Pod(Change::Listed(listed::<Pod>(Vec::new()))))
            .await;
        shell.tell(Event::NamespacesListed(BTreeMap::new())).await;
        shell
    }

    /// No watch has listed.
    pub(super) fn empty(api: ApiServer) -> Shell {
        let Parts {
            context,
            waiting,
            serving,
            keys,
        } = parts(api.client(), None);
        let engine = Engine::new(Settings {
            template: template_settings(&context.args, ""),
            catalog: Vec::new(),
            signer: Box::new(LinkSigner::new(keys, STORE.to_owned(), None)),
            gate: Box::new(AdmitAll),
        });
        let running = event_loop::run(engine, Arc::clone(&context), waiting, serving);
        Shell {
            api,
            context,
            running: tokio::spawn(running),
        }
    }

    /// It leads.
    pub(super) async fn leads(&self, epoch: u64) {
        self.context.leadership.set_for_test(Some(epoch));
        self.tell(Event::TermBegan { epoch }).await;
    }

    pub(super) async fn tell(&self, event: Event) {
        self.context.send(Input::Event(event)).await;
    }

    /// Whether a line is among its metrics.
    pub(super) fn counts(&self, line: &str) -> bool {
        self.context.metrics.text().lines().any(|told| told == line)
    }
}

fn listed<K>(objects: Vec<K>) -> Vec<Read<K>> {
    let objects = objects.into_iter().map(Box::new);
    objects.map(Read::Object).collect()
}

/// A job that waits for its file.
pub(super) fn job(name: &str) -> AIJob {
    let input = json!({"name": "video", "upload": {"digest": format!("sha256:{}", "ab".repeat(32)), "bytes": 5}});
    of(json!({
        "metadata": {
            "name": name, "namespace": "studio", "uid": format!("uid-{name}"), "resourceVersion": "7",
            "creationTimestamp": jiff::Timestamp::now().to_string(),
        },
        "spec": {"steps": [{"name": "large", "model": "x2", "upscale": {}, "inputs": [input]}]},
    }))
}

/// A job that ended long ago and is to be deleted.
pub(super) fn finished_job(name: &str) -> AIJob {
    let mut job = job(name);
    job.spec.ttl_seconds_after_finished = 10;
    job.status = Some(of(json!({
        "finishedAt": "2026-01-01T00:00:00Z",
        "conditions": [{
            "type": "Finished", "status": "True", "reason": "Finished", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }],
    })));
    job
}

/// A pool of one worker.
pub(super) fn pool(name: &str) -> ModelPool {
    let file = json!({"path": "x2.safetensors", "digest": format!("sha256:{}", "ef".repeat(32)), "bytes": 1});
    of(json!({
        "metadata": {"namespace": "studio", "name": name, "uid": format!("uid-{name}"), "resourceVersion": "3", "generation": 1},
        "spec": {"device": "cpu", "replicas": 1, "models": [{"name": "x2", "source": {"upload": {}}, "files": [file]}]},
    }))
}

/// An object, from JSON.
pub(super) fn of<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("is such an object")
}

/// A client of an API server that listens on this machine, set up as the operator's own.
pub(super) async fn client_over_tcp(api: &ApiServer) -> kube::Client {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let address = listener.local_addr().expect("an address");
    let router = api.router();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let url = format!("http://{address}").parse().expect("is a URL");
    run::client_of(kube::Config::new(url)).expect("is a client")
}
