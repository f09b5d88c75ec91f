//! How does a task show that it is at work while nothing can be counted? It says so again and again, and not for ever.

use std::path::Path;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};

/// Far below the time after which a task that says nothing is taken for stuck.
const EVERY: Duration = Duration::from_secs(10);
const LEAST: Duration = Duration::from_secs(120);
/// What even a slow disk reads in a second.
const SLOW_DISK: u64 = 10 << 20;

/// How long a file may take to be read.
pub(super) fn reading_deadline(path: &Path) -> Duration {
    let bytes = std::fs::metadata(path).map_or(0, |found| found.len());
    LEAST + Duration::from_secs(bytes / SLOW_DISK)
}

/// The work's result, and `tell` in between; nothing when it takes longer than the deadline.
pub(super) async fn telling<T, Told: Future<Output = ()>>(
    deadline: Duration,
    work: impl Future<Output = T>,
    tell: impl FnMut() -> Told,
) -> Option<T> {
    telling_every(EVERY, deadline, work, tell).await
}

async fn telling_every<T, Told: Future<Output = ()>>(
    every: Duration,
    deadline: Duration,
    work: impl Future<Output = T>,
    mut tell: impl FnMut() -> Told,
) -> Option<T> {
    let mut beat = interval(every);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let telling = async {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = beat.tick() => tell().await,
            }
        }
    };
    timeout(deadline, telling).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_millis(5);

    #[tokio::test]
    async fn long_work_is_told_of_until_it_is_done() {
        let (told, mut heard) = tokio::sync::mpsc::channel(8);
        let work = async {
            for _ in 0..3 {
                heard.recv().await;
            }
            "done"
        };
        let tell = || {
            let _ = told.try_send(());
            std::future::ready(())
        };
        let done = telling_every(EVERY, Duration::from_secs(30), work, tell);
        assert_eq!(done.await, Some("done"));
    }

    #[tokio::test]
    async fn work_that_never_ends_is_not_told_of_for_ever() {
        let tell = || std::future::ready(());
        let done = telling_every(EVERY, 4 * EVERY, std::future::pending::<()>(), tell);
        assert_eq!(done.await, None);
    }
}
