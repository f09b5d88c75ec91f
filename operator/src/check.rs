//! Asks whether given addresses answer; what `helm test` runs.

use std::time::{Duration, Instant};

use crate::args::CheckArgs;

/// What did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot create an HTTP client")]
    Client(#[source] reqwest::Error),
    #[error("{url} did not answer 200 within {seconds} s: {last}")]
    NoAnswer {
        url: String,
        seconds: u64,
        last: String,
    },
}

/// Asks each until it answers or time is up.
///
/// # Errors
/// [`Error`] for the first that does not answer.
pub async fn run(args: &CheckArgs) -> Result<(), Error> {
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(5))
        .no_proxy()
        .build()
        .map_err(Error::Client)?;
    let until = Instant::now() + Duration::from_secs(args.timeout);
    for url in &args.urls {
        loop {
            let last = match client.get(url).send().await {
                Ok(answer) if answer.status().is_success() => break,
                Ok(answer) => answer.status().to_string(),
                Err(error) => crate::chain(&error).to_string(),
            };
            if Instant::now() >= until {
                return Err(Error::NoAnswer {
                    url: url.clone(),
                    seconds: args.timeout,
                    last,
                });
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        tracing::info!(url, "answers");
    }
    Ok(())
}
