//! What must hold for pools and their pods.

use super::statuses::links;
use super::*;
use crate::api::name_of;
use crate::requests::Sender;

impl World {
    // Pods.

    pub(crate) fn pool_written(
        &mut self,
        sender: Sender,
        wanted: &ModelPool,
        before: &ModelPool,
        after: &ModelPool,
    ) {
        self.ledger.writes += 1;
        let Sender {
            operator: index,
            wall,
            ..
        } = sender;
        let name = name_of(after);
        self.is_no_repetition(sender, wanted, before, after);
        let renewed = |pool: &ModelPool| pool.status.as_ref()?.links_renewed_for.clone();
        if renewed(before) != renewed(after) {
            let files = after.status.clone().unwrap_or_default().files;
            self.links_are_new(&name, wall, links(&files));
        }
        self.note(|| format!("durable by operator {index}: pool {name}"));
    }

    /// A leader never has more pods than the pool asks for. Those that end are not counted, nor those that one made at the same time
    /// who no longer leads and does not know it yet.
    pub(crate) fn pod_made(&mut self, index: usize, made: &Pod, wanted: Option<usize>) {
        self.ledger.writes += 1;
        let is_alive = |pod: &&std::rc::Rc<Pod>| {
            pod.metadata.deletion_timestamp.is_none() && phase(pod) != Some("Failed")
        };
        let Some(wanted) = wanted.filter(|_| self.leader() == Some(index)) else {
            self.ledger.late_pods.extend(made.uid());
            return;
        };
        let owners = made.owner_references().to_vec();
        let alive = self
            .api
            .pods
            .live
            .values()
            .filter(|pod| pod.owner_references() == owners.as_slice())
            .filter(is_alive)
            .filter(|pod| {
                !pod.uid()
                    .is_some_and(|uid| self.ledger.late_pods.contains(&uid))
            })
            .count();
        if alive > wanted {
            let name = made.name_any();
            self.blame(|| format!("pod {name} is one of {alive}, and {wanted} are wanted"));
        }
    }

    /// A leader deletes no pod whose worker works on something. What is bound and was never sent is bound anew elsewhere.
    pub(crate) fn pod_given_up(&mut self, index: usize, worker: &WorkerRef, is_late: bool) {
        self.ledger.writes += 1;
        let works = self
            .workers
            .get(&worker.uid)
            .is_some_and(|worker| worker.is_up && !worker.is_draining() && !worker.is_idle());
        if !works || is_late || self.leader() != Some(index) {
            return;
        }
        let jobs = self.api.jobs.live.values();
        let busy = jobs
            .flat_map(|job| job.status.iter().flat_map(|status| &status.steps))
            .filter_map(attempt::open)
            .find(|open| open.worker.uid == worker.uid)
            .map(|open| open.number);
        if let Some(number) = busy {
            let uid = worker.uid.clone();
            self.blame(|| format!("the pod of worker {uid} is deleted while attempt {number} of a step is open on it"));
        }
    }
}
