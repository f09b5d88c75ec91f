//! Listens for workers over TLS, and carries each one's stream.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum_server::tls_rustls::RustlsConfig;
use framewright_crds::conditions::shortened;
use framewright_crds::names::{HEALTH_PATH, STREAM_PATH, STREAM_PORT};
use framewright_crds::protocol::{
    Command, Hello, MESSAGE_LIMIT, OperatorMessage, PING_SECONDS, PROTOCOLS, SILENCE_SECONDS,
    SLOTS_MAX, WorkerMessage, is_compatible,
};
use futures::{SinkExt, StreamExt};
use serde::Deserialize;
use tokio::sync::{Semaphore, mpsc};

use super::identity::{Identity, identify};
use framewright_core::engine::interface::Event;
use framewright_core::workers::sessions::{Greeting, SessionId};
use framewright_core::workers::validate;

use crate::context::Context;
use crate::event_loop::Input;
use framewright_store::listen::everywhere;

/// How long a worker may take for its first message.
const HELLO_LIMIT: Duration = Duration::from_secs(10);
const PING_EVERY: Duration = Duration::from_secs(PING_SECONDS);
const SILENCE_LIMIT: Duration = Duration::from_secs(SILENCE_SECONDS);
const SEND_LIMIT: Duration = Duration::from_secs(10);
/// Of each worker's stream, in bytes. Messages are short; the default would be 128 KiB for each worker.
const READ_BUFFER: usize = 4096;
/// Commands that may wait for a slow worker.
const COMMANDS_WAITING: usize = 256;
/// Tokens that are under review at one time.
const REVIEWS_AT_ONCE: usize = 32;

struct SessionServer {
    context: Arc<Context>,
    reviews: Semaphore,
    streams: AtomicU64,
}

/// Listens until the process ends.
///
/// # Errors
/// The listener's own.
pub async fn serve(context: Arc<Context>, tls: RustlsConfig) -> std::io::Result<()> {
    let server = SessionServer {
        context,
        reviews: Semaphore::new(REVIEWS_AT_ONCE),
        streams: AtomicU64::new(0),
    };
    let router = Router::new()
        .route(STREAM_PATH, get(open))
        .route(HEALTH_PATH, get(|| async { "ok" }))
        .with_state(Arc::new(server));
    axum_server::from_tcp_rustls(everywhere(STREAM_PORT)?, tls)?
        .serve(router.into_make_service_with_connect_info::<SocketAddr>())
        .await
}

async fn open(
    State(server): State<Arc<SessionServer>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let serving = *server.context.serving.borrow();
    let Some(epoch) = serving.filter(|epoch| server.context.leadership.epoch() == Some(*epoch))
    else {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "this replica does not lead; try again",
        )
            .into_response();
    };
    let Ok(_permit) = server.reviews.try_acquire() else {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "too many workers connect at once; try again",
        )
            .into_response();
    };
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    match identify(&server.context, token, peer.ip()).await {
        Ok(identity) => {
            let server = Arc::clone(&server);
            upgrade
                .max_message_size(MESSAGE_LIMIT)
                .read_buffer_size(READ_BUFFER)
                .on_upgrade(
                    move |socket| async move { carry(&server, socket, identity, epoch).await },
                )
        }
        Err(refused) if refused.is_passing() => {
            tracing::info!(peer = %peer.ip(), reason = %crate::chain(&refused), "a worker must connect again");
            (StatusCode::SERVICE_UNAVAILABLE, refused.to_string()).into_response()
        }
        Err(refused) => {
            tracing::warn!(peer = %peer.ip(), reason = %crate::chain(&refused), "a stream was refused");
            server.context.metrics.stream_refused();
            (StatusCode::UNAUTHORIZED, refused.to_string()).into_response()
        }
    }
}

async fn carry(server: &SessionServer, mut socket: WebSocket, identity: Identity, epoch: u64) {
    let context = &server.context;
    let name = identity.worker.name.clone();
    let (greeting, seen) =
        match tokio::time::timeout(HELLO_LIMIT, hello(&mut socket, &identity)).await {
            Ok(Ok(said)) => said,
            Ok(Err(message)) => {
                tracing::warn!(worker = %name, message, "a worker was refused");
                refuse(&mut socket, epoch, message).await;
                return;
            }
            Err(_) => return tracing::warn!(worker = %name, "a worker sent no Hello in time"),
        };
    if let Some(seen) = seen.filter(|seen| *seen > epoch) {
        // The worker would refuse every command. The lease was deleted, or this replica has not noticed yet that another one leads.
        let is_believed = context.leadership.outranked(&greeting.worker.uid, seen);
        return tracing::warn!(worker = %name, epoch, seen, is_believed, "a worker has seen a later term than this one");
    }
    let id = server.streams.fetch_add(1, Ordering::Relaxed);
    let (commands, queue) = mpsc::channel(COMMANDS_WAITING);
    tracing::info!(worker = %name, pool = %identity.pool, tasks = greeting.tasks.len(), "worker connected");
    context
        .send(Input::SessionOpened {
            session: id,
            epoch,
            greeting,
            commands,
        })
        .await;
    let why = pump(context, socket, &identity, (id, epoch), queue).await;
    context
        .send(Input::Event(Event::SessionClosed {
            session: id,
            worker_uid: identity.worker.uid.clone(),
        }))
        .await;
    tracing::info!(worker = %name, why, "worker's session ended");
}

/// The first message, with the highest epoch that the worker has seen; or why the worker cannot be used.
async fn hello(
    socket: &mut WebSocket,
    identity: &Identity,
) -> Result<(Greeting, Option<u64>), String> {
    while let Some(Ok(message)) = socket.recv().await {
        let Message::Text(text) = message else {
            continue;
        };
        let unreadable = |error: serde_json::Error| {
            shortened(&format!("the first message cannot be read: {error}"))
        };
        // Of another version of the protocol this much can be read, so that it is refused in the right words.
        let Spoken { version, protocols } = serde_json::from_str(&text).map_err(unreadable)?;
        if !is_compatible(PROTOCOLS, protocols) {
            return Err(other_protocol(&shortened(&version), protocols));
        }
        let WorkerMessage::Hello(hello) = serde_json::from_str(&text).map_err(unreadable)? else {
            return Err("the first message is not a Hello".to_owned());
        };
        let Hello {
            protocols: _,
            version: _,
            device,
            device_error,
            memory: _,
            slots,
            pipelines,
            loaded,
            tasks,
            epoch,
        } = validate::hello(*hello);
        if tasks.len() > validate::TASKS_LIMIT {
            return Err(format!(
                "the worker reports {} tasks; the maximum is {}",
                tasks.len(),
                validate::TASKS_LIMIT
            ));
        }
        let greeting = Greeting {
            worker: identity.worker.clone(),
            pool: identity.pool.clone(),
            device,
            device_error,
            slots: slots.min(SLOTS_MAX),
            pipelines,
            loaded,
            tasks,
        };
        return Ok((greeting, epoch));
    }
    Err("the stream ended before a Hello".to_owned())
}

/// What the first message of every version says.
#[derive(Deserialize)]
struct Spoken {
    #[serde(default)]
    version: String,
    #[serde(default)]
    protocols: [u32; 2],
}

fn other_protocol(version: &str, protocols: [u32; 2]) -> String {
    let [theirs, ours] = [protocols, PROTOCOLS].map(|[least, most]| match (least, most) {
        (0, 0) => "version 1".to_owned(),
        (least, most) if least == most => format!("version {most}"),
        (least, most) => format!("versions {least} to {most}"),
    });
    format!(
        "the worker (version {version}) speaks {theirs} of the protocol, this operator {ours}; use the worker image that came with the operator"
    )
}

async fn refuse(socket: &mut WebSocket, epoch: u64, message: String) {
    let refused = OperatorMessage {
        epoch,
        command: Command::Refused { message },
    };
    if let Ok(text) = serde_json::to_string(&refused) {
        // The worker learns it here or by the stream's end.
        let _ = tokio::time::timeout(SEND_LIMIT, socket.send(Message::Text(text.into()))).await;
    }
}

/// Carries messages both ways until the stream ends; why it ended.
async fn pump(
    context: &Context,
    socket: WebSocket,
    identity: &Identity,
    (session, epoch): (SessionId, u64),
    mut commands: mpsc::Receiver<Command>,
) -> &'static str {
    let (mut down, mut up) = socket.split();
    let mut ping = tokio::time::interval(PING_EVERY);
    let mut heard = tokio::time::Instant::now();
    loop {
        let frame = tokio::select! {
            message = up.next() => {
                heard = tokio::time::Instant::now();
                match message {
                    Some(Ok(Message::Text(text))) => {
                        match serde_json::from_str(&text) {
                            Ok(message) => {
                                let event = Event::SessionMessage {
                                    session,
                                    worker_uid: identity.worker.uid.clone(),
                                    message,
                                };
                                context.send(Input::Event(event)).await;
                            }
                            Err(error) => {
                                let error = shortened(&error.to_string());
                                tracing::warn!(worker = %identity.worker.name, error, "a message cannot be read");
                            }
                        }
                    }
                    Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Binary(_))) => {}
                    Some(Ok(Message::Close(_))) | None => return "closed by the worker",
                    Some(Err(_)) => return "broken",
                }
                continue;
            }
            command = commands.recv() => match command {
                Some(command) => match serde_json::to_string(&OperatorMessage { epoch, command }) {
                    Ok(text) => Message::Text(text.into()),
                    Err(_) => continue,
                },
                None => return "replaced by a newer one, or this replica no longer leads",
            },
            _ = ping.tick() => {
                if context.leadership.epoch() != Some(epoch) {
                    return "this replica no longer leads";
                }
                if heard.elapsed() >= SILENCE_LIMIT {
                    return "silent for too long";
                }
                Message::Ping(Vec::new().into())
            }
        };
        match tokio::time::timeout(SEND_LIMIT, down.send(frame)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return "broken",
            Err(_) => return "the worker does not read",
        }
    }
}
