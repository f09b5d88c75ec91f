//! Whether and when a failed step is tried again.

use framewright_crds::aijob::{Cause, StepStatus};
use jiff::{SignedDuration, Timestamp};

/// What follows from a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Try again; the failure counts against backoffLimit.
    Again,
    /// Try again; it was nobody's failure.
    AgainForFree,
    /// Trying again is useless.
    GiveUp,
}

/// What follows from this cause, before counting.
#[must_use]
pub fn next(cause: Cause) -> Next {
    match cause {
        Cause::InvalidInput => Next::GiveUp,
        Cause::WorkerDrained => Next::AgainForFree,
        Cause::Suspended => Next::AgainForFree,
        Cause::WorkerLost => Next::Again,
        Cause::OutOfMemory => Next::Again,
        Cause::ScratchFull => Next::Again,
        Cause::Stuck => Next::Again,
        Cause::PreRunningDeadline => Next::Again,
        Cause::ActiveDeadline => Next::Again,
        Cause::WeightsFailed => Next::Again,
        Cause::StoreUnavailable => Next::Again,
        Cause::DeviceError => Next::Again,
        Cause::Internal => Next::Again,
    }
}

/// The earliest time of the next attempt: 1 s after the first failure, twice as long after each further one, at most a minute.
#[must_use]
pub fn not_before(step: &StepStatus) -> Option<Timestamp> {
    let last = step.attempts.last()?;
    let ended = last.finished_at.as_ref()?.0;
    if last
        .cause
        .is_none_or(|cause| next(cause) == Next::AgainForFree)
    {
        return Some(ended);
    }
    let doublings = u32::try_from(step.failures.clamp(1, 7) - 1).unwrap_or(0);
    let delay = SignedDuration::from_secs(1_i64 << doublings).min(SignedDuration::from_secs(60));
    ended.checked_add(delay).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_input_is_never_tried_again() {
        assert_eq!(next(Cause::InvalidInput), Next::GiveUp);
    }

    #[test]
    fn a_drained_worker_costs_the_job_nothing() {
        assert_eq!(next(Cause::WorkerDrained), Next::AgainForFree);
    }
}
