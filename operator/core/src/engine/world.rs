//! The objects as they were last seen, whether this replica leads or not: by a watch, or in an answer of the API server, whichever is
//! newer.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use framewright_crds::deletion::{goes_by_itself, kept_by};
use framewright_crds::{AIJob, ModelPool};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube_core::{Resource, ResourceExt};

use super::guard::guarded;
use crate::clock::Jumps;
use crate::jobs::plan::{is_finished, ttl};
use crate::jobs::pool_selection;
use crate::jobs::pool_selection::{NamespaceLabels, PoolFacts};
use crate::links::{is_renewal_due, renewal};
use crate::names::{JobName, ObjectName, PoolName, WorkerRef};
use crate::pools::pod::pool_of;
use crate::trim::trim_pod;

/// How long the deletion of a pod is remembered; longer than a pod's grace, which a pool's template may set to a day.
const LEAVING_REMEMBERED: SignedDuration = SignedDuration::from_hours(25);
/// Deletions of jobs and pools that are remembered; more than an API server that lags by some seconds can be behind.
const DELETED_REMEMBERED: usize = 4096;

/// All objects.
#[derive(Debug, Default)]
pub struct World {
    jobs: HashMap<JobName, Job>,
    job_names: HashMap<String, JobName>,
    pools: BTreeMap<PoolName, Pool>,
    pool_names: HashMap<String, PoolName>,
    pods: HashMap<ObjectName, Arc<Pod>>,
    /// The pods of each pool, by the pool's UID.
    pods_of: HashMap<String, BTreeSet<ObjectName>>,
    /// UIDs of jobs and pools that a list has shown in an older version than the one that is known.
    doubtful: BTreeSet<String>,
    deleted: Deleted,
    /// When a deletion of a pod was first seen, by its UID: what happens to its work is nobody's failure.
    leaving: HashMap<String, Timestamp>,
    /// The newest version that cannot be read, by the UID of its job or pool.
    unreadable: HashMap<String, u64>,
    pub namespaces: NamespaceLabels,
    /// What jobs need to know about pools, by name.
    facts: Vec<PoolFacts>,
    listed: Listed,
}

/// UIDs of the jobs and pools that were deleted last. No object gets such a UID again, but a list that is older than the deletion may
/// still show the object.
#[derive(Debug, Default)]
struct Deleted {
    uids: HashSet<String>,
    oldest_first: VecDeque<String>,
}

impl Deleted {
    fn add(&mut self, uid: &str) {
        if self.uids.insert(uid.to_owned()) {
            self.oldest_first.push_back(uid.to_owned());
        }
        if self.oldest_first.len() > DELETED_REMEMBERED
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.uids.remove(&oldest);
        }
    }

    fn has(&self, uid: &str) -> bool {
        self.uids.contains(uid)
    }
}

/// The kinds of which all objects are known.
#[derive(Clone, Copy, Debug, Default)]
struct Listed {
    jobs: bool,
    pools: bool,
    pods: bool,
    namespaces: bool,
}

/// A job.
#[derive(Debug)]
pub enum Job {
    Live(Arc<AIJob>),
    /// It is over: only what is needed to settle its tasks, to renew its links and to delete it in time.
    Finished(Finished),
    /// It cannot be read, and nothing was known of it before.
    Unreadable {
        uid: String,
        version: u64,
    },
}

/// A job that is over.
#[derive(Debug)]
pub struct Finished {
    pub uid: String,
    pub version: u64,
    /// When it succeeded or failed, and how long after that it is deleted.
    pub finished_at: Option<Timestamp>,
    pub ttl: SignedDuration,
    pub is_renewal_due: bool,
    /// Its deletion was asked for, or something keeps it from being deleted.
    pub is_leaving: bool,
}

/// A pool.
#[derive(Debug)]
pub enum Pool {
    Known(Arc<ModelPool>),
    Unreadable { uid: String, version: u64 },
}

/// What a change of a pool means to jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FactsChange {
    None,
    /// The reason why it takes no tasks.
    Reason,
    /// What it offers, and to whom.
    Offer,
}

impl Job {
    pub fn uid(&self) -> &str {
        match self {
            Job::Live(job) => job.metadata.uid.as_deref().unwrap_or_default(),
            Job::Finished(Finished { uid, .. }) | Job::Unreadable { uid, .. } => uid,
        }
    }

    pub(super) fn version(&self) -> u64 {
        match self {
            Job::Live(job) => version(&**job),
            Job::Finished(Finished { version, .. }) | Job::Unreadable { version, .. } => *version,
        }
    }
}

impl Pool {
    fn uid(&self) -> &str {
        match self {
            Pool::Known(pool) => pool.metadata.uid.as_deref().unwrap_or_default(),
            Pool::Unreadable { uid, .. } => uid,
        }
    }

    fn version(&self) -> u64 {
        match self {
            Pool::Known(pool) => version(&**pool),
            Pool::Unreadable { version, .. } => *version,
        }
    }
}

impl World {
    /// UIDs of all jobs and pools.
    #[must_use]
    pub fn owners(&self) -> BTreeSet<String> {
        self.job_names
            .keys()
            .chain(self.pool_names.keys())
            .cloned()
            .collect()
    }

    /// Whether all lists are complete.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let Listed {
            jobs,
            pools,
            pods,
            namespaces,
        } = self.listed;
        jobs && pools && pods && namespaces
    }

    // Jobs.

    #[must_use]
    pub fn job(&self, name: &JobName) -> Option<&Job> {
        self.jobs.get(name)
    }

    #[must_use]
    pub fn job_name(&self, uid: &str) -> Option<&JobName> {
        self.job_names.get(uid)
    }

    #[must_use]
    pub fn job_names(&self) -> Vec<JobName> {
        self.jobs.keys().cloned().collect()
    }

    /// Takes a job that is newer than what is known of it; whether it is.
    pub fn take_job(&mut self, job: &Arc<AIJob>) -> bool {
        let name = ObjectName::of(&job.metadata);
        let version = version(&**job);
        let uid = job.uid().unwrap_or_default();
        let known = self.jobs.get(&name);
        if self.deleted.has(&uid) || known.is_some_and(|known| known.version() >= version) {
            return false;
        }
        self.is_read(&uid, version);
        if let Some(known) = self.jobs.get(&name)
            && known.uid() != uid
        {
            self.job_names.remove(known.uid());
        }
        self.job_names.insert(uid, name.clone());
        self.jobs.insert(name, entry(job, version));
        true
    }

    /// A list shows this job: an older version than the known one is a reason to read it.
    pub fn doubt_job(&mut self, job: &AIJob) {
        let known = self.jobs.get(&ObjectName::of(&job.metadata));
        let known = known.map(|known| (known.uid(), known.version()));
        if is_older(job, known) {
            self.doubtful.extend(job.metadata.uid.clone());
        }
    }

    /// The same for a pool.
    pub fn doubt_pool(&mut self, pool: &ModelPool) {
        let known = self.pools.get(&ObjectName::of(&pool.metadata));
        let known = known.map(|known| (known.uid(), known.version()));
        if is_older(pool, known) {
            self.doubtful.extend(pool.metadata.uid.clone());
        }
    }

    /// UIDs of the jobs and pools that are to be read for that reason.
    pub fn take_doubtful(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.doubtful)
    }

    /// A job cannot be read: what was known of it stays. Whether that is news.
    pub fn job_unreadable(&mut self, name: &JobName, uid: &str, version: &str) -> bool {
        let version = parse(version);
        let known = self.jobs.get(name).filter(|known| known.uid() == uid);
        if self.deleted.has(uid) || known.is_some_and(|known| known.version() >= version) {
            return false;
        }
        match self.jobs.get_mut(name) {
            Some(Job::Unreadable {
                uid: known,
                version: old,
            }) if known == uid => *old = version,
            Some(known) if known.uid() == uid => {}
            Some(_) | None => {
                if let Some(other) = self.jobs.get(name) {
                    self.job_names.remove(other.uid());
                }
                let uid = uid.to_owned();
                self.job_names.insert(uid.clone(), name.clone());
                self.jobs
                    .insert(name.clone(), Job::Unreadable { uid, version });
            }
        }
        self.is_new_unreadable(uid, version)
    }

    fn is_new_unreadable(&mut self, uid: &str, version: u64) -> bool {
        let last = self.unreadable.entry(uid.to_owned()).or_insert(0);
        let is_new = *last < version;
        *last = version.max(*last);
        is_new
    }

    /// This version of an object can be read.
    fn is_read(&mut self, uid: &str, version: u64) {
        if self
            .unreadable
            .get(uid)
            .is_some_and(|last| *last <= version)
        {
            self.unreadable.remove(uid);
        }
    }

    /// Whether an object cannot be read in its newest version. What is known of it is older.
    #[must_use]
    pub fn is_unreadable(&self, uid: &str) -> bool {
        self.unreadable.contains_key(uid)
    }

    /// A job was deleted; whether it was known.
    pub fn delete_job(&mut self, name: &JobName, uid: &str) -> bool {
        self.deleted.add(uid);
        self.remove_job(name, uid)
    }

    /// A job is not there any more, or no list shows it yet; whether it was known.
    pub fn remove_job(&mut self, name: &JobName, uid: &str) -> bool {
        if self.jobs.get(name).is_none_or(|known| known.uid() != uid) {
            return false;
        }
        self.jobs.remove(name);
        self.job_names.remove(uid);
        self.unreadable.remove(uid);
        true
    }

    /// All jobs are known now; those that are not among the listed ones are gone.
    pub fn jobs_listed(&mut self, listed: &BTreeSet<String>) -> Vec<(JobName, String)> {
        self.listed.jobs = true;
        let gone = self
            .job_names
            .iter()
            .filter(|(uid, _)| !listed.contains(*uid));
        let gone: Vec<(JobName, String)> = gone
            .map(|(uid, name)| (name.clone(), uid.clone()))
            .collect();
        for (name, uid) in &gone {
            self.remove_job(name, uid);
        }
        gone
    }

    /// Whether a job is there, and its tasks are the business of its own status. One that is being deleted and that nothing keeps is gone.
    #[must_use]
    pub fn has_job(&self, uid: &str) -> bool {
        let job = self.job_names.get(uid).and_then(|name| self.jobs.get(name));
        job.is_some_and(|job| match job {
            Job::Live(job) => !goes_by_itself(&job.metadata),
            Job::Finished(_) | Job::Unreadable { .. } => true,
        })
    }

    // Pools.

    #[must_use]
    pub fn pool(&self, name: &PoolName) -> Option<&Arc<ModelPool>> {
        match self.pools.get(name)? {
            Pool::Known(pool) => Some(pool),
            Pool::Unreadable { .. } => None,
        }
    }

    /// The version of a pool that is known.
    #[must_use]
    pub fn pool_version(&self, name: &PoolName) -> u64 {
        self.pools.get(name).map_or(0, Pool::version)
    }

    /// The pool with this UID.
    #[must_use]
    pub fn pool_name(&self, uid: &str) -> Option<&PoolName> {
        self.pool_names.get(uid)
    }

    #[must_use]
    pub fn pool_names(&self) -> Vec<PoolName> {
        self.pools.keys().cloned().collect()
    }

    /// What jobs need to know about all pools, by name.
    #[must_use]
    pub fn facts(&self) -> &[PoolFacts] {
        &self.facts
    }

    /// Takes a pool that is newer than what is known of it; none if it is not.
    pub fn take_pool(&mut self, pool: &Arc<ModelPool>) -> Option<FactsChange> {
        let name = ObjectName::of(&pool.metadata);
        let version = version(&**pool);
        let uid = pool.uid().unwrap_or_default();
        let known = self.pools.get(&name);
        if self.deleted.has(&uid) || known.is_some_and(|known| known.version() >= version) {
            return None;
        }
        self.is_read(&uid, version);
        if let Some(known) = self.pools.get(&name) {
            self.pool_names.remove(known.uid());
        }
        self.pool_names.insert(uid, name.clone());
        self.pools
            .insert(name.clone(), Pool::Known(Arc::clone(pool)));
        Some(self.set_facts(&name))
    }

    /// A pool cannot be read: what was known of it stays. Whether that is news.
    pub fn pool_unreadable(&mut self, name: &PoolName, uid: &str, version: &str) -> bool {
        let version = parse(version);
        let known = self.pools.get(name).filter(|known| known.uid() == uid);
        if self.deleted.has(uid) || known.is_some_and(|known| known.version() >= version) {
            return false;
        }
        match self.pools.get_mut(name) {
            Some(Pool::Unreadable {
                uid: known,
                version: old,
            }) if known == uid => *old = version,
            Some(known) if known.uid() == uid => {}
            Some(_) | None => {
                if let Some(other) = self.pools.get(name) {
                    self.pool_names.remove(other.uid());
                }
                let uid = uid.to_owned();
                self.pool_names.insert(uid.clone(), name.clone());
                self.pools
                    .insert(name.clone(), Pool::Unreadable { uid, version });
                self.set_facts(name);
            }
        }
        self.is_new_unreadable(uid, version)
    }

    /// A pool was deleted; whether it was known.
    pub fn delete_pool(&mut self, name: &PoolName, uid: &str) -> bool {
        self.deleted.add(uid);
        self.remove_pool(name, uid)
    }

    /// A pool is not there any more, or no list shows it yet; whether it was known.
    fn remove_pool(&mut self, name: &PoolName, uid: &str) -> bool {
        if self.pools.get(name).is_none_or(|known| known.uid() != uid) {
            return false;
        }
        self.pools.remove(name);
        self.pool_names.remove(uid);
        self.unreadable.remove(uid);
        self.set_facts(name);
        true
    }

    /// All pools are known now; those that are not among the listed ones are gone.
    pub fn pools_listed(&mut self, listed: &BTreeSet<String>) -> Vec<(PoolName, String)> {
        self.listed.pools = true;
        let gone = self
            .pool_names
            .iter()
            .filter(|(uid, _)| !listed.contains(*uid));
        let gone: Vec<(PoolName, String)> = gone
            .map(|(uid, name)| (name.clone(), uid.clone()))
            .collect();
        for (name, uid) in &gone {
            self.remove_pool(name, uid);
        }
        gone
    }

    fn set_facts(&mut self, name: &PoolName) -> FactsChange {
        let new = self
            .pool(name)
            .filter(|pool| pool.metadata.deletion_timestamp.is_none())
            .and_then(|pool| guarded(|| pool_selection::facts(pool)).ok());
        let place = self.facts.binary_search_by(|known| known.name.cmp(name));
        match (place, new) {
            (Ok(index), Some(new)) => {
                let old = std::mem::replace(&mut self.facts[index], new);
                let new = &self.facts[index];
                let reasons = |facts: &PoolFacts| -> Vec<Option<String>> {
                    let problems = facts.models.values().chain([&facts.problem]);
                    let problems = problems.map(Option::as_ref);
                    problems
                        .map(|problem| problem.map(|problem| problem.reason.clone()))
                        .collect()
                };
                if old.access != new.access
                    || old.pipelines != new.pipelines
                    || !old.models.keys().eq(new.models.keys())
                {
                    FactsChange::Offer
                } else if reasons(&old) == reasons(new) {
                    // A waiting job does not repeat the pool's words.
                    FactsChange::None
                } else {
                    FactsChange::Reason
                }
            }
            (Err(index), Some(new)) => {
                self.facts.insert(index, new);
                FactsChange::Offer
            }
            (Ok(index), None) => {
                self.facts.remove(index);
                FactsChange::Offer
            }
            (Err(_), None) => FactsChange::None,
        }
    }

    // Pods.

    /// Takes a pod; the pool that it belongs to, or did.
    pub fn take_pod(&mut self, mut pod: Pod, now: Timestamp) -> Vec<PoolName> {
        let name = ObjectName::of(&pod.metadata);
        trim_pod(&mut pod);
        if pod.metadata.deletion_timestamp.is_some() {
            self.leaving
                .entry(pod.uid().unwrap_or_default())
                .or_insert(now);
        }
        let mut pools = self.remove_pod(&name);
        if let Some((pool, uid)) = pool_of(&pod) {
            pools.push(ObjectName::new(&name.namespace, &pool));
            self.pods_of.entry(uid).or_default().insert(name.clone());
        }
        self.pods.insert(name, Arc::new(pod));
        pools
    }

    /// Removes a pod; the pool that it belonged to.
    fn remove_pod(&mut self, name: &ObjectName) -> Vec<PoolName> {
        let Some(pod) = self.pods.remove(name) else {
            return Vec::new();
        };
        let Some((pool, uid)) = pool_of(&pod) else {
            return Vec::new();
        };
        if let Some(pods) = self.pods_of.get_mut(&uid) {
            pods.remove(name);
            if pods.is_empty() {
                self.pods_of.remove(&uid);
            }
        }
        vec![ObjectName::new(&name.namespace, &pool)]
    }

    /// A pod is gone; the pool that it belonged to.
    pub fn pod_deleted(&mut self, name: &ObjectName, uid: &str, now: Timestamp) -> Vec<PoolName> {
        if self.pods.get(name).and_then(|pod| pod.uid()).as_deref() != Some(uid) {
            return Vec::new();
        }
        let was_leaving = self
            .pods
            .get(name)
            .is_some_and(|pod| pod.metadata.deletion_timestamp.is_some());
        if was_leaving {
            self.leaving.entry(uid.to_owned()).or_insert(now);
        }
        self.remove_pod(name)
    }

    /// All pods are known now; those that are not among the listed ones, which were known, are gone: name and UID.
    pub fn pods_listed(&mut self, listed: &BTreeSet<String>) -> Vec<(ObjectName, String)> {
        self.listed.pods = true;
        let pods = self
            .pods
            .iter()
            .map(|(name, pod)| (name.clone(), pod.uid().unwrap_or_default()));
        pods.filter(|(_, uid)| !listed.contains(uid)).collect()
    }

    /// All namespaces are known now.
    pub fn namespaces_listed(&mut self, namespaces: NamespaceLabels) {
        self.listed.namespaces = true;
        self.namespaces = namespaces;
    }

    /// The pod of a worker, if it is there.
    #[must_use]
    pub fn pod(&self, worker: &WorkerRef) -> Option<&Arc<Pod>> {
        let name = ObjectName::new(&worker.namespace, &worker.name);
        self.pods
            .get(&name)
            .filter(|pod| pod.metadata.uid.as_deref() == Some(worker.uid.as_str()))
    }

    /// The pods of a pool, by name.
    #[must_use]
    pub fn pods_of(&self, pool_uid: &str) -> Vec<Arc<Pod>> {
        let names = self.pods_of.get(pool_uid).into_iter().flatten();
        names
            .filter_map(|name| self.pods.get(name).cloned())
            .collect()
    }

    /// Whether somebody has asked for a pod's deletion.
    #[must_use]
    pub fn is_leaving(&self, pod_uid: &str) -> bool {
        self.leaving.contains_key(pod_uid)
    }

    /// Forgets deletions of pods that are long gone.
    pub fn forget_old(&mut self, now: Timestamp, jumps: &Jumps) {
        self.leaving
            .retain(|_, since| now.duration_since(jumps.shifted(*since)) < LEAVING_REMEMBERED);
    }
}

/// Whether a list shows an older version of an object than the known one, given by its UID and version.
fn is_older<K: Resource>(listed: &K, known: Option<(&str, u64)>) -> bool {
    known.is_some_and(|(uid, known)| {
        listed.meta().uid.as_deref() == Some(uid) && version(listed) < known
    })
}

fn entry(job: &Arc<AIJob>, version: u64) -> Job {
    let Some(status) = job.status.as_ref().filter(|status| is_finished(status)) else {
        return Job::Live(Arc::clone(job));
    };
    Job::Finished(Finished {
        uid: job.uid().unwrap_or_default(),
        version,
        finished_at: status.finished_at.as_ref().map(|finished| finished.0),
        ttl: ttl(&job.spec),
        is_renewal_due: is_renewal_due(
            renewal(job.annotations()).as_deref(),
            status.links_renewed_for.as_deref(),
        ),
        is_leaving: goes_by_itself(&job.metadata) || !kept_by(&job.metadata).is_empty(),
    })
}

/// Resource versions are numbers that grow, and since Kubernetes 1.35 officially so (KEP-5504).
pub(super) fn version<K: Resource>(object: &K) -> u64 {
    parse(
        object
            .meta()
            .resource_version
            .as_deref()
            .unwrap_or_default(),
    )
}

fn parse(version: &str) -> u64 {
    version.parse().unwrap_or(0)
}
