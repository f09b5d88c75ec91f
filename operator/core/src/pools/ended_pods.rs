//! Pods that ended for good, such as evicted ones: how long they stay, when they are replaced, what people are told.
//!
//! While the pool is not whole again they stay: they tell people why, and this plan how often. So what must be remembered is in the
//! cluster, and a new leader waits as long as the old one would have.

use jiff::{SignedDuration, Timestamp};

use crate::names::WorkerRef;
use crate::pools::snapshot::{Phase, PodSnapshot, Snapshot};

/// How long an ended pod stays at least, so that a person can read why.
const STAYS: SignedDuration = SignedDuration::from_secs(10);
/// Ended pods that stay for each worker that the pool has.
const STAY: usize = 6;
/// The wait after all of a pool's pods have ended twice; it doubles each further time, so five minutes are the most.
const FIRST_WAIT: SignedDuration = SignedDuration::from_secs(10);

/// Ended pods that are of no more use.
#[must_use]
pub fn to_delete(snapshot: &Snapshot) -> Vec<WorkerRef> {
    let alive = || snapshot.pods.iter().filter(|pod| pod.is_alive());
    let is_whole = alive().count() >= snapshot.wanted()
        && alive().all(|pod| pod.is_ready(&snapshot.spec.models));
    let stay = match &snapshot.refused {
        _ if is_whole => 0,
        // They may be what fills a quota.
        Some(_) => 1,
        None => snapshot.wanted() * STAY,
    };
    newest_first(snapshot)
        .into_iter()
        .skip(stay)
        .filter(|(at, _)| snapshot.now.duration_since(*at) >= STAYS)
        .map(|(_, pod)| pod.worker.clone())
        .collect()
}

/// When pods that ended are replaced, if not at once: later each time that as many have ended as the pool has workers. What pods of
/// another revision came to says nothing about the present one.
#[must_use]
pub fn next_try(snapshot: &Snapshot) -> Option<Timestamp> {
    let ended = newest_first(snapshot);
    let mut present = ended
        .iter()
        .filter(|(_, pod)| pod.revision == snapshot.revision);
    // A node whose clock is ahead stops nobody.
    let (newest, _) = present.next().filter(|(at, _)| *at <= snapshot.now)?;
    let rounds = (1 + present.count()).div_ceil(snapshot.wanted().max(1));
    let doublings = u32::try_from(rounds.checked_sub(2)?).unwrap_or(u32::MAX);
    let wait = FIRST_WAIT * (1 << doublings.min(5));
    newest.checked_add(wait).ok()
}

/// The pod that ended last, and why, in the kubelet's words.
#[must_use]
pub fn newest(snapshot: &Snapshot) -> Option<(&PodSnapshot, &str)> {
    let (_, pod) = newest_first(snapshot).into_iter().next()?;
    let why = pod.problem.as_ref().map(|problem| problem.message.as_str());
    Some((pod, why.unwrap_or("its phase is Failed")))
}

fn newest_first(snapshot: &Snapshot) -> Vec<(Timestamp, &PodSnapshot)> {
    let mut ended: Vec<(Timestamp, &PodSnapshot)> = snapshot
        .pods
        .iter()
        .filter_map(|pod| match pod.phase {
            Phase::Ended { at } => Some((at, pod)),
            Phase::Pending | Phase::Running | Phase::Ending => None,
        })
        .collect();
    ended.sort_by(|(a, _), (b, _)| b.cmp(a));
    ended
}

#[cfg(test)]
mod tests {
    use super::super::scaling::fixture::{NOW, observed, pod};
    use super::*;
    use crate::pools::pod_failures::Refusal;

    /// A pool of so many workers, of which so many ended, the first of them 100 s ago and one each second.
    fn pool(replicas: i32, ended: usize) -> Snapshot {
        let pods = (0..ended).map(|index| {
            let mut pod = pod(&format!("p-r2-{index}"), "r2", "ended");
            let second = i64::try_from(index).expect("few");
            pod.phase = Phase::Ended {
                at: Timestamp::from_second(second).expect("is a time"),
            };
            pod
        });
        observed(replicas, pods.collect())
    }

    #[test]
    fn pods_that_keep_ending_are_replaced_later_and_later() {
        let waits = |replicas, ended: usize| {
            let newest = i64::try_from(ended).expect("few") - 1;
            next_try(&pool(replicas, ended)).map(|at| at.as_second() - newest)
        };
        let one: Vec<Option<i64>> = (1..9).map(|ended| waits(1, ended)).collect();
        assert_eq!(
            one,
            [
                None,
                Some(10),
                Some(20),
                Some(40),
                Some(80),
                Some(160),
                Some(320),
                Some(320)
            ]
        );
        // A node that is lost takes many at once.
        assert_eq!([waits(10, 10), waits(10, 11)], [None, Some(10)]);
        assert_eq!(next_try(&pool(1, 0)), None);
        let mut ahead = pool(1, 3);
        ahead.now = Timestamp::from_second(1).expect("is a time");
        assert_eq!(next_try(&ahead), None);
    }

    #[test]
    fn of_many_ended_pods_the_oldest_go_first_and_a_whole_pool_keeps_none() {
        let names = |snapshot: &Snapshot| -> Vec<String> {
            let mut names: Vec<String> = to_delete(snapshot)
                .into_iter()
                .map(|worker| worker.name)
                .collect();
            names.sort();
            names
        };
        assert_eq!(names(&pool(1, 8)), ["p-r2-0", "p-r2-1"]);
        let mut whole = pool(1, 2);
        whole.pods.push(pod("p-r2-9", "r2", ""));
        assert_eq!(names(&whole), ["p-r2-0", "p-r2-1"]);
        assert!(names(&pool(0, 2)).len() == 2);
        let mut refused = pool(1, 8);
        refused.refused = Some(Refusal::first("quota", None, NOW));
        assert_eq!(names(&refused).len(), 7);
        let mut just_ended = pool(0, 1);
        just_ended.pods[0].phase = Phase::Ended { at: NOW };
        assert!(names(&just_ended).is_empty());
    }

    #[test]
    fn a_new_revision_is_tried_at_once() {
        let mut snapshot = pool(1, 5);
        assert!(next_try(&snapshot).is_some());
        snapshot.revision = "r3".to_owned();
        assert_eq!(next_try(&snapshot), None);
    }
}
