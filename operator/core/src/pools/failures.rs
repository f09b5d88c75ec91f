//! Requests about a pool's pods that fail: the connection is lost, the answer is late, a 5xx. In memory.
//!
//! One failure is nothing to speak of, and the next try often succeeds. After three in a row the pool's condition has the error.

use std::collections::{BTreeMap, HashMap};

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
