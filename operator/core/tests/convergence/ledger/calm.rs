//! What must hold once the weather is calm: everything ends, and nobody starves.

use super::statuses::words;
use super::*;

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
            if !is_finished(&status) && !is_at_rest {
                return Some(format!("job {}: {}", job.name_any(), words(&status)));
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
        let placed = self.operators[leader].placements();
        if !placed.is_empty() {
            return Some(format!("placements are left: {placed:?}"));
        }
        for pool in self.api.pools.live.values() {
            let ready = pool
                .status
                .as_ref()
                .map_or(0, |status| status.ready_replicas);
            let alive = pool.status.as_ref().map_or(0, |status| status.replicas);
            if ready != pool.spec.replicas || alive != pool.spec.replicas {
                return Some(format!(
                    "pool {}: {ready} of {alive} pods ready, {} wanted",
                    pool.name_any(),
                    pool.spec.replicas
                ));
            }
        }
        None
    }

    /// In calm weather nothing that could run waits for long beside a free worker.
    pub(crate) fn look_for_the_starving(&mut self) {
        let mut waiting = BTreeMap::new();
        let jobs: Vec<_> = self.api.jobs.live.values().cloned().collect();
        for job in jobs.iter().filter(|job| !job.spec.suspend) {
            let status = job.status.clone().unwrap_or_default();
            let uid = job.uid().unwrap_or_default();
            for step in status
                .steps
                .iter()
                .filter(|step| step.state == StepState::Queued)
            {
                let is_due = retry::not_before(step).is_none_or(|due| due <= at(self.now));
                let model = job
                    .spec
                    .steps
                    .iter()
                    .find(|spec| spec.name == step.name)
                    .map(|spec| spec.model.clone())
                    .unwrap_or_default();
                let is_room = self
                    .workers
                    .values()
                    .any(|worker| worker.is_free(&model) && self.is_kept(&worker.me));
                if is_due && is_room {
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

    pub(super) fn is_kept(&self, worker: &WorkerRef) -> bool {
        let pod = self.api.pods.live.get(&worker.name);
        pod.is_some_and(|pod| pod.metadata.deletion_timestamp.is_none())
    }
}
