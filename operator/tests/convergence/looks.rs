//! What an operator does at each look: the product's decisions, between reads that may be stale and writes that may be lost.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use framewright_crds::aijob::{AIJobStatus, Attempt};
use framewright_crds::wire::Order;
use framewright_crds::{AIJob, ModelPool};
use framewright_operator::dispatch::gather::{Around, gather, is_live, taken};
use framewright_operator::dispatch::look;
use framewright_operator::jobs::act;
use framewright_operator::jobs::observe::presence;
use framewright_operator::jobs::plan::resolve::{NamespaceLabels, PoolFacts, resolve};
use framewright_operator::jobs::plan::{attempt, is_finished, plan};
use framewright_operator::jobs::seen::{Observed, PoolName, Presence, StepSeen};
use framewright_operator::pools::observe::{ended_since, pod_seen, pool_of};
use framewright_operator::pools::template::{self, Template};
use framewright_operator::pools::{act as pool_act, facts, plan as pool_plan, seen as pool_seen};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::api::{Millis, Refused, at};
use crate::operator::About;
use crate::world::{Happening, World};

/// Rounds in one go, as the controller has them.
const ROUNDS: usize = 5;
const ASK_AGAIN: Millis = 900;
const WRITE_LIMIT: Millis = 10_000;

/// A status on its way to the API server.
pub(crate) struct Landing {
    pub operator: usize,
    pub life: u64,
    pub wanted: AIJob,
    pub round: usize,
    pub look_again: Option<jiff::SignedDuration>,
    pub fate: Fate,
    /// What it closes without a reason.
    pub unfounded: Option<String>,
}

/// What a pool's look wants done.
pub(crate) struct PoolWork {
    pub operator: usize,
    pub life: u64,
    pub pool: ModelPool,
    pub template: Rc<Template>,
    pub plan: pool_plan::Plan,
}

/// What becomes of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Lands,
    /// It never arrives.
    Lost,
    /// It arrives, and the answer does not.
    AnswerLost,
}

impl World {
    pub(crate) fn look_at_job(&mut self, index: usize, name: &str) {
        self.round(index, name, 0);
    }

    fn round(&mut self, index: usize, name: &str, round: usize) {
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
    fn read_live(&mut self, index: usize, name: &str, uid: &str, round: usize) {
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
            return self.after(
                WRITE_LIMIT,
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

    fn looked(&mut self, index: usize, name: &str, look_again: Option<jiff::SignedDuration>) {
        self.operators[index].backoff.succeeded(name);
        let wait = look_again.and_then(|wait| Millis::try_from(wait.as_millis()).ok());
        if let Some(wait) = wait.filter(|wait| *wait >= 0) {
            self.wake(index, About::Job(name.to_owned()), wait);
        }
    }

    fn back_off(&mut self, index: usize, about: &About) {
        let wait = self.operators[index].backoff.failed(&format!("{about:?}"));
        let wait = Millis::try_from(wait.as_millis()).expect("a minute at most");
        self.wake(index, about.clone(), wait);
    }

    fn observe(&mut self, index: usize, job: &AIJob) -> Observed {
        let status = job.status.clone().unwrap_or_default();
        let uid = job.uid().expect("every job has one");
        let is_over = is_finished(&status);
        let received = if is_over {
            BTreeSet::new()
        } else {
            self.ask_the_store(index, &uid, &status)
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
            uid,
            status,
        }
    }

    fn steps_seen(
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
                let linked = operator.fleet.presence(&open.pod_uid);
                let has_pod =
                    pod.is_some() || linked == Some(Presence::Connected) || self.is_pod_there(open);
                presence(open, linked, has_pod, restart.as_ref(), leads_since)
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

    fn is_pod_there(&self, open: &Attempt) -> bool {
        let pod = self.api.pods.live.get(&open.worker);
        pod.is_some_and(|pod| pod.uid().as_deref() == Some(open.pod_uid.as_str()))
    }

    fn ask_the_store(&mut self, index: usize, uid: &str, status: &AIJobStatus) -> BTreeSet<String> {
        let now = self.now;
        let known = self.operators[index]
            .received
            .entry(uid.to_owned())
            .or_default();
        let uploads = &status.uploads;
        known.there.extend(
            uploads
                .iter()
                .filter(|upload| upload.received)
                .map(|upload| upload.sha256.clone()),
        );
        if self.store.is_up && known.asked.is_none_or(|asked| now - asked >= ASK_AGAIN) {
            known.asked = Some(now);
            for upload in uploads {
                if self.store.has(uid, &upload.sha256) {
                    known.there.insert(upload.sha256.clone());
                }
            }
        }
        known.there.clone()
    }

    /// A pool's template; the same for each look at the same spec.
    fn template(&mut self, pool: &ModelPool) -> Rc<Template> {
        let key = (pool.name_any(), pool.metadata.generation);
        let settings = &self.settings;
        let template = self.templates.entry(key);
        Rc::clone(template.or_insert_with(|| Rc::new(template::build(pool, settings))))
    }

    fn facts(&self, index: usize) -> Vec<PoolFacts> {
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
        let received = |uid: &str| {
            let known = operator.received.get(uid);
            known.map(|known| known.there.clone()).unwrap_or_default()
        };
        let gathered = gather(&jobs, &around, &received);
        let touched = look(gathered, &operator.placements, &operator.fleet, now);
        let is_idle = jobs.is_empty() && operator.placements.snapshot().is_empty();
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

    pub(crate) fn look_at_pool(&mut self, index: usize, name: &str) {
        let operator = &self.operators[index];
        let Some(cached) = operator.pools.objects.get(name) else {
            return;
        };
        let pool = operator.recent_pools.newest(cached);
        let template = self.template(&pool);
        let cached = &self.operators[index].pods.objects;
        let mut seen = self.observe_pool(index, &pool, &template, cached);
        let mut plan = pool_plan::plan(&seen, &self.links);
        if !plan.create.is_empty() {
            seen = self.observe_pool(index, &pool, &template, &self.api.pods.live);
            plan = pool_plan::plan(&seen, &self.links);
        }
        self.pool_decided(index, &seen, &plan);
        let pool_name = PoolName {
            namespace: seen.namespace.clone(),
            name: name.to_owned(),
        };
        let drained = plan.drain.iter().map(|worker| worker.uid.clone()).collect();
        let operator = &self.operators[index];
        operator.fleet.drain(&pool_name, &drained);
        pool_act::welcome(&operator.fleet, &self.links, &pool, &seen, &pool_name);
        self.pump(index);
        let is_settled = plan.create.is_empty()
            && plan.delete.is_empty()
            && pool.status.as_ref() == Some(&plan.status);
        let about = About::Pool(name.to_owned());
        if is_settled {
            self.wake(index, About::Schedule, 3);
            return self.pool_looked(index, &about, &plan);
        }
        let work = PoolWork {
            operator: index,
            life: self.operators[index].life,
            pool,
            template,
            plan,
        };
        let wait = self.latency();
        self.operators[index].busy.insert(about);
        self.after(wait, Happening::PoolActs(Box::new(work)));
    }

    fn observe_pool(
        &self,
        index: usize,
        pool: &ModelPool,
        template: &Template,
        pods: &BTreeMap<String, Rc<Pod>>,
    ) -> pool_seen::Observed {
        let operator = &self.operators[index];
        let uid = pool.uid().expect("every pool has one");
        let is_of = |pod: &Pod| pool_of(pod).is_some_and(|(_, owner)| owner == uid);
        let pods = pods.values().filter(|pod| is_of(pod));
        let jobs: Vec<AIJob> = self.live_jobs(index);
        let taken = taken(&jobs, &operator.placements.snapshot());
        let see = |pod: &Rc<Pod>| {
            let uid = pod.uid().unwrap_or_default();
            let bound = taken.get(&uid).map_or(0, BTreeSet::len);
            let annotations = template.pod.metadata.annotations.as_ref();
            let link = operator.fleet.stream_seen(&uid);
            pod_seen(pod, annotations, link, bound, at(self.now))
        };
        pool_seen::Observed {
            namespace: pool.namespace().unwrap_or_default(),
            name: pool.name_any(),
            generation: pool.metadata.generation,
            spec: pool.spec.clone(),
            status: pool.status.clone().unwrap_or_default(),
            renew_links: None,
            now: at(self.now),
            leads_since: operator.term.map_or(at(self.now), |term| term.since),
            revision: template.revision.clone(),
            pods: pods.map(see).collect(),
            received: BTreeSet::new(),
            refused: None,
            uid,
        }
    }

    /// Pods are made and deleted, then the status is written; each may fail, and the operator may die in between.
    pub(crate) fn pool_acts(&mut self, work: PoolWork) {
        let PoolWork {
            operator: index,
            life,
            pool,
            template,
            plan,
        } = work;
        let about = About::Pool(pool.name_any());
        let is_there =
            |world: &World| world.operators[index].life == life && world.operators[index].is_alive;
        if !is_there(self) {
            return;
        }
        for worker in &plan.delete {
            if self.dies_here(index) {
                return;
            }
            self.operator_deletes_pod(index, worker);
        }
        for name in &plan.create {
            if self.dies_here(index) {
                return;
            }
            self.operator_makes_pod(index, template.named(name), &pool);
        }
        self.wake(index, About::Schedule, 3);
        if self.dies_here(index) {
            return;
        }
        if pool.status.as_ref() != Some(&plan.status) {
            if self.operators[index].term.is_none() {
                return self.no_longer_busy(index, &about);
            }
            let mut wanted = pool.clone();
            wanted.status = Some(plan.status.clone());
            let fate = self.fate();
            let written = match fate {
                Fate::Lost => Err(Refused::Conflict),
                Fate::Lands | Fate::AnswerLost => self.api.write_pool_status(&wanted),
            };
            if written.is_ok() {
                self.pool_written(index, &wanted);
            }
            if self.dies_here(index) {
                return;
            }
            self.no_longer_busy(index, &about);
            match written {
                Ok(written) if fate == Fate::Lands => {
                    let now = at(self.now);
                    let operator = &self.operators[index];
                    let epoch = operator.epoch().unwrap_or_default();
                    operator.recent_pools.wrote(&written, epoch, now);
                    self.wake_waiting_jobs(index);
                }
                Ok(_) | Err(_) => {
                    let uid = wanted.uid().expect("every pool has one");
                    self.operators[index].recent_pools.forget(&uid);
                    return self.back_off(index, &about);
                }
            }
        } else {
            self.no_longer_busy(index, &about);
        }
        self.pool_looked(index, &about, &plan);
    }

    fn pool_looked(&mut self, index: usize, about: &About, plan: &pool_plan::Plan) {
        self.operators[index]
            .backoff
            .succeeded(&format!("{about:?}"));
        let wait = plan.look_again.map_or(60_000, |wait| wait.as_millis());
        let wait = Millis::try_from(wait).expect("a minute at most");
        self.wake(index, about.clone(), wait);
    }

    fn wake_waiting_jobs(&mut self, index: usize) {
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

    fn fate(&mut self) -> Fate {
        if !self.is_stormy() || !self.chance.percent(self.weather.lost_write) {
            return Fate::Lands;
        }
        *self.chance.of(&[Fate::Lost, Fate::AnswerLost])
    }

    /// How long a request takes.
    fn latency(&mut self) -> Millis {
        let (usual, slow) = if self.is_stormy() {
            (40, 4000)
        } else {
            (5, 20)
        };
        if self.chance.percent(60) {
            0
        } else if self.chance.percent(90) {
            self.chance.between(1, usual)
        } else {
            self.chance.between(1, slow)
        }
    }
}

/// Labels of the two namespaces that jobs live in.
pub(crate) fn labels() -> NamespaceLabels {
    ["studio", "lab"]
        .map(|name| (name.to_owned(), BTreeMap::new()))
        .into()
}
