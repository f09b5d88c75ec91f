//! The task that owns the engine: it takes the events that wait, has the engine decide once, and does the effects. It never waits for
//! anything but events and deadlines; requests, watches and sessions run in tasks of their own.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use framewright_core::engine::Engine;
use framewright_core::engine::interface::{
    Answer, Effect, Event, FileKey, Log, Now, Request, RequestId,
};
use framewright_core::jobs::transitions::Transition;
use framewright_core::names::JobName;
use framewright_core::workers::sessions::{Greeting, SessionId};
use framewright_crds::aijob::StepState;
use framewright_crds::names::ArtifactRole;
use framewright_crds::protocol::Command;
use framewright_store::key::{ArtifactKey, BadKey, Owner};
use framewright_store::watch::{FileEvent, FileEvents};
use jiff::Timestamp;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::context::Context;
use crate::requests;

/// Inputs that may wait for the engine.
pub const INPUTS_WAITING: usize = 4096;
/// Inputs that are taken at a time.
const INPUTS_AT_A_TIME: usize = 256;
/// Objects that are decided about between two looks at the clock.
const OBJECTS_AT_A_TIME: usize = 16;
/// After so long, decisions and status writes leave the rest to the next turn: inputs must not wait for longer.
const SLICE: Duration = Duration::from_millis(5);
/// Requests at once that are not writes of statuses: a new leader reads each job once before it gives commands about it.
const OTHERS_AT_ONCE: usize = 64;
/// How often the gauges of pools are counted, while something happens.
const GAUGES_EVERY: Duration = Duration::from_secs(1);

/// Something for the event loop.
pub enum Input {
    Event(Event),
    /// A worker has dialled in; commands to it go into `commands`.
    SessionOpened {
        session: SessionId,
        epoch: u64,
        greeting: Greeting,
        commands: mpsc::Sender<Command>,
    },
    /// A status write was answered: its permit is free.
    Written {
        request: RequestId,
        answer: Answer,
        is_throttled: bool,
    },
    /// UIDs of all jobs and pools that are known, if all lists are complete.
    KnownOwners(oneshot::Sender<Option<BTreeSet<String>>>),
}

/// How many status writes may be on their way: as many as go well, fewer when the API server is overloaded.
#[derive(Debug)]
struct Permits {
    limit: f64,
    used: usize,
}

impl Permits {
    const MOST: f64 = 32.0;

    fn new() -> Permits {
        Permits {
            limit: Permits::MOST,
            used: 0,
        }
    }

    fn is_free(&self) -> bool {
        (self.used as f64) < self.limit
    }

    fn answered(&mut self, is_throttled: bool) {
        self.used = self.used.saturating_sub(1);
        self.limit = if is_throttled {
            (self.limit / 2.0).max(1.0)
        } else {
            (self.limit + 1.0 / self.limit).min(Permits::MOST)
        };
    }
}

struct EventLoop {
    engine: Engine,
    context: Arc<Context>,
    sessions: HashMap<SessionId, mpsc::Sender<Command>>,
    permits: Permits,
    serving: watch::Sender<Option<u64>>,
    watched: BTreeSet<FileKey>,
    started: Instant,
    /// Why the process must start again, if so.
    restart: Option<String>,
    /// When the gauges of pools must be counted again; none if nothing has happened since they were counted.
    gauges_due: Option<Instant>,
    /// Permits for all requests but the writes of statuses.
    others: Arc<Semaphore>,
}

/// Runs until no input can come any more, or the process must start again.
pub async fn run(
    engine: Engine,
    context: Arc<Context>,
    mut inputs: mpsc::Receiver<Input>,
    serving: watch::Sender<Option<u64>>,
) {
    let mut event_loop = EventLoop {
        engine,
        context,
        sessions: HashMap::new(),
        permits: Permits::new(),
        serving,
        watched: BTreeSet::new(),
        started: Instant::now(),
        restart: None,
        gauges_due: None,
        others: Arc::new(Semaphore::new(OTHERS_AT_ONCE)),
    };
    let mut batch = Vec::with_capacity(INPUTS_AT_A_TIME);
    let mut is_more = false;
    loop {
        let deadline = event_loop.engine.next_deadline();
        let deadline = deadline.map(|at| event_loop.started + at);
        let deadline = deadline.into_iter().chain(event_loop.gauges_due).min();
        let deadline = deadline.map(tokio::time::Instant::from_std);
        tokio::select! {
            biased;
            count = inputs.recv_many(&mut batch, INPUTS_AT_A_TIME) => if count == 0 { return },
            () = std::future::ready(()), if is_more => {}
            () = tokio::time::sleep_until(deadline.unwrap_or_else(tokio::time::Instant::now)), if deadline.is_some() => {}
        }
        is_more = event_loop.turn(&mut batch);
        if let Some(reason) = event_loop.restart {
            tracing::error!(
                reason,
                "this process ends, and the next one reads everything again"
            );
            return;
        }
        // Watches and sessions want their turn, too.
        tokio::task::yield_now().await;
    }
}

impl EventLoop {
    fn now(&self) -> Now {
        Now {
            wall: Timestamp::now(),
            monotonic: self.started.elapsed(),
        }
    }

    /// Takes in what came, decides, and does what follows, for about 5 ms; whether something is left to do.
    fn turn(&mut self, batch: &mut Vec<Input>) -> bool {
        let now = self.now();
        if !batch.is_empty() {
            self.gauges_due.get_or_insert(Instant::now() + GAUGES_EVERY);
        }
        for input in batch.drain(..) {
            self.take(now, input);
        }
        let begun = Instant::now();
        let mut effects = Vec::new();
        let mut is_more = true;
        while is_more && begun.elapsed() < SLICE {
            is_more = self.engine.decide(now, OBJECTS_AT_A_TIME, &mut effects);
        }
        for effect in effects {
            self.do_effect(effect);
        }
        // One write at least: decisions must not keep writes waiting.
        while self.permits.is_free() {
            let Some(write) = self.engine.next_write(now) else {
                break;
            };
            self.permits.used += 1;
            self.request(write.id, write.epoch, write.request);
            if begun.elapsed() >= SLICE {
                is_more = true;
                break;
            }
        }
        self.context
            .metrics
            .decided(self.now().monotonic - now.monotonic);
        self.set_gauges();
        is_more
    }

    /// Tells the metrics, if it is time, what the pools have and what finds no worker.
    fn set_gauges(&mut self) {
        if self.gauges_due.is_none_or(|due| Instant::now() < due) {
            return;
        }
        self.gauges_due = None;
        let (connected, demand) = match self.engine.term() {
            Some(term) => (term.sessions.by_pool(), term.scheduler.demand()),
            None => Default::default(),
        };
        self.context.metrics.pools(&connected, &demand);
    }

    fn take(&mut self, now: Now, input: Input) {
        match input {
            Input::Event(event) => {
                if let Event::SessionClosed { session, .. } = &event {
                    self.sessions.remove(session);
                }
                let is_term = matches!(event, Event::TermBegan { .. } | Event::TermEnded);
                self.engine.handle(now, event);
                if is_term {
                    self.term_changed();
                }
            }
            Input::SessionOpened {
                session,
                epoch,
                greeting,
                commands,
            } => {
                // A session is of one term. The sender goes, and so the session ends.
                if self.engine.term().is_some_and(|term| term.epoch == epoch) {
                    self.sessions.insert(session, commands);
                    self.engine
                        .handle(now, Event::SessionOpened { session, greeting });
                }
            }
            Input::Written {
                request,
                answer,
                is_throttled,
            } => {
                self.permits.answered(is_throttled);
                if matches!(answer, Answer::Job(_)) {
                    self.context.metrics.job_written();
                }
                self.engine.handle(now, Event::Answered { request, answer });
            }
            Input::KnownOwners(ask) => {
                let world = self.engine.world();
                let known = world.is_complete().then(|| world.owners());
                // Whoever asked may have gone.
                let _ = ask.send(known);
            }
        }
    }

    /// A term has begun or ended: nothing of an earlier one is left.
    fn term_changed(&mut self) {
        self.sessions.clear();
        for key in std::mem::take(&mut self.watched) {
            if let Ok(key) = artifact_key(&key) {
                self.context.files.unwatch(&key);
            }
        }
        let epoch = self.engine.term().map(|term| term.epoch);
        self.serving.send_replace(epoch);
    }

    fn do_effect(&mut self, effect: Effect) {
        match effect {
            Effect::Request { id, epoch, request } => self.request(id, epoch, request),
            Effect::Send { session, command } => {
                let queue = self.sessions.get(&session);
                if let Command::Run(order) = &command {
                    tracing::info!(job = %order.job, task = %order.task, "task sent");
                }
                if queue.is_some_and(|queue| queue.try_send(command).is_err()) {
                    // It does not read. The session ends, and the worker's next Hello tells what it has heard.
                    self.sessions.remove(&session);
                }
            }
            Effect::CloseSession { session } => drop(self.sessions.remove(&session)),
            Effect::WatchFile(key) => {
                if let Ok(artifact) = artifact_key(&key) {
                    self.context.files.watch(artifact);
                    self.watched.insert(key);
                }
            }
            Effect::UnwatchFile(key) => {
                if let Ok(artifact) = artifact_key(&key) {
                    self.context.files.unwatch(&artifact);
                }
                self.watched.remove(&key);
            }
            Effect::Publish {
                kind,
                name,
                uid,
                version,
                event,
            } => self
                .context
                .publisher
                .publish(kind, name, uid, version, event),
            Effect::JobChanged {
                name, transitions, ..
            } => {
                for transition in transitions {
                    log_transition(&name, &transition);
                    self.context.metrics.job_changed(&transition);
                }
            }
            Effect::Restart { reason } => {
                self.restart.get_or_insert(reason);
            }
            Effect::Log(line) => log(&self.context, line),
        }
    }

    /// Makes a request in a task of its own, and answers it.
    fn request(&self, id: RequestId, epoch: u64, request: Request) {
        let context = Arc::clone(&self.context);
        let others = Arc::clone(&self.others);
        tokio::spawn(async move {
            let is_write = matches!(request, Request::WriteJob(_) | Request::WritePool(_));
            // Writes have permits already. It is never closed.
            let _permit = if is_write {
                None
            } else {
                others.acquire_owned().await.ok()
            };
            let requests::Answered {
                answer,
                is_throttled,
            } = requests::make(&context, epoch, request).await;
            let input = if is_write {
                Input::Written {
                    request: id,
                    answer,
                    is_throttled,
                }
            } else {
                Input::Event(Event::Answered {
                    request: id,
                    answer,
                })
            };
            context.send(input).await;
        });
    }
}

/// Tells the engine what the store says.
pub async fn follow_store(context: Arc<Context>, mut files: FileEvents) {
    loop {
        let event = match files.recv().await {
            FileEvent::Present { key, bytes: _ } => Event::File {
                key: file_key(&key),
                is_present: true,
            },
            FileEvent::Missing { key } => Event::File {
                key: file_key(&key),
                is_present: false,
            },
            FileEvent::Away { error } => {
                tracing::warn!(error, "cannot ask the store for files");
                Event::Store { error: Some(error) }
            }
            FileEvent::Back => Event::Store { error: None },
        };
        context.send(Input::Event(event)).await;
    }
}

/// Tells the engine when this replica begins to lead, and when it ends.
pub async fn follow_leadership(context: Arc<Context>) {
    let mut changes = context.leadership.changes();
    loop {
        let epoch = *changes.borrow_and_update();
        context.metrics.leads(epoch.is_some());
        if let Some(epoch) = epoch {
            tracing::info!(epoch, "this replica leads");
        }
        let event = epoch.map_or(Event::TermEnded, |epoch| Event::TermBegan { epoch });
        context.send(Input::Event(event)).await;
        if changes.changed().await.is_err() {
            return;
        }
    }
}

fn artifact_key(key: &FileKey) -> Result<ArtifactKey, BadKey> {
    let FileKey {
        namespace,
        kind,
        uid,
        sha256,
    } = key;
    let owner = Owner::new(namespace, *kind, uid)?;
    ArtifactKey::new(owner, ArtifactRole::of_uploads(*kind), sha256)
}

fn file_key(key: &ArtifactKey) -> FileKey {
    FileKey {
        namespace: key.owner().namespace().to_owned(),
        kind: key.owner().kind(),
        uid: key.owner().uid().to_owned(),
        sha256: key.sha256().to_owned(),
    }
}

/// A job's story in a handful of lines. What failed has an Event, which is logged, too.
fn log_transition(job: &JobName, transition: &Transition) {
    match transition {
        Transition::Step {
            state: StepState::Blocked,
            ..
        }
        | Transition::Reason { .. }
        | Transition::AttemptFailed { .. } => {}
        Transition::Step {
            name,
            state,
            attempt,
            worker,
            message,
        } => tracing::info!(%job, step = %name, ?state, attempt, worker, message, "step"),
        Transition::Finished { reason } => tracing::info!(%job, reason, "job finished"),
    }
}

fn log(context: &Context, line: Log) {
    match line {
        Log::OrphanCancelled { job, task, worker } => {
            tracing::info!(job, task, worker, "task cancelled, its job is deleted");
        }
        Log::Unreadable { name, error } => {
            tracing::warn!(%name, error, "cannot read the object");
        }
        Log::Panicked { name, error } => {
            tracing::error!(%name, error, "the operator has a defect that this object triggers, please report it");
        }
        Log::Failed { what, error } => {
            context.metrics.request_failed();
            tracing::warn!(error, "cannot {what}; trying again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overloaded_api_server_gets_fewer_writes_at_a_time_and_later_more_again() {
        let mut permits = Permits::new();
        permits.used = 32;
        assert!(!permits.is_free());
        permits.answered(true);
        assert!((permits.limit - 16.0).abs() < 0.01 && !permits.is_free());
        for _ in 0..10 {
            permits.answered(true);
        }
        assert!((permits.limit - 1.0).abs() < 0.01);
        for _ in 0..1000 {
            permits.answered(false);
        }
        assert!((permits.limit - 32.0).abs() < 0.01);
    }
}
