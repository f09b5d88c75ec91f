//! Reports that a task is at work while it counts nothing: again and again, up to a deadline.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};

/// Far below the time after which a task that reports nothing is taken for stuck.
const EVERY: Duration = Duration::from_secs(10);

/// The work's result; `report` is called while it lasts. None when it takes longer than the deadline.
pub(super) async fn reporting<T, Reported: Future<Output = ()>>(
    deadline: Duration,
    work: impl Future<Output = T>,
    report: impl FnMut() -> Reported,
) -> Option<T> {
    reporting_every(EVERY, deadline, work, report).await
}

async fn reporting_every<T, Reported: Future<Output = ()>>(
    every: Duration,
    deadline: Duration,
    work: impl Future<Output = T>,
    mut report: impl FnMut() -> Reported,
) -> Option<T> {
    let mut beat = interval(every);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let reporting = async {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = beat.tick() => report().await,
            }
        }
    };
    timeout(deadline, reporting).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_millis(5);

    #[tokio::test]
    async fn long_work_is_reported_until_it_is_done() {
        let (reported, mut heard) = tokio::sync::mpsc::channel(8);
        let work = async {
            for _ in 0..3 {
                heard.recv().await;
            }
            "done"
        };
        let report = || {
            let _ = reported.try_send(());
            std::future::ready(())
        };
        let done = reporting_every(EVERY, Duration::from_secs(30), work, report);
        assert_eq!(done.await, Some("done"));
    }

    #[tokio::test]
    async fn work_that_never_ends_is_given_up_at_the_deadline() {
        let report = || std::future::ready(());
        let done = reporting_every(EVERY, 4 * EVERY, std::future::pending::<()>(), report);
        assert_eq!(done.await, None);
    }
}
