//! One GET of a result into a partial file. It continues where an earlier one broke off.

use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::header::{CONTENT_RANGE, HOST, RANGE};
use hyper::{Method, Request, Response, StatusCode};
use tokio::fs::OpenOptions;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use crate::screen::Meter;
use crate::transfers::link;
use crate::transfers::store::{self, Store};

/// How long a transfer may make no progress.
const STALL: Duration = Duration::from_secs(60);

/// Downloads the bytes from `begun` on, or all of them if the store answers without a range. `part` keeps what has been received.
pub(crate) async fn get(
    store: &Store<'_>,
    address: &str,
    part: &Path,
    begun: u64,
    bytes: u64,
    meter: &Meter,
) -> Result<(), store::Error> {
    let mut request = Request::builder()
        .method(Method::GET)
        .uri(link::target(address)?)
        .header(HOST, "localhost");
    if begun > 0 {
        request = request.header(RANGE, format!("bytes={begun}-"));
    }
    let body = Empty::new().map_err(|never| match never {}).boxed();
    let request = request.body(body).map_err(store::Error::Request)?;
    let answer = timeout(STALL, store.send(request)).await;
    let response = answer.map_err(|_| store::Error::Stalled {
        seconds: STALL.as_secs(),
    })??;
    let range = response
        .headers()
        .get(CONTENT_RANGE)
        .and_then(|range| range.to_str().ok());
    let offset = offset(response.status(), range, begun)?;
    meter.restart(offset);
    write(response, part, offset, bytes, meter).await
}

/// The offset in the file at which the response's body starts.
fn offset(
    status: StatusCode,
    content_range: Option<&str>,
    begun: u64,
) -> Result<u64, store::Error> {
    if status != StatusCode::PARTIAL_CONTENT {
        return Ok(0);
    }
    let starts = content_range
        .and_then(|range| range.strip_prefix("bytes "))
        .and_then(|range| range.split_once('-'))
        .and_then(|(start, _)| start.parse().ok());
    match starts {
        Some(start) if start <= begun => Ok(start),
        Some(_) | None => Err(store::Error::Unexpected(format!(
            "Content-Range {:?} for bytes from {begun} on",
            content_range.unwrap_or("")
        ))),
    }
}

async fn write(
    response: Response<Incoming>,
    part: &Path,
    offset: u64,
    bytes: u64,
    meter: &Meter,
) -> Result<(), store::Error> {
    let failed = |source| store::Error::WriteFile {
        path: part.to_owned(),
        source,
    };
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .open(part)
        .await
        .map_err(failed)?;
    file.set_len(offset).await.map_err(failed)?;
    tokio::io::AsyncSeekExt::seek(&mut file, std::io::SeekFrom::Start(offset))
        .await
        .map_err(failed)?;
    let mut body = response.into_body();
    let mut held = offset;
    let result = loop {
        let frame = match timeout(STALL, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => break Err(store::Error::Http(error)),
            Ok(None) => break Ok(()),
            Err(_) => {
                break Err(store::Error::Stalled {
                    seconds: STALL.as_secs(),
                });
            }
        };
        let Ok(chunk) = frame.into_data() else {
            continue;
        };
        held += chunk.len() as u64;
        if held > bytes {
            break Err(store::Error::Unexpected(format!("more than {bytes} bytes")));
        }
        file.write_all(&chunk).await.map_err(failed)?;
        meter.moved(chunk.len() as u64);
    };
    // After an error, too: the next try continues from here.
    file.sync_all().await.map_err(failed)?;
    result?;
    if held < bytes {
        return Err(store::Error::Unexpected(format!("{held} of {bytes} bytes")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_answer_goes_on_and_a_whole_one_starts_again() {
        let partial = StatusCode::PARTIAL_CONTENT;
        assert!(matches!(offset(partial, Some("bytes 5-9/10"), 5), Ok(5)));
        assert!(matches!(offset(StatusCode::OK, None, 5), Ok(0)));
        assert!(offset(partial, Some("bytes 7-9/10"), 5).is_err());
        assert!(offset(partial, None, 5).is_err());
    }
}
