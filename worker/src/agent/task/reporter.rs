//! Reports from the engine's thread how far a task is: often at first, so that a short step shows more than its beginning, and once a
//! second in the long run.

use std::time::{Duration, Instant};

use framewright_crds::aijob::Progress;
use framewright_crds::names::TaskId;
use framewright_queue::{Event, TaskEvent};
use tokio::sync::mpsc;

/// Between two reports, at first and in the long run.
const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(1);

/// Reports from the engine's thread that a task computes and how far it is.
pub(super) struct Reporter {
    events: mpsc::Sender<Event>,
    task: TaskId,
    start: Instant,
    /// When the last report was made, after the start.
    last: Duration,
}

impl Reporter {
    pub(super) fn start(events: mpsc::Sender<Event>, task: TaskId) -> Reporter {
        let reporter = Reporter {
            events,
            task,
            start: Instant::now(),
            last: Duration::ZERO,
        };
        reporter.publish(TaskEvent::Started);
        reporter
    }

    pub(super) fn report(&mut self, progress: Progress) {
        let now = self.start.elapsed();
        if is_due(&progress, self.last, now) {
            self.last = now;
            self.publish(TaskEvent::Progress(progress));
        }
    }

    fn publish(&self, event: TaskEvent) {
        let task = self.task.clone();
        // The event loop waits for nothing but events, so this does not hold up the device.
        let _ = self.events.blocking_send(Event::Task { task, event });
    }
}

/// Whether as much time has passed since the last report as before it; both count from the start. That nothing is done yet can wait.
fn is_due(progress: &Progress, last: Duration, now: Duration) -> bool {
    let is_something_done = progress.percent > 0 || progress.done.is_some_and(|done| done > 0);
    let wait = if is_something_done {
        last.clamp(SHORTEST, LONGEST)
    } else {
        LONGEST
    };
    now.saturating_sub(last) >= wait
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When something is reported, in milliseconds, if a frame is done every so many.
    fn reported(every: u64, until: u64) -> Vec<u64> {
        let mut last = Duration::ZERO;
        let times = (0..=until).step_by(10);
        times
            .filter(|now| {
                let progress = Progress {
                    done: Some((now / every) as i64),
                    ..Progress::default()
                };
                let now = Duration::from_millis(*now);
                let is_reported = is_due(&progress, last, now);
                if is_reported {
                    last = now;
                }
                is_reported
            })
            .collect()
    }

    #[test]
    fn the_first_thing_done_is_reported_at_once_and_later_ones_once_a_second() {
        assert_eq!(
            reported(10, 5000),
            [50, 100, 200, 400, 800, 1600, 2600, 3600, 4600]
        );
        assert_eq!(reported(300, 3000), [300, 600, 1200, 2200]);
    }

    #[test]
    fn a_first_frame_that_takes_long_is_reported_all_the_same() {
        assert_eq!(reported(3500, 5000), [1000, 2000, 3000, 4000, 5000]);
    }
}
