//! Which pods to make, drain and delete.
//!
//! Names are `pool-revision-ordinal`, so that a create that is repeated on a stale cache is refused, not doubled. A busy worker is
//! drained first: no new task, and its pod is deleted when it is idle. One worker of an old revision is replaced at a time.

use std::collections::BTreeSet;

use super::ended_pods;
use crate::names::WorkerRef;
use crate::pools::snapshot::{PodSnapshot, Snapshot};

/// Most pods made in one go.
const CREATE_AT_ONCE: usize = 50;
/// What to do to the pool's pods.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Changes {
    pub create: Vec<String>,
    pub drain: Vec<WorkerRef>,
    pub delete: Vec<WorkerRef>,
}

/// Decides it.
#[must_use]
pub fn changes(snapshot: &Snapshot) -> Changes {
    let mut changes = Changes::default();
    let is_all_heard = snapshot.is_all_heard();
    let wanted = snapshot.wanted();
    let mut alive: Vec<&PodSnapshot> = snapshot.pods.iter().filter(|pod| pod.is_alive()).collect();
    // The first ones stay: of the present revision, ready, busy, and of the lowest name.
    alive.sort_by_key(|pod| {
        (
            pod.revision != snapshot.revision,
            !pod.is_ready(&snapshot.spec.models),
            pod.is_idle(is_all_heard),
            pod.worker.name.clone(),
        )
    });
    for pod in alive.iter().skip(wanted) {
        release(snapshot, pod, &mut changes);
    }
    let kept = &alive[..alive.len().min(wanted)];
    if let Some(old) = next_to_replace(snapshot, kept) {
        release(snapshot, old, &mut changes);
    }
    changes.delete.extend(ended_pods::to_delete(snapshot));
    let waits = snapshot.pods_wait_until().is_some();
    if !waits && ended_pods::next_try(snapshot).is_none_or(|at| at <= snapshot.now) {
        changes.create = missing(snapshot, wanted.saturating_sub(alive.len()));
    }
    changes
}

/// The next worker of an old revision, once all of the present one are ready.
fn next_to_replace<'a>(snapshot: &Snapshot, kept: &[&'a PodSnapshot]) -> Option<&'a PodSnapshot> {
    let is_settled = kept
        .iter()
        .filter(|pod| pod.revision == snapshot.revision)
        .all(|pod| pod.is_ready(&snapshot.spec.models));
    let outdated = || kept.iter().filter(|pod| pod.revision != snapshot.revision);
    // A worker of an old revision that takes no tasks is of no use to anybody.
    let useless = outdated()
        .find(|pod| !pod.is_ready(&snapshot.spec.models) && pod.is_idle(snapshot.is_all_heard()));
    // While one is missing, none is given up: the missing one may be of the present revision, and keep ending.
    let is_complete = kept.len() >= snapshot.wanted();
    useless
        .or_else(|| outdated().next().filter(|_| is_settled && is_complete))
        .copied()
}

/// Drains a worker. It goes when it was drained already and is idle: an idle one that is not could be given a task at this moment.
fn release(snapshot: &Snapshot, pod: &PodSnapshot, changes: &mut Changes) {
    let gets_no_task = pod
        .stream
        .as_ref()
        .is_none_or(|stream| stream.is_drained || !stream.is_connected);
    if gets_no_task && pod.is_idle(snapshot.is_all_heard()) {
        changes.delete.push(pod.worker.clone());
    }
    changes.drain.push(pod.worker.clone());
}

/// Names for so many new pods: the lowest ordinals that no pod of this revision has, ending and ended ones included.
fn missing(snapshot: &Snapshot, count: usize) -> Vec<String> {
    free_names(snapshot)
        .take(count.min(CREATE_AT_ONCE))
        .collect()
}

/// The name for a pod in place of one whose name turned out to be taken by a pod that is not the pool's; none after many.
#[must_use]
pub fn another_name(snapshot: &Snapshot, tried: &[String]) -> Option<String> {
    let mut names = free_names(snapshot).take(2 * CREATE_AT_ONCE);
    names.find(|name| !tried.contains(name))
}

fn free_names(snapshot: &Snapshot) -> impl Iterator<Item = String> {
    let taken: BTreeSet<&str> = snapshot
        .pods
        .iter()
        .map(|pod| pod.worker.name.as_str())
        .collect();
    (0..)
        .map(|ordinal: usize| pod_name(&snapshot.name, &snapshot.revision, ordinal))
        .filter(move |name| !taken.contains(name.as_str()))
}

/// A pod's name; at most 63 characters, as its hostname.
#[must_use]
pub fn pod_name(pool: &str, revision: &str, ordinal: usize) -> String {
    let start: String = pool.chars().take(44).collect();
    format!("{}-{revision}-{ordinal}", start.replace('.', "-"))
}

/// Pools and pods as the plan's tests write them.
#[cfg(test)]
pub(in crate::pools) mod fixture {
    use super::*;
    use crate::links::{Place, Signer};
    use crate::pools::pod_failures::Failing;
    use crate::pools::snapshot::{Phase, Protection, StreamSnapshot};
    use framewright_crds::aijob::OutputStatus;
    use framewright_crds::modelpool::{Device, ModelPoolSpec, ModelPoolStatus};
    use framewright_crds::names::ArtifactRole;
    use framewright_crds::protocol::OutputFile;
    use jiff::Timestamp;
    use std::collections::BTreeMap;

    pub(in crate::pools) const NOW: Timestamp = Timestamp::constant(100, 0);

    /// `name` `revision` and words: pending, busy, bound, drained, ending, ended, away.
    pub(in crate::pools) fn pod(name: &str, revision: &str, words: &str) -> PodSnapshot {
        let phase = match words {
            "pending" => Phase::Pending,
            "ending" => Phase::Ending,
            "ended" => Phase::Ended {
                at: Timestamp::UNIX_EPOCH,
            },
            _ => Phase::Running,
        };
        let stream = StreamSnapshot {
            is_connected: true,
            is_drained: words == "drained",
            tasks: usize::from(words == "busy"),
            last_busy: None,
            device_error: None,
            models: BTreeMap::new(),
            pipelines: vec!["upscale".to_owned()],
        };
        PodSnapshot {
            worker: WorkerRef {
                namespace: "fleet".into(),
                name: name.into(),
                uid: name.into(),
            },
            revision: revision.into(),
            phase,
            problem: None,
            waits_for: None,
            protection: Protection::Off,
            stream: (!matches!(words, "away" | "pending" | "bound")).then_some(stream),
            bound: usize::from(words == "bound"),
        }
    }

    /// Signs nothing.
    pub(in crate::pools) struct NoLinks;

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

    /// A pool of the revision r2.
    pub(in crate::pools) fn observed(replicas: i32, pods: Vec<PodSnapshot>) -> Snapshot {
        Snapshot {
            namespace: "fleet".into(),
            name: "p".into(),
            uid: "u".into(),
            generation: Some(1),
            spec: ModelPoolSpec {
                device: Device::Cpu,
                replicas,
                models: Vec::new(),
                pipelines: None,
                weights_cache: None,
                scratch: None,
                template: None,
                access: None,
            },
            status: ModelPoolStatus::default(),
            renew_links: None,
            now: NOW,
            jumps: crate::clock::Jumps::default(),
            leads_since: Timestamp::UNIX_EPOCH,
            revision: "r2".into(),
            pods,
            received: BTreeSet::new(),
            store_error: None,
            refused: None,
            failing: Failing::default(),
            deleted: None,
            kept_by: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fixture::{observed, pod};
    use super::*;
    use crate::pools::pod_failures::Refusal;
    use crate::pools::snapshot::Phase;
    use jiff::{SignedDuration, Timestamp};

    fn check(replicas: i32, pods: Vec<PodSnapshot>, create: &str, drain: &str, delete: &str) {
        let snapshot = observed(replicas, pods);
        let changes = changes(&snapshot);
        let names = |workers: &[WorkerRef]| {
            workers
                .iter()
                .map(|worker| worker.name.clone())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(changes.create.join(" "), create, "create");
        assert_eq!(names(&changes.drain), drain, "drain");
        assert_eq!(names(&changes.delete), delete, "delete");
    }

    #[test]
    fn pods_that_were_refused_or_deleted_are_not_made_again_in_a_hurry() {
        let mut pool = observed(1, Vec::new());
        pool.refused = Some(Refusal::first("quota", Some(1), pool.now));
        assert!(changes(&pool).create.is_empty());
        pool.now += SignedDuration::from_secs(2);
        assert_eq!(changes(&pool).create, ["p-r2-0"]);
        pool.deleted = Some(Refusal::first("pods are deleted", None, pool.now));
        assert!(changes(&pool).create.is_empty());
        pool.now += SignedDuration::from_secs(2);
        assert_eq!(changes(&pool).create, ["p-r2-0"]);
    }

    #[test]
    fn missing_pods_get_the_lowest_free_ordinals() {
        check(3, vec![pod("p-r2-1", "r2", "")], "p-r2-0 p-r2-2", "", "");
    }

    #[test]
    fn an_ending_pod_keeps_its_name_and_counts_no_more() {
        check(1, vec![pod("p-r2-0", "r2", "ending")], "p-r2-1", "", "");
    }

    #[test]
    fn a_name_that_a_stranger_has_is_passed_over() {
        let snapshot = observed(2, vec![pod("p-r2-1", "r2", "")]);
        let mut tried = vec!["p-r2-0".to_owned()];
        assert_eq!(another_name(&snapshot, &tried).as_deref(), Some("p-r2-2"));
        tried.extend((0..200).map(|ordinal| pod_name("p", "r2", ordinal)));
        assert_eq!(another_name(&snapshot, &tried), None);
    }

    #[test]
    fn pending_pods_count_so_nothing_over_scales() {
        check(
            2,
            vec![
                pod("p-r2-0", "r2", "pending"),
                pod("p-r2-1", "r2", "pending"),
            ],
            "",
            "",
            "",
        );
    }

    #[test]
    fn an_idle_surplus_worker_goes_before_a_busy_one() {
        check(
            1,
            vec![pod("p-r2-0", "r2", "drained"), pod("p-r2-1", "r2", "busy")],
            "",
            "p-r2-0",
            "p-r2-0",
        );
    }

    #[test]
    fn a_worker_that_could_be_given_a_task_at_this_moment_is_drained_first() {
        check(0, vec![pod("p-r2-0", "r2", "")], "", "p-r2-0", "");
    }

    #[test]
    fn a_deleted_pool_that_a_finalizer_keeps_gives_its_workers_back() {
        let pods = vec![pod("p-r2-0", "r2", "drained"), pod("p-r2-1", "r2", "busy")];
        let mut snapshot = observed(3, pods);
        snapshot.kept_by = vec!["x/y".to_owned()];
        let Changes {
            create,
            drain,
            delete,
        } = changes(&snapshot);
        assert_eq!((create.len(), drain.len(), delete.len()), (0, 2, 1));
        assert_eq!(delete[0].name, "p-r2-0");
    }

    #[test]
    fn a_busy_surplus_worker_is_drained_and_not_deleted() {
        check(0, vec![pod("p-r2-0", "r2", "busy")], "", "p-r2-0", "");
    }

    #[test]
    fn a_pod_that_an_attempt_is_bound_to_is_busy_before_its_worker_says_so() {
        check(0, vec![pod("p-r2-0", "r2", "bound")], "", "p-r2-0", "");
    }

    #[test]
    fn a_new_leader_takes_no_worker_for_idle_that_has_not_dialled_in_yet() {
        let mut pool = observed(1, vec![pod("p-r1-0", "r1", "away")]);
        pool.leads_since = pool.now - SignedDuration::from_secs(5);
        assert!(changes(&pool).delete.is_empty());
        pool.leads_since = Timestamp::UNIX_EPOCH;
        assert_eq!(changes(&pool).delete.len(), 1);
    }

    #[test]
    fn an_ended_pod_is_replaced_and_stays_until_the_other_is_ready() {
        let ended = || pod("p-r2-0", "r2", "ended");
        check(1, vec![ended()], "p-r2-1", "", "");
        check(1, vec![ended(), pod("p-r2-1", "r2", "pending")], "", "", "");
        check(1, vec![ended(), pod("p-r2-1", "r2", "")], "", "", "p-r2-0");
    }

    #[test]
    fn no_worker_is_given_up_for_a_revision_whose_pods_keep_ending() {
        let ended = |index: usize| pod(&format!("p-r2-{index}"), "r2", "ended");
        let mut pods = vec![pod("p-r1-0", "r1", ""), pod("p-r1-1", "r1", "")];
        pods.extend((0..4).map(ended));
        let mut snapshot = observed(3, pods);
        for pod in &mut snapshot.pods {
            if let Phase::Ended { at } = &mut pod.phase {
                *at = snapshot.now;
            }
        }
        assert_eq!(changes(&snapshot), Changes::default());
    }

    #[test]
    fn one_worker_of_an_old_revision_is_replaced_at_a_time() {
        check(
            2,
            vec![pod("p-r1-0", "r1", "drained"), pod("p-r1-1", "r1", "")],
            "",
            "p-r1-0",
            "p-r1-0",
        );
        check(
            2,
            vec![pod("p-r2-0", "r2", "pending"), pod("p-r1-1", "r1", "")],
            "",
            "",
            "",
        );
        check(
            2,
            vec![pod("p-r2-0", "r2", ""), pod("p-r1-1", "r1", "busy")],
            "",
            "p-r1-1",
            "",
        );
    }

    #[test]
    fn a_pods_name_fits_a_hostname() {
        assert!(pod_name(&"x".repeat(63), "0123456789", 999).len() <= 63);
    }
}
