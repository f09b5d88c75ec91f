//! The loop at the worker's centre: what happens goes into the [`Queue`], and what the queue says is done. It never waits for anything
//! but the next event.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use framewright_crds::aijob::Cause;
use framewright_crds::names::TaskId;
use framewright_crds::protocol::{Command, ModelConfig, Outcome, RunTask, WorkerMessage};
use framewright_queue::{Effect, Event, Queue, TaskEvent};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info, info_span, warn};

use super::AgentError;
use super::stream::{Line, StreamEvent};
use super::task::{Notice, Task, Tools, UnitsDone};
use crate::health::Health;

/// How long a drained worker waits for the operator to record what it finished.
const ACK_DEADLINE: Duration = Duration::from_secs(60);
/// Notices that may wait for a task; there is one for each link.
const WAITING_NOTICES: usize = 16;

/// The loop and what it needs.
pub(super) struct EventLoop {
    queue: Queue,
    tools: Tools,
    models: watch::Sender<Vec<ModelConfig>>,
    events: mpsc::Sender<Event>,
    health: Health,
    line: Option<Line>,
    started: HashMap<TaskId, Started>,
    exit_at: Option<Instant>,
}

/// Why the loop ends.
enum End {
    Drained,
    DeviceHangs,
}

/// The way to a task at work.
struct Started {
    notices: mpsc::Sender<Notice>,
    may_compute: Arc<Notify>,
    stop: CancellationToken,
}

impl EventLoop {
    pub(super) fn new(
        queue: Queue,
        tools: Tools,
        models: watch::Sender<Vec<ModelConfig>>,
        events: mpsc::Sender<Event>,
        health: Health,
    ) -> EventLoop {
        EventLoop {
            queue,
            tools,
            models,
            events,
            health,
            line: None,
            started: HashMap::new(),
            exit_at: None,
        }
    }

    /// Works until a signal has drained the worker, or a second signal comes.
    pub(super) async fn work(
        mut self,
        mut streamed: mpsc::Receiver<StreamEvent>,
        mut happened: mpsc::Receiver<Event>,
    ) -> Result<(), AgentError> {
        let signals = |source| AgentError::Signals { source };
        let mut terminate = signal(SignalKind::terminate()).map_err(signals)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(signals)?;
        let mut is_draining = false;
        loop {
            let end = tokio::select! {
                Some(event) = streamed.recv() => self.stream_event(event),
                Some(event) = happened.recv() => self.event(event),
                () = ending(&mut terminate, &mut interrupt) => {
                    if is_draining {
                        warn!("a second signal: ends at once");
                        return Ok(());
                    }
                    is_draining = true;
                    info!("drains: finishes what runs and takes nothing new");
                    self.event(Event::Drain)
                }
                () = until(self.exit_at) => {
                    warn!("no operator has recorded what the worker finished; ends all the same");
                    Some(End::Drained)
                }
            };
            match end {
                Some(End::Drained) => {
                    info!("ends");
                    return match self.queue.lost_device() {
                        None => Ok(()),
                        Some(error) => Err(AgentError::DeviceLost {
                            error: error.to_owned(),
                        }),
                    };
                }
                Some(End::DeviceHangs) => return Err(AgentError::DeviceHangs),
                None => {}
            }
            if self.exit_at.is_none() && self.queue.is_drained() {
                self.exit_at = Some(Instant::now() + ACK_DEADLINE);
            }
        }
    }

    fn stream_event(&mut self, event: StreamEvent) -> Option<End> {
        match event {
            StreamEvent::Open(line) => {
                self.line = Some(line);
                self.event(Event::Connected)
            }
            StreamEvent::Received(message) => {
                match &message.command {
                    Command::Configure { .. } => self.ready(true),
                    Command::Unknown => debug!("ignores a command that this version does not know"),
                    Command::Refused { .. }
                    | Command::Run(_)
                    | Command::Proceed { .. }
                    | Command::Cancel { .. }
                    | Command::Upload { .. }
                    | Command::Ack { .. } => {}
                }
                self.event(Event::Received(*message))
            }
            StreamEvent::Closed => {
                self.line = None;
                self.ready(false);
                self.event(Event::Disconnected)
            }
        }
    }

    fn ready(&self, is_ready: bool) {
        self.health.is_ready.store(is_ready, Ordering::Relaxed);
        self.health.metrics.connected(is_ready);
    }

    fn event(&mut self, event: Event) -> Option<End> {
        if let Event::Task {
            task,
            event: TaskEvent::Ended(_) | TaskEvent::Stopped | TaskEvent::DeviceLost { .. },
        } = &event
        {
            self.started.remove(task);
        }
        let effects = self.queue.handle(event);
        effects.into_iter().find_map(|effect| self.act(effect))
    }

    fn act(&mut self, effect: Effect) -> Option<End> {
        match effect {
            Effect::Send(message) => self.send(message),
            Effect::HangUp => {
                warn!("the operator at the other end does not lead any more");
                self.line = None;
            }
            // The model fetcher outlives the loop, and only the newest models count.
            Effect::Hold(models) => drop(self.models.send_replace(models)),
            Effect::Start(run) => self.start(*run),
            Effect::Renew(run) => {
                let task = run.task.clone();
                self.notify(&task, Notice::Renewed(run));
            }
            Effect::Proceed(task) => {
                if let Some(started) = self.started.get(&task) {
                    started.may_compute.notify_one();
                }
            }
            Effect::Upload {
                task,
                name,
                digest,
                url,
                role: _,
            } => {
                let notice = Notice::Upload { name, digest, url };
                self.notify(&task, notice);
            }
            Effect::Stop(task) => {
                if let Some(started) = self.started.get(&task) {
                    started.stop.cancel();
                }
            }
            Effect::Exit => return Some(End::Drained),
            Effect::Abort => return Some(End::DeviceHangs),
        }
        None
    }

    /// A line that takes no more is dead: dropping it makes the stream dial again, and Hello repeats what matters.
    fn send(&mut self, message: WorkerMessage) {
        if let Some(line) = &self.line
            && line.try_send(message).is_err()
        {
            self.line = None;
        }
    }

    /// A notice that finds no room is asked for again by its task.
    fn notify(&self, task: &TaskId, notice: Notice) {
        if let Some(started) = self.started.get(task) {
            let _ = started.notices.try_send(notice);
        }
    }

    fn start(&mut self, run: RunTask) {
        let (notices, noticed) = mpsc::channel(WAITING_NOTICES);
        let (may_compute, stop) = (Arc::new(Notify::new()), CancellationToken::new());
        let id = run.task.clone();
        let span = info_span!("task", job = run.job, step = id.step, attempt = id.attempt);
        let pipeline = run.pipeline.spec().name;
        span.in_scope(|| info!(pipeline, "starts"));
        let units = UnitsDone::new(&run.pipeline);
        let task = Task {
            tools: self.tools.clone(),
            run,
            units: units.clone(),
            notices: noticed,
            events: self.events.clone(),
            may_compute: Arc::clone(&may_compute),
            stop: stop.clone(),
        };
        let started = Started {
            notices,
            may_compute,
            stop,
        };
        self.started.insert(id.clone(), started);
        let working = tokio::spawn(task.work().instrument(span));
        let events = self.events.clone();
        tokio::spawn(async move {
            if let Err(error) = working.await {
                let outcome = Outcome::Failed {
                    cause: Cause::Internal,
                    message: format!("the worker has a defect: {error}"),
                    usage: units.usage(),
                };
                let event = Event::Task {
                    task: id,
                    event: TaskEvent::Ended(outcome),
                };
                let _ = events.send(event).await;
            }
        });
    }
}

async fn ending(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
