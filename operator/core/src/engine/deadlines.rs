//! When time alone changes something: one deadline a cause, in the order of their times.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::names::{JobName, PoolName};

/// What a deadline is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    Job(JobName),
    Pool(PoolName),
    /// Tasks whose job is not known are looked up.
    Orphans,
    /// Jobs whose reason for waiting has changed are decided about, some at a time.
    Waiting,
    /// What is long gone is forgotten.
    Housekeeping,
}

/// All deadlines, in monotonic time.
#[derive(Debug, Default)]
pub struct Deadlines {
    by_time: BTreeSet<(Duration, Cause)>,
    by_cause: BTreeMap<Cause, Duration>,
}

impl Deadlines {
    /// Sets a cause's deadline, in place of the one that it had.
    pub fn set(&mut self, cause: Cause, at: Duration) {
        self.clear(&cause);
        self.by_time.insert((at, cause.clone()));
        self.by_cause.insert(cause, at);
    }

    /// Sets a cause's deadline, unless it has an earlier one.
    pub fn set_earlier(&mut self, cause: Cause, at: Duration) {
        if self.by_cause.get(&cause).is_none_or(|known| at < *known) {
            self.set(cause, at);
        }
    }

    /// A cause has no deadline any more.
    pub fn clear(&mut self, cause: &Cause) {
        if let Some(at) = self.by_cause.remove(cause) {
            self.by_time.remove(&(at, cause.clone()));
        }
    }

    /// The next deadline.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// A cause's deadline.
    #[must_use]
    pub fn of(&self, cause: &Cause) -> Option<Duration> {
        self.by_cause.get(cause).copied()
    }

    /// Takes one that has come.
    pub fn take_due(&mut self, now: Duration) -> Option<Cause> {
        if self.next()? > now {
            return None;
        }
        let (_, cause) = self.by_time.pop_first()?;
        self.by_cause.remove(&cause);
        Some(cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_one_deadline_and_they_come_in_order() {
        let at = Duration::from_secs;
        let mut deadlines = Deadlines::default();
        deadlines.set(Cause::Orphans, at(9));
        deadlines.set(Cause::Waiting, at(5));
        deadlines.set(Cause::Orphans, at(3));
        deadlines.set_earlier(Cause::Orphans, at(4));
        assert_eq!(deadlines.next(), Some(at(3)));
        assert_eq!(deadlines.take_due(at(2)), None);
        assert_eq!(deadlines.take_due(at(6)), Some(Cause::Orphans));
        assert_eq!(deadlines.take_due(at(6)), Some(Cause::Waiting));
        assert_eq!(deadlines.next(), None);
    }
}
