//! Times that were written before the wall clock jumped, as the clock counts them now: a limit must not end because somebody set the
//! clock. Monotonic time, which nobody can set, tells how far it jumped.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::engine::interface::Now;

/// Smaller differences are no jump: a clock is also set right slowly.
const LEAST: SignedDuration = SignedDuration::from_secs(1);
/// The clock is read at least this often, also by a replica that does not lead: of two jumps between two readings only the sum would be
/// known, and a time that was written in between would seem to be much older, or newer.
const READ_EVERY: Duration = Duration::from_secs(1);
/// Jumps that are remembered, the newest.
const REMEMBERED: usize = 256;

/// How the wall clock has jumped since this process started.
#[derive(Clone, Debug, Default)]
pub struct Jumps(Vec<Jump>);

#[derive(Clone, Copy, Debug)]
struct Jump {
    /// The last time that the clock showed before.
    until: Timestamp,
    /// The first time that it showed then, in whole seconds, as a status has them.
    from: Timestamp,
    by: SignedDuration,
}

impl Jumps {
    /// A time that was written in the past, as the clock counts it now. A time that the clock has shown more than once was written when
    /// it was shown last: a limit rather ends too late.
    #[must_use]
    pub fn shifted(&self, time: Timestamp) -> Timestamp {
        let Jumps(jumps) = self;
        let ends = |after: usize| jumps.get(after).is_none_or(|next| time <= next.until);
        let mut starts = jumps.iter().enumerate().rev();
        let last = starts.find(|(index, jump)| jump.from <= time && ends(index + 1));
        let later = match last {
            Some((index, _)) => index + 1,
            None if ends(0) => 0,
            // The clock has never shown it.
            None => jumps.len(),
        };
        jumps.iter().skip(later).fold(time, |time, jump| {
            time.saturating_add(jump.by).unwrap_or(time)
        })
    }
}

/// Notices jumps.
#[derive(Debug, Default)]
pub struct Clock {
    last: Option<Now>,
    jumps: Jumps,
}

impl Clock {
    /// Time has passed.
    pub fn tick(&mut self, now: Now) {
        let Some(last) = self.last.replace(now) else {
            return;
        };
        let passed = now.monotonic.saturating_sub(last.monotonic);
        let passed = SignedDuration::try_from(passed).unwrap_or(SignedDuration::MAX);
        let before = last.wall.saturating_add(passed).unwrap_or(last.wall);
        let by = now.wall.duration_since(before);
        if by.abs() < LEAST {
            return;
        }
        let jumps = &mut self.jumps.0;
        // It may have jumped right after it was last asked.
        let from = now.wall.saturating_sub(passed).unwrap_or(now.wall);
        jumps.push(Jump {
            until: before,
            from: Timestamp::from_second(from.as_second()).unwrap_or(from),
            by,
        });
        let surplus = jumps.len().saturating_sub(REMEMBERED);
        jumps.drain(..surplus);
    }

    /// When the clock must be read again, in monotonic time; none before it was read for the first time.
    #[must_use]
    pub fn next_tick(&self) -> Option<Duration> {
        Some(self.last?.monotonic.saturating_add(READ_EVERY))
    }

    /// The jumps so far.
    #[must_use]
    pub fn jumps(&self) -> &Jumps {
        &self.jumps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap_or_default()
    }

    /// A clock that shows these seconds after so many seconds have passed.
    fn clock(ticks: &[(u64, i64)]) -> Clock {
        let mut clock = Clock::default();
        for &(passed, shown) in ticks {
            clock.tick(Now {
                wall: at(shown),
                monotonic: Duration::from_secs(passed),
            });
        }
        clock
    }

    #[test]
    fn what_was_written_before_a_jump_is_as_long_ago_as_before() {
        const HOUR: i64 = 3600;
        for (ticks, written, expected) in [
            // No jump.
            (&[(0, 1000), (10, 1010)][..], 1005, 1005),
            // An hour ahead: written five seconds before, and one second after.
            (&[(0, 1000), (10, 1010 + HOUR)], 1005, 1005 + HOUR),
            (
                &[(0, 1000), (10, 1010 + HOUR), (12, 1012 + HOUR)],
                1011 + HOUR,
                1011 + HOUR,
            ),
            // An hour back.
            (&[(0, 9000), (10, 9010 - HOUR)], 5000, 5000 - HOUR),
            // Ahead and back again.
            (&[(0, 1000), (10, 1010 + HOUR), (20, 1020)], 1005, 1005),
            // Back, and written at once.
            (&[(0, 9000), (10, 9010 - HOUR)], 9010 - HOUR, 9010 - HOUR),
            // Back and ahead again, and written in between.
            (
                &[(0, 9000), (10, 9010 - HOUR), (12, 9012)],
                9011 - HOUR,
                9011,
            ),
            // Ahead, and further back than ever before.
            (&[(0, 9000), (10, 9010 + HOUR), (20, 5000)], 5001, 5001),
            // Set right slowly.
            (
                &[(0, 10_000), (1000, 11_000), (2000, 12_000)],
                10_500,
                10_500,
            ),
        ] {
            let clock = clock(ticks);
            assert_eq!(
                clock.jumps().shifted(at(written)),
                at(expected),
                "{ticks:?}"
            );
        }
    }

    #[test]
    fn a_clock_that_jumps_all_the_time_is_remembered_for_its_last_jumps() {
        let ticks: Vec<(u64, i64)> = (0_u32..1000)
            .map(|tick| (u64::from(tick), i64::from(tick) * 1000))
            .collect();
        let clock = clock(&ticks);
        assert_eq!(clock.jumps().0.len(), REMEMBERED);
    }
}
