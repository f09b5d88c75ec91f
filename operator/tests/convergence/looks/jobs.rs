//! Looks at one job: the shell around its plan.

use super::*;

impl World {
    pub(crate) fn look_at_job(&mut self, index: usize, name: &str) {
        self.round(index, name, 0);
    }

    pub(super) fn round(&mut self, index: usize, name: &str, round: usize) {
        let Some(cached) = self.operators[index].jobs.objects.get(name).cloned() else {
            return;
        };
        let job = self.operators[index].recent_jobs.newest(&cached);
        let seen = self.observe(index, &job);
        let plan = plan(&seen, &self.links);
        self.decided(index, &seen, &plan);
        let operator = &self.operators[index];
        let is_known = operator
            .epoch()
            .is_some_and(|epoch| operator.recent_jobs.is_known(&seen.uid, epoch));
        if !plan.orders.is_empty() && !is_known {
            return self.read_live(index, name, &seen.uid, round);
        }
        for order in &plan.orders {
            if self.dies_here(index) {
                return;
            }
            self.ordered(index, &seen, order);
            let operator = &self.operators[index];
            let act::Concerns { scheduler, pool } =
                act::send(&operator.fleet, &self.links, &seen, order);
            if scheduler {
                self.wake(index, About::Schedule, 3);
            }
            if let Some(pool) = pool {
                self.wake(index, About::Pool(pool.name), 3);
            }
            self.pump(index);
        }
        let placements = &self.operators[index].placements;
        placements.await_look(&seen.uid, plan.awaits_look, at(self.now));
        if plan.awaits_look {
            self.wake(index, About::Schedule, 3);
        }
        if self.dies_here(index) {
            return;
        }
        if plan.delete {
            let (uid, version) = (job.uid(), job.resource_version());
            let deleted = self
                .api
                .delete_job(name, uid.as_deref(), version.as_deref());
            self.note(|| format!("operator {index} deletes job {name}: {deleted:?}"));
            if deleted == Err(Refused::Conflict) {
                self.back_off(index, &About::Job(name.to_owned()));
            }
            return;
        }
        if job.status.as_ref() == Some(&plan.status) {
            self.looked(index, name, plan.look_again);
            return;
        }
        if self.operators[index].term.is_none() {
            return self.back_off(index, &About::Job(name.to_owned()));
        }
        let unfounded = self.unfounded(index, &seen, &plan);
        let mut wanted = job;
        wanted.status = Some(plan.status);
        let landing = Landing {
            operator: index,
            life: self.operators[index].life,
            wanted,
            round,
            look_again: plan.look_again,
            fate: self.fate(),
            unfounded,
        };
        self.operators[index]
            .busy
            .insert(About::Job(name.to_owned()));
        let wait = self.latency();
        if wait == 0 {
            return self.land(landing);
        }
        self.after(wait, Happening::Landed(Box::new(landing)));
    }

    /// The API server is asked for the job itself, since orders are due.
    pub(super) fn read_live(&mut self, index: usize, name: &str, uid: &str, round: usize) {
        let live = self.api.jobs.live.get(name).cloned();
        let live = live.filter(|live| live.uid().as_deref() == Some(uid));
        self.note(|| format!("operator {index} reads {name} live"));
        if let Some(live) = live {
            let now = at(self.now);
            let operator = &self.operators[index];
            let epoch = operator.epoch().unwrap_or_default();
            operator.recent_jobs.read(&live, epoch, now);
            if round + 1 < ROUNDS {
                self.round(index, name, round + 1);
            }
        }
    }

    /// A job's status arrives at the API server, and the answer at the operator, if there still is one.
    pub(crate) fn land(&mut self, landing: Landing) {
        let Landing {
            operator: index,
            life,
            wanted,
            round,
            look_again,
            fate,
            unfounded,
        } = landing;
        let name = wanted.name_any();
        let about = About::Job(name.clone());
        let before = self.api.jobs.live.get(&name).cloned();
        let written = match fate {
            Fate::Lands | Fate::AnswerLost => self.api.write_job_status(&wanted),
            Fate::Lost => Err(Refused::Conflict),
        };
        if let (Some(before), Ok(after)) = (&before, &written) {
            self.durable(index, life, before, after);
            if let Some(unfounded) = unfounded {
                self.blame(|| unfounded);
            }
        }
        let is_there = self.operators[index].life == life && self.operators[index].is_alive;
        if !is_there || self.dies_here(index) {
            return;
        }
        if fate != Fate::Lands {
            let wait = Millis::try_from(writes::LIMIT.as_millis()).expect("seconds");
            return self.after(
                wait,
                Happening::Unanswered {
                    operator: index,
                    life,
                    name,
                    uid: wanted.uid().expect("every job has one"),
                },
            );
        }
        self.no_longer_busy(index, &about);
        let now = at(self.now);
        match written {
            Ok(written) => {
                let operator = &self.operators[index];
                let uid = written.uid().expect("every job has one");
                let status = written.status.clone().unwrap_or_default();
                operator.backoff.succeeded(&name);
                let epoch = operator.epoch().unwrap_or_default();
                operator.recent_jobs.wrote(&written, epoch, now);
                operator.placements.written(&uid, &status);
                self.wake(index, About::Schedule, 3);
                if round + 1 < ROUNDS {
                    self.round(index, &name, round + 1);
                } else {
                    self.looked(index, &name, look_again);
                }
            }
            Err(Refused::NotFound) => {}
            Err(Refused::Conflict | Refused::Exists) => {
                let uid = wanted.uid().expect("every job has one");
                self.operators[index].recent_jobs.forget(&uid);
                self.back_off(index, &about);
            }
        }
    }

    /// An operator has waited for an answer for as long as it does.
    pub(crate) fn unanswered(&mut self, index: usize, life: u64, name: String, uid: &str) {
        if self.operators[index].life == life && self.operators[index].is_alive {
            let about = About::Job(name);
            self.operators[index].recent_jobs.forget(uid);
            self.no_longer_busy(index, &about);
            self.back_off(index, &about);
        }
    }

    pub(super) fn looked(
        &mut self,
        index: usize,
        name: &str,
        look_again: Option<jiff::SignedDuration>,
    ) {
        self.operators[index].backoff.succeeded(name);
        let wait = look_again.and_then(|wait| Millis::try_from(wait.as_millis()).ok());
        if let Some(wait) = wait.filter(|wait| *wait >= 0) {
            self.wake(index, About::Job(name.to_owned()), wait);
        }
    }

    pub(super) fn observe(&mut self, index: usize, job: &AIJob) -> Observed {
        let status = job.status.clone().unwrap_or_default();
        let uid = job.uid().expect("every job has one");
        let is_over = is_finished(&status);
        let received = if is_over {
            BTreeSet::new()
        } else {
            self.watch_the_store(index, &uid, &status)
        };
        let facts = self.facts(index);
        let operator = &self.operators[index];
        Observed {
            namespace: job.namespace().unwrap_or_default(),
            name: job.name_any(),
            generation: job.metadata.generation,
            created: job.metadata.creation_timestamp.clone().expect("set").0,
            spec: job.spec.clone(),
            renew_links: None,
            now: at(self.now),
            written_at: operator.recent_jobs.written_at(&uid),
            received,
            store_trouble: None,
            steps: if is_over {
                BTreeMap::new()
            } else {
                self.steps_seen(index, job, &uid, &status, &facts)
            },
            held: operator.fleet.held_by(&uid),
            kept_by: Vec::new(),
            uid,
            status,
        }
    }

    pub(super) fn steps_seen(
        &self,
        index: usize,
        job: &AIJob,
        uid: &str,
        status: &AIJobStatus,
        facts: &[PoolFacts],
    ) -> BTreeMap<String, StepSeen> {
        let operator = &self.operators[index];
        let namespace = job.namespace().unwrap_or_default();
        let leads_since = operator.term.map_or(at(self.now), |term| term.since);
        let steps = job.spec.steps.iter().map(|step| {
            let known = status.steps.iter().find(|known| known.name == step.name);
            let open = known.and_then(attempt::open);
            let pod = open
                .and_then(|open| operator.pods.objects.get(&open.worker))
                .filter(|pod| pod.uid().as_deref() == open.map(|open| open.pod_uid.as_str()));
            let restart = open
                .zip(pod)
                .and_then(|(open, pod)| ended_since(pod, open.bound_at.0));
            let presence = open.map(|open| {
                let stream = operator.fleet.presence(&open.pod_uid);
                let has_pod =
                    pod.is_some() || stream == Some(Presence::Connected) || self.is_pod_there(open);
                let is_leaving = operator.leaving.has(&open.pod_uid);
                let pod = (has_pod, is_leaving);
                presence(open, stream, pod, restart.as_ref(), leads_since)
            });
            let seen = StepSeen {
                resolution: Some(resolve(
                    &namespace,
                    step,
                    facts,
                    &self.catalog,
                    &self.labels,
                )),
                binding: operator.placements.binding(uid, &step.name),
                presence,
                leaves_at: pod.and_then(|pod| leaves_at(pod)),
                restart,
                begun_at: open.and_then(|open| {
                    let task = attempt::task_id(uid, &step.name, open.number);
                    operator.fleet.begun_at(&open.pod_uid, &task)
                }),
                awaits_look: operator
                    .placements
                    .awaits_look(uid, &step.name, at(self.now)),
            };
            (step.name.clone(), seen)
        });
        steps.collect()
    }

    pub(super) fn is_pod_there(&self, open: &Attempt) -> bool {
        let pod = self.api.pods.live.get(&open.worker);
        pod.is_some_and(|pod| pod.uid().as_deref() == Some(open.pod_uid.as_str()))
    }

    /// The store answers at once what is there; what comes later it tells.
    pub(super) fn watch_the_store(
        &mut self,
        index: usize,
        uid: &str,
        status: &AIJobStatus,
    ) -> BTreeSet<String> {
        let known = self.operators[index]
            .received
            .entry(uid.to_owned())
            .or_default();
        let uploads = &status.uploads;
        known.extend(
            uploads
                .iter()
                .filter(|upload| upload.received)
                .map(|upload| upload.sha256.clone()),
        );
        if self.store.is_up {
            for upload in uploads {
                if self.store.has(uid, &upload.sha256) {
                    known.insert(upload.sha256.clone());
                }
            }
        }
        known.clone()
    }
}
