//! Trouble on the way to the API server: requests are refused, late or broken off, and answers are lost.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use axum::body::Body;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, TryStreamExt, stream};

/// One request of so many meets trouble.
const ONE_OF: u64 = 4;
/// How late what is late is: longer than the operator waits for a status or its lease.
const LATE: Duration = Duration::from_secs(6);
/// When an answer that is still coming breaks off, such as a watch.
const BREAKS_AFTER: Duration = Duration::from_secs(3);

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trouble {
    Refused(StatusCode),
    /// It is carried out when nobody may wait for the answer any more.
    Late,
    /// It is carried out, and nobody hears so.
    AnswerLost,
    /// The answer ends in the middle.
    BreaksOff,
}

pub(crate) const KINDS: [Trouble; 6] = [
    Trouble::Refused(StatusCode::TOO_MANY_REQUESTS),
    Trouble::Refused(StatusCode::INTERNAL_SERVER_ERROR),
    Trouble::Refused(StatusCode::SERVICE_UNAVAILABLE),
    Trouble::Late,
    Trouble::AnswerLost,
    Trouble::BreaksOff,
];

/// Which request meets what, in the order in which they come.
#[derive(Default)]
pub(crate) struct Weather(Mutex<Log>);

#[derive(Default)]
struct Log {
    requests: u64,
    met: BTreeMap<Trouble, usize>,
}

impl Weather {
    /// What the next request meets.
    pub(crate) fn next(&self) -> Option<Trouble> {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        log.requests += 1;
        let mut hasher = DefaultHasher::new();
        log.requests.hash(&mut hasher);
        let chance = hasher.finish();
        if !chance.is_multiple_of(ONE_OF) {
            return None;
        }
        let any = usize::from(chance.to_be_bytes()[0]);
        let trouble = *KINDS.iter().cycle().nth(any)?;
        *log.met.entry(trouble).or_default() += 1;
        Some(trouble)
    }

    /// How often each kind was met.
    pub(crate) fn met(&self) -> BTreeMap<Trouble, usize> {
        let log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        log.met.clone()
    }
}

impl Trouble {
    /// The answer that a request gets; `forward` carries it out, also when who asked is gone.
    pub(crate) async fn answer(
        self,
        forward: impl Future<Output = Result<Response>> + Send + 'static,
    ) -> Result<Response> {
        match self {
            Trouble::Refused(code) => Ok((code, [("retry-after", "1")]).into_response()),
            Trouble::Late => {
                let carried_out = tokio::spawn(async {
                    tokio::time::sleep(LATE).await;
                    forward.await
                });
                carried_out.await?
            }
            Trouble::AnswerLost => {
                tokio::spawn(forward).await??;
                Ok(Response::new(Body::from_stream(cut::<Vec<u8>>())))
            }
            Trouble::BreaksOff => {
                let whole = forward.await?;
                Ok(whole.map(|body| {
                    let begin = body.into_data_stream().map_err(io::Error::other);
                    let time = tokio::time::sleep(BREAKS_AFTER);
                    Body::from_stream(begin.take_until(Box::pin(time)).chain(cut()))
                }))
            }
        }
    }
}

/// The rest of an answer whose connection is cut.
fn cut<T>() -> impl Stream<Item = io::Result<T>> {
    stream::once(async { Err(io::Error::other("the connection is cut")) })
}
