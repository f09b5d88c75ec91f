//! The operator's end of a watch stream: a task that keeps one stream open.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use framewright_crds::error_chain::error_chain;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_tls_with_config};
use tokio_util::task::AbortOnDropHandle;

use super::wishes::{FileEvents, FileWatchHandle, Shared};
use super::{SEND_TIMEOUT, WatchAnswer};
use crate::answers::Problem;
use crate::client::{StoreClient, StoreError, unanswered};
use crate::key::ArtifactKey;

const OPERATION: &str = "watch for files";

/// Keeps a watch stream open, for as long as its events are taken.
#[derive(Debug)]
pub struct FileWatch;

/// When a client does what.
#[derive(Clone, Copy, Debug)]
pub struct WatchTimes {
    /// How often all wishes are sent again. Whatever went wrong unnoticed is right again after that time.
    pub repeat_every: Duration,
    /// How often the client says that it is there; less than half of what the store waits for.
    pub ping_every: Duration,
    /// How long the store may say nothing; more than twice the time between pings.
    pub silence: Duration,
    /// How long a connection may take to open.
    pub connect: Duration,
    /// The first and the longest wait before the next try to connect.
    pub retry: (Duration, Duration),
}

impl Default for WatchTimes {
    fn default() -> WatchTimes {
        WatchTimes {
            repeat_every: Duration::from_secs(60),
            ping_every: Duration::from_secs(10),
            silence: Duration::from_secs(30),
            connect: Duration::from_secs(10),
            retry: (Duration::from_millis(50), Duration::from_secs(2)),
        }
    }
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
enum WatchError {
    #[error("the store at {base} cannot be reached to {OPERATION}")]
    Unreachable {
        base: String,
        source: Box<tungstenite::Error>,
    },
    #[error("the store at {base} did not open a stream to {OPERATION} within {} s", after.as_secs())]
    Slow { base: String, after: Duration },
    #[error(transparent)]
    Answered(StoreError),
    #[error("the store at {base} said nothing for {} s", after.as_secs())]
    Silent { base: String, after: Duration },
    #[error("the store at {base} took no message for {} s", SEND_TIMEOUT.as_secs())]
    Stuck { base: String },
    #[error("the store at {base} closed the stream to {OPERATION}")]
    Closed { base: String },
    #[error("the stream from the store at {base} broke")]
    Broken {
        base: String,
        source: Box<tungstenite::Error>,
    },
    #[error(
        "a message of the store at {base} is not understood; operator and store are of different versions"
    )]
    NotUnderstood {
        base: String,
        source: serde_json::Error,
    },
}

impl FileWatch {
    /// Begins to keep a stream open. Nothing is watched yet.
    #[must_use]
    pub fn start(client: StoreClient) -> (FileWatchHandle, FileEvents) {
        FileWatch::start_with(client, WatchTimes::default())
    }

    /// The same with other times.
    #[must_use]
    pub fn start_with(client: StoreClient, times: WatchTimes) -> (FileWatchHandle, FileEvents) {
        let shared = Arc::new(Shared::default());
        let stream = tokio::spawn(keep_open(client, times, Arc::clone(&shared)));
        (
            FileWatchHandle::new(Arc::clone(&shared)),
            FileEvents::new(shared, AbortOnDropHandle::new(stream)),
        )
    }
}

async fn keep_open(client: StoreClient, times: WatchTimes, shared: Arc<Shared>) {
    let mut waits = backoff(&times);
    loop {
        // A stream that worked and was closed may be open again at once, as when the store has new keys: nobody need know.
        let mut is_quiet = false;
        let error = match connect(&client, &times).await {
            Ok(socket) => {
                shared.opened();
                let (error, has_answered) = carry(socket, &client, &times, &shared).await;
                shared.closed();
                if has_answered {
                    waits = backoff(&times);
                    is_quiet = matches!(error, WatchError::Closed { .. });
                }
                error
            }
            Err(error) => error,
        };
        if !is_quiet {
            shared.is_away(error_chain(&error).to_string());
        }
        sleep(waits.next().unwrap_or(times.retry.1)).await;
    }
}

fn backoff(times: &WatchTimes) -> ExponentialBackoff {
    let (first, longest) = times.retry;
    ExponentialBuilder::new()
        .with_min_delay(first)
        .with_max_delay(longest)
        .without_max_times()
        .with_jitter()
        .build()
}

async fn connect(client: &StoreClient, times: &WatchTimes) -> Result<Socket, WatchError> {
    let base = || client.base().to_owned();
    let (address, connector) = client.watch_address();
    // Messages are small and somebody waits for each: none is to wait for more of them.
    let is_sent_at_once = true;
    let opening = connect_async_tls_with_config(address, None, is_sent_at_once, Some(connector));
    match timeout(times.connect, opening).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(tungstenite::Error::Http(response))) => {
            let body = response.body().as_deref().unwrap_or_default();
            let error = unanswered(OPERATION, response.status(), body);
            Err(WatchError::Answered(error))
        }
        Ok(Err(source)) => Err(WatchError::Unreachable {
            base: base(),
            source: Box::new(source),
        }),
        Err(_) => Err(WatchError::Slow {
            base: base(),
            after: times.connect,
        }),
    }
}

/// Sends and reads at the same time, so that two full connections never wait for each other. Why it ended, and whether the store
/// has said anything.
async fn carry(
    socket: Socket,
    client: &StoreClient,
    times: &WatchTimes,
    shared: &Shared,
) -> (WatchError, bool) {
    let (mut sink, mut stream) = socket.split();
    let mut has_answered = false;
    let error = tokio::select! {
        error = send_all(&mut sink, client, times, shared) => error,
        error = read_all(&mut stream, (client, times), shared, &mut has_answered) => error,
    };
    (error, has_answered)
}

async fn send_all(
    sink: &mut SplitSink<Socket, Message>,
    client: &StoreClient,
    times: &WatchTimes,
    shared: &Shared,
) -> WatchError {
    let base = || client.base().to_owned();
    let mut pings = interval(times.ping_every);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut repeats = interval(times.repeat_every);
    repeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is at once, and all wishes are on their way already.
    repeats.reset();
    loop {
        let message = tokio::select! {
            request = shared.next_request() => {
                // Strings always become JSON.
                Message::text(serde_json::to_string(&request).unwrap_or_default())
            }
            _ = pings.tick() => Message::Ping(Vec::new().into()),
            _ = repeats.tick() => {
                shared.repeat();
                continue;
            }
        };
        match timeout(SEND_TIMEOUT, sink.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(source)) => return ended(base(), source),
            Err(_) => return WatchError::Stuck { base: base() },
        }
    }
}

async fn read_all(
    stream: &mut SplitStream<Socket>,
    (client, times): (&StoreClient, &WatchTimes),
    shared: &Shared,
    has_answered: &mut bool,
) -> WatchError {
    let base = || client.base().to_owned();
    loop {
        let text = match timeout(times.silence, stream.next()).await {
            Ok(Some(Ok(Message::Text(text)))) => text,
            Ok(Some(Ok(Message::Close(_))) | None) => return WatchError::Closed { base: base() },
            Ok(Some(Ok(
                Message::Ping(_) | Message::Pong(_) | Message::Binary(_) | Message::Frame(_),
            ))) => continue,
            Ok(Some(Err(source))) => return ended(base(), source),
            Err(_) => {
                return WatchError::Silent {
                    base: base(),
                    after: times.silence,
                };
            }
        };
        match serde_json::from_str(&text) {
            Ok(WatchAnswer {
                files: _,
                problem: Some(problem),
            }) => return WatchError::Answered(unable(problem)),
            Ok(WatchAnswer {
                files,
                problem: None,
            }) => {
                *has_answered = true;
                for file in files {
                    if let Ok(key) = ArtifactKey::parse(&file.key) {
                        shared.answered(key, file.bytes);
                    }
                }
            }
            Err(source) => {
                return WatchError::NotUnderstood {
                    base: base(),
                    source,
                };
            }
        }
    }
}

fn unable(problem: Problem) -> StoreError {
    StoreError::Unable {
        operation: OPERATION,
        problem,
    }
}

/// A store that ends closes its streams, and its connections where it is killed.
fn ended(base: String, source: tungstenite::Error) -> WatchError {
    let is_closed = matches!(
        source,
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed
    );
    if is_closed {
        return WatchError::Closed { base };
    }
    WatchError::Broken {
        base,
        source: Box::new(source),
    }
}
