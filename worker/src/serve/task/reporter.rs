//! How a task tells from the engine's thread how far it is.

use std::time::{Duration, Instant};

use framewright_crds::aijob::Progress;
use framewright_crds::names::TaskId;
use tokio::sync::mpsc;

use crate::queue::{Event, News};

const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Tells from the engine's thread that a task computes and how far it is, at most once a second.
pub(super) struct Reporter {
    events: mpsc::Sender<Event>,
    task: TaskId,
    last: Option<Instant>,
}

impl Reporter {
    pub(super) fn start(events: mpsc::Sender<Event>, task: TaskId) -> Reporter {
        let reporter = Reporter {
            events,
            task,
            last: None,
        };
        reporter.tell(News::Started);
        reporter
    }

    pub(super) fn report(&mut self, progress: Progress) {
        if self
            .last
            .is_some_and(|last| last.elapsed() < PROGRESS_INTERVAL)
        {
            return;
        }
        self.last = Some(Instant::now());
        self.tell(News::Progress(progress));
    }

    fn tell(&self, news: News) {
        let task = self.task.clone();
        // The other end empties its queue without waiting for anybody, so this does not hold up the device.
        let _ = self.events.blocking_send(Event::Task { task, news });
    }
}
