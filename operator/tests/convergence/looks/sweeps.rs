//! The scheduler's and the janitor's looks.

use framewright_core::jobs::seen::Binding;
use framewright_core::schedule::Pending;

use super::*;

impl World {
    pub(super) fn facts(&self, index: usize) -> Vec<PoolFacts> {
        let operator = &self.operators[index];
        let pools = operator.pools.objects.values();
        pools
            .map(|pool| facts::of(&operator.recent_pools.newest(pool)))
            .collect()
    }

    /// The scheduler's look.
    pub(crate) fn schedule(&mut self, index: usize) {
        let now = at(self.now);
        let facts = self.facts(index);
        let operator = &self.operators[index];
        operator.placements.expire(now);
        let jobs = self.live_jobs(index);
        let around = Around {
            pools: &facts,
            catalog: &self.catalog,
            labels: &self.labels,
            placed: &operator.placements.snapshot(),
            succeeded: &operator.fleet.succeeded(),
            now,
        };
        let received = |uid: &str| operator.received.get(uid).cloned().unwrap_or_default();
        let gathered = gather(&jobs, &around, &received);
        let pending = gathered.pending.clone();
        let touched = look(gathered, &operator.placements, &operator.fleet, now);
        let bind = |step: &Pending| operator.placements.binding(&step.job_uid, &step.step);
        let placed: Vec<(String, Binding)> = pending
            .iter()
            .filter_map(|step| Some((step.model.clone(), bind(step)?)))
            .collect();
        let is_idle = jobs.is_empty() && operator.placements.snapshot().is_empty();
        for (model, binding) in placed {
            self.placed(index, &model, &binding);
        }
        for job in jobs
            .iter()
            .filter(|job| job.uid().is_some_and(|uid| touched.contains(&uid)))
        {
            self.wake(index, About::Job(job.name_any()), 0);
        }
        if !is_idle {
            self.wake(index, About::Schedule, 1000);
        }
    }

    pub(crate) fn live_jobs(&self, index: usize) -> Vec<AIJob> {
        let operator = &self.operators[index];
        let jobs = operator.jobs.objects.values();
        jobs.map(|job| operator.recent_jobs.newest(job))
            .filter(is_live)
            .collect()
    }

    /// The janitor's look.
    pub(crate) fn clear_strays(&mut self, index: usize) {
        let now = at(self.now);
        let operator = &self.operators[index];
        let known: BTreeSet<String> = operator
            .jobs
            .objects
            .values()
            .filter_map(|job| job.uid())
            .collect();
        operator.recent_jobs.forget_old(now);
        operator.recent_pools.forget_old(now);
        operator.placements.retain(|uid| known.contains(uid));
        let pods = &operator.pods.objects;
        operator.fleet.retain(now, |worker| {
            pods.get(&worker.name)
                .is_some_and(|pod| pod.uid().as_deref() == Some(worker.uid.as_str()))
        });
        for stray in operator.fleet.strays(|uid| known.contains(uid)) {
            let name = stray.job.split_once('/').map_or("", |(_, name)| name);
            let live = self.api.jobs.live.get(name).and_then(|job| job.uid());
            if live.as_deref() == Some(stray.task.job_uid.as_str()) {
                continue;
            }
            let order = Order::Cancel {
                task: stray.task.clone(),
            };
            if operator.fleet.send(&stray.worker.uid, order) {
                operator.fleet.forget(&stray.worker.uid, &stray.task, now);
            }
        }
        self.operators[index]
            .received
            .retain(|uid, _| known.contains(uid));
        self.pump(index);
        self.wake(index, About::Schedule, 3);
        let wait = if self.is_stormy() { 2000 } else { 10_000 };
        self.wake(index, About::Janitor, wait);
    }

    /// The store tells each operator that waits for files of this job, or of any. Some of what it tells is lost; then the job's next
    /// look finds it, within a minute.
    pub(crate) fn store_tells(&mut self, job: Option<&str>) {
        if !self.store.is_up {
            return;
        }
        for index in 0..self.operators.len() {
            let operator = &self.operators[index];
            let is_told =
                |uid: &str| operator.received.contains_key(uid) && job.is_none_or(|job| job == uid);
            let told: Vec<String> = operator
                .jobs
                .objects
                .iter()
                .filter(|(_, job)| job.uid().is_some_and(|uid| is_told(&uid)))
                .map(|(name, _)| name.clone())
                .collect();
            for name in told {
                if self.is_stormy() && self.chance.percent(10) {
                    continue;
                }
                let wait = self.chance.between(1, 5);
                self.wake(index, About::Job(name), wait);
            }
        }
    }

    pub(super) fn wake_waiting_jobs(&mut self, index: usize) {
        let waits = |job: &AIJob| {
            let steps = job.status.iter().flat_map(|status| &status.steps);
            steps
                .into_iter()
                .any(|step| step.state == framewright_crds::aijob::StepState::Queued)
        };
        let jobs = self.operators[index].jobs.objects.iter();
        let waiting: Vec<String> = jobs
            .filter(|(_, job)| waits(job))
            .map(|(name, _)| name.clone())
            .collect();
        for name in waiting {
            self.wake(index, About::Job(name), 0);
        }
    }
}
