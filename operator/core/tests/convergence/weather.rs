//! What goes wrong around everybody, until it turns calm: stores, streams, leases, nodes, devices, weights.

use std::collections::{BTreeMap, BTreeSet};

use framewright_queue::Event;

use crate::api::{Millis, Prunes};
use crate::chance::Chance;
use crate::operator::is_of;
use crate::world::{Happening, World};

/// How bad this world is, while it is.
pub(crate) struct Weather {
    /// Chance in 10,000 that an operator dies at any one of its steps.
    pub crash: i64,
    /// Per cent of writes that are lost, or their answers.
    pub lost_write: i64,
    /// Per cent of chances to fail that tasks take.
    pub failure: i64,
    /// Per cent of looks at weights that find them wrong, or not there.
    pub spoiled: i64,
    /// What an API server with an older CRD drops.
    pub prunes: Option<Prunes>,
    /// Milliseconds between faults, at most.
    pub fault_every: Millis,
    /// When it turns calm.
    pub until: Millis,
}

/// The store's files.
pub(crate) struct Store {
    pub is_up: bool,
    back_at: Option<Millis>,
    /// When it lost a file.
    lost_at: Option<Millis>,
    files: BTreeMap<String, BTreeSet<String>>,
}

impl Weather {
    pub(crate) fn of(chance: &mut Chance) -> Weather {
        Weather {
            crash: *chance.of(&[0, 20, 100, 300]),
            lost_write: *chance.of(&[0, 2, 10, 25]),
            failure: *chance.of(&[0, 5, 20]),
            spoiled: *chance.of(&[0, 5, 30]),
            prunes: if chance.percent(20) {
                Some(*chance.of(&Prunes::ALL))
            } else {
                None
            },
            fault_every: *chance.of(&[2000, 5000, 15_000]),
            until: chance.between(10_000, 60_000),
        }
    }
}

impl Store {
    pub(crate) fn new() -> Store {
        Store {
            is_up: true,
            back_at: None,
            lost_at: None,
            files: BTreeMap::new(),
        }
    }

    pub(crate) fn comes_back(&mut self, now: Millis) {
        if !std::mem::replace(&mut self.is_up, true) {
            self.back_at = Some(now);
        }
    }

    /// Whether it was away since then, or lost a file; or shortly before, since what it lost came back later.
    pub(crate) fn was_away_since(&self, since: Millis) -> bool {
        let mut times = self
            .back_at
            .into_iter()
            .chain(self.lost_at.map(|at| at + 21_000));
        !self.is_up || times.any(|time| time >= since)
    }

    pub(crate) fn put(&mut self, owner: &str, sha256: &str) {
        let files = self.files.entry(owner.to_owned()).or_default();
        files.insert(sha256.to_owned());
    }

    fn lose(&mut self, owner: &str, sha256: &str, now: Millis) {
        if let Some(files) = self.files.get_mut(owner) {
            files.remove(sha256);
        }
        self.lost_at = Some(now);
    }

    pub(crate) fn has(&self, owner: &str, sha256: &str) -> bool {
        self.files
            .get(owner)
            .is_some_and(|files| files.contains(sha256))
    }
}

impl World {
    /// One more thing that goes wrong.
    pub(crate) fn fault(&mut self) {
        if !self.is_stormy() {
            return;
        }
        let wait = self.chance.between(300, self.weather.fault_every);
        self.after(wait, Happening::Fault);
        match self.chance.between(0, 29) {
            29 => self.set_clocks(),
            0..=3 => {
                let reason = *self.chance.of(&["OOMKilled", "Error"]);
                if let Some(uid) = self.any_pod() {
                    self.process_ends(&uid, reason);
                }
            }
            4 => {
                if let Some(uid) = self.any_pod() {
                    self.lose_node(&uid);
                }
            }
            5 => {
                if let Some(uid) = self.any_pod() {
                    self.evict(&uid);
                }
            }
            6..=9 => self.fault_on_a_stream(),
            10..=12 => {
                let index = usize::try_from(self.chance.between(0, 1)).expect("two");
                if self.operators[index].is_alive {
                    self.crash(index);
                }
            }
            13..=15 => self.overthrow(),
            16..=17 => {
                self.note(|| "the store is down".to_owned());
                self.store.is_up = false;
                for index in 0..self.operators.len() {
                    self.store_is_away(index);
                }
                let wait = self.chance.between(1000, 25_000);
                self.after(wait, Happening::StoreUp);
            }
            18 => {
                if let Some(uid) = self.any_pod() {
                    let message = "the device is gone".to_owned();
                    self.tell(&uid, Event::DeviceLost { message });
                }
            }
            19..=20 => {
                if let Some(uid) = self.any_pod() {
                    let model = *self.chance.of(&["x2", "x4"]);
                    self.spoil(&uid, model);
                }
            }
            21..=22 => self.refuse(),
            23..=24 => {
                let index = usize::try_from(self.chance.between(0, 1)).expect("two");
                if self.operators[index].is_alive {
                    self.relist(index);
                }
            }
            25..=26 => self.lose_file(),
            // A frozen watch, which may list anew when it works again: nothing is shown for a while.
            _ => {
                let index = usize::try_from(self.chance.between(0, 1)).expect("two");
                let until = self.now + self.chance.between(500, 12_000);
                self.note(|| format!("the watches of operator {index} freeze"));
                self.frozen[index] = until;
                if self.chance.percent(50) {
                    self.after(until - self.now, Happening::Relist { operator: index });
                }
            }
        }
    }

    /// The store loses an input, and somebody uploads it again.
    fn lose_file(&mut self) {
        let files = self.store.files.iter();
        let files: Vec<(String, String)> = files
            .flat_map(|(owner, files)| files.iter().map(move |file| (owner.clone(), file.clone())))
            .filter(|(_, file)| is_input(file))
            .collect();
        if files.is_empty() {
            return;
        }
        let (owner, sha256) = self.chance.of(&files).clone();
        self.note(|| format!("the store loses {sha256} of {owner}"));
        self.store.lose(&owner, &sha256, self.now);
        let wait = self.chance.between(500, 20_000);
        self.after(wait, Happening::Upload { owner, sha256 });
    }

    fn fault_on_a_stream(&mut self) {
        let open: Vec<u64> = self.streams.keys().copied().collect();
        if open.is_empty() {
            return;
        }
        let id = *self.chance.of(&open);
        if self.chance.percent(60) {
            self.hang_up(id);
        } else {
            self.cut(id);
        }
    }

    /// Another operator takes the lead, and the old leader does not know for a while.
    fn overthrow(&mut self) {
        let Some(old) = self.leader() else {
            return;
        };
        let new = 1 - old;
        if self.chance.percent(30) {
            return self.lapse(old);
        }
        if !self.operators[new].is_alive {
            return;
        }
        let epoch = self.operators[old].epoch().unwrap_or_default();
        self.elect(new);
        let wait = if self.chance.percent(50) {
            0
        } else {
            self.chance.between(0, 10_000)
        };
        self.after(
            wait,
            Happening::Overthrown {
                operator: old,
                epoch,
            },
        );
    }

    /// The API server answers nobody about the lease for a while.
    fn lapse(&mut self, leader: usize) {
        let (life, epoch) = (self.operators[leader].life, self.highest_epoch);
        self.end_term(leader);
        let wait = self.chance.between(1, 5000);
        self.after(
            wait,
            Happening::Regained {
                operator: leader,
                life,
                epoch,
            },
        );
    }

    pub(crate) fn store_comes_back(&mut self) {
        self.store.comes_back(self.now);
        for index in 0..self.operators.len() {
            self.inform(
                index,
                framewright_core::engine::interface::Event::Store { error: None },
            );
            self.store_tells(index);
        }
    }

    /// A file has come, and whoever waits for it is told. A store that is away tells it when it is back.
    pub(crate) fn uploaded(&mut self, owner: &str, sha256: &str) {
        self.store.put(owner, sha256);
        for index in 0..self.operators.len() {
            let mut watched = self.operators[index].watched.iter();
            let key = watched.find(|key| is_of(key, owner, sha256)).cloned();
            if let Some(key) = key {
                let (life, wait) = (self.operators[index].life, self.chance.between(0, 10));
                self.after(
                    wait,
                    Happening::FileAsked {
                        operator: index,
                        life,
                        key,
                    },
                );
            }
        }
    }

    /// Nothing goes wrong any more.
    pub(crate) fn turn_calm(&mut self) {
        self.note(|| "calm".to_owned());
        self.store_comes_back();
        self.frozen = [0, 0];
        for index in 0..self.operators.len() {
            if self.operators[index].is_alive && self.chance.percent(30) {
                self.relist(index);
            }
        }
        self.refused = None;
        // Links that are dropped are made anew with each decision, and so written: no calm world has such an API server.
        self.api.prunes = self.api.prunes.filter(|prunes| *prunes != Prunes::Files);
        self.come_to_rest();
    }
}

/// What a person has uploaded.
fn is_input(sha256: &str) -> bool {
    sha256.starts_with("cdcd") || sha256.starts_with("efef")
}
