//! Decides everything about one pool: which pods to make, drain, delete and protect, and its next status. No I/O, no clock.
//!
//! # Layout
//! - [`ended`]: what follows from pods that ended for good
//! - [`models`]: what workers are told of the pool's models
//! - [`pods`]: which pods to make, drain and delete
//! - [`protection`]: which pods ask node autoscalers to leave them alone
//! - [`readiness`]: whether the pool is ready, and if not, why
//! - [`status`]: the Ready condition, the models, the upload links

pub mod ended;
pub mod models;
pub mod pods;
pub mod protection;
pub mod readiness;
pub mod status;

use framewright_crds::modelpool::ModelPoolStatus;
use jiff::SignedDuration;

use crate::links::Signer;
use crate::names::WorkerRef;
use crate::pools::seen::{Observed, Phase};

/// A look though nothing seems to have changed.
const LATEST: SignedDuration = SignedDuration::from_secs(60);
/// The same while a pod is pending: what it waits for is said when that takes long.
const LATEST_PENDING: SignedDuration = SignedDuration::from_secs(30);

/// All that is to be done about a pool now.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Names of pods to make.
    pub create: Vec<String>,
    /// Workers that get no new task.
    pub drain: Vec<WorkerRef>,
    /// Pods to delete, if their UID is still the same.
    pub delete: Vec<WorkerRef>,
    /// Pods that ask autoscalers to stay, and pods that ask no longer.
    pub protection: protection::Changes,
    /// The status to write; the same as the observed one if there is nothing to write.
    pub status: ModelPoolStatus,
    /// When to look again though nothing happened.
    pub look_again: Option<SignedDuration>,
}

/// The whole decision.
#[must_use]
pub fn plan(seen: &Observed, signer: &dyn Signer) -> Plan {
    let pods::Changes {
        create,
        drain,
        delete,
    } = pods::changes(seen);
    let status = status::next(seen, signer);
    let has_ended = seen.pods.iter().any(|pod| !pod.is_alive());
    let soon = SignedDuration::from_secs(2);
    let is_pending = seen.pods.iter().any(|pod| pod.phase == Phase::Pending);
    let latest = if is_pending { LATEST_PENDING } else { LATEST };
    let refused = seen.refused.as_ref().map(|refusal| {
        refusal
            .retry_at
            .duration_since(seen.now)
            .clamp(soon, latest)
    });
    let look_again = if has_ended || !drain.is_empty() {
        soon
    } else {
        refused.unwrap_or(latest)
    };
    Plan {
        create,
        drain,
        delete,
        protection: protection::changes(seen),
        status,
        look_again: Some(look_again),
    }
}
