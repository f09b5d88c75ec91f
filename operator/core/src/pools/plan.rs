//! The plan of one pool: which pods to create, drain, delete and protect, its next status, and when to reconcile again. No I/O, no clock.

use framewright_crds::modelpool::ModelPoolStatus;
use jiff::SignedDuration;

use super::{eviction_protection, scaling, status};
use crate::links::Signer;
use crate::names::WorkerRef;
use crate::pools::snapshot::{Phase, Snapshot};

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
    pub protection: eviction_protection::Changes,
    /// The status to write; the same as the observed one if there is nothing to write.
    pub status: ModelPoolStatus,
    /// When to decide again though nothing happened.
    pub requeue_after: Option<SignedDuration>,
}

/// The whole decision.
#[must_use]
pub fn plan(snapshot: &Snapshot, signer: &dyn Signer) -> Plan {
    let scaling::Changes {
        create,
        drain,
        delete,
    } = scaling::changes(snapshot);
    let status = status::next(snapshot, signer);
    Plan {
        protection: eviction_protection::changes(snapshot),
        requeue_after: Some(requeue_after(snapshot, &drain)),
        create,
        drain,
        delete,
        status,
    }
}

fn requeue_after(snapshot: &Snapshot, drain: &[WorkerRef]) -> SignedDuration {
    let has_ended = snapshot.pods.iter().any(|pod| !pod.is_alive());
    let is_pending = snapshot.pods.iter().any(|pod| pod.phase == Phase::Pending);
    let soon = SignedDuration::from_secs(2);
    if has_ended || !drain.is_empty() {
        return soon;
    }
    let latest = if is_pending { LATEST_PENDING } else { LATEST };
    let inherited = snapshot.inherits_status_for().unwrap_or(latest);
    let latest = latest.min(inherited).max(soon);
    let pods_wait = snapshot.pods_wait_until();
    let pods_wait = pods_wait.map(|until| until.duration_since(snapshot.now).clamp(soon, latest));
    pods_wait.unwrap_or(latest)
}

#[cfg(test)]
mod tests {
    use super::super::scaling::fixture::{NoLinks, observed};
    use super::*;
    use crate::pools::pod_failures::Refusal;

    #[test]
    fn a_refusal_is_in_the_condition_and_decided_about_when_its_wait_is_over() {
        let mut snapshot = observed(1, Vec::new());
        assert_eq!(plan(&snapshot, &NoLinks).create, ["p-r2-0"]);
        snapshot.refused = Some(Refusal::first("exceeded quota", Some(1), snapshot.now));
        let plan = plan(&snapshot, &NoLinks);
        let said = &plan.status.conditions[0].message;
        assert!(said.ends_with(": exceeded quota"), "{said}");
        assert_eq!(plan.requeue_after, Some(SignedDuration::from_secs(2)));
    }
}
