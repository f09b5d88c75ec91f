//! One operator process: what it remembers, when it looks, and how it dies. What it decides is the product's own code.

use std::collections::{BTreeMap, BTreeSet};

use framewright_core::backoff::Backoff;
use framewright_core::pools::leaving::Leaving;
use framewright_core::recent::Recent;
use framewright_core::schedule::placements::Placements;
use framewright_crds::{AIJob, ModelPool};
use framewright_operator::stream::fleet::Fleet;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::api::{Cache, Millis, at};
use crate::world::{Happening, World};

/// What a look is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum About {
    Job(String),
    Pool(String),
    Schedule,
    Janitor,
}

/// A term of leadership, as its holder sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Term {
    pub epoch: u64,
    pub since: Timestamp,
}

pub(crate) struct Operator {
    /// Counts restarts: what was meant for an earlier process finds nobody.
    pub life: u64,
    pub is_alive: bool,
    /// While it believes that it leads.
    pub term: Option<Term>,
    pub jobs: Cache<AIJob>,
    pub pools: Cache<ModelPool>,
    pub pods: Cache<Pod>,
    pub fleet: Fleet,
    pub placements: Placements,
    pub recent_jobs: Recent<AIJob>,
    pub recent_pools: Recent<ModelPool>,
    pub leaving: Leaving,
    /// What the store has told of each job's uploads, by UID; it tells of those alone.
    pub received: BTreeMap<String, BTreeSet<String>>,
    pub backoff: Backoff,
    pub due: BTreeMap<About, Millis>,
    /// A write of it is on its way: nobody looks at it meanwhile.
    pub busy: BTreeSet<About>,
}

impl Operator {
    pub(crate) fn epoch(&self) -> Option<u64> {
        self.term.map(|term| term.epoch)
    }
}

impl World {
    /// A process that has just started: its watches have listed, and it knows nothing else.
    pub(crate) fn new_operator(&self, life: u64) -> Operator {
        Operator {
            life,
            is_alive: true,
            term: None,
            jobs: Cache::listed(&self.api.jobs),
            pools: Cache::listed(&self.api.pools),
            pods: Cache::listed(&self.api.pods),
            fleet: Fleet::default(),
            placements: Placements::default(),
            recent_jobs: Recent::default(),
            recent_pools: Recent::default(),
            leaving: {
                let leaving = Leaving::default();
                let pods = self.api.pods.live.values();
                for pod in pods.filter(|pod| pod.metadata.deletion_timestamp.is_some()) {
                    leaving.note(&pod.uid().expect("every pod has one"), at(self.now));
                }
                leaving
            },
            received: BTreeMap::new(),
            backoff: Backoff::default(),
            due: BTreeMap::new(),
            busy: BTreeSet::new(),
        }
    }

    /// The operator with the highest epoch, if it lives and believes so.
    pub(crate) fn leader(&self) -> Option<usize> {
        (0..self.operators.len())
            .find(|&index| self.operators[index].epoch() == Some(self.highest_epoch))
    }

    pub(crate) fn elect(&mut self, index: usize) {
        self.highest_epoch += 1;
        self.lead(index, self.highest_epoch);
    }

    /// A leader that could not renew its lease in time gets through again before anybody else has taken it.
    pub(crate) fn regain(&mut self, index: usize, life: u64, epoch: u64) {
        let operator = &self.operators[index];
        if operator.is_alive
            && operator.life == life
            && operator.term.is_none()
            && self.highest_epoch == epoch
        {
            self.lead(index, epoch);
        }
    }

    fn lead(&mut self, index: usize, epoch: u64) {
        let since = at(self.now);
        self.note(|| format!("operator {index} leads with epoch {epoch}"));
        self.end_term(index);
        self.operators[index].term = Some(Term { epoch, since });
        let jobs: Vec<String> = self.operators[index].jobs.objects.keys().cloned().collect();
        let pools: Vec<String> = self.operators[index]
            .pools
            .objects
            .keys()
            .cloned()
            .collect();
        for name in jobs {
            self.wake(index, About::Job(name), 0);
        }
        for name in pools {
            self.wake(index, About::Pool(name), 0);
        }
        self.wake(index, About::Schedule, 3);
        self.wake(index, About::Janitor, 2000);
    }

    /// An operator learns that it leads no more.
    pub(crate) fn end_term(&mut self, index: usize) {
        if self.operators[index].term.take().is_some() {
            self.operators[index].fleet.clear();
            self.forgot_workers(index);
            self.note(|| format!("operator {index} leads no more"));
            self.pump(index);
        }
    }

    pub(crate) fn crash(&mut self, index: usize) {
        self.note(|| format!("operator {index} dies"));
        let life = self.operators[index].life + 1;
        let mut dead = self.new_operator(life);
        dead.is_alive = false;
        self.operators[index] = dead;
        self.forgot_workers(index);
        for stream in self.streams.values_mut() {
            if stream.operator == index {
                stream.is_operator_there = false;
            }
        }
        self.pump(index);
        let wait = self.chance.between(200, 8000);
        self.after(
            wait,
            Happening::Restart {
                operator: index,
                life,
            },
        );
    }

    pub(crate) fn restart(&mut self, index: usize, life: u64) {
        if self.operators[index].life == life && !self.operators[index].is_alive {
            self.note(|| format!("operator {index} starts"));
            self.operators[index] = self.new_operator(life + 1);
        }
    }

    /// Whether the operator dies at this very point.
    pub(crate) fn dies_here(&mut self, index: usize) -> bool {
        let dies = self.is_stormy() && self.chance.between(0, 9999) < self.weather.crash;
        if dies {
            self.crash(index);
        }
        dies
    }

    /// Has something looked at, not later than so.
    pub(crate) fn wake(&mut self, index: usize, about: About, wait: Millis) {
        let when = self.now + wait.max(0);
        let operator = &mut self.operators[index];
        if operator.due.get(&about).is_some_and(|due| *due <= when) {
            return;
        }
        operator.due.insert(about.clone(), when);
        let life = operator.life;
        self.after(
            when - self.now,
            Happening::Look {
                operator: index,
                life,
                about,
            },
        );
    }

    pub(crate) fn look(&mut self, index: usize, life: u64, about: About) {
        let now = self.now;
        let operator = &mut self.operators[index];
        let is_due =
            operator.life == life && operator.due.get(&about).is_some_and(|due| *due <= now);
        if !is_due || operator.busy.contains(&about) {
            return;
        }
        operator.due.remove(&about);
        if operator.term.is_none() || !operator.is_alive {
            return;
        }
        match about {
            About::Job(name) => self.look_at_job(index, &name),
            About::Pool(name) => self.look_at_pool(index, &name),
            About::Schedule => self.schedule(index),
            About::Janitor => self.clear_strays(index),
        }
    }

    /// A write has been answered: what waited for it is looked at.
    pub(crate) fn no_longer_busy(&mut self, index: usize, about: &About) {
        self.operators[index].busy.remove(about);
        if let Some(due) = self.operators[index].due.remove(about) {
            let wait = due - self.now;
            self.wake(index, about.clone(), wait);
        }
    }

    /// The watches show what has changed, each as far as it got, and those look whom it concerns.
    pub(crate) fn watch(&mut self, index: usize) {
        self.follow_jobs(index);
        self.follow_pools(index);
        self.follow_pods(index);
    }

    fn steps(&mut self, lag: usize) -> usize {
        if self.is_stormy() && self.chance.percent(30) {
            let most = i64::try_from(lag).expect("few");
            usize::try_from(self.chance.between(0, most)).expect("not negative")
        } else {
            lag
        }
    }

    fn follow_jobs(&mut self, index: usize) {
        let lag = self.operators[index].jobs.lag(&self.api.jobs);
        for _ in 0..self.steps(lag) {
            let change = self.operators[index].jobs.follow(&self.api.jobs);
            if let Some((name, _, new)) = change {
                self.wake(index, About::Schedule, 3);
                if new.is_some() {
                    self.wake(index, About::Job(name), 0);
                }
            }
        }
    }

    fn follow_pools(&mut self, index: usize) {
        let lag = self.operators[index].pools.lag(&self.api.pools);
        for _ in 0..self.steps(lag) {
            if let Some((name, _, _)) = self.operators[index].pools.follow(&self.api.pools) {
                self.wake(index, About::Schedule, 3);
                self.wake(index, About::Pool(name), 0);
            }
        }
    }

    fn follow_pods(&mut self, index: usize) {
        let lag = self.operators[index].pods.lag(&self.api.pods);
        for _ in 0..self.steps(lag) {
            let change = self.operators[index].pods.follow(&self.api.pods);
            let Some(pod) = change.and_then(|(_, old, new)| new.or(old)) else {
                continue;
            };
            if let Some((pool, _)) = framewright_core::pools::pod::pool_of(&pod) {
                self.wake(index, About::Pool(pool), 0);
            }
            let uid = pod.uid().expect("every pod has one");
            if pod.metadata.deletion_timestamp.is_some() {
                self.operators[index].leaving.note(&uid, at(self.now));
            }
            for name in self.jobs_on(index, &uid) {
                self.wake(index, About::Job(name), 0);
            }
        }
    }

    fn jobs_on(&self, index: usize, pod: &str) -> Vec<String> {
        let is_on = |job: &AIJob| {
            let steps = job.status.iter().flat_map(|status| &status.steps);
            steps
                .filter_map(framewright_core::jobs::plan::attempt::open)
                .any(|open| open.pod_uid == pod)
        };
        let jobs = self.operators[index].jobs.objects.iter();
        jobs.filter(|(_, job)| is_on(job))
            .map(|(name, _)| name.clone())
            .collect()
    }
}
