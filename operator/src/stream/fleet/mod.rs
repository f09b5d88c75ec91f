//! The workers that have dialled in, what they hold, and the way to each. In memory: a new leader learns it again from the workers.
//!
//! # Layout
//! - here: streams that come and go, and what each worker is told of models
//! - [`tasks`]: the tasks that workers hold
//! - [`views`]: what the scheduler, jobs and pools want to know

mod tasks;
mod views;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use framewright_crds::modelpool::Device;
use framewright_crds::names::TaskId;
use framewright_crds::wire::{ModelOrder, ModelState, Order, TaskReport};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;

use framewright_core::names::{PoolName, WorkerRef};
use tasks::Task;
pub use tasks::{Sent, Stray};

/// How long a worker that went away is remembered.
const REMEMBERED: SignedDuration = SignedDuration::from_mins(10);

/// All workers, by pod UID.
#[derive(Debug, Default)]
pub struct Fleet {
    workers: Mutex<HashMap<String, Worker>>,
}

/// What a worker says of itself when it dials in.
#[derive(Clone, Debug)]
pub struct Greeting {
    pub worker: WorkerRef,
    pub pool: PoolName,
    pub device: Device,
    pub device_trouble: Option<String>,
    pub slots: u32,
    pub tasks: Vec<TaskReport>,
}

#[derive(Debug)]
struct Worker {
    greeting: Greeting,
    connection: Option<Connection>,
    away_since: Option<Timestamp>,
    /// It said itself that it ends.
    is_ending: bool,
    /// Its pool wants it gone.
    is_drained: bool,
    /// Which models it was told to hold on this stream.
    welcomed: Option<String>,
    /// The models that it was last told to hold, each with the digest of its weights.
    wanted: BTreeMap<String, String>,
    models: BTreeMap<String, (String, ModelState)>,
    warm: Option<String>,
    /// When it gave back the last task that it had.
    last_busy: Option<Timestamp>,
    tasks: BTreeMap<TaskId, Task>,
    /// When it first said that it computes a task; kept when a new process of it does not hold the task any more.
    begun: BTreeMap<TaskId, Timestamp>,
}

#[derive(Debug)]
struct Connection {
    id: u64,
    orders: mpsc::Sender<Order>,
}

impl Fleet {
    /// A worker has dialled in; an older stream of the same pod ends.
    pub fn connect(
        &self,
        greeting: Greeting,
        id: u64,
        orders: mpsc::Sender<Order>,
        now: Timestamp,
    ) {
        let mut workers = self.lock();
        let tasks = greeting.tasks.clone();
        let entry = workers.entry(greeting.worker.uid.clone());
        let known = match entry {
            std::collections::hash_map::Entry::Occupied(known) => {
                let known = known.into_mut();
                known.greeting = greeting;
                known.connection = Some(Connection { id, orders });
                known.away_since = None;
                known.is_ending = false;
                known.welcomed = None;
                known
            }
            std::collections::hash_map::Entry::Vacant(entry) => entry.insert(Worker {
                greeting,
                connection: Some(Connection { id, orders }),
                away_since: None,
                is_ending: false,
                is_drained: false,
                welcomed: None,
                wanted: BTreeMap::new(),
                models: BTreeMap::new(),
                warm: None,
                last_busy: None,
                tasks: BTreeMap::new(),
                begun: BTreeMap::new(),
            }),
        };
        // What it holds is what it says, except that an unchanged task keeps the time of its last change.
        let mut held = BTreeMap::new();
        for TaskReport { task, job, state } in tasks {
            let (changed_at, store_trouble) = match known.tasks.get(&task) {
                Some(old) if old.state == state => (old.changed_at, old.store_trouble.clone()),
                Some(_) | None => (now, None),
            };
            if tasks::computes(&state) {
                known.begun.entry(task.clone()).or_insert(now);
            }
            held.insert(
                task,
                Task {
                    job,
                    state,
                    changed_at,
                    wants_grants: false,
                    store_trouble,
                },
            );
        }
        if held.is_empty() && !known.tasks.is_empty() {
            known.last_busy = Some(now);
        }
        known.tasks = held;
    }

    /// A stream has ended. Nothing happens if the pod has a newer one.
    pub fn disconnect(&self, uid: &str, id: u64, now: Timestamp) {
        let mut workers = self.lock();
        if let Some(worker) = workers.get_mut(uid)
            && worker
                .connection
                .as_ref()
                .is_some_and(|connection| connection.id == id)
        {
            worker.connection = None;
            worker.away_since = Some(now);
        }
    }

    /// Forgets pods that are gone. A clock that was set back has left times ahead of it: they become now.
    pub fn retain(&self, now: Timestamp, is_there: impl Fn(&WorkerRef) -> bool) {
        self.lock().retain(|_, worker| {
            let known = [worker.away_since.as_mut(), worker.last_busy.as_mut()];
            let tasks = worker.tasks.values_mut().map(|task| &mut task.changed_at);
            let times = known.into_iter().flatten().chain(tasks);
            for time in times.chain(worker.begun.values_mut()) {
                *time = now.min(*time);
            }
            let Worker { begun, tasks, .. } = worker;
            begun.retain(|task, at| {
                tasks.contains_key(task) || now.duration_since(*at) < REMEMBERED
            });
            let away = worker.away_since.map(|since| now.duration_since(since));
            worker.connection.is_some()
                || (is_there(&worker.greeting.worker) && away.is_none_or(|away| away < REMEMBERED))
        });
    }

    /// Ends all streams and forgets all.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// Queues an order on a worker's stream; false when it has none or does not read.
    pub fn send(&self, uid: &str, order: Order) -> bool {
        let workers = self.lock();
        let connection = workers
            .get(uid)
            .and_then(|worker| worker.connection.as_ref());
        connection.is_some_and(|connection| connection.orders.try_send(order).is_ok())
    }

    /// Sends the pool's models, unless the worker has been sent the same on this stream.
    pub fn welcome(&self, uid: &str, models: Vec<ModelOrder>, key: &str) {
        let mut workers = self.lock();
        let Some(worker) = workers
            .get_mut(uid)
            .filter(|worker| worker.welcomed.as_deref() != Some(key))
        else {
            return;
        };
        let Some(connection) = &worker.connection else {
            return;
        };
        let wanted = models
            .iter()
            .map(|model| (model.name.clone(), model.digest.clone()))
            .collect();
        if connection
            .orders
            .try_send(Order::Welcome { models })
            .is_ok()
        {
            worker.welcomed = Some(key.to_owned());
            worker.wanted = wanted;
            let Worker { wanted, models, .. } = worker;
            models.retain(|name, (digest, _)| wanted.get(name) == Some(digest));
        }
    }

    /// The grants for weights ran out: the next welcome is sent even if nothing else changed.
    pub fn unwelcome(&self, uid: &str) {
        if let Some(worker) = self.lock().get_mut(uid) {
            worker.welcomed = None;
        }
    }

    /// A model's state on a worker has changed. Of models and weights that it was not told to hold nothing is kept.
    pub fn model(&self, uid: &str, name: &str, digest: &str, state: ModelState) {
        if let Some(worker) = self.lock().get_mut(uid)
            && worker
                .wanted
                .get(name)
                .is_some_and(|wanted| wanted == digest)
        {
            worker
                .models
                .insert(name.to_owned(), (digest.to_owned(), state));
        }
    }

    /// The worker takes no new task and ends.
    pub fn ending(&self, uid: &str) {
        if let Some(worker) = self.lock().get_mut(uid) {
            worker.is_ending = true;
        }
    }

    /// Sets which workers of a pool get no new task.
    pub fn drain(&self, pool: &PoolName, drained: &BTreeSet<String>) {
        for (uid, worker) in self.lock().iter_mut() {
            if &worker.greeting.pool == pool {
                worker.is_drained = drained.contains(uid);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Worker>> {
        // Nothing panics while it holds the lock; if something did, the map is still whole.
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_whose_weights_were_changed_is_ready_when_the_worker_has_the_new_ones() {
        let fleet = Fleet::default();
        let greeting = Greeting {
            worker: WorkerRef {
                namespace: "fleet".to_owned(),
                name: "w".to_owned(),
                uid: "u".to_owned(),
            },
            pool: PoolName {
                namespace: "fleet".to_owned(),
                name: "p".to_owned(),
            },
            device: Device::Cpu,
            device_trouble: None,
            slots: 1,
            tasks: Vec::new(),
        };
        let (orders, _heard) = mpsc::channel(8);
        fleet.connect(greeting, 1, orders, Timestamp::UNIX_EPOCH);
        let welcome = |digest: &str| {
            let model = ModelOrder {
                name: "x2".to_owned(),
                digest: digest.to_owned(),
                files: Vec::new(),
            };
            fleet.welcome("u", vec![model], digest);
        };
        let ready = || fleet.slots(&HashMap::new())[0].ready.get("x2").cloned();
        welcome("old");
        fleet.model("u", "x2", "old", ModelState::Ready);
        assert_eq!(ready().as_deref(), Some("old"));
        welcome("new");
        assert_eq!(ready(), None);
        // Said before the worker had heard of the new ones.
        fleet.model("u", "x2", "old", ModelState::Ready);
        assert_eq!(ready(), None);
        fleet.model("u", "x2", "new", ModelState::Ready);
        assert_eq!(ready().as_deref(), Some("new"));
    }
}
