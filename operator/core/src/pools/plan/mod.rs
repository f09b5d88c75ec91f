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
    Plan {
        protection: protection::changes(seen),
        look_again: Some(look_again(seen, &drain)),
        create,
        drain,
        delete,
        status,
    }
}

/// Says what became of the requests that the plan asked for. `seen` has it.
pub fn after_requests(plan: &mut Plan, seen: &Observed, signer: &dyn Signer) {
    plan.status = status::next(seen, signer);
    plan.look_again = Some(look_again(seen, &plan.drain));
}

fn look_again(seen: &Observed, drain: &[WorkerRef]) -> SignedDuration {
    let has_ended = seen.pods.iter().any(|pod| !pod.is_alive());
    let is_pending = seen.pods.iter().any(|pod| pod.phase == Phase::Pending);
    let soon = SignedDuration::from_secs(2);
    if has_ended || !drain.is_empty() {
        return soon;
    }
    let latest = if is_pending { LATEST_PENDING } else { LATEST };
    let pods_wait = seen.pods_wait_until();
    let pods_wait = pods_wait.map(|until| until.duration_since(seen.now).clamp(soon, latest));
    pods_wait.unwrap_or(latest)
}

#[cfg(test)]
mod tests {
    use framewright_crds::aijob::OutputStatus;
    use framewright_crds::names::ArtifactRole;
    use framewright_crds::wire::OutputFile;
    use jiff::Timestamp;

    use super::pods::fixture::observed;
    use super::*;
    use crate::links::Place;
    use crate::pools::refusals::Refusal;

    struct NoLinks;

    impl Signer for NoLinks {
        fn upload(&self, _: &Place<'_>, _: &str, _: i64, _: Timestamp) -> String {
            String::new()
        }

        fn download(&self, _: &Place<'_>, _: &OutputStatus, _: &str, _: Timestamp) -> String {
            String::new()
        }

        fn worker_get(
            &self,
            _: &Place<'_>,
            _: (ArtifactRole, &str),
            _: Timestamp,
        ) -> Option<String> {
            None
        }

        fn worker_put(&self, _: &Place<'_>, _: &OutputFile, _: Timestamp) -> Option<String> {
            None
        }
    }

    #[test]
    fn a_refusal_is_told_in_the_same_round_and_looked_at_when_its_wait_is_over() {
        let mut seen = observed(1, Vec::new());
        let mut plan = plan(&seen, &NoLinks);
        assert_eq!(plan.create, ["p-r2-0"]);
        seen.refused = Some(Refusal::first("exceeded quota", Some(1), seen.now));
        after_requests(&mut plan, &seen, &NoLinks);
        let said = &plan.status.conditions[0].message;
        assert!(said.ends_with(": exceeded quota"), "{said}");
        assert_eq!(plan.look_again, Some(SignedDuration::from_secs(2)));
    }
}
