//! Keeps a status under 16 KiB, whatever a job with fifty steps went through.

use framewright_crds::aijob::{AIJobStatus, StepState};

/// The most that a status may weigh as JSON, in bytes.
pub const STATUS_LIMIT: usize = 16 * 1024;

/// Drops what is least missed, until the status is small enough.
pub fn shrink(status: &mut AIJobStatus) {
    if weight(status) <= STATUS_LIMIT {
        return;
    }
    for step in status
        .steps
        .iter_mut()
        .filter(|step| step.state == StepState::Succeeded)
    {
        let surplus = step.attempts.len().saturating_sub(1);
        step.attempts.drain(..surplus);
        step.progress = None;
        step.queued_at = None;
        step.weights_digest = None;
    }
    if weight(status) <= STATUS_LIMIT {
        return;
    }
    for step in &mut status.steps {
        if step.state == StepState::Blocked || step.state == StepState::Skipped {
            step.message = None;
        }
        if step.state == StepState::Succeeded {
            step.attempts.clear();
            step.pool = None;
        }
        let surplus = step.attempts.len().saturating_sub(1);
        step.attempts.drain(..surplus);
    }
}

/// What the status weighs as JSON, in bytes.
#[must_use]
pub fn weight(status: &AIJobStatus) -> usize {
    serde_json::to_vec(status).map_or(usize::MAX, |json| json.len())
}
