//! Writes an object's status, on top of the version that the plan was made from and no other.

use std::fmt::Debug;
use std::time::Duration;

use kube::api::{Api, PostParams};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::leadership::Leadership;
use crate::recent::Recent;

/// A write that takes longer is tried again.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// Why a status was not written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot write the status")]
    Write(#[source] Box<kube::Error>),
    #[error("the API server did not take the status in {} s", WRITE_LIMIT.as_secs())]
    Late,
    #[error("this replica no longer leads")]
    NotLeading,
}

/// Who writes, and what is remembered of it.
pub struct Writer<'a, K> {
    pub client: &'a Client,
    pub leadership: &'a Leadership,
    pub recent: &'a Recent<K>,
}

impl<K> Writer<'_, K>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned,
{
    /// Writes the status of `wanted`; what the API server made of it, or none if the object is gone.
    ///
    /// # Errors
    /// [`Error`], a conflict included: somebody wrote in between, so the plan is made anew. What is remembered of the object is
    /// forgotten then: the write may have been taken all the same.
    pub async fn write(&self, mut wanted: K) -> Result<Option<K>, Error> {
        let epoch = self.leadership.epoch().ok_or(Error::NotLeading)?;
        let namespace = wanted.namespace().unwrap_or_default();
        let objects: Api<K> = Api::namespaced(self.client.clone(), &namespace);
        wanted.meta_mut().managed_fields = None;
        let name = wanted.name_any();
        let params = PostParams::default();
        let writing = objects.replace_status(&name, &params, &wanted);
        let failed = match tokio::time::timeout(WRITE_LIMIT, writing).await {
            Ok(Ok(written)) => {
                self.recent.wrote(&written, epoch, jiff::Timestamp::now());
                return Ok(Some(written));
            }
            Ok(Err(kube::Error::Api(status))) if status.is_not_found() => return Ok(None),
            Ok(Err(error)) => Error::Write(Box::new(error)),
            Err(_) => Error::Late,
        };
        self.recent.forget(&wanted.uid().unwrap_or_default());
        Err(failed)
    }
}
