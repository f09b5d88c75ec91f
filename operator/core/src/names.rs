//! How the operator names workers, pools and jobs.

use framewright_crds::aijob::AttemptWorker;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// A worker pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerRef {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

impl From<&AttemptWorker> for WorkerRef {
    fn from(worker: &AttemptWorker) -> WorkerRef {
        WorkerRef {
            namespace: worker.namespace.clone(),
            name: worker.name.clone(),
            uid: worker.uid.clone(),
        }
    }
}

/// An object of a known kind, by namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName {
    pub namespace: String,
    pub name: String,
}

/// A ModelPool's name.
pub type PoolName = ObjectName;

/// An AIJob's name.
pub type JobName = ObjectName;

impl ObjectName {
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> ObjectName {
        ObjectName {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// The name of an object, from its metadata.
    #[must_use]
    pub fn of(metadata: &ObjectMeta) -> ObjectName {
        ObjectName {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
        }
    }

    /// The name in `namespace/name`.
    #[must_use]
    pub fn parse(text: &str) -> Option<ObjectName> {
        let (namespace, name) = text.split_once('/')?;
        Some(ObjectName::new(namespace, name))
    }
}

impl std::fmt::Display for ObjectName {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}/{}", self.namespace, self.name)
    }
}
