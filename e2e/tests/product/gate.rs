//! The only way from an operator to the API server, on which a test can lose any write, and the operator with it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, request::Parts};
use axum::response::{IntoResponse, Response};
use framewright_e2e::Cluster;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::weather::Weather;

/// Larger than any request of the operator.
const REQUEST_LIMIT: usize = 8 << 20;

/// What is lost when the operator is killed at a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The API server never sees the write.
    Request,
    /// The API server has taken the write, and nobody hears so.
    Answer,
}

/// At which of its writes an operator is killed; they are counted from 1 and from its start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trap {
    pub(crate) write: usize,
    pub(crate) lost: Lost,
}

/// An HTTP server before the API server. It passes on what it is given, tokens included, until the trap springs: from then on
/// nothing, since what it was given came from a dead operator.
pub(crate) struct Gate {
    pub(crate) address: SocketAddr,
    keeper: Arc<Keeper>,
    serving: JoinHandle<std::io::Result<()>>,
}

struct Keeper {
    api: Client,
    kill: Box<dyn Fn() + Send + Sync>,
    count: Mutex<Count>,
    sprung: watch::Sender<bool>,
    weather: Mutex<Option<Arc<Weather>>>,
}

#[derive(Default)]
struct Count {
    trap: Option<Trap>,
    has_led: bool,
    writes: Vec<String>,
    is_shut: bool,
}

enum Way {
    Open,
    Caught(Lost),
    Shut,
}

impl Gate {
    /// Opens the gate; `kill` must end the operator at once.
    pub(crate) async fn open(
        cluster: &Cluster,
        kill: impl Fn() + Send + Sync + 'static,
    ) -> Result<Gate> {
        let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig())?;
        let mut config =
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        // Who asks is told by what is passed on.
        config.auth_info = AuthInfo::default();
        let keeper = Arc::new(Keeper {
            api: Client::try_from(config)?,
            kill: Box::new(kill),
            count: Mutex::default(),
            sprung: watch::Sender::new(false),
            weather: Mutex::default(),
        });
        let listener = TcpListener::bind((cluster.machine_address(), 0))
            .await
            .context("listen where the node can dial")?;
        let address = listener.local_addr()?;
        let router = Router::new().fallback(pass).with_state(Arc::clone(&keeper));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Gate {
            address,
            keeper,
            serving,
        })
    }

    /// Forgets the operator that was there; another one comes, and perhaps into a trap.
    pub(crate) fn expect_another(&self, trap: Option<Trap>) {
        self.keeper.sprung.send_replace(false);
        *self.keeper.count() = Count {
            trap,
            ..Count::default()
        };
    }

    /// From now on requests meet trouble.
    pub(crate) fn storm(&self) -> Arc<Weather> {
        let weather = Arc::<Weather>::default();
        *self.keeper.weather() = Some(Arc::clone(&weather));
        weather
    }

    /// Waits until the trap has sprung.
    pub(crate) async fn sprung(&self) {
        let mut sprung = self.keeper.sprung.subscribe();
        // The gate holds the other end.
        let _ = sprung.wait_for(|sprung| *sprung).await;
    }

    /// Whether the present operator was caught: nothing of it passes any more.
    pub(crate) fn is_shut(&self) -> bool {
        self.keeper.count().is_shut
    }

    /// The writes of the present operator; if it was killed, the last one is where.
    pub(crate) fn writes(&self) -> Vec<String> {
        self.keeper.count().writes.clone()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Keeper {
    fn count(&self) -> std::sync::MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn weather(&self) -> std::sync::MutexGuard<'_, Option<Arc<Weather>>> {
        self.weather.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn way(&self, request: &Request) -> Way {
        let mut count = self.count();
        if count.is_shut {
            return Way::Shut;
        }
        let (method, path) = (request.method(), request.uri().path());
        if !is_write(method, path) {
            return Way::Open;
        }
        // A lease that is renewed is the same lease.
        if path.contains("/leases/") && std::mem::replace(&mut count.has_led, true) {
            return Way::Open;
        }
        count.writes.push(format!("{method} {path}"));
        match count.trap {
            Some(trap) if trap.write == count.writes.len() => {
                count.is_shut = true;
                Way::Caught(trap.lost)
            }
            Some(_) | None => Way::Open,
        }
    }

    fn forward(
        &self,
        parts: Parts,
        body: Body,
    ) -> impl Future<Output = Result<Response>> + Send + 'static {
        let api = self.api.clone();
        async move {
            let body = to_bytes(body, REQUEST_LIMIT).await?;
            let answer = api.send(Request::from_parts(parts, body.into())).await?;
            Ok(answer.map(Body::new))
        }
    }

    fn spring(&self) {
        (self.kill)();
        self.sprung.send_replace(true);
    }
}

/// Reviews of tokens change nothing.
fn is_write(method: &Method, path: &str) -> bool {
    let changes = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE].contains(method);
    changes && !path.ends_with("/tokenreviews")
}

async fn pass(State(keeper): State<Arc<Keeper>>, request: Request) -> Response {
    let way = keeper.way(&request);
    let (parts, body) = request.into_parts();
    match way {
        Way::Open => {}
        Way::Caught(Lost::Request) => {
            keeper.spring();
            return std::future::pending().await;
        }
        Way::Caught(Lost::Answer) => {
            let taken = keeper.forward(parts, body).await;
            if let Err(error) = taken {
                eprintln!("the write whose answer is lost: {error:#}");
            }
            keeper.spring();
            return std::future::pending().await;
        }
        Way::Shut => return std::future::pending().await,
    }
    let trouble = keeper.weather().as_ref().and_then(|weather| weather.next());
    let forward = keeper.forward(parts, body);
    let answer = match trouble {
        Some(trouble) => trouble.answer(forward).await,
        None => forward.await,
    };
    answer.unwrap_or_else(|error| (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response())
}
