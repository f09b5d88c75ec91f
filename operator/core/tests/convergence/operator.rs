//! One operator process: the product's engine, and a shell of this world around it, whose requests are slow, lost or answered to nobody.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use framewright_core::engine::deadlines::Cause;
use framewright_core::engine::effect::{Effect, FileKey, Log, Request, RequestId};
use framewright_core::engine::event::{Answer, Change, Event, Now, Read};
use framewright_core::engine::world::Job;
use framewright_core::engine::{Engine, Settings};
use framewright_core::jobs::plan::is_finished;
use framewright_core::links::{Place, Signer};
use framewright_core::names::{JobName, ObjectName, WorkerRef};
use framewright_core::pools::pod::pool_of;
use framewright_core::pools::template;
use framewright_crds::aijob::OutputStatus;
use framewright_crds::deletion::goes_by_itself;
use framewright_crds::names::{ArtifactRole, OwnerKind};
use framewright_crds::wire::OutputFile;
use framewright_crds::{AIJob, ModelPool};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube_core::ResourceExt;

use crate::api::{Cache, Millis, Refused, at};
use crate::world::{Happening, World};

/// An answer that has not come by then never comes.
const ANSWER_LIMIT: Millis = 5000;
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
    pub is_alive: bool,
    /// While it believes that it leads.
    pub term: Option<Term>,
    pub engine: Engine,
    pub jobs: Cache<AIJob>,
    pub pools: Cache<ModelPool>,
    pub pods: Cache<Pod>,
    /// The files that it watches in the store.
    pub watched: BTreeSet<FileKey>,
    /// When it runs next.
    due: Option<Millis>,
    /// The placements that were there after the last decision.
    placed: BTreeSet<(String, String, String)>,
    idle_runs: (Millis, usize),
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Lands,
    /// It never arrives.
    Lost,
    /// It arrives, and the answer does not.
    AnswerLost,
}

/// A request on its way to the API server.
pub(crate) struct Sent {
    pub operator: usize,
    pub life: u64,
    pub id: RequestId,
    pub request: Request,
    pub fate: Fate,
    /// What it closes without a reason.
    pub unfounded: Option<String>,
    /// How many pods the pool was to have when one more was asked for.
    pub wanted: usize,
    pub epoch: u64,
}

/// Links that say what they are.
struct Links;

impl Signer for Links {
    fn upload(&self, at: &Place<'_>, sha256: &str, _: i64, expires: Timestamp) -> String {
        format!("put {}/{sha256}@{}", at.uid, expires.as_second())
    }

    fn download(
        &self,
        at: &Place<'_>,
        output: &OutputStatus,
        name: &str,
        expires: Timestamp,
    ) -> String {
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
        Some(format!("get {}/{sha256}@{}", at.uid, expires.as_second()))
    }

    fn worker_put(
        &self,
        at: &Place<'_>,
        output: &OutputFile,
        expires: Timestamp,
    ) -> Option<String> {
        Some(format!(
            "put {}/{}@{}",
            at.uid,
            output.sha256,
            expires.as_second()
        ))
    }
}

fn settings() -> Settings {
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
        signer: Box::new(Links),
    }
}

pub(crate) fn now(millis: Millis) -> Now {
    Now {
        wall: at(millis),
        monotonic: Duration::from_millis(u64::try_from(millis).expect("after the beginning")),
    }
}

impl Operator {
    pub(crate) fn epoch(&self) -> Option<u64> {
        self.term.map(|term| term.epoch)
    }

    /// Placements that are in no status yet.
    pub(crate) fn placements(&self) -> Vec<String> {
        let term = self.engine.term();
        let placements = term.into_iter().flat_map(|term| term.queue.placements());
        placements
            .map(|placement| format!("{placement:?}"))
            .collect()
    }
}

fn object<K: Clone>(object: &Rc<K>) -> Read<K> {
    Read::Object(Box::new((**object).clone()))
}

impl World {
    /// A process that has just started: its watches have listed, and it knows nothing else.
    pub(crate) fn new_operator(&self, life: u64) -> Operator {
        let mut engine = Engine::new(settings());
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
            Event::NamespacesListed(
                ["studio", "lab", "fleet"]
                    .map(|name| (name.to_owned(), Default::default()))
                    .into(),
            ),
        ];
        for event in events {
            engine.handle(now(self.now), event);
        }
        Operator {
            life,
            is_alive: true,
            term: None,
            engine,
            jobs: Cache::listed(&self.api.jobs),
            pools: Cache::listed(&self.api.pools),
            pods: Cache::listed(&self.api.pods),
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
        let error = Some("the store cannot be reached".to_owned());
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
        let now = now(self.now);
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
            let now = now(self.now);
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
        while let Some(write) = self.operators[index].engine.next_write(now(self.now)) {
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
            .flat_map(|term| term.queue.placements())
            .map(|placement| {
                let key = (
                    placement.job_uid.clone(),
                    placement.step.clone(),
                    placement.worker.uid.clone(),
                );
                (
                    key,
                    placement.model.clone(),
                    placement.weights_digest.clone(),
                )
            })
            .collect();
        let before = std::mem::take(&mut self.operators[index].placed);
        for (key, model, digest) in placements {
            if !before.contains(&key) {
                self.placed(index, &key.2, (model, digest));
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
            Effect::Publish { name, note, .. } => {
                self.note(|| {
                    format!(
                        "operator {index} tells of {name}: {} {}",
                        note.reason, note.message
                    )
                });
            }
            Effect::JobWritten { .. } => {}
            Effect::Log(Log::Panicked { name, error }) => {
                self.blame(|| format!("deciding about {name} panicked: {error}"));
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

    fn send_request(&mut self, index: usize, id: RequestId, epoch: u64, request: Request) {
        let is_of_term = self.operators[index].epoch() == Some(epoch);
        if !is_of_term {
            // Never sent. The engine has forgotten it with its term.
            return;
        }
        let unfounded = if let Request::WriteJob(wanted) = &request {
            self.unfounded(index, wanted)
        } else {
            None
        };
        let sent = Sent {
            operator: index,
            life: self.operators[index].life,
            id,
            wanted: self.wanted(index, &request),
            epoch,
            request,
            fate: self.fate(),
            unfounded,
        };
        let wait = self.latency();
        if matches!(sent.request, Request::CreatePod(_) | Request::ListPods(_)) {
            let (wanted, fate) = (sent.wanted, sent.fate);
            let what = if let Request::CreatePod(pod) = &sent.request {
                pod.name_any()
            } else {
                "a list".to_owned()
            };
            self.note(|| format!("operator {index} asks for {what}, {wanted} pods are wanted: {fate:?} in {wait} ms"));
        }
        if wait == 0 {
            return self.land(sent);
        }
        self.after(wait, Happening::Landed(Box::new(sent)));
    }

    /// A request arrives at the API server, and the answer at the operator, if there still is one.
    pub(crate) fn land(&mut self, sent: Sent) {
        let Sent {
            operator: index,
            life,
            id,
            request,
            fate,
            unfounded,
            wanted,
            epoch,
        } = sent;
        // What arrives after its term has ended is counted against nobody.
        let wanted = (self.operators[index].epoch() == Some(epoch)).then_some(wanted);
        let answer = match fate {
            Fate::Lands | Fate::AnswerLost => {
                self.answer(index, life, request, (unfounded, wanted))
            }
            Fate::Lost => Answer::Conflict,
        };
        let is_there = self.operators[index].life == life && self.operators[index].is_alive;
        if !is_there || self.dies_here(index) {
            return;
        }
        let answered = |answer| Happening::Answered {
            operator: index,
            life,
            id,
            answer: Box::new(answer),
        };
        if fate == Fate::Lands {
            let wait = if self.is_stormy() && self.chance.percent(20) {
                self.chance.between(1, 500)
            } else {
                0
            };
            self.after(wait, answered(answer));
        } else {
            let error = "no answer came".to_owned();
            self.after(ANSWER_LIMIT, answered(Answer::Unanswered { error }));
        }
    }

    pub(crate) fn answered(&mut self, index: usize, life: u64, request: RequestId, answer: Answer) {
        if self.operators[index].life == life && self.operators[index].is_alive {
            self.inform(index, Event::Answered { request, answer });
        }
    }

    /// What the API server makes of a request.
    fn answer(
        &mut self,
        index: usize,
        life: u64,
        request: Request,
        (unfounded, wanted): (Option<String>, Option<usize>),
    ) -> Answer {
        match request {
            Request::ReadJob(name) => match self.api.jobs.live.get(&name.name) {
                Some(job) => Answer::Job(Box::new((**job).clone())),
                None => Answer::Gone,
            },
            Request::ReadJobMetadata(name) => match self.api.jobs.live.get(&name.name) {
                Some(job) => Answer::Metadata(Box::new(job.metadata.clone())),
                None => Answer::Gone,
            },
            Request::ReadPool(name) => match self.api.pools.live.get(&name.name) {
                Some(pool) => Answer::Pool(Box::new((**pool).clone())),
                None => Answer::Gone,
            },
            Request::WriteJob(wanted) => {
                let before = self.api.jobs.live.get(&wanted.name_any()).cloned();
                let written = self.api.write_job_status(&wanted);
                if let (Some(before), Ok(after)) = (&before, &written) {
                    self.durable(index, life, before, after);
                    if let Some(unfounded) = unfounded {
                        self.blame(|| unfounded);
                    }
                }
                written.map_or_else(refused, |job| Answer::Job(Box::new((*job).clone())))
            }
            Request::WritePool(wanted) => {
                let written = self.api.write_pool_status(&wanted);
                if written.is_ok() {
                    self.pool_written(index, &wanted);
                }
                written.map_or_else(refused, |pool| Answer::Pool(Box::new((*pool).clone())))
            }
            Request::DeleteJob { name, uid, version } => {
                let deleted = self.api.delete_job(&name.name, Some(&uid), Some(&version));
                self.note(|| format!("operator {index} deletes job {name}: {deleted:?}"));
                deleted.map_or_else(refused, |()| Answer::Done)
            }
            Request::ListPods(_) => {
                let pods = self.api.pods.live.values();
                Answer::Pods(pods.map(|pod| (**pod).clone()).collect())
            }
            Request::ReadPodMetadata { name, .. } => match self.api.pods.live.get(&name) {
                Some(pod) => Answer::Metadata(Box::new(pod.metadata.clone())),
                None => Answer::Gone,
            },
            Request::CreatePod(pod) => self.operator_makes_pod(index, *pod, wanted),
            Request::DeletePod(worker) => self.operator_deletes_pod(index, &worker),
            Request::ProtectPod { worker, .. } => self.operator_protects_pod(&worker),
        }
    }

    /// How many pods a pool is to have, as the operator that makes one sees it: it cannot know better, and its request may be slow.
    fn wanted(&self, index: usize, request: &Request) -> usize {
        let Request::CreatePod(pod) = request else {
            return 0;
        };
        let namespace = pod.namespace().unwrap_or_default();
        let world = self.operators[index].engine.world();
        let pool = pool_of(pod)
            .and_then(|(name, _)| world.pool(&ObjectName::new(&namespace, &name)).cloned());
        pool.map_or(0, |pool| usize::try_from(pool.spec.replicas).unwrap_or(0))
    }

    /// Autoscalers' annotations say nothing in this world.
    fn operator_protects_pod(&self, worker: &WorkerRef) -> Answer {
        match self.api.pods.live.contains_key(&worker.name) {
            true => Answer::Done,
            false => Answer::Gone,
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

    /// The watches show what has changed, each as far as it got.
    pub(crate) fn watch(&mut self, index: usize) {
        let lag = self.operators[index].jobs.lag(&self.api.jobs);
        for _ in 0..self.steps(lag) {
            if let Some((name, old, new)) = self.operators[index].jobs.follow(&self.api.jobs) {
                let namespace = new
                    .as_ref()
                    .or(old.as_ref())
                    .and_then(|job| job.namespace());
                let uid = old.and_then(|old| old.uid());
                let name = ObjectName::new(&namespace.unwrap_or_default(), &name);
                self.inform(index, Event::Job(change(name, uid, new)));
            }
        }
        let lag = self.operators[index].pools.lag(&self.api.pools);
        for _ in 0..self.steps(lag) {
            if let Some((name, old, new)) = self.operators[index].pools.follow(&self.api.pools) {
                let uid = old.and_then(|old| old.uid());
                self.inform(
                    index,
                    Event::Pool(change(ObjectName::new("fleet", &name), uid, new)),
                );
            }
        }
        let lag = self.operators[index].pods.lag(&self.api.pods);
        for _ in 0..self.steps(lag) {
            if let Some((name, old, new)) = self.operators[index].pods.follow(&self.api.pods) {
                let uid = old.and_then(|old| old.uid());
                self.inform(
                    index,
                    Event::Pod(change(ObjectName::new("fleet", &name), uid, new)),
                );
            }
        }
    }

    fn steps(&mut self, lag: usize) -> usize {
        if self.is_stormy() && self.chance.percent(30) {
            let most = i64::try_from(lag).expect("few");
            usize::try_from(self.chance.between(0, most)).expect("not negative")
        } else {
            lag
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
            let latest = now(self.now).monotonic + LONGEST_WAIT;
            !is_over
                && !goes_by_itself(&job.metadata)
                && !is_asked
                && !is_checked
                && due.is_none_or(|due| due > latest)
        })
    }
}

fn change<K: Clone>(name: ObjectName, uid: Option<String>, new: Option<Rc<K>>) -> Change<K> {
    match new {
        Some(new) => Change::Applied(object(&new)),
        None => Change::Deleted {
            name,
            uid: uid.unwrap_or_default(),
        },
    }
}

fn refused(why: Refused) -> Answer {
    match why {
        Refused::Conflict => Answer::Conflict,
        Refused::NotFound => Answer::Gone,
        Refused::Exists => Answer::Exists,
    }
}

/// A file of a job's.
pub(crate) fn is_of(key: &FileKey, job_uid: &str, sha256: &str) -> bool {
    key.kind == OwnerKind::AIJobs && key.uid == job_uid && key.sha256 == sha256
}
