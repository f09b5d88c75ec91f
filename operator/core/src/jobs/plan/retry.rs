//! Whether and when a failed step is tried again.

use framewright_crds::aijob::{Cause, StepStatus};
use jiff::{SignedDuration, Timestamp};

use crate::clock::Jumps;

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

/// Attempts of a step that may end by nobody's fault: beyond that each counts, so that it ends at some time.
const FREE_ATTEMPTS: i32 = 20;

/// What follows when the step's present attempt ends with this cause, before it is counted.
#[must_use]
pub fn next(cause: Cause, step: &StepStatus) -> Next {
    match cause {
        Cause::InvalidInput => Next::GiveUp,
        Cause::WorkerDrained
        | Cause::Suspended
        | Cause::StoreUnavailable
        | Cause::WeightsChanged => {
            if free_attempts(step) > FREE_ATTEMPTS {
                Next::Again
            } else {
                Next::AgainForFree
            }
        }
        Cause::WorkerLost
        | Cause::OutOfMemory
        | Cause::ScratchFull
        | Cause::Stuck
        | Cause::StartDeadline
        | Cause::ActiveDeadline
        | Cause::WeightsFailed
        | Cause::DeviceError
        | Cause::Internal
        | Cause::Unknown => Next::Again,
    }
}

/// The earliest time of the next attempt: 1 s after the first that ended in the same way, counted or not, twice as long after each
/// further one, at most a minute. A job that was suspended need not wait.
#[must_use]
pub fn not_before(step: &StepStatus, jumps: &Jumps) -> Option<Timestamp> {
    let last = step.attempts.last()?;
    let ended = jumps.shifted(last.finished_at.as_ref()?.0);
    let ended_so_far = match last.cause {
        None | Some(Cause::Suspended) => return Some(ended),
        Some(Cause::WorkerDrained | Cause::StoreUnavailable | Cause::WeightsChanged) => {
            free_attempts(step)
        }
        Some(_) => step.failures,
    };
    let doublings = u32::try_from(ended_so_far.clamp(1, 7) - 1).unwrap_or(0);
    let delay = SignedDuration::from_secs(1_i64 << doublings).min(SignedDuration::from_secs(60));
    ended.checked_add(delay).ok()
}

/// Attempts that did not count, or have not yet.
fn free_attempts(step: &StepStatus) -> i32 {
    step.attempts_made.saturating_sub(step.failures)
}

/// The next of a status's counts, which may have been edited by hand.
#[must_use]
pub fn one_more(count: i32) -> i32 {
    count.max(0).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use framewright_crds::aijob::{Attempt, AttemptWorker, StepState};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    /// A step after so many attempts, the last of which has ended so.
    fn step(attempts_made: i32, failures: i32, cause: Cause) -> StepStatus {
        let last = Attempt {
            finished_at: Some(Time(Timestamp::UNIX_EPOCH)),
            cause: Some(cause),
            ..Attempt::bound(
                attempts_made,
                AttemptWorker::pod("fleet", "w", "u"),
                Timestamp::UNIX_EPOCH,
            )
        };
        StepStatus {
            state: StepState::Queued,
            attempts_made,
            failures,
            attempts: vec![last],
            ..StepStatus::blocked("large")
        }
    }

    fn waits(attempts_made: i32, failures: i32, cause: Cause) -> i64 {
        not_before(&step(attempts_made, failures, cause), &Jumps::default())
            .map_or(-1, |at| at.as_second())
    }

    #[test]
    fn bad_input_is_never_tried_again() {
        let cause = Cause::InvalidInput;
        assert_eq!(next(cause, &step(1, 0, cause)), Next::GiveUp);
    }

    #[test]
    fn what_is_nobodys_fault_costs_the_job_nothing_but_not_for_ever() {
        for cause in [
            Cause::WorkerDrained,
            Cause::StoreUnavailable,
            Cause::WeightsChanged,
        ] {
            assert_eq!(next(cause, &step(20, 0, cause)), Next::AgainForFree);
            assert_eq!(next(cause, &step(21, 0, cause)), Next::Again);
            assert_eq!(next(cause, &step(22, 2, cause)), Next::AgainForFree);
        }
    }

    #[test]
    fn each_further_end_of_the_same_kind_waits_twice_as_long() {
        assert_eq!(
            [1, 2, 4, 7, 9].map(|n| waits(n, n, Cause::WorkerLost)),
            [1, 2, 8, 60, 60]
        );
        assert_eq!(
            [1, 2, 4, 7].map(|n| waits(n, 0, Cause::WorkerDrained)),
            [1, 2, 8, 60]
        );
        assert_eq!(waits(9, 0, Cause::Suspended), 0);
    }
}
