//! Whether the worker of an attempt is still there.

use framewright_crds::aijob::{Attempt, Cause};
use jiff::Timestamp;

use crate::jobs::seen::{Ended, Presence};

/// Decides it from its stream, its pod, and the end of its process. The stream's word comes first: a pod that answers is alive.
#[must_use]
pub fn presence(
    open: &Attempt,
    linked: Option<Presence>,
    has_pod: bool,
    ended: Option<&Ended>,
    leads_since: Timestamp,
) -> Presence {
    match (linked, ended) {
        (Some(Presence::Connected), _) => Presence::Connected,
        (_, Some(ended)) => Presence::Gone(ended.clone()),
        (Some(away), None) if has_pod => away,
        (None, None) if has_pod => Presence::Away { since: leads_since },
        (_, None) => Presence::Gone(Ended {
            cause: Cause::WorkerLost,
            message: format!("worker pod {} is gone", open.worker),
        }),
    }
}
