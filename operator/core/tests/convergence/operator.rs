//! One operator process: the product's engine, and a shell of this world around it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use framewright_core::engine::deadlines::Cause;
use framewright_core::engine::interface::{Change, Effect, Event, FileKey};
use framewright_core::engine::world::Job;
use framewright_core::engine::{Engine, Settings};
use framewright_core::jobs::admission::AdmitAll;
use framewright_core::jobs::plan::is_finished;
use framewright_core::links::{Place, Signer};
use framewright_core::names::JobName;
use framewright_core::pools::template;
use framewright_crds::aijob::{OutputStatus, StepModel};
use framewright_crds::deletion::goes_by_itself;
use framewright_crds::names::ArtifactRole;
use framewright_crds::protocol::OutputFile;
use framewright_crds::{AIJob, ModelPool};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube_core::ResourceExt;

use crate::api::{Cache, Labels, Millis, at};
use crate::watches::{labels, object};
use crate::world::{Happening, World};

/// Decisions in a row, at one moment.
const MOST_DECISIONS: usize = 10_000;
/// Runs in one second that are due by time alone and come to nothing.
const MOST_IDLE_RUNS: usize = 100;
/// No object is left alone for longer than this.
const LONGEST_WAIT: Duration = Duration::from_secs(61);

/// A term of leadership, as its holder sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Term {
    pub epoch: u64,
    pub since: Timestamp,
}

pub(crate) struct Operator {
    /// Counts restarts: what was meant for an earlier process finds nobody.
    pub life: u64,
    pub started: Millis,
    pub is_alive: bool,
    /// While it believes that it leads.
    pub term: Option<Term>,
    pub engine: Engine,
    pub jobs: Cache<AIJob>,
    pub pools: Cache<ModelPool>,
    pub pods: Cache<Pod>,
    pub namespaces: Cache<Labels>,
    /// The files that it watches in the store.
    pub watched: BTreeSet<FileKey>,
    /// When it runs next.
    due: Option<Millis>,
    /// The placements that were there after the last decision.
    placed: BTreeSet<(String, String, String)>,
    idle_runs: (Millis, usize),
}

/// UIDs of objects whose links cannot be made: the attempt panics.
pub(crate) type Cursed = Arc<Mutex<BTreeSet<String>>>;

/// Links that say what they are.
struct Links(Cursed);

impl Links {
    fn make(&self, at: &Place<'_>) {
        if self
            .0
            .lock()
            .expect("nobody panics with it")
            .contains(at.uid)
        {
            // As a panic that prints nothing.
            std::panic::resume_unwind(Box::new("the signer does not like it"));
        }
    }
}

impl Signer for Links {
    fn upload(&self, at: &Place<'_>, sha256: &str, _: i64, expires: Timestamp) -> String {
        self.make(at);
        format!("put {}/{sha256}@{}", at.uid, expires.as_second())
    }

    fn download(
        &self,
        at: &Place<'_>,
        output: &OutputStatus,
        name: &str,
        expires: Timestamp,
    ) -> String {
        self.make(at);
        format!(
            "get {}/{} as {name}@{}",
            at.uid,
            output.sha256(),
            expires.as_second()
        )
    }

    fn worker_get(
        &self,
        at: &Place<'_>,
        (_, sha256): (ArtifactRole, &str),
        expires: Timestamp,
    ) -> Option<String> {
        self.make(at);
        Some(format!("get {}/{sha256}@{}", at.uid, expires.as_second()))
    }

    fn worker_put(
        &self,
        at: &Place<'_>,
        output: &OutputFile,
        expires: Timestamp,
    ) -> Option<String> {
        self.make(at);
        Some(format!(
            "put {}/{}@{}",
            at.uid,
            output.digest,
            expires.as_second()
        ))
    }
}

fn settings(cursed: &Cursed) -> Settings {
    Settings {
        template: template::Settings {
            image: "worker".to_owned(),
            image_cuda: "worker-cuda".to_owned(),
            image_pull_policy: "IfNotPresent".to_owned(),
            operator: "operator:9443".to_owned(),
            authority: String::new(),
            log: "info".to_owned(),
            fixed_user: true,
        },
        catalog: vec!["fleet".to_owned()],
        signer: Box::new(Links(Arc::clone(cursed))),
        gate: Box::new(AdmitAll),
    }
}

impl Operator {
    pub(crate) fn epoch(&self) -> Option<u64> {
        self.term.map(|term| term.epoch)
    }

    /// Placements that are in no status yet.
    pub(crate) fn placements(&self) -> Vec<String> {
        let term = self.engine.term();
        let placements = term
            .into_iter()
            .flat_map(|term| term.scheduler.placements());
        placements
            .map(|placement| format!("{placement:?}"))
            .collect()
    }
}

impl World {
    /// A process that has just started: its watches have listed, and it knows nothing else.
    pub(crate) fn new_operator(&self, life: u64) -> Operator {
        let mut engine = Engine::new(settings(&self.people.cursed));
        let events = [
            Event::Job(Change::Listed(
                self.api.jobs.live.values().map(object).collect(),
            )),
            Event::Pool(Change::Listed(
                self.api.pools.live.values().map(object).collect(),
            )),
            Event::Pod(Change::Listed(
                self.api.pods.live.values().map(object).collect(),
            )),
            Event::NamespacesListed(labels(&self.api.namespaces.live)),
        ];
        for event in events {
            engine.handle(self.clock(), event);
        }
        Operator {
            life,
            started: self.now,
            is_alive: true,
            term: None,
            engine,
            jobs: Cache::listed(&self.api.jobs),
            pools: Cache::listed(&self.api.pools),
            pods: Cache::listed(&self.api.pods),
            namespaces: Cache::listed(&self.api.namespaces),
            watched: BTreeSet::new(),
            due: None,
            placed: BTreeSet::new(),
            idle_runs: (0, 0),
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
        self.inform(index, Event::TermBegan { epoch });
        if !self.store.is_up {
            self.store_is_away(index);
        }
    }

    /// An operator learns that it leads no more.
    pub(crate) fn end_term(&mut self, index: usize) {
        if self.operators[index].term.take().is_some() {
            self.operators[index].watched.clear();
            self.operators[index].placed.clear();
            self.forgot_workers(index);
            self.note(|| format!("operator {index} leads no more"));
            self.inform(index, Event::TermEnded);
        }
    }

    pub(crate) fn store_is_away(&mut self, index: usize) {
        let errors = [
            "the store cannot be reached",
            "the store answers 500",
            "the store refuses this operator",
        ];
        let error = Some((*self.chance.of(&errors)).to_owned());
        self.inform(index, Event::Store { error });
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
            self.run_within(index, 0);
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

    /// Tells an operator's engine what happened; it decides in a moment.
    pub(crate) fn inform(&mut self, index: usize, event: Event) {
        let now = self.clock();
        self.operators[index].engine.handle(now, event);
        self.run_within(index, 0);
    }

    /// Has an operator decide, not later than so.
    pub(crate) fn run_within(&mut self, index: usize, wait: Millis) {
        let when = self.now + wait.max(0);
        let operator = &mut self.operators[index];
        if operator.due.is_some_and(|due| due <= when) {
            return;
        }
        operator.due = Some(when);
        let life = operator.life;
        self.after(
            when - self.now,
            Happening::Run {
                operator: index,
                life,
            },
        );
    }

    /// An operator decides, and what it decides is done.
    pub(crate) fn run(&mut self, index: usize, life: u64) {
        let operator = &mut self.operators[index];
        if operator.life != life
            || !operator.is_alive
            || operator.due.is_none_or(|due| due > self.now)
        {
            return;
        }
        operator.due = None;
        let mut has_done = false;
        for decisions in 0.. {
            if decisions == MOST_DECISIONS {
                return self.blame(|| format!("operator {index} decides without an end"));
            }
            let budget = usize::try_from(self.chance.between(1, 20)).expect("few");
            let mut effects = Vec::new();
            let now = self.clock();
            let is_more = self.operators[index]
                .engine
                .decide(now, budget, &mut effects);
            self.look_at_placements(index);
            has_done |= !effects.is_empty();
            for effect in effects {
                if self.dies_here(index) {
                    return;
                }
                self.do_effect(index, effect);
                if self.operators[index].life != life {
                    return;
                }
            }
            if !is_more {
                break;
            }
        }
        // A shell that has no free permit asks later.
        if self.is_stormy() && self.chance.percent(10) {
            let wait = self.chance.between(1, 300);
            self.run_within(index, wait);
        } else {
            has_done |= self.let_write(index, life);
        }
        if self.operators[index].life != life {
            return;
        }
        self.set_next_run(index, has_done);
    }

    /// Asks for all status writes that are due; whether there was one.
    fn let_write(&mut self, index: usize, life: u64) -> bool {
        let mut has_written = false;
        let now = self.clock();
        while let Some(write) = self.operators[index].engine.next_write(now) {
            has_written = true;
            if self.dies_here(index) {
                return true;
            }
            self.send_request(index, write.id, write.epoch, write.request);
            if self.operators[index].life != life {
                return true;
            }
        }
        has_written
    }

    fn set_next_run(&mut self, index: usize, has_done: bool) {
        let second = self.now / 1000;
        let operator = &mut self.operators[index];
        if operator.idle_runs.0 != second {
            operator.idle_runs = (second, 0);
        }
        operator.idle_runs.1 += usize::from(!has_done);
        let idle = operator.idle_runs.1;
        if let Some(next) = operator.engine.next_deadline() {
            let next = Millis::try_from(next.as_millis()).expect("some hours");
            let wait = next - self.now;
            if wait <= 0 && !has_done && idle > MOST_IDLE_RUNS {
                self.blame(|| {
                    format!("operator {index} runs {idle} times in a second for nothing")
                });
            }
            self.run_within(index, wait.max(1));
        }
    }

    /// A scheduler has placed steps: on workers that have said to this operator that they hold these very weights.
    fn look_at_placements(&mut self, index: usize) {
        let term = self.operators[index].engine.term();
        let placements: Vec<_> = term
            .into_iter()
            .flat_map(|term| term.scheduler.placements())
            .map(|placement| {
                let key = (
                    placement.job_uid.clone(),
                    placement.step.clone(),
                    placement.worker.uid.clone(),
                );
                let place = (placement.namespace.clone(), placement.pool.clone());
                (key, place, placement.models.clone())
            })
            .collect();
        let before = std::mem::take(&mut self.operators[index].placed);
        for (key, (namespace, pool), models) in placements {
            if !before.contains(&key) {
                self.placed_in(index, &namespace, &pool);
                for StepModel { name, digest, .. } in models {
                    self.placed(index, &key.2, (name, digest));
                }
            }
            self.operators[index].placed.insert(key);
        }
    }

    fn do_effect(&mut self, index: usize, effect: Effect) {
        match effect {
            Effect::Request { id, epoch, request } => self.send_request(index, id, epoch, request),
            Effect::Send { session, command } => self.command(index, session, command),
            Effect::CloseSession { session } => {
                if let Some(stream) = self.streams.get_mut(&session) {
                    stream.is_closed = true;
                }
                self.pump(index);
            }
            Effect::WatchFile(key) => {
                self.operators[index].watched.insert(key.clone());
                let wait = self.chance.between(0, 10);
                let life = self.operators[index].life;
                self.after(
                    wait,
                    Happening::FileAsked {
                        operator: index,
                        life,
                        key,
                    },
                );
            }
            Effect::UnwatchFile(key) => {
                self.operators[index].watched.remove(&key);
            }
            Effect::Publish {
                name,
                uid,
                version,
                event,
                ..
            } => {
                self.told(index, &uid, &version, &event);
                self.note(|| {
                    format!(
                        "operator {index} tells of {name}: {} {}",
                        event.reason, event.message
                    )
                });
            }
            Effect::JobChanged {
                uid, transitions, ..
            } => self.job_changed(index, &uid, &transitions),
            Effect::Restart { reason } => {
                self.blame(|| format!("operator {index} restarts: {reason}"))
            }
            Effect::Log(line) => self.note(|| format!("operator {index} logs {line:?}")),
        }
    }

    /// The store answers a question about a file.
    pub(crate) fn file_asked(&mut self, index: usize, life: u64, key: FileKey) {
        let operator = &self.operators[index];
        if operator.life != life || !operator.watched.contains(&key) || !self.store.is_up {
            return;
        }
        let is_present = self.store.has(&key.uid, &key.sha256);
        self.inform(index, Event::File { key, is_present });
    }

    /// The store is there again, or has a new file: all that is watched is told.
    pub(crate) fn store_tells(&mut self, index: usize) {
        if !self.store.is_up
            || !self.operators[index].is_alive
            || self.operators[index].term.is_none()
        {
            return;
        }
        for key in self.operators[index].watched.clone() {
            let is_present = self.store.has(&key.uid, &key.sha256);
            self.inform(index, Event::File { key, is_present });
        }
    }

    /// No job that a leader knows of is left alone for ever.
    pub(crate) fn look_for_the_forgotten(&mut self) {
        for index in 0..self.operators.len() {
            let Some(forgotten) = self.forgotten(index) else {
                continue;
            };
            self.blame(|| format!("operator {index} never decides about job {forgotten} again"));
        }
    }

    fn forgotten(&self, index: usize) -> Option<JobName> {
        let operator = &self.operators[index];
        let term = operator.engine.term()?;
        if operator.due.is_some_and(|due| due <= self.now) {
            return None;
        }
        let world = operator.engine.world();
        // One about which deciding panics is left alone until it changes.
        let cursed = self.cursed();
        let lags = operator.jobs.lag(&self.api.jobs) > 0;
        world.job_names().into_iter().find(|name| {
            let Some(Job::Live(job)) = world.job(name) else {
                return false;
            };
            let uid = job.uid().unwrap_or_default();
            let is_over = job.status.as_ref().is_some_and(is_finished);
            let is_asked = term
                .jobs
                .get(&uid)
                .is_some_and(|state| state.request.is_some());
            // It waits for the answer whether a pod is there.
            let is_checked = !term.requests.is_empty();
            let due = term.deadlines.of(&Cause::Job(name.clone()));
            let latest = self.clock().monotonic + LONGEST_WAIT;
            !is_over
                && !lags
                && !cursed.contains(&uid)
                && !goes_by_itself(&job.metadata)
                && !is_asked
                && !is_checked
                && due.is_none_or(|due| due > latest)
        })
    }
}

/// A file of an owner's.
pub(crate) fn is_of(key: &FileKey, owner: &str, sha256: &str) -> bool {
    key.uid == owner && key.sha256 == sha256
}
