//! What a pod says about a worker: which pool owns it, its phase, why it does not run, and how its process ended.
//!
//! # Layout
//! - [`containers`]: the pod's containers in the order in which they start
//! - [`problem`]: why a pod does not run, if somebody must do something about it
//! - [`waiting`]: what a pod waits for, if that may end by itself
//! - [`ended`]: how a pod or its process ended

mod containers;
mod ended;
mod problem;
mod waiting;

use std::collections::BTreeMap;

use framewright_crds::ModelPool;
use framewright_crds::names::{LABEL_POOL, LABEL_REVISION};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use kube_core::{Resource, ResourceExt};

use super::eviction_protection;
use super::snapshot::{Phase, PodSnapshot, StreamSnapshot};
use crate::names::WorkerRef;

pub use ended::ended_since;

/// The pool that a pod belongs to, by its controller: name and UID.
#[must_use]
pub fn pool_of(pod: &Pod) -> Option<(String, String)> {
    let owner = pod
        .owner_references()
        .iter()
        .find(|owner| owner.controller == Some(true))?;
    let is_pool =
        owner.kind == ModelPool::kind(&()) && owner.api_version == ModelPool::api_version(&());
    (is_pool && pod.labels().get(LABEL_POOL) == Some(&owner.name))
        .then(|| (owner.name.clone(), owner.uid.clone()))
}

/// When the pod ends, if its deletion was asked for: the API server adds the grace to the moment of asking.
#[must_use]
pub fn leaves_at(pod: &Pod) -> Option<Timestamp> {
    Some(pod.metadata.deletion_timestamp.as_ref()?.0)
}

/// A pod, and what its worker says. `template` are the annotations that its pool gives it.
#[must_use]
pub fn pod_snapshot(
    pod: &Pod,
    template: Option<&BTreeMap<String, String>>,
    stream: Option<StreamSnapshot>,
    bound: usize,
    now: Timestamp,
) -> PodSnapshot {
    let worker = WorkerRef {
        namespace: pod.namespace().unwrap_or_default(),
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
    };
    let phase = phase(pod, now);
    PodSnapshot {
        worker,
        revision: pod
            .labels()
            .get(LABEL_REVISION)
            .cloned()
            .unwrap_or_default(),
        phase,
        problem: problem::of(pod),
        waits_for: waiting::of(pod, phase, now),
        protection: eviction_protection::of_pod(pod.annotations(), template),
        stream,
        bound,
    }
}

fn phase(pod: &Pod, now: Timestamp) -> Phase {
    if pod.metadata.deletion_timestamp.is_some() {
        return Phase::Ending;
    }
    match pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
    {
        Some("Running") => Phase::Running,
        Some("Failed" | "Succeeded") => Phase::Ended {
            at: ended::ended_at(pod).unwrap_or(now),
        },
        Some(_) | None => Phase::Pending,
    }
}

/// The pod's condition of that type.
fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    let mut conditions = pod.status.as_ref()?.conditions.iter().flatten();
    conditions.find(|condition| condition.type_ == type_)
}

/// `Reason: message`, or the one of them that is there.
fn in_words(reason: Option<&str>, message: Option<&str>) -> Option<String> {
    let reason = reason.filter(|reason| !reason.is_empty());
    let message = message.filter(|message| !message.is_empty());
    match (reason, message) {
        (Some(reason), Some(message)) => Some(format!("{reason}: {message}")),
        (Some(text), None) | (None, Some(text)) => Some(text.to_owned()),
        (None, None) => None,
    }
}

/// Who is about to take the pod from its node, and why: the condition DisruptionTarget.
fn disruption(pod: &Pod) -> Option<String> {
    let target = condition(pod, "DisruptionTarget").filter(|target| target.status == "True")?;
    in_words(target.reason.as_deref(), target.message.as_deref())
}
