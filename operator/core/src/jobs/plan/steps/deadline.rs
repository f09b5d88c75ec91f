//! When time alone changes a step.

use framewright_crds::aijob::{StepState, StepStatus};
use jiff::{SignedDuration, Timestamp};

use crate::jobs::plan::inputs::{self, Missing};
use crate::jobs::plan::{attempt, retry};
use crate::jobs::snapshot::Snapshot;

/// The next moment at which time alone changes this step.
#[must_use]
pub fn next_deadline(
    snapshot: &Snapshot,
    step: &StepStatus,
    all: &[StepStatus],
) -> Option<Timestamp> {
    match step.state {
        StepState::Succeeded | StepState::Failed | StepState::Skipped | StepState::Unknown => None,
        StepState::Blocked => {
            // One that waits for an earlier step is as late as that one.
            let spec = snapshot
                .spec
                .steps
                .iter()
                .find(|spec| spec.name == step.name)?;
            match inputs::missing(spec, all, &snapshot.received)? {
                Missing::Upload { .. } => {
                    let since = step.queued_at.as_ref()?.0;
                    snapshot.end(since, queue_limit(snapshot))
                }
                Missing::Source { .. } => {
                    let since = step.queued_at.as_ref()?.0;
                    snapshot.end(since, queue_limit(snapshot))
                }
                Missing::Step { .. } | Missing::FailedStep { .. } | Missing::Output { .. } => None,
            }
        }
        StepState::Queued => {
            let limit = snapshot.end(step.queued_at.as_ref()?.0, queue_limit(snapshot));
            let retry = retry::not_before(step, &snapshot.jumps).filter(|at| *at > snapshot.now);
            [limit, retry].into_iter().flatten().min()
        }
        StepState::Starting | StepState::Running => {
            attempt::deadline(snapshot, &step.name, attempt::open(step)?)
        }
    }
}

/// How long a step may wait.
#[must_use]
pub fn queue_limit(snapshot: &Snapshot) -> SignedDuration {
    SignedDuration::from_secs(snapshot.spec.queue_deadline_seconds)
}
