//! What must hold once the weather is calm: everything ends, and nobody starves.

use framewright_core::links::renewal;

use super::decisions::lets_in;
use super::statuses::words;
use framewright_core::clock::Jumps;

use super::*;
use crate::api::name_of;
use crate::kubelet::pod_of;

impl World {
    // The end.

    /// What keeps the world from being settled.
    pub(crate) fn unsettled(&self) -> Option<String> {
        for job in self.api.jobs.live.values() {
            let status = job.status.clone().unwrap_or_default();
            let is_at_rest = job.spec.suspend
                && !status.steps.is_empty()
                && status
                    .steps
                    .iter()
                    .all(|step| attempt::open(step).is_none());
            let name = name_of(&**job);
            if !is_finished(&status) && !is_at_rest {
                return Some(format!("job {name}: {}", words(&status)));
            }
            if renewal(job.annotations()) != status.links_renewed_for {
                return Some(format!("job {name} waits for new links"));
            }
        }
        for worker in self.workers.values() {
            let held = worker.held().into_iter().map(|report| report.task);
            if let Some(task) = held.chain(worker.work.keys().cloned()).next() {
                return Some(format!("worker {} holds {task}", worker.me.uid));
            }
            if !worker.shelf.is_complete() {
                return Some(format!("worker {} looks for weights", worker.me.uid));
            }
        }
        let Some(leader) = self.leader() else {
            return Some("nobody leads".to_owned());
        };
        let world = self.operators[leader].engine.world();
        let known: BTreeSet<ObjectName> = world
            .job_names()
            .into_iter()
            .chain(world.pool_names())
            .collect();
        let live = self.api.jobs.live.keys().chain(self.api.pools.live.keys());
        if known != live.cloned().collect() {
            return Some(format!(
                "operator {leader} knows other objects than there are: {known:?}"
            ));
        }
        let placed = self.operators[leader].placements();
        if !placed.is_empty() {
            return Some(format!("placements are left: {placed:?}"));
        }
        for pool in self.api.pools.live.values() {
            let name = name_of(&**pool);
            let status = pool.status.clone().unwrap_or_default();
            let (ready, alive) = (status.ready_replicas, status.replicas);
            let is_deleted = pool.metadata.deletion_timestamp.is_some();
            let wanted = if is_deleted { 0 } else { pool.spec.replicas };
            if ready != wanted || alive != wanted {
                return Some(format!(
                    "pool {name}: {ready} of {alive} pods ready, {wanted} wanted"
                ));
            }
            if renewal(pool.annotations()) != status.links_renewed_for {
                return Some(format!("pool {name} waits for new links"));
            }
        }
        let mut pods = self.api.pods.live.values();
        let is_orphan = |pod: &&std::rc::Rc<Pod>| {
            let owner = pod.owner_references().first().map(|owner| &owner.uid);
            let mut pools = self.api.pools.live.values();
            // A stranger's has none.
            owner.is_some() && pools.all(|pool| pool.metadata.uid.as_ref() != owner)
        };
        pods.find(is_orphan)
            .map(|pod| format!("pod {} has no pool any more", name_of(&**pod)))
    }

    /// An operator that wrote the end of a job, and has led since then, has counted it, even if the answer was lost.
    pub(crate) fn look_for_the_uncounted(&mut self) {
        let live = self.api.jobs.live.values();
        let uncounted = live.filter_map(|job| job.uid()).find(|uid| {
            let Some(&(index, life, epoch)) = self.ledger.ended_by.get(uid) else {
                return false;
            };
            let operator = &self.operators[index];
            let leads = operator.life == life && operator.epoch() == Some(epoch);
            leads && !self.ledger.counted.contains(&(index, life, uid.clone()))
        });
        if let Some(uid) = uncounted {
            self.blame(|| format!("the end of {uid} is not counted"));
        }
    }

    /// In calm weather nothing that could run waits for long beside a free worker.
    pub(crate) fn look_for_the_starving(&mut self) {
        let mut waiting = BTreeMap::new();
        let jobs: Vec<_> = self.api.jobs.live.values().cloned().collect();
        for job in jobs.iter().filter(|job| !job.spec.suspend) {
            let status = job.status.clone().unwrap_or_default();
            let uid = job.uid().unwrap_or_default();
            if self.cursed().contains(&uid) {
                continue;
            }
            for step in status
                .steps
                .iter()
                .filter(|step| step.state == StepState::Queued)
            {
                let is_due = attempt::retry_not_before(step, &Jumps::default())
                    .is_none_or(|due| due <= self.wall());
                let model = job
                    .spec
                    .steps
                    .iter()
                    .find(|spec| spec.name == step.name)
                    .and_then(|spec| spec.model.clone())
                    .unwrap_or_default();
                let pools = self.pools_for(&job.namespace().unwrap_or_default(), &model);
                let is_room = self.workers.values().any(|worker| {
                    worker.is_free(&model)
                        && self.is_kept(&worker.me)
                        && !self.is_held_by_a_cursed_job(&worker.me)
                        && pools.contains(&worker.pool)
                });
                // Set forwards, clocks show that it is due when its wait has just begun.
                let has_jumped = self.clocks.have_jumped(self.now - 60_000, self.now);
                if is_due && is_room && !has_jumped {
                    let key = (uid.clone(), step.name.clone());
                    let since = self
                        .ledger
                        .waiting_since
                        .get(&key)
                        .copied()
                        .unwrap_or(self.now);
                    waiting.insert(key, since);
                }
            }
        }
        let starving = waiting
            .iter()
            .find(|(_, since)| self.now - **since > STARVES);
        if let Some(((uid, step), _)) = starving {
            let told = format!("step {step} of {uid} waits beside a free worker");
            self.blame(|| told);
        }
        self.ledger.waiting_since = waiting;
    }

    /// Whether a job about which deciding panics has an attempt there, which nobody ends.
    fn is_held_by_a_cursed_job(&self, worker: &WorkerRef) -> bool {
        let cursed = self.cursed();
        let jobs = self.api.jobs.live.values();
        let mut open = jobs
            .filter(|job| job.uid().is_some_and(|uid| cursed.contains(&uid)))
            .flat_map(|job| job.status.iter().flat_map(|status| &status.steps))
            .filter_map(attempt::open);
        open.any(|open| open.worker.uid == worker.uid)
    }

    /// The pools that a step of a namespace runs in: those of its own that hold the model, or else the catalog's that let it in.
    fn pools_for(&self, namespace: &str, model: &str) -> Vec<ObjectName> {
        let pools = self.api.pools.live.values();
        let holding = pools.filter(|pool| pool.spec.models.iter().any(|held| held.name == model));
        let (own, catalog): (Vec<_>, Vec<_>) =
            holding.partition(|pool| pool.namespace().as_deref() == Some(namespace));
        let labels = self
            .api
            .namespaces
            .live
            .get(&ObjectName::new("", namespace));
        let open = catalog.into_iter().filter(|pool| {
            pool.namespace().as_deref() == Some("fleet")
                && labels.is_some_and(|labels| lets_in(pool, labels))
        });
        let pools: Vec<_> = if own.is_empty() { open.collect() } else { own };
        let cursed = self.cursed();
        let able = pools
            .iter()
            .filter(|pool| pool.uid().is_some_and(|uid| !cursed.contains(&uid)));
        able.map(|pool| name_of(&***pool)).collect()
    }

    pub(super) fn is_kept(&self, worker: &WorkerRef) -> bool {
        let pod = self.api.pods.live.get(&pod_of(worker));
        pod.is_some_and(|pod| pod.metadata.deletion_timestamp.is_none())
    }
}
