//! Waiting for something that takes its time, with a deadline and a reason.

use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const PAUSE: Duration = Duration::from_millis(100);

/// Asks again and again, ten times a second, until the answer is `Ok`.
///
/// # Errors
/// After the deadline, with `what` and the last answer. One question may take at most what is left
/// of the deadline.
pub async fn eventually<T, E, F>(deadline: Duration, what: &str, mut ask: F) -> Result<T>
where
    E: Display,
    F: AsyncFnMut() -> Result<T, E>,
{
    let started = Instant::now();
    let mut last = "no answer".to_owned();
    while let Some(left) = deadline.checked_sub(started.elapsed()) {
        match tokio::time::timeout(left, ask()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(not_yet)) => last = format!("{not_yet:#}"),
            Err(_) => break,
        }
        tokio::time::sleep(PAUSE.min(left)).await;
    }
    bail!(
        "not within {:.1} s: {what}; the last answer: {last}",
        deadline.as_secs_f64()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_answer_is_in_the_error() {
        let mut asked = 0;
        let error = eventually::<(), _, _>(Duration::from_millis(150), "a miracle", async || {
            asked += 1;
            Err("two of three")
        })
        .await
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "not within 0.1 s: a miracle; the last answer: two of three"
        );
        assert!(asked > 1);
    }

    #[tokio::test]
    async fn a_question_that_hangs_is_given_up() {
        let asked =
            eventually::<(), String, _>(Duration::from_millis(50), "an answer", async || {
                std::future::pending().await
            });
        assert_eq!(
            asked.await.unwrap_err().to_string(),
            "not within 0.1 s: an answer; the last answer: no answer"
        );
    }
}
