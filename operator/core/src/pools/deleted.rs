//! Pods that somebody else deletes before they run: a preemption, a policy, a person. In memory, since a pod that is gone says nothing.
//!
//! The first one is replaced at once. From the second in a row on, the next one waits, and the pool's condition says why.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::refusals::Refusal;
use super::snapshot::{Phase, PodSnapshot};

/// What became of the pods that this replica has made, by the UIDs of their pools.
#[derive(Debug, Default)]
pub struct Deleted(HashMap<String, Pool>);

#[derive(Debug, Default)]
struct Pool {
    /// Pods that have not been snapshot running, by UID.
    made: BTreeMap<String, Made>,
    /// So many in a row are gone.
    in_a_row: u32,
    wait: Option<Refusal>,
}

#[derive(Debug)]
struct Made {
    name: String,
    /// Who deletes it, if it has said so.
    why: Option<String>,
}

impl Deleted {
    /// A pod was made.
    pub fn made(&mut self, pool_uid: &str, pod_uid: &str, name: &str) {
        let made = Made {
            name: name.to_owned(),
            why: None,
        };
        let pools = &mut self.0;
        let pool = pools.entry(pool_uid.to_owned()).or_default();
        pool.made.insert(pod_uid.to_owned(), made);
    }

    /// The operator itself deletes the pod.
    pub fn forget(&mut self, pool_uid: &str, pod_uid: &str) {
        if let Some(pool) = self.0.get_mut(pool_uid) {
            pool.made.remove(pod_uid);
        }
    }

    /// The pool's pods as a cache shows them. A pod that it lacks may be too new for it.
    pub fn observe(&mut self, pool_uid: &str, pods: &[PodSnapshot]) {
        let pools = &mut self.0;
        if let Some(pool) = pools.get_mut(pool_uid) {
            pool.observe(pods);
            if pool.made.is_empty() && pool.in_a_row == 0 {
                pools.remove(pool_uid);
            }
        }
    }

    /// The pool's pods as the API server has just listed them: what is not there is gone.
    pub fn listed(&mut self, pool_uid: &str, pods: &[PodSnapshot], now: Timestamp) {
        let pools = &mut self.0;
        let Some(pool) = pools.get_mut(pool_uid) else {
            return;
        };
        pool.observe(pods);
        let is_gone = |uid: &String, _: &mut Made| pods.iter().all(|pod| pod.worker.uid != *uid);
        let gone: Vec<(String, Made)> = pool.made.extract_if(.., is_gone).collect();
        if let Some((_, last)) = gone.last() {
            pool.gone(last, now);
        }
    }

    /// Why the next pod waits, and until when.
    #[must_use]
    pub fn get(&self, pool_uid: &str) -> Option<Refusal> {
        self.0.get(pool_uid)?.wait.clone()
    }

    /// A pool is gone.
    pub fn forget_pool(&mut self, pool_uid: &str) {
        self.0.remove(pool_uid);
    }
}

impl Pool {
    fn observe(&mut self, pods: &[PodSnapshot]) {
        for pod in pods {
            match pod.phase {
                Phase::Pending => {}
                Phase::Ending => {
                    if let Some(made) = self.made.get_mut(&pod.worker.uid)
                        && let Some(waits) = &pod.waits_for
                    {
                        made.why = Some(waits.message.clone());
                    }
                }
                Phase::Running | Phase::Ended { .. } => {
                    if self.made.remove(&pod.worker.uid).is_some() {
                        self.in_a_row = 0;
                        self.wait = None;
                    }
                }
            }
        }
    }

    /// One look finds any number gone, and counts as one.
    fn gone(&mut self, last: &Made, now: Timestamp) {
        self.in_a_row = self.in_a_row.saturating_add(1);
        if self.in_a_row < 2 {
            return;
        }
        let Made { name, why } = last;
        let why = why
            .as_ref()
            .map_or(String::new(), |why| format!(" ({why})"));
        let message = format!(
            "somebody else deletes the pool's pods before they run, the last one was {name}{why}; the operator waits longer each time before it creates the next one"
        );
        self.wait = Some(match &self.wait {
            Some(last) => last.again(&message, now),
            None => Refusal::first(&message, None, now),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::pods::fixture::pod;
    use super::*;
    use crate::pools::snapshot::PodProblem;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap_or_default()
    }

    #[test]
    fn pods_that_others_delete_before_they_run_are_replaced_later_each_time_and_the_reason_is_told()
    {
        let mut deleted = Deleted::default();
        let mut waits = Vec::new();
        for round in 0..5 {
            deleted.made("p", "u", "p-r2-0");
            // A cache that does not show it yet proves nothing.
            deleted.observe("p", &[]);
            let mut ending = pod("u", "r2", "ending");
            ending.waits_for = Some(PodProblem {
                reason: "Progressing",
                message: "is being deleted: Preempted".to_owned(),
            });
            deleted.observe("p", &[ending]);
            deleted.listed("p", &[], at(round));
            waits.push(
                deleted
                    .get("p")
                    .map(|wait| wait.retry_at.as_second() - round),
            );
        }
        assert_eq!(waits, [None, Some(2), Some(4), Some(8), Some(16)]);
        let message = deleted.get("p").expect("it waits").message;
        assert!(
            message.contains("p-r2-0 (is being deleted: Preempted)"),
            "{message}"
        );
        deleted.made("p", "v", "p-r2-0");
        deleted.observe("p", &[pod("v", "r2", "away")]);
        assert_eq!(deleted.get("p"), None);
        assert!(deleted.0.is_empty());
    }

    #[test]
    fn a_pod_that_has_run_or_that_the_pool_itself_deletes_is_not_missed() {
        let mut deleted = Deleted::default();
        for round in 0..5 {
            deleted.made("p", "u", "p-r2-0");
            deleted.forget("p", "u");
            deleted.listed("p", &[], at(round));
            deleted.made("p", "v", "p-r2-0");
            deleted.observe("p", &[pod("v", "r2", "")]);
            deleted.listed("p", &[], at(round));
            deleted.made("p", "w", "p-r2-0");
            deleted.listed("p", &[pod("w", "r2", "pending")], at(round));
        }
        assert_eq!(deleted.get("p"), None);
    }
}
