//! The choice of a worker for one step: which workers can do it, and which of them is the best.

use std::collections::BTreeSet;

use super::{Pending, Requires, Slots};

/// The workers that have room and can do the steps of one class.
#[derive(Debug, Default)]
pub(super) struct Free {
    /// They have the models loaded.
    pub(super) warm: BTreeSet<String>,
    pub(super) cold: BTreeSet<String>,
}

impl Free {
    pub(super) fn add(&mut self, uid: &str, slots: &Slots, requires: &Requires) {
        if slots.provides.models_for(requires).is_none() {
            return;
        }
        let is_warm = slots.provides.is_warm_for(requires);
        let workers = if is_warm {
            &mut self.warm
        } else {
            &mut self.cold
        };
        workers.insert(uid.to_owned());
    }

    pub(super) fn remove(&mut self, uid: &str) {
        self.warm.remove(uid);
        self.cold.remove(uid);
    }

    pub(super) fn has(&self, uid: &str) -> bool {
        self.warm.contains(uid) || self.cold.contains(uid)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.warm.is_empty() && self.cold.is_empty()
    }
}

/// The workers among which the best one is. To score all would cost their number.
pub(super) fn candidates<'a>(
    free: &'a Free,
    step: &'a Pending,
) -> impl Iterator<Item = &'a String> {
    let near = step.near.iter().filter(|uid| free.has(uid));
    let usable = |workers: &'a BTreeSet<String>| {
        let usable = workers.iter().find(|uid| !step.avoid.contains(*uid));
        usable.into_iter().chain(workers.first())
    };
    near.chain(usable(&free.warm)).chain(usable(&free.cold))
}

/// The lowest is best: a worker that did not fail the step, then one that made an input, then one that has the models loaded.
pub(super) fn score(free: &Free, step: &Pending, uid: &str) -> [bool; 3] {
    let has_failed_it = step.avoid.contains(uid);
    let is_near = step.near.contains(uid);
    let is_warm = free.warm.contains(uid);
    [has_failed_it, !is_near, !is_warm]
}
