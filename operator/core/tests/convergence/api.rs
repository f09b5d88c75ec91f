//! What an API server does: versions, conflicts, preconditions, and a log of changes that watches follow at their own pace.

use std::collections::BTreeMap;
use std::rc::Rc;

use framewright_crds::{AIJob, ModelPool};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube_core::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Milliseconds since the world began.
pub(crate) type Millis = i64;

pub(crate) fn at(millis: Millis) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_millis(1_767_225_600_000 + millis)
}

/// Why a write was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Conflict,
    NotFound,
    Exists,
}

/// All objects of one kind, by name, and how they came to be as they are.
pub(crate) struct Kind<K> {
    pub live: BTreeMap<String, Rc<K>>,
    log: Vec<(String, Option<Rc<K>>)>,
}

/// What one watch has shown so far.
pub(crate) struct Cache<K> {
    pub objects: BTreeMap<String, Rc<K>>,
    seen: usize,
}

pub(crate) struct Api {
    version: u64,
    uids: u64,
    pub jobs: Kind<AIJob>,
    pub pools: Kind<ModelPool>,
    pub pods: Kind<Pod>,
}

impl<K> Kind<K> {
    fn new() -> Kind<K> {
        Kind {
            live: BTreeMap::new(),
            log: Vec::new(),
        }
    }

    fn put(&mut self, name: String, object: Option<Rc<K>>) {
        match &object {
            Some(object) => drop(self.live.insert(name.clone(), Rc::clone(object))),
            None => drop(self.live.remove(&name)),
        }
        self.log.push((name, object));
    }
}

impl<K> Cache<K> {
    /// What a new watch lists: the present state.
    pub(crate) fn listed(kind: &Kind<K>) -> Cache<K> {
        Cache {
            objects: kind.live.clone(),
            seen: kind.log.len(),
        }
    }

    pub(crate) fn lag(&self, kind: &Kind<K>) -> usize {
        kind.log.len() - self.seen
    }

    /// Shows one more change; its name, and the object before and after.
    #[allow(clippy::type_complexity, reason = "used in one place")]
    pub(crate) fn follow(
        &mut self,
        kind: &Kind<K>,
    ) -> Option<(String, Option<Rc<K>>, Option<Rc<K>>)> {
        let (name, new) = kind.log.get(self.seen)?.clone();
        self.seen += 1;
        let old = match &new {
            Some(object) => self.objects.insert(name.clone(), Rc::clone(object)),
            None => self.objects.remove(&name),
        };
        Some((name, old, new))
    }
}

impl Api {
    pub(crate) fn new() -> Api {
        Api {
            version: 100,
            uids: 0,
            jobs: Kind::new(),
            pools: Kind::new(),
            pods: Kind::new(),
        }
    }

    fn next_version(&mut self) -> Option<String> {
        self.version += 1;
        Some(self.version.to_string())
    }

    fn stamp(&mut self, metadata: &mut ObjectMeta, now: Millis) {
        self.uids += 1;
        metadata.uid = Some(format!("uid-{}", self.uids));
        metadata.generation = Some(1);
        metadata.creation_timestamp = Some(Time(whole(at(now))));
        metadata.resource_version = self.next_version();
    }

    pub(crate) fn create_job(&mut self, mut job: AIJob, now: Millis) -> String {
        self.stamp(&mut job.metadata, now);
        let uid = job.uid().expect("stamped");
        self.jobs.put(job.name_any(), Some(Rc::new(job)));
        uid
    }

    pub(crate) fn create_pool(&mut self, mut pool: ModelPool, now: Millis) {
        self.stamp(&mut pool.metadata, now);
        self.pools.put(pool.name_any(), Some(Rc::new(pool)));
    }

    pub(crate) fn create_pod(&mut self, mut pod: Pod, now: Millis) -> Result<Rc<Pod>, Refused> {
        if self.pods.live.contains_key(&pod.name_any()) {
            return Err(Refused::Exists);
        }
        self.stamp(&mut pod.metadata, now);
        let pod = Rc::new(pod);
        self.pods.put(pod.name_any(), Some(Rc::clone(&pod)));
        Ok(pod)
    }

    /// A person edits a job's spec or annotations.
    pub(crate) fn edit_job(&mut self, name: &str, edit: impl FnOnce(&mut AIJob)) {
        let Some(old) = self.jobs.live.get(name) else {
            return;
        };
        let mut job = (**old).clone();
        edit(&mut job);
        job.metadata.generation = job.metadata.generation.map(|count| count + 1);
        job.metadata.resource_version = self.next_version();
        self.jobs.put(name.to_owned(), Some(Rc::new(job)));
    }

    pub(crate) fn edit_pool(&mut self, name: &str, edit: impl FnOnce(&mut ModelPool)) {
        let Some(old) = self.pools.live.get(name) else {
            return;
        };
        let mut pool = (**old).clone();
        edit(&mut pool);
        pool.metadata.generation = pool.metadata.generation.map(|count| count + 1);
        pool.metadata.resource_version = self.next_version();
        self.pools.put(name.to_owned(), Some(Rc::new(pool)));
    }

    /// The kubelet or the garbage collector changes a pod.
    pub(crate) fn edit_pod(&mut self, name: &str, edit: impl FnOnce(&mut Pod)) {
        let Some(old) = self.pods.live.get(name) else {
            return;
        };
        let mut pod = (**old).clone();
        edit(&mut pod);
        pod.metadata.resource_version = self.next_version();
        self.pods.put(name.to_owned(), Some(Rc::new(pod)));
    }

    pub(crate) fn remove_pod(&mut self, name: &str) {
        self.version += 1;
        self.pods.put(name.to_owned(), None);
    }

    /// A deletion with preconditions; each of them may be left out.
    pub(crate) fn delete_job(
        &mut self,
        name: &str,
        uid: Option<&str>,
        version: Option<&str>,
    ) -> Result<(), Refused> {
        let live = self.jobs.live.get(name).ok_or(Refused::NotFound)?;
        let differs = uid.is_some_and(|uid| live.uid().as_deref() != Some(uid))
            || version.is_some_and(|version| live.resource_version().as_deref() != Some(version));
        if differs {
            return Err(Refused::Conflict);
        }
        self.version += 1;
        self.jobs.put(name.to_owned(), None);
        Ok(())
    }

    pub(crate) fn write_job_status(&mut self, wanted: &AIJob) -> Result<Rc<AIJob>, Refused> {
        let version = self.version + 1;
        let written = merged(&self.jobs, wanted, |live| {
            live.status = wanted.status.as_ref().map(as_stored);
            live.metadata.resource_version = Some(version.to_string());
        })?;
        self.version = version;
        self.jobs.put(wanted.name_any(), Some(Rc::clone(&written)));
        Ok(written)
    }

    pub(crate) fn write_pool_status(
        &mut self,
        wanted: &ModelPool,
    ) -> Result<Rc<ModelPool>, Refused> {
        let version = self.version + 1;
        let written = merged(&self.pools, wanted, |live| {
            live.status = wanted.status.as_ref().map(as_stored);
            live.metadata.resource_version = Some(version.to_string());
        })?;
        self.version = version;
        self.pools.put(wanted.name_any(), Some(Rc::clone(&written)));
        Ok(written)
    }
}

/// The live object with a new status, if the version (where one is stated) and the UID still fit.
fn merged<K: Resource + Clone>(
    kind: &Kind<K>,
    wanted: &K,
    change: impl FnOnce(&mut K),
) -> Result<Rc<K>, Refused> {
    let live = kind.live.get(&wanted.name_any()).ok_or(Refused::NotFound)?;
    let is_stale =
        wanted.resource_version().is_some() && wanted.resource_version() != live.resource_version();
    if is_stale || wanted.uid() != live.uid() {
        return Err(Refused::Conflict);
    }
    let mut new = (**live).clone();
    change(&mut new);
    Ok(Rc::new(new))
}

/// What is left of a status after its way through JSON: whole seconds, for one.
fn as_stored<S: Serialize + DeserializeOwned>(status: &S) -> S {
    let text = serde_json::to_vec(status).expect("a status is JSON");
    serde_json::from_slice(&text).expect("what was written can be read")
}

pub(crate) fn whole(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).expect("in range")
}
