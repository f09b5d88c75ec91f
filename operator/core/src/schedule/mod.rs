//! Decides which task goes to which worker: across all jobs, in order of priority, fair between namespaces. No I/O, no clock.
//!
//! # Layout
//! - [`gather`]: what the scheduler works with, out of the jobs' statuses
//! - [`placements`]: what it decided and no status has taken up yet

pub mod gather;
pub mod placements;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::names::{PoolName, WorkerRef};

/// A step that could run now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    pub job_uid: String,
    pub step: String,
    pub namespace: String,
    pub model: String,
    /// Where it may run.
    pub pools: Vec<PoolName>,
    pub priority: i32,
    /// When its job was created: one that has begun is finished before others begin.
    pub created: Timestamp,
    /// Its place in the job's list.
    pub position: usize,
    /// UIDs of workers that failed it: used only when there is no other.
    pub avoid: BTreeSet<String>,
    /// UIDs of workers that made its inputs.
    pub near: BTreeSet<String>,
}

/// A worker and its room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots {
    pub worker: WorkerRef,
    pub pool: PoolName,
    pub free: u32,
    /// Models that it has verified, each with the digest of its weights.
    pub ready: BTreeMap<String, String>,
    /// The model that it used last.
    pub warm: Option<String>,
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    pub job_uid: String,
    pub step: String,
    pub worker: WorkerRef,
    pub pool: PoolName,
    pub weights_digest: String,
}

/// Places as many pending steps as there is room for. `running` counts the tasks of each namespace that run now.
#[must_use]
pub fn schedule(
    mut pending: Vec<Pending>,
    mut slots: Vec<Slots>,
    running: &BTreeMap<String, u32>,
) -> Vec<Placement> {
    pending.retain(|step| slots.iter().any(|worker| fits(step, worker)));
    let mut load = running.clone();
    let mut placements = Vec::new();
    pending.sort_by(|a, b| {
        (a.created, &a.job_uid, a.position).cmp(&(b.created, &b.job_uid, b.position))
    });
    slots.sort_by(|a, b| a.worker.cmp(&b.worker));
    while !pending.is_empty() && slots.iter().any(|worker| worker.free > 0) {
        // Highest priority first; then the namespace with least running; then the oldest job, its steps in their
        // order (that of the list).
        let next = (0..pending.len()).min_by_key(|&index| {
            let step = &pending[index];
            (
                -i64::from(step.priority),
                load.get(&step.namespace).copied().unwrap_or(0),
                index,
            )
        });
        let Some(step) = next.map(|index| pending.remove(index)) else {
            break;
        };
        if let Some(worker) = best(&step, &mut slots) {
            worker.free -= 1;
            worker.warm = Some(step.model.clone());
            *load.entry(step.namespace.clone()).or_insert(0) += 1;
            placements.push(Placement {
                weights_digest: worker.ready.get(&step.model).cloned().unwrap_or_default(),
                job_uid: step.job_uid,
                step: step.step,
                worker: worker.worker.clone(),
                pool: worker.pool.clone(),
            });
        }
    }
    placements
}

/// The best worker with room: not one that failed it, then one that made an input, then one that used the model last.
fn best<'a>(step: &Pending, slots: &'a mut [Slots]) -> Option<&'a mut Slots> {
    slots
        .iter_mut()
        .filter(|worker| fits(step, worker))
        .min_by_key(|worker| {
            (
                step.avoid.contains(&worker.worker.uid),
                !step.near.contains(&worker.worker.uid),
                worker.warm.as_ref() != Some(&step.model),
            )
        })
}

fn fits(step: &Pending, worker: &Slots) -> bool {
    worker.free > 0 && step.pools.contains(&worker.pool) && worker.ready.contains_key(&step.model)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            model: "x2".into(),
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
            ready: BTreeMap::from([("x2".to_owned(), "d".to_owned())]),
            warm: None,
        }
    }

    fn check(
        pending: Vec<Pending>,
        slots: Vec<Slots>,
        running: &[(&str, u32)],
        expected: &[(&str, &str)],
    ) {
        let running = running
            .iter()
            .map(|&(name, count)| (name.to_owned(), count))
            .collect();
        let placed = schedule(pending, slots, &running);
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
        let placed = schedule(
            steps,
            vec![worker("w1", 2), worker("w2", 1), worker("w3", 0)],
            &BTreeMap::new(),
        );
        assert_eq!(placed.len(), 3);
    }

    #[test]
    fn a_worker_without_the_model_or_of_another_pool_gets_nothing() {
        let mut bare = worker("w1", 1);
        bare.ready.clear();
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
