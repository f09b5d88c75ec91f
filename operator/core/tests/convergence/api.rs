//! What an API server does: versions, conflicts, preconditions, and a log of changes that watches follow at their own pace.

use std::collections::BTreeMap;
use std::rc::Rc;

use framewright_core::names::ObjectName;
use framewright_crds::aijob::AIJobStatus;
use framewright_crds::modelpool::ModelPoolStatus;
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

/// The garbage collector's own finalizer.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";

/// A field of statuses that an API server with an older CRD does not know, and drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prunes {
    Files,
    Messages,
    Seeds,
    Progress,
    Models,
}

impl Prunes {
    pub(crate) const ALL: [Prunes; 5] = [
        Prunes::Files,
        Prunes::Messages,
        Prunes::Seeds,
        Prunes::Progress,
        Prunes::Models,
    ];

    fn job(self, status: &mut AIJobStatus) {
        match self {
            Prunes::Files => status.files.clear(),
            Prunes::Messages => {
                for step in &mut status.steps {
                    step.message = None;
                }
            }
            Prunes::Seeds => {
                for step in &mut status.steps {
                    step.seed = None;
                }
            }
            Prunes::Progress => {
                status.progress = None;
                status.attempts_made = None;
            }
            Prunes::Models => {}
        }
    }

    fn pool(self, status: &mut ModelPoolStatus) {
        match self {
            Prunes::Files => status.files.clear(),
            Prunes::Models => {
                status.models.clear();
                status.pipelines.clear();
            }
            Prunes::Messages | Prunes::Seeds | Prunes::Progress => {}
        }
    }
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
    pub live: BTreeMap<ObjectName, Rc<K>>,
    log: Vec<(ObjectName, Option<Rc<K>>)>,
}

/// The labels of a namespace.
pub(crate) type Labels = BTreeMap<String, String>;

/// What one watch has shown so far.
pub(crate) struct Cache<K> {
    pub objects: BTreeMap<ObjectName, Rc<K>>,
    seen: usize,
}

pub(crate) struct Api {
    pub prunes: Option<Prunes>,
    version: u64,
    uids: u64,
    pub jobs: Kind<AIJob>,
    pub pools: Kind<ModelPool>,
    pub pods: Kind<Pod>,
    pub namespaces: Kind<Labels>,
}

impl<K> Kind<K> {
    fn new() -> Kind<K> {
        Kind {
            live: BTreeMap::new(),
            log: Vec::new(),
        }
    }

    fn put(&mut self, name: ObjectName, object: Option<Rc<K>>) {
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

    /// What a new watch lists at an API server that lags by so many changes. It may have had more than the watch had shown: then nobody
    /// is shown what has happened in between.
    pub(crate) fn listed_late(kind: &Kind<K>, lag: usize) -> Cache<K> {
        let seen = kind.log.len().saturating_sub(lag);
        let mut objects = BTreeMap::new();
        for (name, object) in &kind.log[..seen] {
            match object {
                Some(object) => drop(objects.insert(name.clone(), Rc::clone(object))),
                None => drop(objects.remove(name)),
            }
        }
        Cache { objects, seen }
    }

    pub(crate) fn lag(&self, kind: &Kind<K>) -> usize {
        kind.log.len() - self.seen
    }

    /// Shows one more change; its name, and the object before and after.
    #[allow(clippy::type_complexity, reason = "used in one place")]
    pub(crate) fn follow(
        &mut self,
        kind: &Kind<K>,
    ) -> Option<(ObjectName, Option<Rc<K>>, Option<Rc<K>>)> {
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
    pub(crate) fn new(prunes: Option<Prunes>) -> Api {
        Api {
            prunes,
            version: 100,
            uids: 0,
            jobs: Kind::new(),
            pools: Kind::new(),
            pods: Kind::new(),
            namespaces: Kind::new(),
        }
    }

    pub(crate) fn label_namespace(&mut self, name: &str, labels: Labels) {
        self.version += 1;
        let name = ObjectName::new("", name);
        self.namespaces.put(name, Some(Rc::new(labels)));
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
        self.jobs.put(name_of(&job), Some(Rc::new(job)));
        uid
    }

    pub(crate) fn create_pool(&mut self, mut pool: ModelPool, now: Millis) -> String {
        self.stamp(&mut pool.metadata, now);
        let uid = pool.uid().expect("stamped");
        self.pools.put(name_of(&pool), Some(Rc::new(pool)));
        uid
    }

    pub(crate) fn create_pod(&mut self, mut pod: Pod, now: Millis) -> Result<Rc<Pod>, Refused> {
        if self.pods.live.contains_key(&name_of(&pod)) {
            return Err(Refused::Exists);
        }
        self.stamp(&mut pod.metadata, now);
        let pod = Rc::new(pod);
        self.pods.put(name_of(&*pod), Some(Rc::clone(&pod)));
        Ok(pod)
    }

    /// A person edits a job's spec or annotations.
    pub(crate) fn edit_job(&mut self, name: &ObjectName, edit: impl FnOnce(&mut AIJob)) {
        let Some(old) = self.jobs.live.get(name) else {
            return;
        };
        let mut job = (**old).clone();
        edit(&mut job);
        if job.spec != old.spec {
            job.metadata.generation = job.metadata.generation.map(|count| count + 1);
        }
        job.metadata.resource_version = self.next_version();
        self.jobs.put(name.clone(), Some(Rc::new(job)));
    }

    pub(crate) fn edit_pool(&mut self, name: &ObjectName, edit: impl FnOnce(&mut ModelPool)) {
        let Some(old) = self.pools.live.get(name) else {
            return;
        };
        let mut pool = (**old).clone();
        edit(&mut pool);
        if pool.spec != old.spec {
            pool.metadata.generation = pool.metadata.generation.map(|count| count + 1);
        }
        pool.metadata.resource_version = self.next_version();
        self.pools.put(name.clone(), Some(Rc::new(pool)));
    }

    /// The kubelet or the garbage collector changes a pod.
    pub(crate) fn edit_pod(&mut self, name: &ObjectName, edit: impl FnOnce(&mut Pod)) {
        let Some(old) = self.pods.live.get(name) else {
            return;
        };
        let mut pod = (**old).clone();
        edit(&mut pod);
        pod.metadata.resource_version = self.next_version();
        self.pods.put(name.clone(), Some(Rc::new(pod)));
    }

    pub(crate) fn remove_pod(&mut self, name: &ObjectName) {
        self.version += 1;
        self.pods.put(name.clone(), None);
    }

    /// A deletion with preconditions; each of them may be left out.
    pub(crate) fn delete_job(
        &mut self,
        name: &ObjectName,
        uid: Option<&str>,
        version: Option<&str>,
        now: Millis,
    ) -> Result<(), Refused> {
        let live = self.jobs.live.get(name).ok_or(Refused::NotFound)?;
        let differs = uid.is_some_and(|uid| live.uid().as_deref() != Some(uid))
            || version.is_some_and(|version| live.resource_version().as_deref() != Some(version));
        if differs {
            return Err(Refused::Conflict);
        }
        delete(&mut self.jobs, &mut self.version, name, now);
        Ok(())
    }

    pub(crate) fn delete_pool(&mut self, name: &ObjectName, now: Millis) {
        delete(&mut self.pools, &mut self.version, name, now);
    }

    /// Somebody takes a finalizer away; an object that is deleted goes with the last one.
    pub(crate) fn unfinalize_job(&mut self, name: &ObjectName, finalizer: &str) {
        unfinalize(&mut self.jobs, &mut self.version, name, finalizer);
    }

    pub(crate) fn unfinalize_pool(&mut self, name: &ObjectName, finalizer: &str) {
        unfinalize(&mut self.pools, &mut self.version, name, finalizer);
    }

    pub(crate) fn write_job_status(&mut self, wanted: &AIJob) -> Result<Rc<AIJob>, Refused> {
        let (version, prunes) = (self.version + 1, self.prunes);
        let written = merged(&self.jobs, wanted, |live| {
            live.status = wanted.status.as_ref().map(as_stored);
            if let (Some(prunes), Some(status)) = (prunes, &mut live.status) {
                prunes.job(status);
            }
            live.metadata.resource_version = Some(version.to_string());
        })?;
        let before = &self.jobs.live[&name_of(wanted)];
        if before.status == written.status {
            return Ok(Rc::clone(before));
        }
        self.version = version;
        self.jobs.put(name_of(wanted), Some(Rc::clone(&written)));
        Ok(written)
    }

    pub(crate) fn write_pool_status(
        &mut self,
        wanted: &ModelPool,
    ) -> Result<Rc<ModelPool>, Refused> {
        let (version, prunes) = (self.version + 1, self.prunes);
        let written = merged(&self.pools, wanted, |live| {
            live.status = wanted.status.as_ref().map(as_stored);
            if let (Some(prunes), Some(status)) = (prunes, &mut live.status) {
                prunes.pool(status);
            }
            live.metadata.resource_version = Some(version.to_string());
        })?;
        let before = &self.pools.live[&name_of(wanted)];
        if before.status == written.status {
            return Ok(Rc::clone(before));
        }
        self.version = version;
        self.pools.put(name_of(wanted), Some(Rc::clone(&written)));
        Ok(written)
    }
}

/// An object without finalizers goes at once; another one is marked.
fn delete<K: Resource + Clone>(
    kind: &mut Kind<K>,
    version: &mut u64,
    name: &ObjectName,
    now: Millis,
) {
    let Some(old) = kind.live.get(name) else {
        return;
    };
    if old.finalizers().is_empty() {
        *version += 1;
        return kind.put(name.clone(), None);
    }
    if old.meta().deletion_timestamp.is_some() {
        return;
    }
    *version += 1;
    let mut new = (**old).clone();
    let metadata = new.meta_mut();
    metadata.deletion_timestamp = Some(Time(whole(at(now))));
    metadata.generation = metadata.generation.map(|count| count + 1);
    metadata.resource_version = Some(version.to_string());
    kind.put(name.clone(), Some(Rc::new(new)));
}

fn unfinalize<K: Resource + Clone>(
    kind: &mut Kind<K>,
    version: &mut u64,
    name: &ObjectName,
    finalizer: &str,
) {
    let Some(old) = kind.live.get(name) else {
        return;
    };
    let mut new = (**old).clone();
    let left = new.finalizers_mut();
    left.retain(|known| known != finalizer);
    let is_last = left.is_empty();
    if new.finalizers().len() == old.finalizers().len() {
        return;
    }
    *version += 1;
    new.meta_mut().resource_version = Some(version.to_string());
    let is_gone = is_last && new.meta().deletion_timestamp.is_some();
    kind.put(name.clone(), (!is_gone).then(|| Rc::new(new)));
}

/// Whether an object waits until what it owns is gone.
pub(crate) fn is_foreground(metadata: &ObjectMeta) -> bool {
    let mut finalizers = metadata.finalizers.iter().flatten();
    metadata.deletion_timestamp.is_some() && finalizers.any(|name| name == FOREGROUND)
}

pub(crate) fn name_of<K: Resource>(object: &K) -> ObjectName {
    ObjectName::of(object.meta())
}

/// The live object with a new status, if the version (where one is stated) and the UID still fit.
fn merged<K: Resource + Clone>(
    kind: &Kind<K>,
    wanted: &K,
    change: impl FnOnce(&mut K),
) -> Result<Rc<K>, Refused> {
    let live = kind.live.get(&name_of(wanted)).ok_or(Refused::NotFound)?;
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
