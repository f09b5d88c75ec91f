//! One world: everything that happens, in the order of its time, until it has settled and stayed so.

use std::collections::BTreeMap;

use framewright_core::engine::interface::{Answer, FileKey, RequestId};
use framewright_core::names::ObjectName;
use framewright_crds::names::TaskId;

use crate::api::{Api, Millis};
use crate::chance::Chance;
use crate::clock::Clocks;
use crate::kubelet::Fate;
use crate::ledger::Ledger;
use crate::operator::Operator;
use crate::people::People;
use crate::requests::{Refuses, Sent};
use crate::stream::{Side, Stream};
use crate::weather::{Store, Weather};
use crate::worker::{Then, Worker};

/// How long a settled world is watched for writes.
const QUIET: Millis = 600_000;
/// How long it may take to settle: longer than all deadlines in a row.
const SETTLES_WITHIN: Millis = 7_200_000;
/// What is settled may still be told in a status, for as long as the longest wait between two looks.
const LAST_WORDS: Millis = 120_000;
const CHECK_EVERY: Millis = 5000;
/// Requests and answers that follow each other without an end are more than so many in a second.
const MOST_IN_A_SECOND: usize = 10_000;

/// Something that is to happen.
pub(crate) enum Happening {
    Run {
        operator: usize,
        life: u64,
    },
    Landed(Box<Sent>),
    Answered {
        operator: usize,
        life: u64,
        id: RequestId,
        answer: Box<Answer>,
    },
    FileAsked {
        operator: usize,
        life: u64,
        key: FileKey,
    },
    Watch {
        operator: usize,
        life: u64,
    },
    Restart {
        operator: usize,
        life: u64,
    },
    Regained {
        operator: usize,
        life: u64,
        epoch: u64,
    },
    Overthrown {
        operator: usize,
        epoch: u64,
    },
    Lease,
    Dial {
        pod: String,
        process: u64,
    },
    Up {
        stream: u64,
    },
    Down {
        stream: u64,
    },
    Notice {
        stream: u64,
        side: Side,
    },
    Loaded {
        pod: String,
        process: u64,
        /// By name and digest.
        model: (String, String),
    },
    Task {
        pod: String,
        process: u64,
        task: TaskId,
        turn: u64,
        then: Then,
    },
    Unsettled {
        pod: String,
        process: u64,
    },
    Pod {
        uid: String,
        fate: Fate,
    },
    /// The garbage collector looks for pods without a pool.
    Collect,
    Upload {
        owner: String,
        sha256: String,
    },
    /// Whoever put a finalizer on an object takes it away.
    Finalized {
        is_job: bool,
        name: ObjectName,
        finalizer: &'static str,
    },
    /// An object can be read again.
    Readable {
        is_job: bool,
        name: ObjectName,
    },
    /// To decide about an object panics no more.
    Uncursed {
        is_job: bool,
        name: ObjectName,
        uid: String,
    },
    Relist {
        operator: usize,
    },
    /// All namespaces belong to one team.
    Teams,
    StoreUp,
    People,
    Fault,
    Check,
}

/// Where the world is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Storm,
    Calm {
        since: Millis,
    },
    /// Settled, as far as one can see.
    LastWords {
        since: Millis,
    },
    Quiet {
        since: Millis,
        writes: usize,
    },
    Over,
}

pub(crate) struct World {
    pub now: Millis,
    pub chance: Chance,
    pub weather: Weather,
    pub api: Api,
    pub operators: Vec<Operator>,
    pub highest_epoch: u64,
    /// Until when each operator's watches show nothing.
    pub frozen: [Millis; 2],
    /// What the API server refuses, with which code, and until when.
    pub refused: Option<(Refuses, u16, Millis)>,
    pub clocks: Clocks,
    pub streams: BTreeMap<u64, Stream>,
    pub workers: BTreeMap<String, Worker>,
    pub store: Store,
    pub people: People,
    pub ledger: Ledger,
    pub phase: Phase,
    watches_due: [bool; 2],
    /// A second, and how much has happened in it so far.
    happened: (Millis, usize),
    queue: BTreeMap<(Millis, u64), Happening>,
    serial: u64,
    story: Option<Vec<String>>,
}

impl World {
    /// Lives through one seed; with `is_told`, it writes down what happens.
    pub(crate) fn live(seed: u64, is_told: bool) -> World {
        let mut world = World::new(seed, is_told);
        world.begin();
        while world.phase != Phase::Over && world.ledger.violation.is_none() {
            let Some(((when, _), happening)) = world.queue.pop_first() else {
                world.blame(|| "nothing happens any more".to_owned());
                break;
            };
            world.count(when);
            world.now = when;
            if world.phase == Phase::Storm && world.now >= world.weather.until {
                world.phase = Phase::Calm { since: world.now };
                world.turn_calm();
            }
            world.happens(happening);
            world.let_watches_follow();
        }
        world
    }

    fn new(seed: u64, is_told: bool) -> World {
        let mut chance = Chance::new(seed);
        let weather = Weather::of(&mut chance);
        let weather_prunes = weather.prunes;
        let mut world = World {
            now: 0,
            chance,
            weather,
            api: Api::new(weather_prunes),
            operators: Vec::new(),
            highest_epoch: 0,
            frozen: [0, 0],
            refused: None,
            clocks: Clocks::default(),
            streams: BTreeMap::new(),
            workers: BTreeMap::new(),
            store: Store::new(),
            people: People::default(),
            ledger: Ledger::default(),
            phase: Phase::Storm,
            watches_due: [false, false],
            happened: (0, 0),
            queue: BTreeMap::new(),
            serial: 0,
            story: is_told.then(Vec::new),
        };
        world.operators = vec![world.new_operator(0), world.new_operator(0)];
        for index in 0..world.operators.len() {
            world.run_within(index, 0);
        }
        world
    }

    /// One more thing happens.
    fn count(&mut self, when: Millis) {
        let (second, count) = self.happened;
        let count = if when / 1000 == second { count + 1 } else { 1 };
        self.happened = (when / 1000, count);
        if count > MOST_IN_A_SECOND {
            self.blame(|| format!("more than {MOST_IN_A_SECOND} things happen in a second"));
        }
    }

    fn begin(&mut self) {
        self.make_pools();
        self.after(0, Happening::Lease);
        self.after(100, Happening::People);
        self.after(2000, Happening::Fault);
        self.after(CHECK_EVERY, Happening::Check);
    }

    fn happens(&mut self, happening: Happening) {
        match happening {
            Happening::Run { operator, life } => self.run(operator, life),
            Happening::Landed(sent) => self.land(*sent),
            Happening::Answered {
                operator,
                life,
                id,
                answer,
            } => self.answered(operator, life, id, *answer),
            Happening::FileAsked {
                operator,
                life,
                key,
            } => self.file_asked(operator, life, key),
            Happening::Watch { operator, life } => {
                self.watches_due[operator] = false;
                if self.operators[operator].life == life {
                    self.watch(operator);
                }
            }
            Happening::Restart { operator, life } => self.restart(operator, life),
            Happening::Overthrown { operator, epoch } => {
                if self.operators[operator].epoch() == Some(epoch) {
                    self.end_term(operator);
                }
            }
            Happening::Regained {
                operator,
                life,
                epoch,
            } => self.regain(operator, life, epoch),
            Happening::Lease => self.hold_election(),
            Happening::Dial { pod, process } => self.dial(&pod, process),
            Happening::Up { stream } => self.up(stream),
            Happening::Down { stream } => self.down(stream),
            Happening::Notice { stream, side } => self.notice(stream, side),
            Happening::Loaded {
                pod,
                process,
                model,
            } => self.loaded(&pod, process, model),
            Happening::Task {
                pod,
                process,
                task,
                turn,
                then,
            } => self.task(&pod, process, &task, turn, then),
            Happening::Unsettled { pod, process } => self.left_unsettled(&pod, process),
            Happening::Pod { uid, fate } => self.pod(&uid, fate),
            Happening::Collect => self.collect(),
            Happening::Upload { owner, sha256 } => self.uploaded(&owner, &sha256),
            Happening::Finalized {
                is_job,
                name,
                finalizer,
            } => self.finalized(is_job, &name, finalizer),
            Happening::Readable { is_job, name } => self.readable(is_job, &name),
            Happening::Uncursed { is_job, name, uid } => self.uncursed(is_job, &name, &uid),
            Happening::Relist { operator } => {
                if self.operators[operator].is_alive {
                    self.relist(operator);
                }
            }
            Happening::Teams => self.join_teams(),
            Happening::StoreUp => self.store_comes_back(),
            Happening::People => self.people_act(),
            Happening::Fault => self.fault(),
            Happening::Check => self.check(),
        }
    }

    fn hold_election(&mut self) {
        if self.leader().is_none() {
            let alive: Vec<usize> = (0..self.operators.len())
                .filter(|&index| self.operators[index].is_alive)
                .collect();
            if !alive.is_empty() {
                let index = *self.chance.of(&alive);
                self.elect(index);
            }
        }
        let wait = self.chance.between(1000, 6000);
        self.after(wait, Happening::Lease);
    }

    fn let_watches_follow(&mut self) {
        for index in 0..self.operators.len() {
            let operator = &self.operators[index];
            let lag = operator.jobs.lag(&self.api.jobs)
                + operator.pools.lag(&self.api.pools)
                + operator.pods.lag(&self.api.pods)
                + operator.namespaces.lag(&self.api.namespaces);
            if lag == 0 || self.watches_due[index] || !operator.is_alive {
                continue;
            }
            self.watches_due[index] = true;
            let life = operator.life;
            let is_slow = self.is_stormy() && self.chance.percent(8);
            let wait = self.chance.between(1, if is_slow { 4000 } else { 15 });
            let wait = wait.max(self.frozen[index] - self.now);
            self.after(
                wait,
                Happening::Watch {
                    operator: index,
                    life,
                },
            );
        }
    }

    fn check(&mut self) {
        self.after(CHECK_EVERY, Happening::Check);
        match self.phase {
            Phase::Storm | Phase::Over => {}
            Phase::Calm { since } => {
                self.look_for_the_starving();
                self.look_for_the_forgotten();
                match self.unsettled() {
                    None => self.phase = Phase::LastWords { since: self.now },
                    Some(what) if self.now - since > SETTLES_WITHIN => {
                        self.blame(|| format!("it does not settle: {what}"));
                    }
                    Some(_) => {}
                }
            }
            Phase::LastWords { since } => {
                if let Some(what) = self.unsettled() {
                    self.note(|| format!("not settled after all: {what}"));
                    self.phase = Phase::Calm { since };
                } else if self.now - since >= LAST_WORDS {
                    let writes = self.ledger.writes;
                    self.phase = Phase::Quiet {
                        since: self.now,
                        writes,
                    };
                }
            }
            Phase::Quiet { since, writes } => {
                let now = self.ledger.writes;
                if now != writes {
                    self.blame(|| format!("{} writes in a settled fleet", now - writes));
                } else if self.now - since >= QUIET {
                    self.look_for_the_uncounted();
                    self.phase = Phase::Over;
                }
            }
        }
    }

    pub(crate) fn is_stormy(&self) -> bool {
        self.phase == Phase::Storm
    }

    /// When it turned calm, if it has.
    pub(crate) fn calm_since(&self) -> Option<Millis> {
        (!self.is_stormy()).then_some(self.weather.until)
    }

    pub(crate) fn after(&mut self, wait: Millis, happening: Happening) {
        let serial = self.serial();
        self.queue.insert((self.now + wait, serial), happening);
    }

    pub(crate) fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            story.push(format!("{:>9.3} s  {}", self.now as f64 / 1000.0, line()));
        }
    }

    /// An invariant does not hold: the first such thing ends the world.
    pub(crate) fn blame(&mut self, what: impl FnOnce() -> String) {
        if self.ledger.violation.is_none() {
            self.ledger.violation = Some(what());
        }
    }

    pub(crate) fn story(&self) -> String {
        self.story.as_deref().unwrap_or_default().join("\n")
    }
}
