//! What differs between two statuses of a pool that the API server has confirmed one after the other.

use framewright_crds::conditions::{get, pool, pool_reason};
use framewright_crds::modelpool::ModelPoolStatus;

use crate::kubernetes_events::KubernetesEvent;

/// Reasons of a pool's Ready condition that a person must do something about.
const WARNINGS: [&str; 12] = [
    pool_reason::WEIGHTS_FAILED,
    pool_reason::PODS_REFUSED,
    pool_reason::REQUESTS_FAILING,
    pool_reason::DEVICE_MISSING,
    pool_reason::PIPELINE_MISSING,
    pool_reason::UNSCHEDULABLE,
    pool_reason::IMAGE_PULL_FAILED,
    pool_reason::WORKER_CRASHING,
    pool_reason::CONTAINER_FAILING,
    pool_reason::NODE_NOT_READY,
    pool_reason::PODS_ENDED,
    pool_reason::DELETING,
];

/// The Kubernetes Event about a pool whose Ready condition has another reason now.
#[must_use]
pub fn kubernetes_event(old: &ModelPoolStatus, new: &ModelPoolStatus) -> Option<KubernetesEvent> {
    let ready = get(&new.conditions, pool::READY)?;
    let known = get(&old.conditions, pool::READY);
    if known.is_some_and(|known| known.reason == ready.reason) {
        return None;
    }
    Some(KubernetesEvent {
        is_warning: WARNINGS.contains(&ready.reason.as_str()),
        reason: ready.reason.clone(),
        message: ready.message.clone(),
        action: "Reconcile".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use framewright_crds::conditions::{Truth, set};
    use jiff::Timestamp;

    use super::*;

    fn status(reason: &str, message: &str) -> ModelPoolStatus {
        let mut status = ModelPoolStatus::default();
        let epoch = Timestamp::UNIX_EPOCH;
        let conditions = &mut status.conditions;
        set(
            conditions,
            pool::READY,
            Truth::False,
            reason,
            message,
            None,
            epoch,
        );
        status
    }

    #[test]
    fn each_new_reason_of_ready_is_one_event_and_other_words_are_none() {
        let none = ModelPoolStatus::default();
        let pulling = status(pool_reason::IMAGE_PULL_FAILED, "not found");
        let first = kubernetes_event(&none, &pulling).expect("it is new");
        assert_eq!(
            (first.is_warning, first.message.as_str()),
            (true, "not found")
        );
        let others = status(pool_reason::IMAGE_PULL_FAILED, "back-off");
        assert_eq!(kubernetes_event(&pulling, &others), None);
        assert_eq!(kubernetes_event(&pulling, &none), None);
        let missing = kubernetes_event(&none, &status(pool_reason::PIPELINE_MISSING, ""));
        assert!(missing.is_some_and(|missing| missing.is_warning));
        let ready = kubernetes_event(&pulling, &status(pool_reason::READY, ""));
        assert!(ready.is_some_and(|ready| !ready.is_warning));
    }
}
