//! The loop at the worker's centre: what happens goes into the [`Queue`], and what it says is done. It never waits for anything
//! but the next event.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use framewright_crds::aijob::Cause;
use framewright_crds::names::TaskId;
use framewright_crds::wire::{ModelOrder, Order, Outcome, TaskOrder, ToOperator};
use framewright_queue::{Effect, Event, News, Queue};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, info_span, warn};

use super::ServeError;
use super::stream::{Line, StreamEvent};
use super::task::{Notice, Task, Tools};
use crate::health::Health;

/// How long a drained worker waits for the operator to record what it finished.
const SETTLE_DEADLINE: Duration = Duration::from_secs(60);
/// Notices that may wait for a task; there is one a grant.
const WAITING_NOTICES: usize = 16;

/// The loop and what it needs.
pub(super) struct Desk {
    queue: Queue,
    tools: Tools,
    orders: watch::Sender<Vec<ModelOrder>>,
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
    stop: CancellationToken,
}

impl Desk {
    pub(super) fn new(
        queue: Queue,
        tools: Tools,
        orders: watch::Sender<Vec<ModelOrder>>,
        events: mpsc::Sender<Event>,
        health: Health,
    ) -> Desk {
        Desk {
            queue,
            tools,
            orders,
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
    ) -> Result<(), ServeError> {
        let signals = |source| ServeError::Signals { source };
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
                    warn!("nobody has recorded what the worker finished; ends all the same");
                    Some(End::Drained)
                }
            };
            match end {
                Some(End::Drained) => {
                    info!("ends");
                    return match self.queue.lost_device() {
                        None => Ok(()),
                        Some(trouble) => Err(ServeError::DeviceLost {
                            trouble: trouble.to_owned(),
                        }),
                    };
                }
                Some(End::DeviceHangs) => return Err(ServeError::DeviceHangs),
                None => {}
            }
            if self.exit_at.is_none() && self.queue.is_drained() {
                self.exit_at = Some(Instant::now() + SETTLE_DEADLINE);
            }
        }
    }

    fn stream_event(&mut self, event: StreamEvent) -> Option<End> {
        match event {
            StreamEvent::Open(line) => {
                self.line = Some(line);
                self.event(Event::Connected)
            }
            StreamEvent::Heard(order) => {
                if matches!(order.order, Order::Welcome { .. }) {
                    self.ready(true);
                }
                self.event(Event::Ordered(*order))
            }
            StreamEvent::Closed => {
                self.line = None;
                self.ready(false);
                self.event(Event::Lost)
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
            news: News::Ended(_) | News::Stopped | News::DeviceLost { .. },
        } = &event
        {
            self.started.remove(task);
        }
        let effects = self.queue.handle(event);
        effects.into_iter().find_map(|effect| self.act(effect))
    }

    fn act(&mut self, effect: Effect) -> Option<End> {
        match effect {
            Effect::Say(message) => self.say(message),
            Effect::HangUp => {
                warn!("the operator at the other end does not lead any more");
                self.line = None;
            }
            // The stocker outlives the desk, and the newest orders are the ones that count.
            Effect::Hold(models) => drop(self.orders.send_replace(models)),
            Effect::Start(order) => self.start(*order),
            Effect::Renew(order) => {
                let task = order.task.clone();
                self.notify(&task, Notice::Renewed(order));
            }
            Effect::Grant { task, sha256, url } => {
                self.notify(&task, Notice::Granted { sha256, url });
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
    fn say(&mut self, message: ToOperator) {
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

    fn start(&mut self, order: TaskOrder) {
        let (notices, noticed) = mpsc::channel(WAITING_NOTICES);
        let stop = CancellationToken::new();
        let id = order.task.clone();
        let span = info_span!(
            "task",
            job = order.job,
            step = id.step,
            attempt = id.attempt
        );
        let events = self.events.clone();
        let Some(weights) = self.tools.shelf.find(&order.digest) else {
            let outcome = Outcome::Failed {
                cause: Cause::WeightsFailed,
                message: format!(
                    "the files of model {} are gone from the worker",
                    order.model
                ),
            };
            let event = Event::Task {
                task: id,
                news: News::Ended(outcome),
            };
            tokio::spawn(async move { events.send(event).await });
            return;
        };
        span.in_scope(|| info!(model = order.model, "starts"));
        let task = Task {
            tools: self.tools.clone(),
            order,
            weights,
            notices: noticed,
            events,
            stop: stop.clone(),
        };
        self.started.insert(id.clone(), Started { notices, stop });
        let working = tokio::spawn(task.work().instrument(span));
        let events = self.events.clone();
        tokio::spawn(async move {
            if let Err(error) = working.await {
                let outcome = Outcome::Failed {
                    cause: Cause::Internal,
                    message: format!("the worker has a defect: {error}"),
                };
                let event = Event::Task {
                    task: id,
                    news: News::Ended(outcome),
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
