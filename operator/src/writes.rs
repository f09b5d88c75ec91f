//! The fence around a leader's writes, Events apart: none begins outside its term, and none is waited for once another replica may
//! lead, but the making of a pod, whose name is taken then.

use std::time::Duration;

use kube::core::Status;

use crate::leadership::{Leadership, MARGIN};

/// How long a write may take that another leader must not meet.
pub const LIMIT: Duration = MARGIN;

/// Why a write was not made, or is not known to have been.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the API server does not take it")]
    Refused(#[source] Box<kube::Error>),
    #[error("the API server did not answer in {} s", .0.as_secs())]
    Late(Duration),
    #[error("this replica no longer leads")]
    NotLeading,
}

impl Error {
    /// Whether the object is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(Status::is_not_found)
    }

    /// What the API server has against it.
    #[must_use]
    pub fn status(&self) -> Option<&Status> {
        let Error::Refused(error) = self else {
            return None;
        };
        if let kube::Error::Api(status) = error.as_ref() {
            return Some(status);
        }
        None
    }
}

/// Makes a write if this replica leads. One that is late may have been made all the same.
///
/// # Errors
/// [`Error`]
pub async fn write<T>(
    leadership: &Leadership,
    limit: Duration,
    writing: impl Future<Output = kube::Result<T>>,
) -> Result<T, Error> {
    leadership.epoch().ok_or(Error::NotLeading)?;
    in_time(limit, writing).await
}

/// What a read or write comes to in `limit`.
///
/// # Errors
/// [`Error`]
pub async fn in_time<T>(
    limit: Duration,
    asking: impl Future<Output = kube::Result<T>>,
) -> Result<T, Error> {
    match tokio::time::timeout(limit, asking).await {
        Ok(answer) => answer.map_err(|error| Error::Refused(Box::new(error))),
        Err(_) => Err(Error::Late(limit)),
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn no_write_begins_outside_a_term() {
        let mut is_begun = false;
        let leadership = Leadership::for_test(None);
        let written = write(&leadership, LIMIT, async {
            is_begun = true;
            Ok(())
        });
        assert!(matches!(written.await, Err(Error::NotLeading)));
        assert!(!is_begun);
        let leadership = Leadership::for_test(Some(7));
        assert!(write(&leadership, LIMIT, ready(Ok(()))).await.is_ok());
    }

    #[tokio::test]
    async fn a_write_that_hangs_is_given_up() {
        let leadership = Leadership::for_test(Some(7));
        let limit = Duration::from_millis(1);
        let written = write::<()>(&leadership, limit, pending()).await;
        assert!(matches!(written, Err(Error::Late(late)) if late == limit));
    }
}
