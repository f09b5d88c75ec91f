//! Writes an object's status, on top of the version that the plan was made from and no other.

use std::fmt::Debug;

use kube::api::{Api, PostParams};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::leadership::Leadership;
use crate::writes::{self, Error};
use framewright_core::recent::Recent;

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
        match writes::write(self.leadership, writes::LIMIT, writing).await {
            Ok(written) => {
                self.recent.wrote(&written, epoch, jiff::Timestamp::now());
                Ok(Some(written))
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => {
                self.recent.forget(&wanted.uid().unwrap_or_default());
                Err(error)
            }
        }
    }
}
