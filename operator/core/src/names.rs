//! How the operator calls a worker and a pool.

/// A worker pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerRef {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// A pool, by namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolName {
    pub namespace: String,
    pub name: String,
}

impl std::fmt::Display for PoolName {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}/{}", self.namespace, self.name)
    }
}
