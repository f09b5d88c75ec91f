//! The operators' wall clocks, which people and time servers set. All else goes by the true time.

use std::time::Duration;

use framewright_core::engine::interface::Now;
use jiff::{SignedDuration, Timestamp};

use crate::api::{Millis, at};
use crate::world::World;

/// Whether clocks are also set forwards; backwards they are in any case.
const JUMPS_FORWARDS: bool = true;
/// How often an operator reads its clock at least.
const READ_EVERY: Millis = 1000;
const HOUR: Millis = 3_600_000;
const TEN_YEARS: Millis = 10 * 365 * 24 * HOUR;

/// How far the operators' clocks are from the true time, and when they were set.
#[derive(Default)]
pub(crate) struct Clocks {
    ahead: Millis,
    jumps: Vec<Millis>,
}

impl Clocks {
    /// Whether they were set in this time.
    pub(crate) fn have_jumped(&self, from: Millis, until: Millis) -> bool {
        self.jumps.iter().any(|jump| (from..=until).contains(jump))
    }

    /// Whether they were set twice in such a short time that an operator may know only the sum, and this is a moment in between.
    pub(crate) fn is_between_jumps(&self, when: Millis) -> bool {
        let pairs = self.jumps.windows(2);
        pairs
            .filter(|pair| pair[1] - pair[0] <= READ_EVERY)
            .any(|pair| (pair[0]..=pair[1]).contains(&when))
    }
}

impl World {
    /// What an operator's clocks show.
    pub(crate) fn clock(&self) -> Now {
        Now {
            wall: self.wall(),
            monotonic: Duration::from_millis(u64::try_from(self.now).expect("after the beginning")),
        }
    }

    pub(crate) fn wall(&self) -> Timestamp {
        at(self.now) + SignedDuration::from_millis(self.clocks.ahead)
    }

    /// Somebody sets the operators' clocks.
    pub(crate) fn set_clocks(&mut self) {
        let far = *self.chance.of(&[HOUR, TEN_YEARS]);
        let ahead = *self.chance.of(&[far, -far, 0]);
        if ahead > self.clocks.ahead && !JUMPS_FORWARDS {
            return;
        }
        self.note(|| format!("the operators' clocks are set to {} s ahead", ahead / 1000));
        self.clocks.ahead = ahead;
        self.clocks.jumps.push(self.now);
    }
}
