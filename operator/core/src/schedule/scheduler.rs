//! All steps that could run, all workers with room, and the placements that no status shows yet. Each change costs what it changes: no
//! decision scans all jobs or all workers.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use framewright_crds::aijob::StepModel;
use framewright_crds::names::TaskId;
use jiff::Timestamp;

use super::filter_and_score::{Free, candidates, score};
use super::gather::Gathered;
use super::{Pending, Placement, Requires, Slots};
use crate::names::PoolName;

/// A pool, and what steps need of its workers.
type Class = (PoolName, Requires);

/// A job's UID and a step's name.
type StepKey = (String, String);

/// The state of the scheduler.
#[derive(Debug, Default)]
pub struct Scheduler {
    jobs: HashMap<String, Job>,
    /// Steps that wait for a placement, in every class that they may run in.
    waiting: BTreeMap<Class, Waiting>,
    placements: BTreeMap<StepKey, Placement>,
    /// The tasks of each namespace that are bound or placed.
    load: HashMap<Arc<str>, u32>,
    /// The tasks that are bound to each pod UID, or placed on it (as attempt 0, which no bound task has).
    bound: HashMap<String, BTreeSet<TaskId>>,
    workers: HashMap<String, Slots>,
    /// UIDs of the workers that have room, by pool.
    room: BTreeMap<PoolName, BTreeSet<String>>,
    /// Those of them that can do the steps of a class, for each class in which steps wait.
    free: BTreeMap<Class, Free>,
}

#[derive(Debug)]
struct Job {
    namespace: Arc<str>,
    tasks: Vec<(String, TaskId)>,
    pending: Vec<Arc<Pending>>,
}

/// The steps of one class: by priority, by namespace, oldest first.
type Waiting = BTreeMap<Reverse<i32>, BTreeMap<Arc<str>, BTreeMap<Turn, Arc<Pending>>>>;

/// A step's place among those of its namespace and priority.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    created: Timestamp,
    job_uid: String,
    position: usize,
}

/// The steps of a class that are next, one of each namespace, while steps are placed.
struct Head {
    priority: Reverse<i32>,
    next: BTreeSet<(u32, Turn, Arc<str>)>,
}

/// A step that is next in its class: the lowest of all is placed first.
type Candidate<'a> = (Reverse<i32>, u32, Turn, Arc<str>, &'a Class);

impl Scheduler {
    /// Sets what a job wants and has. The pods whose tasks are others now.
    pub fn update(&mut self, uid: &str, namespace: &str, gathered: Gathered) -> BTreeSet<String> {
        let mut pods = self.take_out(uid);
        let Gathered { tasks, pending } = gathered;
        // A placement is good for the step as it is now: a pool that has closed to the job takes it back.
        let is_good = |placement: &Placement| {
            pending.iter().any(|pending| {
                pending.step == placement.step
                    && requires(&placement.models) == pending.requires.models
                    && pending.pools.contains(&placement.pool)
            })
        };
        let outdated: Vec<String> = self
            .placements_of(uid)
            .filter(|placement| !is_good(placement))
            .map(|placement| placement.step.clone())
            .collect();
        for step in outdated {
            pods.extend(self.withdraw(uid, &step));
        }
        // Whether their workers are still fit is looked at again.
        pods.extend(
            self.placements_of(uid)
                .map(|placement| placement.worker.uid.clone()),
        );
        if tasks.is_empty() && pending.is_empty() {
            return pods;
        }
        let job = Job {
            namespace: namespace.into(),
            tasks,
            pending: pending.into_iter().map(Arc::new).collect(),
        };
        for (pod, task) in &job.tasks {
            self.bound
                .entry(pod.clone())
                .or_default()
                .insert(task.clone());
            *self.load.entry(Arc::clone(&job.namespace)).or_insert(0) += 1;
            pods.insert(pod.clone());
        }
        for step in &job.pending {
            if !self.is_placed(uid, &step.step) {
                self.enqueue(&job.namespace, step);
            }
        }
        self.jobs.insert(uid.to_owned(), job);
        pods
    }

    /// Forgets a job. The pods whose tasks are others now.
    pub fn remove(&mut self, uid: &str) -> BTreeSet<String> {
        let mut pods = self.take_out(uid);
        let steps: Vec<String> = self
            .placements_of(uid)
            .map(|placement| placement.step.clone())
            .collect();
        for step in steps {
            pods.extend(self.withdraw(uid, &step));
        }
        pods
    }

    /// Takes a job out of the indexes, its placements apart.
    fn take_out(&mut self, uid: &str) -> BTreeSet<String> {
        let mut pods = BTreeSet::new();
        let Some(job) = self.jobs.remove(uid) else {
            return pods;
        };
        for (pod, task) in job.tasks {
            if let Some(bound) = self.bound.get_mut(&pod) {
                bound.remove(&task);
                if bound.is_empty() {
                    self.bound.remove(&pod);
                }
            }
            self.unload(&job.namespace);
            pods.insert(pod);
        }
        for step in &job.pending {
            self.dequeue(&job.namespace, step);
        }
        pods
    }

    fn unload(&mut self, namespace: &Arc<str>) {
        if let Some(load) = self.load.get_mut(namespace) {
            *load = load.saturating_sub(1);
            if *load == 0 {
                self.load.remove(namespace);
            }
        }
    }

    fn enqueue(&mut self, namespace: &Arc<str>, step: &Arc<Pending>) {
        for class in classes(step) {
            if !self.waiting.contains_key(&class) {
                let free = self.free_for(&class);
                self.free.insert(class.clone(), free);
            }
            let waiting = self.waiting.entry(class).or_default();
            let of_priority = waiting.entry(Reverse(step.priority)).or_default();
            let of_namespace = of_priority.entry(Arc::clone(namespace)).or_default();
            of_namespace.insert(turn(step), Arc::clone(step));
        }
    }

    fn dequeue(&mut self, namespace: &Arc<str>, step: &Pending) {
        for class in classes(step) {
            let Some(waiting) = self.waiting.get_mut(&class) else {
                continue;
            };
            if let Some(of_priority) = waiting.get_mut(&Reverse(step.priority)) {
                if let Some(of_namespace) = of_priority.get_mut(namespace) {
                    of_namespace.remove(&turn(step));
                    if of_namespace.is_empty() {
                        of_priority.remove(namespace);
                    }
                }
                if of_priority.is_empty() {
                    waiting.remove(&Reverse(step.priority));
                }
            }
            if waiting.is_empty() {
                self.waiting.remove(&class);
                self.free.remove(&class);
            }
        }
    }

    /// The workers that have room and can do the steps of a class.
    fn free_for(&self, (pool, requires): &Class) -> Free {
        let mut free = Free::default();
        for uid in self.room.get(pool).into_iter().flatten() {
            if let Some(slots) = self.workers.get(uid) {
                free.add(uid, slots, requires);
            }
        }
        free
    }

    /// Sets a worker's room, or that it gets no tasks.
    pub fn set_worker(&mut self, uid: &str, slots: Option<Slots>) {
        if self.workers.get(uid) == slots.as_ref() {
            return;
        }
        if let Some(old) = self.workers.remove(uid) {
            if let Some(room) = self.room.get_mut(&old.pool) {
                room.remove(uid);
                if room.is_empty() {
                    self.room.remove(&old.pool);
                }
            }
            for (_, free) in of_pool(&mut self.free, &old.pool) {
                free.remove(uid);
            }
        }
        let Some(slots) = slots else {
            return;
        };
        if slots.free > 0 {
            let room = self.room.entry(slots.pool.clone()).or_default();
            room.insert(uid.to_owned());
            for ((_, requires), free) in of_pool(&mut self.free, &slots.pool) {
                free.add(uid, &slots, requires);
            }
        }
        self.workers.insert(uid.to_owned(), slots);
    }

    /// The tasks that are bound to a pod, or placed on it.
    #[must_use]
    pub fn bound(&self, pod_uid: &str) -> Option<&BTreeSet<TaskId>> {
        self.bound.get(pod_uid)
    }

    /// UIDs of the jobs that have tasks on a pod, or are about to.
    #[must_use]
    pub fn jobs_on(&self, pod_uid: &str) -> BTreeSet<String> {
        let tasks = self.bound.get(pod_uid).into_iter().flatten();
        tasks.map(|task| task.job_uid.clone()).collect()
    }

    /// UIDs of all jobs that have a step which waits, or a task.
    pub fn job_uids(&self) -> impl Iterator<Item = &String> {
        self.jobs.keys()
    }

    /// UIDs of the jobs that have a step which waits in one of a pool's classes.
    #[must_use]
    pub fn waiting_in(&self, pool: &PoolName) -> BTreeSet<String> {
        let classes = self.waiting.iter().filter(|((of, _), _)| of == pool);
        classes
            .flat_map(|(_, waiting)| waiting.values())
            .flat_map(BTreeMap::values)
            .flat_map(BTreeMap::values)
            .map(|step| step.job_uid.clone())
            .collect()
    }

    /// How many steps found no room, by pool. A step that may run in several pools counts in each.
    #[must_use]
    pub fn demand(&self) -> BTreeMap<PoolName, usize> {
        let mut demand = BTreeMap::new();
        for ((pool, _), waiting) in &self.waiting {
            let steps = waiting.values().flat_map(BTreeMap::values);
            *demand.entry(pool.clone()).or_insert(0) += steps.map(BTreeMap::len).sum::<usize>();
        }
        demand
    }

    /// The worker that was chosen for a step, and is in no status yet.
    #[must_use]
    pub fn placement(&self, job_uid: &str, step: &str) -> Option<&Placement> {
        self.placements.get(&(job_uid.to_owned(), step.to_owned()))
    }

    /// All placements that are in no status yet.
    pub fn placements(&self) -> impl Iterator<Item = &Placement> {
        self.placements.values()
    }

    fn placements_of<'a>(&'a self, job_uid: &'a str) -> impl Iterator<Item = &'a Placement> {
        let from = (job_uid.to_owned(), String::new());
        self.placements
            .range(from..)
            .take_while(move |((uid, _), _)| uid == job_uid)
            .map(|(_, placement)| placement)
    }

    fn is_placed(&self, job_uid: &str, step: &str) -> bool {
        self.placement(job_uid, step).is_some()
    }

    /// The placements on a worker that it cannot take any more: it is away or leaves, or holds other weights.
    #[must_use]
    pub fn unfit(&self, pod_uid: &str) -> Vec<(String, String)> {
        let placed = self
            .bound
            .get(pod_uid)
            .into_iter()
            .flatten()
            .filter(|task| task.attempt == 0);
        let worker = self.workers.get(pod_uid);
        placed
            .filter_map(|task| self.placement(&task.job_uid, &task.step))
            .filter(|placement| {
                let has = |model: &StepModel| {
                    let digest = worker.and_then(|worker| worker.provides.models.get(&model.name));
                    digest == Some(&model.digest)
                };
                worker.is_none() || !placement.models.iter().all(has)
            })
            .map(|placement| (placement.job_uid.clone(), placement.step.clone()))
            .collect()
    }

    /// The placements on a worker, each by its job's UID and its step.
    #[must_use]
    pub fn placed_on(&self, pod_uid: &str) -> Vec<(String, String)> {
        let tasks = self.bound.get(pod_uid).into_iter().flatten();
        tasks
            .filter(|task| task.attempt == 0)
            .map(|task| (task.job_uid.clone(), task.step.clone()))
            .collect()
    }

    /// Takes a placement back; the pod that it was on. The step waits again if it could still run.
    pub fn withdraw(&mut self, job_uid: &str, step: &str) -> Option<String> {
        let placement = self
            .placements
            .remove(&(job_uid.to_owned(), step.to_owned()))?;
        let pod = placement.worker.uid;
        if let Some(bound) = self.bound.get_mut(&pod) {
            bound.remove(&placed_task(job_uid, step));
            if bound.is_empty() {
                self.bound.remove(&pod);
            }
        }
        self.unload(&placement.namespace.as_str().into());
        let pending = self.jobs.get(job_uid).and_then(|job| {
            let pending = job.pending.iter().find(|pending| pending.step == step)?;
            Some((Arc::clone(&job.namespace), Arc::clone(pending)))
        });
        if let Some((namespace, pending)) = pending {
            self.enqueue(&namespace, &pending);
        }
        Some(pod)
    }

    /// Places as many steps as there is room for.
    pub fn place(&mut self) -> Vec<Placement> {
        let mut placed = Vec::new();
        let mut heads: BTreeMap<Class, Head> = BTreeMap::new();
        while let Some((class, namespace, step)) = self.next(&mut heads) {
            let Some(worker) = self.best(&class, &step) else {
                break;
            };
            let Some(mut slots) = self.workers.get(&worker).cloned() else {
                break;
            };
            let Some(models) = slots.provides.models_for(&step.requires) else {
                break;
            };
            let placement = Placement {
                job_uid: step.job_uid.clone(),
                step: step.step.clone(),
                namespace: step.namespace.clone(),
                worker: slots.worker.clone(),
                pool: slots.pool.clone(),
                models,
            };
            slots.free = slots.free.saturating_sub(1);
            self.set_worker(&worker, Some(slots));
            self.dequeue(&namespace, &step);
            *self.load.entry(Arc::clone(&namespace)).or_insert(0) += 1;
            self.bound
                .entry(worker)
                .or_default()
                .insert(placed_task(&step.job_uid, &step.step));
            for (class, head) in &mut heads {
                self.turn_to(class, head, &namespace);
            }
            let key = (placement.job_uid.clone(), placement.step.clone());
            self.placements.insert(key, placement.clone());
            placed.push(placement);
        }
        placed
    }

    /// The step that is next among all for which there is room, and a class in which there is.
    fn next(&self, heads: &mut BTreeMap<Class, Head>) -> Option<(Class, Arc<str>, Arc<Pending>)> {
        let mut first: Option<Candidate<'_>> = None;
        let with_room = self.free.iter().filter(|(_, free)| !free.is_empty());
        for (class, _) in with_room {
            let Some(waiting) = self.waiting.get(class) else {
                continue;
            };
            let Some((priority, of_priority)) = waiting.first_key_value() else {
                continue;
            };
            let head = heads.entry(class.clone()).or_insert_with(|| Head {
                priority: Reverse(i32::MIN),
                next: BTreeSet::new(),
            });
            if head.priority != *priority || head.next.is_empty() {
                head.priority = *priority;
                let next = of_priority.iter().filter_map(|(namespace, steps)| {
                    let (turn, _) = steps.first_key_value()?;
                    Some((self.load_of(namespace), turn.clone(), Arc::clone(namespace)))
                });
                head.next = next.collect();
            }
            let Some((load, turn, namespace)) = head.next.first() else {
                continue;
            };
            let candidate = (*priority, *load, turn.clone(), Arc::clone(namespace), class);
            if first.as_ref().is_none_or(|first| candidate < *first) {
                first = Some(candidate);
            }
        }
        let (priority, _, turn, namespace, class) = first?;
        let step = self
            .waiting
            .get(class)?
            .get(&priority)?
            .get(&namespace)?
            .get(&turn)?;
        Some((class.clone(), namespace, Arc::clone(step)))
    }

    /// Puts a namespace, whose load or first step is another now, in its place among the next ones.
    fn turn_to(&self, class: &Class, head: &mut Head, namespace: &Arc<str>) {
        let load = self.load_of(namespace);
        let old = head
            .next
            .iter()
            .find(|(_, _, other)| other == namespace)
            .cloned();
        if let Some(old) = old {
            head.next.remove(&old);
        }
        let steps = self
            .waiting
            .get(class)
            .and_then(|waiting| waiting.get(&head.priority)?.get(namespace));
        if let Some((turn, _)) = steps.and_then(BTreeMap::first_key_value) {
            head.next
                .insert((load, turn.clone(), Arc::clone(namespace)));
        }
    }

    fn load_of(&self, namespace: &Arc<str>) -> u32 {
        self.load.get(namespace).copied().unwrap_or(0)
    }

    /// The best worker with room: the one with the lowest score.
    fn best(&self, class: &Class, step: &Pending) -> Option<String> {
        let free = self.free.get(class)?;
        let best = candidates(free, step).min_by_key(|uid| score(free, step, uid));
        best.cloned()
    }
}

fn classes(step: &Pending) -> impl Iterator<Item = Class> + '_ {
    step.pools
        .iter()
        .map(|pool| (pool.clone(), step.requires.clone()))
}

/// The classes of a pool.
fn of_pool<'a>(
    free: &'a mut BTreeMap<Class, Free>,
    pool: &'a PoolName,
) -> impl Iterator<Item = (&'a Class, &'a mut Free)> {
    free.range_mut((pool.clone(), Requires::default())..)
        .take_while(move |((of, _), _)| of == pool)
}

/// The models of a placement, as a step requires them.
fn requires(models: &[StepModel]) -> Vec<(String, String)> {
    let models = models.iter();
    models
        .map(|model| (model.role.clone(), model.name.clone()))
        .collect()
}

fn turn(step: &Pending) -> Turn {
    Turn {
        created: step.created,
        job_uid: step.job_uid.clone(),
        position: step.position,
    }
}

fn placed_task(job_uid: &str, step: &str) -> TaskId {
    TaskId {
        job_uid: job_uid.to_owned(),
        step: step.to_owned(),
        replica: 0,
        attempt: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::WorkerRef;
    use crate::schedule::Provides;

    fn pool() -> PoolName {
        PoolName {
            namespace: "fleet".into(),
            name: "p".into(),
        }
    }

    fn pending(job: &str, namespace: &str, priority: i32, created: i64) -> Pending {
        Pending {
            job_uid: job.into(),
            step: "s".into(),
            namespace: namespace.into(),
            requires: Requires {
                pipeline: "upscale".into(),
                models: vec![("base".into(), "x2".into())],
            },
            pools: vec![pool()],
            priority,
            created: Timestamp::from_second(created).unwrap_or_default(),
            position: 0,
            avoid: BTreeSet::new(),
            near: BTreeSet::new(),
        }
    }

    fn worker(name: &str, free: u32) -> Slots {
        Slots {
            worker: WorkerRef {
                namespace: "fleet".into(),
                name: name.into(),
                uid: name.into(),
            },
            pool: pool(),
            free,
            provides: Provides {
                pipelines: BTreeSet::from(["upscale".to_owned()]),
                models: BTreeMap::from([("x2".to_owned(), "d".to_owned())]),
                loaded: BTreeSet::new(),
            },
        }
    }

    /// A queue of these steps, each of a job of its own, beside tasks that run already.
    fn queue(pending: Vec<Pending>, slots: Vec<Slots>, running: &[(&str, u32)]) -> Scheduler {
        let mut queue = Scheduler::default();
        for &(namespace, count) in running {
            let task = |attempt| TaskId {
                job_uid: format!("running in {namespace}"),
                step: "s".to_owned(),
                replica: 0,
                attempt,
            };
            let tasks =
                (1..=count.cast_signed()).map(|number| ("elsewhere".to_owned(), task(number)));
            let uid = format!("running in {namespace}");
            queue.update(
                &uid,
                namespace,
                Gathered {
                    tasks: tasks.collect(),
                    pending: Vec::new(),
                },
            );
        }
        for step in pending {
            let (uid, namespace) = (step.job_uid.clone(), step.namespace.clone());
            queue.update(
                &uid,
                &namespace,
                Gathered {
                    tasks: Vec::new(),
                    pending: vec![step],
                },
            );
        }
        for slots in slots {
            queue.set_worker(&slots.worker.uid.clone(), Some(slots));
        }
        queue
    }

    fn check(
        pending: Vec<Pending>,
        slots: Vec<Slots>,
        running: &[(&str, u32)],
        expected: &[(&str, &str)],
    ) {
        let mut queue = queue(pending, slots, running);
        let placed = queue.place();
        let found: Vec<(&str, &str)> = placed
            .iter()
            .map(|placed| (placed.job_uid.as_str(), placed.worker.name.as_str()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_oldest_job_goes_first() {
        check(
            vec![pending("b", "n", 0, 2), pending("a", "n", 0, 1)],
            vec![worker("w", 1)],
            &[],
            &[("a", "w")],
        );
    }

    #[test]
    fn priority_comes_before_waiting() {
        check(
            vec![pending("a", "n", 0, 1), pending("b", "n", 5, 2)],
            vec![worker("w", 1)],
            &[],
            &[("b", "w")],
        );
    }

    #[test]
    fn a_namespace_with_a_thousand_jobs_does_not_starve_another() {
        let mut many: Vec<Pending> = (0..1000)
            .map(|n| pending(&format!("big{n:04}"), "big", 0, 1))
            .collect();
        many.push(pending("small", "small", 0, 9));
        check(
            many,
            vec![worker("w", 2)],
            &[("big", 3)],
            &[("small", "w"), ("big0000", "w")],
        );
    }

    #[test]
    fn a_worker_that_failed_the_step_is_used_only_when_there_is_no_other() {
        let mut step = pending("a", "n", 0, 1);
        step.avoid.insert("w1".into());
        check(
            vec![step.clone()],
            vec![worker("w1", 1), worker("w2", 1)],
            &[],
            &[("a", "w2")],
        );
        check(vec![step], vec![worker("w1", 1)], &[], &[("a", "w1")]);
    }

    #[test]
    fn a_worker_that_made_the_input_is_preferred() {
        let mut step = pending("a", "n", 0, 1);
        step.near.insert("w2".into());
        check(
            vec![step],
            vec![worker("w1", 1), worker("w2", 1)],
            &[],
            &[("a", "w2")],
        );
    }

    #[test]
    fn no_worker_gets_more_than_it_has_room_for() {
        let steps = (0..10)
            .map(|n| pending(&format!("j{n}"), "n", 0, n))
            .collect();
        let workers = vec![worker("w1", 2), worker("w2", 1), worker("w3", 0)];
        assert_eq!(queue(steps, workers, &[]).place().len(), 3);
    }

    #[test]
    fn a_worker_with_the_model_loaded_is_preferred() {
        let mut warm = worker("w2", 1);
        warm.provides.loaded.insert("d".to_owned());
        let workers = vec![worker("w1", 1), warm, worker("w3", 1)];
        check(vec![pending("a", "n", 0, 1)], workers, &[], &[("a", "w2")]);
    }

    #[test]
    fn a_step_without_a_model_goes_to_any_worker_that_does_its_pipeline() {
        let mut step = pending("a", "n", 0, 1);
        step.requires = Requires {
            pipeline: "transcode".to_owned(),
            models: Vec::new(),
        };
        let mut other = worker("w2", 1);
        other.provides.pipelines.insert("transcode".to_owned());
        other.provides.models.clear();
        check(
            vec![step],
            vec![worker("w1", 1), other],
            &[],
            &[("a", "w2")],
        );
    }

    #[test]
    fn demand_counts_each_waiting_step_once_in_each_pool_that_it_may_run_in() {
        let other = PoolName {
            namespace: "fleet".into(),
            name: "q".into(),
        };
        let mut either = pending("b", "n", 0, 2);
        either.pools.push(other.clone());
        let steps = vec![pending("a", "n", 0, 1), either, pending("c", "m", 5, 3)];
        let mut queue = queue(steps, vec![worker("w", 1)], &[]);
        let demand = |queue: &Scheduler| {
            let demand = queue.demand();
            [pool(), other.clone()].map(|pool| demand.get(&pool).copied().unwrap_or(0))
        };
        assert_eq!(demand(&queue), [3, 1]);
        let again = Gathered {
            tasks: Vec::new(),
            pending: vec![pending("a", "n", 0, 1)],
        };
        queue.update("a", "n", again);
        assert_eq!(demand(&queue), [3, 1]);
        assert_eq!(queue.place().len(), 1);
        assert_eq!(demand(&queue), [2, 1]);
        queue.withdraw("c", "s");
        assert_eq!(demand(&queue), [3, 1]);
        queue.remove("b");
        assert_eq!(demand(&queue), [2, 0]);
    }

    #[test]
    fn a_worker_without_the_model_or_of_another_pool_gets_nothing() {
        let mut bare = worker("w1", 1);
        bare.provides.models.clear();
        let mut stranger = worker("w2", 1);
        stranger.pool.name = "other".into();
        check(
            vec![pending("a", "n", 0, 1)],
            vec![bare, stranger],
            &[],
            &[],
        );
    }
}
