//! Looks at one pool: the shell around its plan.

use framewright_core::pools::failures::Failing;

use super::*;

impl World {
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
        pool_act::welcome(&operator.fleet, &self.links, &seen, &pool_name);
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

    pub(super) fn observe_pool(
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
            store_trouble: None,
            refused: None,
            failing: Failing::default(),
            deleted: None,
            kept_by: Vec::new(),
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

    pub(super) fn pool_looked(&mut self, index: usize, about: &About, plan: &pool_plan::Plan) {
        self.operators[index]
            .backoff
            .succeeded(&format!("{about:?}"));
        let wait = plan.look_again.map_or(60_000, |wait| wait.as_millis());
        let wait = Millis::try_from(wait).expect("a minute at most");
        self.wake(index, about.clone(), wait);
    }

    /// A pool's template; the same for each look at the same spec.
    pub(super) fn template(&mut self, pool: &ModelPool) -> Rc<Template> {
        let key = (pool.name_any(), pool.metadata.generation);
        let settings = &self.settings;
        let template = self.templates.entry(key);
        Rc::clone(template.or_insert_with(|| Rc::new(template::build(pool, settings))))
    }
}
