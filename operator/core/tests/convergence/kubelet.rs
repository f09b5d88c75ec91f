//! What becomes of pods: they start, their processes end and start anew, they are evicted, drained and removed.

use std::collections::BTreeSet;
use std::rc::Rc;

use framewright_core::engine::interface::Answer;
use framewright_core::names::{ObjectName, PoolName, WorkerRef};
use framewright_crds::names::LABEL_POOL;
use framewright_crds::names::WORKER_CONTAINER;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube_core::ResourceExt;

use crate::api::{FOREGROUND, Millis, at, is_foreground, name_of, whole};
use crate::worker::Worker;
use crate::world::{Happening, World};

/// What a pod gets after SIGTERM.
const GRACE: Millis = 60_000;

/// What happens to a pod next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    /// Its container starts, for the first time or anew.
    Starts,
    /// Its grace is over.
    Killed,
    /// The object goes.
    Removed,
}

impl World {
    pub(crate) fn operator_makes_pod(
        &mut self,
        index: usize,
        pod: Pod,
        wanted: Option<usize>,
    ) -> Answer {
        let name = name_of(&pod);
        let made = self.api.create_pod(pod, self.now);
        self.note(|| {
            format!(
                "operator {index} makes pod {name}: {:?}",
                made.as_ref().err()
            )
        });
        let made = match made {
            Ok(made) => made,
            Err(_) => return Answer::Exists,
        };
        self.pod_made(index, &made, wanted);
        let uid = made.uid().expect("stamped");
        let me = WorkerRef {
            namespace: name.namespace,
            name: name.name,
            uid: uid.clone(),
        };
        let pool_name = PoolName {
            namespace: me.namespace.clone(),
            name: made.labels().get(LABEL_POOL).cloned().unwrap_or_default(),
        };
        let slots = if self.chance.percent(30) { 2 } else { 1 };
        self.workers
            .insert(uid.clone(), Worker::new(me, pool_name, slots));
        let wait = self.chance.between(100, 4000);
        self.pod_later(wait, &uid, Fate::Starts);
        self.collect_later();
        Answer::Metadata(Box::new(made.metadata.clone()))
    }

    pub(crate) fn operator_deletes_pod(
        &mut self,
        index: usize,
        worker: &WorkerRef,
        is_late: bool,
    ) -> Answer {
        let live = self.api.pods.live.get(&pod_of(worker));
        let is_it = live.is_some_and(|pod| pod.uid().as_deref() == Some(worker.uid.as_str()));
        self.note(|| format!("operator {index} deletes pod {} ({is_it})", worker.name));
        if is_it {
            self.pod_given_up(index, worker, is_late);
            self.end_pod(&worker.uid);
            Answer::Done
        } else {
            Answer::Gone
        }
    }

    /// The object is marked; the process gets SIGTERM and its grace.
    pub(crate) fn end_pod(&mut self, uid: &str) {
        let Some(name) = self.pod_name(uid) else {
            return;
        };
        let now = at(self.now);
        let is_marked = |pod: &Pod| pod.metadata.deletion_timestamp.is_some();
        if self
            .api
            .pods
            .live
            .get(&name)
            .is_some_and(|pod| is_marked(pod))
        {
            return;
        }
        self.api.edit_pod(&name, |pod| {
            pod.metadata.deletion_timestamp = Some(Time(whole(now)));
        });
        self.pod_leaves(uid);
        let is_up = self.workers.get(uid).is_some_and(|worker| worker.is_up);
        if is_up {
            self.pod_later(GRACE, uid, Fate::Killed);
            self.drain(uid);
        } else {
            let wait = self.chance.between(100, 1000);
            self.pod_later(wait, uid, Fate::Removed);
        }
    }

    pub(crate) fn pod(&mut self, uid: &str, fate: Fate) {
        let Some(name) = self.pod_name(uid) else {
            return;
        };
        match fate {
            Fate::Starts => self.container_starts(uid, &name),
            Fate::Killed => {
                self.process_ends(uid, "Error");
                self.pod_later(100, uid, Fate::Removed);
            }
            Fate::Removed => {
                self.process_ends(uid, "Error");
                self.note(|| format!("pod {name} is gone"));
                self.pod_gone(uid);
                self.workers.remove(uid);
                self.api.remove_pod(&name);
                if self.is_stormy() && self.chance.percent(5) {
                    self.stranger_takes(&name);
                }
            }
        }
    }

    /// Somebody else makes a pod that is called as a worker's was.
    fn stranger_takes(&mut self, name: &ObjectName) {
        let metadata = ObjectMeta {
            name: Some(name.name.clone()),
            namespace: Some(name.namespace.clone()),
            ..ObjectMeta::default()
        };
        self.note(|| format!("a stranger makes pod {name}"));
        let pod = Pod {
            metadata,
            ..Pod::default()
        };
        let _ = self.api.create_pod(pod, self.now);
    }

    fn container_starts(&mut self, uid: &str, name: &ObjectName) {
        let Some(pod) = self.api.pods.live.get(name) else {
            return;
        };
        let is_over = pod.metadata.deletion_timestamp.is_some() || phase(pod) == Some("Failed");
        let Some(worker) = self.workers.get_mut(uid) else {
            return;
        };
        if is_over || worker.is_up {
            return;
        }
        worker.start();
        let process = worker.process;
        self.note(|| format!("worker {uid} starts in pod {name}, process {process}"));
        self.api.edit_pod(name, |pod| {
            let status = pod.status.get_or_insert_default();
            status.phase = Some("Running".to_owned());
        });
        let wait = self.chance.between(100, 2000);
        let pod = uid.to_owned();
        self.after(wait, Happening::Dial { pod, process });
    }

    /// A worker's process is over; the kubelet says so, and starts another one unless the pod is ending.
    pub(crate) fn process_ends(&mut self, uid: &str, reason: &str) {
        let Some(worker) = self.workers.get_mut(uid).filter(|worker| worker.is_up) else {
            return;
        };
        let stream = worker.end();
        self.note(|| format!("the process of worker {uid} ends: {reason}"));
        self.process_over(uid);
        if let Some(stream) = stream {
            self.hang_up(stream);
        }
        let Some(name) = self.pod_name(uid) else {
            return;
        };
        let now = at(self.now);
        let end = ContainerStateTerminated {
            exit_code: 137,
            reason: Some(reason.to_owned()),
            finished_at: Some(Time(whole(now))),
            ..ContainerStateTerminated::default()
        };
        self.api.edit_pod(&name, |pod| {
            let status = pod.status.get_or_insert_default();
            status.container_statuses = Some(vec![ContainerStatus {
                name: WORKER_CONTAINER.to_owned(),
                last_state: Some(ContainerState {
                    terminated: Some(end),
                    ..ContainerState::default()
                }),
                ..ContainerStatus::default()
            }]);
        });
        let pod = self.api.pods.live.get(&name);
        let is_ending = pod.is_none_or(|pod| pod.metadata.deletion_timestamp.is_some());
        let wait = self.chance.between(500, 5000);
        let fate = if is_ending {
            Fate::Removed
        } else {
            Fate::Starts
        };
        self.pod_later(wait, uid, fate);
    }

    /// The kubelet evicts a pod: its object stays, and says so.
    pub(crate) fn evict(&mut self, uid: &str) {
        let Some(name) = self.pod_name(uid) else {
            return;
        };
        self.note(|| format!("pod {name} is evicted"));
        self.api.edit_pod(&name, |pod| {
            pod.status = Some(PodStatus {
                phase: Some("Failed".to_owned()),
                reason: Some("Evicted".to_owned()),
                ..PodStatus::default()
            });
        });
        self.pod_gone(uid);
        let stream = self.workers.get_mut(uid).and_then(Worker::end);
        if let Some(stream) = stream {
            self.hang_up(stream);
        }
        self.process_over(uid);
    }

    /// A node is lost: nobody hears from its pod again, and some time later the object goes.
    pub(crate) fn lose_node(&mut self, uid: &str) {
        self.note(|| format!("the node of worker {uid} is lost"));
        self.process_over(uid);
        let stream = self.workers.get_mut(uid).and_then(Worker::end);
        if let Some(stream) = stream {
            self.cut(stream);
        }
        let wait = self.chance.between(1000, 40_000);
        self.pod_later(wait, uid, Fate::Removed);
    }

    /// The garbage collector looks some time later for pods whose pool is gone.
    pub(crate) fn collect_later(&mut self) {
        let wait = self.chance.between(100, 3000);
        self.after(wait, Happening::Collect);
    }

    /// Deletes the pods whose pool is gone, and those of a pool that waits for that.
    pub(crate) fn collect(&mut self) {
        let pools = self.api.pools.live.values();
        let owners: BTreeSet<String> = pools
            .filter(|pool| !is_foreground(&pool.metadata))
            .filter_map(|pool| pool.uid())
            .collect();
        let is_orphan = |pod: &&Rc<Pod>| {
            let mut owned = pod.owner_references().iter();
            !owned.any(|owner| owners.contains(&owner.uid))
        };
        let pods = self.api.pods.live.values().filter(is_orphan);
        for uid in pods.filter_map(|pod| pod.uid()).collect::<Vec<_>>() {
            self.end_pod(&uid);
        }
        let pools = self.api.pools.live.values();
        let waiting: Vec<(ObjectName, String)> = pools
            .filter(|pool| is_foreground(&pool.metadata))
            .filter_map(|pool| Some((name_of(&**pool), pool.uid()?)))
            .collect();
        for (name, uid) in waiting {
            let mut pods = self.api.pods.live.values();
            let is_kept = pods.any(|pod| {
                let mut owned = pod.owner_references().iter();
                owned.any(|owner| owner.uid == uid)
            });
            if is_kept {
                self.collect_later();
            } else {
                self.note(|| format!("the garbage collector lets go of pool {name}"));
                self.api.unfinalize_pool(&name, FOREGROUND);
            }
        }
    }

    fn pod_later(&mut self, wait: Millis, uid: &str, fate: Fate) {
        let uid = uid.to_owned();
        self.after(wait, Happening::Pod { uid, fate });
    }

    /// The name of a pod that is still there.
    fn pod_name(&self, uid: &str) -> Option<ObjectName> {
        let name = pod_of(&self.workers.get(uid)?.me);
        let pod = self.api.pods.live.get(&name)?;
        (pod.uid().as_deref() == Some(uid)).then_some(name)
    }
}

pub(crate) fn pod_of(worker: &WorkerRef) -> ObjectName {
    ObjectName::new(&worker.namespace, &worker.name)
}

pub(crate) fn phase(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.phase.as_deref()
}
