//! Which workers' pods ask node autoscalers to leave them alone: those that work, and have worked a moment ago.
//!
//! Two annotations say so. They follow a worker's busy periods and not its tasks, so that a fleet of short tasks costs few writes.
//! No I/O, no clock.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::names::WorkerRef;
use crate::pools::snapshot::{Phase, PodSnapshot, Protection, Snapshot};

/// Cluster Autoscaler's annotation and Karpenter's, with the values that keep a pod.
const ANNOTATIONS: [(&str, &str); 2] = [
    ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false"),
    ("karpenter.sh/do-not-disrupt", "true"),
];
/// How long a worker is without a task before its pod may be evicted.
const QUIET: SignedDuration = SignedDuration::from_secs(60);
/// Most pods that are written in one go; the others' turn comes with the next look, which these writes cause.
const WRITES_AT_ONCE: usize = 50;

/// Pods to annotate.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Changes {
    pub protect: Vec<WorkerRef>,
    pub unprotect: Vec<WorkerRef>,
}

/// The pods whose protection annotations must change.
#[must_use]
pub fn changes(snapshot: &Snapshot) -> Changes {
    let running = || {
        snapshot
            .pods
            .iter()
            .filter(|pod| pod.phase == Phase::Running)
    };
    let of = |protection: Protection, is_due: &dyn Fn(&PodSnapshot) -> bool| {
        running()
            .filter(|pod| pod.protection == protection && is_due(pod))
            .map(|pod| pod.worker.clone())
            .take(WRITES_AT_ONCE)
            .collect()
    };
    let rests = |pod: &PodSnapshot| {
        let stream = pod.stream.as_ref();
        pod.is_idle(snapshot.is_all_heard())
            && stream.is_some_and(|stream| {
                let last_busy = stream.last_busy.map(|last| snapshot.jumps.shifted(last));
                is_quiet(last_busy, snapshot.now)
            })
    };
    Changes {
        protect: of(Protection::Off, &|pod| !pod.is_idle(true)),
        unprotect: of(Protection::On, &rests),
    }
}

/// Whether a worker without a task has been so for long.
#[must_use]
pub fn is_quiet(last_busy: Option<Timestamp>, now: Timestamp) -> bool {
    last_busy.is_none_or(|last| now.duration_since(last) >= QUIET)
}

/// How a pod stands, by its own annotations and by those that its pool's template gives it.
#[must_use]
pub fn of_pod(
    own: &BTreeMap<String, String>,
    template: Option<&BTreeMap<String, String>>,
) -> Protection {
    let names = || ANNOTATIONS.iter().map(|(name, _)| *name);
    if names().any(|name| template.is_some_and(|given| given.contains_key(name))) {
        return Protection::Given;
    }
    let holds = |(name, value): &(&str, &str)| own.get(*name).is_some_and(|own| own == value);
    if ANNOTATIONS.iter().all(holds) {
        return Protection::On;
    }
    if names().any(|name| own.contains_key(name)) {
        // Somebody has changed one of them by hand; that person decides.
        return Protection::Given;
    }
    Protection::Off
}

/// The merge patch that protects this pod, and no other one of its name, or takes that back.
#[must_use]
pub fn patch(uid: &str, is_protected: bool) -> Value {
    let annotations: BTreeMap<&str, Option<&str>> = ANNOTATIONS
        .iter()
        .map(|(name, value)| (*name, is_protected.then_some(*value)))
        .collect();
    json!({"metadata": {"uid": uid, "annotations": annotations}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pools::scaling::fixture::{NOW, observed, pod};

    /// A worker's words as in the fixture, how long ago it held its last task, how its pod stands, and what is done to it.
    const CASES: [(&str, Option<i64>, Protection, &str); 12] = [
        ("busy", None, Protection::Off, "protect"),
        ("busy", None, Protection::On, ""),
        ("busy", Some(3600), Protection::On, ""),
        ("busy", None, Protection::Given, ""),
        ("idle", Some(1), Protection::On, ""),
        ("idle", Some(59), Protection::On, ""),
        ("idle", Some(60), Protection::On, "unprotect"),
        // A new leader knows of no earlier task.
        ("idle", None, Protection::On, "unprotect"),
        ("idle", Some(3600), Protection::Off, ""),
        ("idle", Some(3600), Protection::Given, ""),
        // Nobody knows whether it works.
        ("away", None, Protection::On, ""),
        ("ending", Some(3600), Protection::On, ""),
    ];

    #[test]
    fn a_worker_is_protected_while_it_works_and_a_minute_longer() {
        for (words, seconds_ago, protection, expected) in CASES {
            let mut pod = pod("p-r2-0", "r2", words);
            pod.protection = protection;
            if let Some(stream) = &mut pod.stream {
                stream.last_busy =
                    seconds_ago.map(|seconds| NOW - SignedDuration::from_secs(seconds));
            }
            let Changes { protect, unprotect } = changes(&observed(1, vec![pod]));
            let done = match (protect.len(), unprotect.len()) {
                (1, 0) => "protect",
                (0, 1) => "unprotect",
                (0, 0) => "",
                _ => "both",
            };
            assert_eq!(done, expected, "{words} {seconds_ago:?} {protection:?}");
        }
    }

    #[test]
    fn a_large_fleet_is_written_in_portions() {
        let pods = (0..200).map(|number| pod(&format!("p-r2-{number}"), "r2", "busy"));
        let protect = changes(&observed(200, pods.collect())).protect;
        assert_eq!(protect.len(), WRITES_AT_ONCE);
    }

    #[test]
    fn what_the_template_or_a_person_says_of_eviction_stays() {
        let [cluster_autoscaler, karpenter] = ANNOTATIONS.map(|(name, _)| name);
        let said = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            let owned = pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            owned.collect()
        };
        let ours = said(&ANNOTATIONS);
        let other = said(&[("team", "video")]);
        let cases = [
            (&other, None, Protection::Off),
            (&other, Some(&other), Protection::Off),
            (&ours, Some(&other), Protection::On),
            (&ours, Some(&ours), Protection::Given),
            (
                &other,
                Some(&said(&[(karpenter, "false")])),
                Protection::Given,
            ),
            (
                &said(&[(cluster_autoscaler, "true")]),
                None,
                Protection::Given,
            ),
        ];
        for (own, template, expected) in cases {
            assert_eq!(of_pod(own, template), expected, "{own:?} {template:?}");
        }
    }

    #[test]
    fn a_patch_is_for_one_pod_and_removes_what_it_has_set() {
        let set = patch("u1", true);
        let removed = patch("u1", false);
        for (name, value) in ANNOTATIONS {
            assert_eq!(set["metadata"]["annotations"][name], value);
            assert_eq!(
                removed["metadata"]["annotations"].get(name),
                Some(&Value::Null)
            );
        }
        assert_eq!(
            (&set["metadata"]["uid"], &removed["metadata"]["uid"]),
            (&json!("u1"), &json!("u1"))
        );
    }
}
