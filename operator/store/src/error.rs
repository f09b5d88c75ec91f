//! Every way in which the store says no: a status, a word for programs and a sentence for people.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::answers::Problem;
use super::backend::BackendError;
use super::pace::SLOWEST;
use super::record::RECORD_BYTES_MAX;
use crate::grants;

/// Why a request gets nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(
        "there is nothing at this path; the store answers links that stand in an object's status"
    )]
    NoSuchPath,
    #[error(transparent)]
    Grant(grants::Refused),
    #[error("this link allows {verb}, not the method {method}")]
    Method { verb: &'static str, method: String },
    #[error("this link opens a WebSocket, and the request does not ask for one: {what}")]
    NoWebSocket { what: String },
    #[error("the link is for media type {granted:?}, and the request's Content-Type is {sent:?}")]
    MediaType { granted: String, sent: String },
    #[error(
        "there is no artifact {key}: it was not uploaded yet, or its object is gone, with which artifacts live and die"
    )]
    NotFound { key: String },
    #[error("there is no record {key}")]
    NoRecord { key: String },
    #[error(
        "the record {key} has other bytes already, and a record is never replaced; use another name"
    )]
    RecordExists { key: String },
    #[error("a record of {granted} bytes is too large: {RECORD_BYTES_MAX} bytes are the most")]
    RecordTooLarge { granted: u64 },
    #[error(
        "this store keeps no records: it was started without --record-keys (chart value store.recordKeysSecret)"
    )]
    NoRecords,
    #[error("the link allows exactly {granted} bytes, and {sent} or more were sent")]
    TooLarge { granted: u64, sent: u64 },
    #[error("the link allows exactly {granted} bytes, and only {sent} were sent")]
    TooSmall { granted: u64, sent: u64 },
    #[error(
        "the bytes that came have SHA-256 {received}, and the link is for {granted}; nothing was kept"
    )]
    Digest { granted: String, received: String },
    #[error("nothing came for {seconds} seconds; nothing was kept, send it again")]
    Stalled { seconds: u64 },
    #[error(
        "fewer than {SLOWEST} bytes a second came for {seconds} seconds; nothing was kept, send it again"
    )]
    Crawls { seconds: u64 },
    #[error("the upload was not over after {seconds} seconds; nothing was kept, send it again")]
    TooSlow { seconds: u64 },
    #[error("the connection broke after {received} of {granted} bytes; nothing was kept")]
    Broken { granted: u64, received: u64 },
    #[error(
        "too many transfers run at once, or too many of this namespace; come again in a few seconds"
    )]
    Busy,
    #[error("the artifact has {size} bytes, and the range lies behind them")]
    Range { size: u64 },
    #[error(
        "the store has {free} bytes free and the upload has {wanted}; delete finished AIJobs or ModelPools, whose artifacts go with them, or enlarge the volume, then send it again"
    )]
    NoRoom { wanted: u64, free: u64 },
    #[error(
        "the store's volume is full; delete finished AIJobs or ModelPools, whose artifacts go with them, or enlarge the volume, then send it again"
    )]
    Full { source: object_store::Error },
    #[error("the store's volume failed; the store's log says why")]
    Backend { source: BackendError },
    #[error("the store's volume did not answer within {seconds} seconds")]
    Deadline { seconds: u64 },
}

impl From<BackendError> for Refusal {
    fn from(error: BackendError) -> Refusal {
        match error {
            BackendError::NoRoom { wanted, free } => Refusal::NoRoom { wanted, free },
            BackendError::Full { source } => Refusal::Full { source },
            BackendError::Failed { .. } | BackendError::Volume { .. } => {
                Refusal::Backend { source: error }
            }
        }
    }
}

impl Refusal {
    pub(crate) fn problem(&self) -> Problem {
        let (_, reason) = self.status_and_reason();
        Problem {
            reason: reason.to_owned(),
            message: self.to_string(),
        }
    }

    fn status_and_reason(&self) -> (StatusCode, &'static str) {
        match self {
            Refusal::NoSuchPath => (StatusCode::NOT_FOUND, "NoSuchPath"),
            Refusal::Grant(grants::Refused::NotSigned) => (StatusCode::FORBIDDEN, "NotSigned"),
            Refusal::Grant(grants::Refused::WrongSignature) => {
                (StatusCode::FORBIDDEN, "WrongSignature")
            }
            Refusal::Grant(grants::Refused::Expired { .. }) => (StatusCode::FORBIDDEN, "Expired"),
            Refusal::Grant(grants::Refused::NotUnderstood { .. }) => {
                (StatusCode::FORBIDDEN, "NotUnderstood")
            }
            Refusal::Method { .. } => (StatusCode::FORBIDDEN, "NotAllowed"),
            Refusal::NoWebSocket { .. } => (StatusCode::UPGRADE_REQUIRED, "NoWebSocket"),
            Refusal::MediaType { .. } => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "MediaTypeMismatch"),
            Refusal::NotFound { .. } | Refusal::NoRecord { .. } => {
                (StatusCode::NOT_FOUND, "NotFound")
            }
            Refusal::RecordExists { .. } => (StatusCode::CONFLICT, "RecordExists"),
            Refusal::RecordTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "RecordTooLarge"),
            Refusal::NoRecords => (StatusCode::FORBIDDEN, "NoRecords"),
            Refusal::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "TooLarge"),
            Refusal::TooSmall { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "TooSmall"),
            Refusal::Digest { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "DigestMismatch"),
            Refusal::Stalled { .. } => (StatusCode::REQUEST_TIMEOUT, "Stalled"),
            Refusal::Crawls { .. } | Refusal::TooSlow { .. } => {
                (StatusCode::REQUEST_TIMEOUT, "TooSlow")
            }
            Refusal::Broken { .. } => (StatusCode::BAD_REQUEST, "Broken"),
            Refusal::Busy => (StatusCode::SERVICE_UNAVAILABLE, "Busy"),
            Refusal::Range { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, "RangeNotSatisfiable"),
            Refusal::NoRoom { .. } | Refusal::Full { .. } => {
                (StatusCode::INSUFFICIENT_STORAGE, "StoreFull")
            }
            Refusal::Backend { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "VolumeFailed"),
            Refusal::Deadline { .. } => (StatusCode::SERVICE_UNAVAILABLE, "VolumeSlow"),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, _) = self.status_and_reason();
        let mut response = (status, axum::Json(self.problem())).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self {
            Refusal::Busy | Refusal::Deadline { .. } => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
            }
            Refusal::Range { size } => {
                if let Ok(value) = HeaderValue::try_from(format!("bytes */{size}")) {
                    headers.insert(header::CONTENT_RANGE, value);
                }
            }
            Refusal::NoSuchPath
            | Refusal::Grant(_)
            | Refusal::Method { .. }
            | Refusal::NoWebSocket { .. }
            | Refusal::MediaType { .. }
            | Refusal::NotFound { .. }
            | Refusal::NoRecord { .. }
            | Refusal::RecordExists { .. }
            | Refusal::RecordTooLarge { .. }
            | Refusal::NoRecords
            | Refusal::TooLarge { .. }
            | Refusal::TooSmall { .. }
            | Refusal::Digest { .. }
            | Refusal::Stalled { .. }
            | Refusal::Crawls { .. }
            | Refusal::TooSlow { .. }
            | Refusal::Broken { .. }
            | Refusal::NoRoom { .. }
            | Refusal::Full { .. }
            | Refusal::Backend { .. } => {}
        }
        response
    }
}
