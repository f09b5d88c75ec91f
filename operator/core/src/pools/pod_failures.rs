//! What goes wrong with a pool's pods, in memory: creates that the API server refuses, requests that fail, and pods that somebody else
//! deletes before they run.

use std::collections::{BTreeMap, HashMap};

use jiff::{SignedDuration, Timestamp};

use super::snapshot::{Phase, PodSnapshot};
use crate::backoff::exponential;

/// The wait after a first refusal; it doubles with each further one. What is refused for long is made within half a minute when the
/// cause is gone.
const FIRST_WAIT: SignedDuration = SignedDuration::from_secs(2);
const LONGEST_WAIT: SignedDuration = SignedDuration::from_secs(30);

/// The refusals in a row of each pool, by UID.
#[derive(Debug, Default)]
pub struct Refusals(HashMap<String, Refusal>);

/// The last refusal, if the last try was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub message: String,
    /// Of the pool's spec: another one is tried at once.
    pub generation: Option<i64>,
    /// Until then the same spec is not tried again.
    pub retry_at: Timestamp,
    in_a_row: u32,
}

impl Refusal {
    /// A first refusal.
    #[must_use]
    pub fn first(message: &str, generation: Option<i64>, now: Timestamp) -> Refusal {
        Refusal {
            message: message.to_owned(),
            generation,
            retry_at: now.saturating_add(FIRST_WAIT).unwrap_or(now),
            in_a_row: 1,
        }
    }

    /// One more, in a row.
    #[must_use]
    pub fn again(&self, message: &str, now: Timestamp) -> Refusal {
        let in_a_row = self.in_a_row.saturating_add(1);
        let wait = exponential(FIRST_WAIT, in_a_row, LONGEST_WAIT);
        Refusal {
            message: message.to_owned(),
            generation: self.generation,
            retry_at: now.saturating_add(wait).unwrap_or(now),
            in_a_row,
        }
    }

    /// Whether pods of this generation must wait.
    #[must_use]
    pub fn holds_back(&self, generation: Option<i64>, now: Timestamp) -> bool {
        // A clock that was set back makes no wait longer.
        let wait = self.retry_at.duration_since(now);
        self.generation == generation && wait.is_positive() && wait <= LONGEST_WAIT
    }
}

impl Refusals {
    /// One more refusal.
    pub fn add(&mut self, pool_uid: &str, message: &str, generation: Option<i64>, now: Timestamp) {
        let refusals = &mut self.0;
        let refusal = match refusals.get(pool_uid) {
            Some(last) if last.generation == generation => last.again(message, now),
            Some(_) | None => Refusal::first(message, generation, now),
        };
        refusals.insert(pool_uid.to_owned(), refusal);
    }

    /// Its pods are made, or none is missing.
    pub fn clear(&mut self, pool_uid: &str) {
        self.0.remove(pool_uid);
    }

    #[must_use]
    pub fn get(&self, pool_uid: &str) -> Option<Refusal> {
        self.0.get(pool_uid).cloned()
    }

    /// A pool is gone.
    pub fn forget_pool(&mut self, pool_uid: &str) {
        self.0.remove(pool_uid);
    }
}

/// Failures in a row after which they are told.
const TOLD_AFTER: u32 = 3;

/// What is asked of the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Request {
    List,
    Create,
    Delete,
}

/// What became of the requests of one kind in one round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All were answered, or there were none.
    Answered,
    /// With the error's words.
    Failed(String),
    /// It will be the same the next time, so it is told at once; with the API server's words.
    Refused(String),
}

/// The errors to tell, by kind of request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failing {
    pub list: Option<String>,
    pub create: Option<String>,
    pub delete: Option<String>,
}

/// The failures in a row of each pool, by UID.
#[derive(Debug, Default)]
pub struct Failures(HashMap<String, BTreeMap<Request, Failure>>);

#[derive(Debug)]
struct Failure {
    in_a_row: u32,
    message: String,
}

impl Failures {
    /// A round is over.
    pub fn note(&mut self, pool_uid: &str, request: Request, outcome: Outcome) {
        let pools = &mut self.0;
        let (message, least) = match outcome {
            Outcome::Failed(message) => (message, 1),
            Outcome::Refused(message) => (message, TOLD_AFTER),
            Outcome::Answered => {
                if let Some(failures) = pools.get_mut(pool_uid) {
                    failures.remove(&request);
                    if failures.is_empty() {
                        pools.remove(pool_uid);
                    }
                }
                return;
            }
        };
        let failures = pools.entry(pool_uid.to_owned()).or_default();
        let before = failures.get(&request).map_or(0, |last| last.in_a_row);
        let in_a_row = before.saturating_add(1).max(least);
        failures.insert(request, Failure { in_a_row, message });
    }

    #[must_use]
    pub fn get(&self, pool_uid: &str) -> Failing {
        let pools = &self.0;
        let told = |request: Request| {
            let failure = pools.get(pool_uid)?.get(&request)?;
            (failure.in_a_row >= TOLD_AFTER).then(|| failure.message.clone())
        };
        Failing {
            list: told(Request::List),
            create: told(Request::Create),
            delete: told(Request::Delete),
        }
    }

    /// A pool is gone.
    pub fn forget_pool(&mut self, pool_uid: &str) {
        self.0.remove(pool_uid);
    }
}

/// What became of the pods that this replica has made, by the UIDs of their pools.
#[derive(Debug, Default)]
pub struct Deleted(HashMap<String, Pool>);

#[derive(Debug, Default)]
struct Pool {
    /// Pods that were never seen running, by UID.
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
    use super::super::scaling::fixture::pod;
    use super::*;
    use crate::pools::snapshot::PodProblem;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap_or_default()
    }

    #[test]
    fn the_wait_doubles_up_to_half_a_minute_and_another_spec_is_tried_at_once() {
        let mut refusals = Refusals::default();
        let mut waits = Vec::new();
        for _ in 0..7 {
            refusals.add("p", "quota", Some(1), at(0));
            let refusal = refusals.get("p").expect("it was refused");
            waits.push(refusal.retry_at.as_second());
            assert!(refusal.holds_back(Some(1), at(1)));
            assert!(!refusal.holds_back(Some(2), at(1)));
            assert!(!refusal.holds_back(Some(1), at(-3600)));
        }
        assert_eq!(waits, [2, 4, 8, 16, 30, 30, 30]);
        refusals.add("p", "quota", Some(2), at(0));
        let anew = refusals.get("p").expect("it was refused");
        assert_eq!(anew.retry_at, at(2));
    }

    fn failed(failures: &mut Failures, request: Request, message: &str) {
        failures.note("p", request, Outcome::Failed(message.to_owned()));
    }

    #[test]
    fn the_third_failure_in_a_row_is_told_in_the_words_of_the_last_until_one_succeeds() {
        for request in [Request::List, Request::Create, Request::Delete] {
            let mut failures = Failures::default();
            let told = |failures: &Failures| {
                let Failing {
                    list,
                    create,
                    delete,
                } = failures.get("p");
                list.or(create).or(delete)
            };
            failed(&mut failures, request, "reset");
            failures.note("p", request, Outcome::Answered);
            failed(&mut failures, request, "reset");
            failed(&mut failures, request, "reset");
            assert_eq!(told(&failures), None);
            failed(&mut failures, request, "late");
            assert_eq!(told(&failures).as_deref(), Some("late"));
            assert_eq!(failures.get("q"), Failing::default());
            failures.note("p", request, Outcome::Answered);
            assert_eq!(told(&failures), None);
            assert!(failures.0.is_empty());
        }
    }

    #[test]
    fn requests_of_another_kind_say_nothing_of_the_failing_ones() {
        let mut failures = Failures::default();
        for _ in 0..3 {
            failures.note("p", Request::List, Outcome::Answered);
            failed(&mut failures, Request::Create, "reset");
        }
        let told = failures.get("p");
        assert_eq!(told.create.as_deref(), Some("reset"));
        assert_eq!((told.list, told.delete), (None, None));
    }

    #[test]
    fn a_refusal_is_told_at_once() {
        let mut failures = Failures::default();
        let refused = Outcome::Refused("not on Fridays".to_owned());
        failures.note("p", Request::Delete, refused);
        assert_eq!(failures.get("p").delete.as_deref(), Some("not on Fridays"));
        failures.forget_pool("p");
        assert_eq!(failures.get("p"), Failing::default());
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
