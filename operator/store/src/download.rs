//! Gives the bytes of one artifact, whole or a range of them, so that a browser can play a film from the middle.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;

use super::disposition::{content_disposition, content_type};
use super::error::Refusal;
use super::key::ArtifactKey;
use super::range::{self, Selection};
use super::routes::Store;

/// What the grant allows.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub key: ArtifactKey,
    pub file_name: String,
    pub media_type: String,
}

/// Answers GET and HEAD.
pub(crate) async fn send(
    store: &Store,
    wanted: &Wanted,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let Wanted {
        key,
        file_name,
        media_type,
    } = wanted;
    let not_found = || Refusal::NotFound {
        key: key.to_string(),
    };
    let size = store.backend.size(key).await?.ok_or_else(not_found)?;
    let etag = etag(key);
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if range::is_held(text(header::IF_NONE_MATCH), &etag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response());
    }
    // RFC 9110, 14.2: a range means something for GET alone.
    let selection = if *method == Method::GET {
        range::select(text(header::RANGE), text(header::IF_RANGE), &etag, size)
    } else {
        Selection::Whole
    };
    let (status, part) = match selection {
        Selection::Whole => (StatusCode::OK, 0..size),
        Selection::Part(part) => (StatusCode::PARTIAL_CONTENT, part),
        Selection::Unsatisfiable => return Err(Refusal::Range { size }),
    };
    let body = if *method == Method::HEAD {
        Body::empty()
    } else {
        let slot = store.download_slots.take(key).await.ok_or(Refusal::Busy)?;
        let bytes = store.backend.read(key, part.clone()).await?;
        let sent = store.metrics.sent_bytes.clone();
        let counted = bytes.ok_or_else(not_found)?.inspect(move |chunk| {
            // Held until the last byte is sent, or nobody takes it.
            let _ = &slot;
            let length = chunk.as_ref().map_or(0, Bytes::len);
            sent.inc_by(length as u64);
        });
        Body::from_stream(counted)
    };
    let mut response = (
        status,
        [
            (header::CONTENT_TYPE, content_type(media_type).to_owned()),
            (header::CONTENT_LENGTH, (part.end - part.start).to_string()),
            (
                header::CONTENT_DISPOSITION,
                content_disposition(file_name, media_type),
            ),
            (header::ETAG, etag),
            (header::ACCEPT_RANGES, "bytes".to_owned()),
            (
                header::CACHE_CONTROL,
                "private, max-age=31536000, immutable".to_owned(),
            ),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
            (header::REFERRER_POLICY, "no-referrer".to_owned()),
        ],
        body,
    )
        .into_response();
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {}-{}/{size}", part.start, part.end - 1);
        if let Ok(range) = range.try_into() {
            response.headers_mut().insert(header::CONTENT_RANGE, range);
        }
    }
    Ok(response)
}

/// Answers whether an artifact is there, and how large it is.
pub(crate) async fn stat(store: &Store, key: &ArtifactKey) -> Result<Response, Refusal> {
    let size = store.backend.size(key).await?;
    let size = size.ok_or_else(|| Refusal::NotFound {
        key: key.to_string(),
    })?;
    Ok([
        (header::CONTENT_LENGTH, size.to_string()),
        (header::ETAG, etag(key)),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ]
    .into_response())
}

fn etag(key: &ArtifactKey) -> String {
    format!("\"{}\"", key.sha256())
}
