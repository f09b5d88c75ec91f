//! When time alone changes a step.

use framewright_crds::aijob::{StepState, StepStatus};
use jiff::{SignedDuration, Timestamp};

use crate::jobs::plan::inputs::{self, Missing};
use crate::jobs::plan::{attempt, retry};
use crate::jobs::seen::Observed;

/// The next moment at which time alone changes this step.
#[must_use]
pub fn next_deadline(seen: &Observed, step: &StepStatus, all: &[StepStatus]) -> Option<Timestamp> {
    match step.state {
        StepState::Succeeded | StepState::Failed | StepState::Skipped => None,
        StepState::Blocked => {
            // One that waits for an earlier step is as late as that one.
            let spec = seen.spec.steps.iter().find(|spec| spec.name == step.name)?;
            match inputs::missing(spec, all, &seen.received)? {
                Missing::Upload { .. } => {
                    let since = step.queued_at.as_ref()?.0;
                    since.checked_add(queue_limit(seen)).ok()
                }
                Missing::Step { .. } | Missing::FailedStep { .. } => None,
            }
        }
        StepState::Queued => {
            let limit = step
                .queued_at
                .as_ref()?
                .0
                .checked_add(queue_limit(seen))
                .ok();
            let retry = retry::not_before(step).filter(|at| *at > seen.now);
            [limit, retry].into_iter().flatten().min()
        }
        StepState::Starting | StepState::Running => {
            attempt::deadline(seen, &step.name, attempt::open(step)?)
        }
    }
}

/// How long a step may wait.
#[must_use]
pub fn queue_limit(seen: &Observed) -> SignedDuration {
    SignedDuration::from_secs(seen.spec.queue_deadline_seconds)
}
