//! A pool's next status: its conditions, models, pipelines and files.

use std::collections::BTreeSet;

use framewright_crds::aijob::FileStatus;
use framewright_crds::conditions::{
    RECONCILING, STALLED, Truth, pool, pool_reason, remove, set, shortened,
};
use framewright_crds::modelpool::{Model, ModelFile, ModelPoolStatus, ModelStatus};
use framewright_crds::names::{LABEL_POOL, OwnerKind};
use framewright_crds::protocol::ModelState;

use super::readiness::readiness;
use crate::links::{Known, Place, Signer, Wanted};
use crate::pools::snapshot::{Snapshot, StreamSnapshot};

/// The status that the pool should have.
#[must_use]
pub fn next(snapshot: &Snapshot, signer: &dyn Signer) -> ModelPoolStatus {
    let mut status = snapshot.status.clone();
    if snapshot.inherits_status_for().is_some() {
        status.files = files(snapshot, signer);
        status.links_renewed_for.clone_from(&snapshot.renew_links);
        return status;
    }
    let alive = snapshot.pods.iter().filter(|pod| pod.is_alive());
    let ready = alive
        .clone()
        .filter(|pod| pod.takes_tasks(&snapshot.spec.models));
    status.observed_generation = snapshot.generation;
    status.replicas = count(alive.clone().count());
    status.ready_replicas = count(ready.count());
    status.selector = Some(format!("{LABEL_POOL}={}", snapshot.name));
    status.models = snapshot
        .spec
        .models
        .iter()
        .map(|model| model_status(snapshot, model))
        .collect();
    status.files = files(snapshot, signer);
    status.pipelines = pipelines(snapshot);
    status.links_renewed_for.clone_from(&snapshot.renew_links);
    let (truth, reason, message) = readiness(snapshot, &status);
    set(
        &mut status.conditions,
        pool::READY,
        truth,
        reason,
        &message,
        snapshot.generation,
        snapshot.now,
    );
    if let Some(error) = &snapshot.failing.delete {
        tell(&mut status, error);
    }
    let is_stalled = truth == Truth::False && is_stalled(reason);
    let is_under_way = truth == Truth::False && !is_stalled && snapshot.kept_by.is_empty();
    for (type_, is_true) in [(RECONCILING, is_under_way), (STALLED, is_stalled)] {
        let (generation, now) = (snapshot.generation, snapshot.now);
        let conditions = &mut status.conditions;
        if is_true {
            set(conditions, type_, Truth::True, reason, "", generation, now);
        } else {
            remove(conditions, type_);
        }
    }
    status
}

/// Whether two statuses differ only in how many workers there are, and in messages.
#[must_use]
pub fn is_only_counts(old: &ModelPoolStatus, new: &ModelPoolStatus) -> bool {
    let without = |status: &ModelPoolStatus| {
        let mut status = status.clone();
        status.replicas = 0;
        status.ready_replicas = 0;
        for model in &mut status.models {
            model.ready_workers = 0;
            model.message = None;
        }
        for condition in &mut status.conditions {
            condition.message.clear();
        }
        status
    };
    without(old) == without(new)
}

/// Whether the pool does not become ready before a person changes something.
fn is_stalled(reason: &str) -> bool {
    [pool_reason::WEIGHTS_FAILED, pool_reason::DEVICE_MISSING].contains(&reason)
}

/// What the pool's workers do, by their own word and the spec's; while there is none, what they did before.
fn pipelines(snapshot: &Snapshot) -> Vec<String> {
    let streams = snapshot.pods.iter().filter_map(|pod| pod.stream.as_ref());
    let connected = streams.filter(|stream| stream.is_connected);
    let known: BTreeSet<&String> = connected.flat_map(|stream| &stream.pipelines).collect();
    let known: Vec<String> = if known.is_empty() {
        snapshot.status.pipelines.clone()
    } else {
        known.into_iter().cloned().collect()
    };
    let is_asked_for = |name: &String| {
        let asked = snapshot.spec.pipelines.as_ref();
        asked.is_none_or(|asked| asked.contains(name))
    };
    known.into_iter().filter(is_asked_for).collect()
}

/// Has the Ready condition say what could not be done.
fn tell(status: &mut ModelPoolStatus, problem: &str) {
    let ready = status.conditions.iter_mut();
    for ready in ready.filter(|condition| condition.type_ == pool::READY) {
        ready.message = shortened(&format!("{problem}; {}", ready.message));
    }
}

fn model_status(snapshot: &Snapshot, model: &Model) -> ModelStatus {
    let streams: Vec<&StreamSnapshot> = snapshot
        .pods
        .iter()
        .filter(|pod| pod.is_alive())
        .filter_map(|pod| pod.stream.as_ref())
        .filter(|stream| stream.is_connected && stream.device_error.is_none())
        .collect();
    let states = || {
        streams
            .iter()
            .filter_map(|stream| stream.models.get(&model.name))
            .map(|(_, state)| state)
    };
    let ready = states()
        .filter(|state| **state == ModelState::Ready)
        .count();
    let failed = states().find_map(|state| match state {
        ModelState::Failed { message } => Some(message),
        ModelState::Loading { .. } | ModelState::Ready | ModelState::AwaitingUpload => None,
    });
    let delayed = states().find_map(|state| match state {
        ModelState::Loading { error } => error.as_ref(),
        ModelState::Failed { .. } | ModelState::Ready | ModelState::AwaitingUpload => None,
    });
    let missing = model
        .files
        .iter()
        .find(|file| model.source.upload.is_some() && !snapshot.received.contains(file.sha256()));
    let (reason, message) = match (missing, failed) {
        (Some(file), _) => (
            Some(pool_reason::AWAITING_UPLOAD),
            Some(awaits(snapshot, model, file)),
        ),
        (None, Some(message)) => (
            Some(pool_reason::WEIGHTS_FAILED),
            Some(format!("model {}: {message}", model.name)),
        ),
        (None, None) if ready < streams.len() => (
            Some(pool_reason::LOADING),
            delayed.map(|problem| format!("model {}: {problem}", model.name)),
        ),
        (None, None) => (None, None),
    };
    ModelStatus {
        name: model.name.clone(),
        ready_workers: count(ready),
        reason: reason.map(str::to_owned),
        message: message.map(|message| shortened(&message)),
    }
}

/// For which file a model waits, in words.
fn awaits(snapshot: &Snapshot, model: &Model, file: &ModelFile) -> String {
    let waits = format!(
        "model {} waits for the upload of {} ({} bytes) to the link in status.files",
        model.name, file.path, file.bytes
    );
    match &snapshot.store_error {
        Some(problem) => {
            format!("{waits}; the operator does not know whether the file is there: {problem}")
        }
        None => waits,
    }
}

fn files(snapshot: &Snapshot, signer: &dyn Signer) -> Vec<FileStatus> {
    let files = snapshot
        .spec
        .models
        .iter()
        .filter(|model| model.source.upload.is_some())
        .flat_map(|model| model.files.iter().map(move |file| (model, file)))
        .map(|(model, file)| Wanted {
            name: format!("{}/{}", model.name, file.path),
            digest: &file.digest,
            bytes: file.bytes,
        });
    let renew = crate::links::is_renewal_due(
        snapshot.renew_links.as_deref(),
        snapshot.status.links_renewed_for.as_deref(),
    );
    let known = Known {
        old: &snapshot.status.files,
        received: &snapshot.received,
        renew,
        now: snapshot.now,
    };
    let place = Place {
        namespace: &snapshot.namespace,
        kind: OwnerKind::ModelPools,
        uid: &snapshot.uid,
    };
    let sign = |sha256: &str, bytes: i64, expires| signer.upload(&place, sha256, bytes, expires);
    crate::links::entries(files, &known, &sign)
}

pub(super) fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::*;
    use crate::pools::scaling::fixture::{NoLinks, observed, pod};

    /// The Ready condition of a pool of two, and how many workers it counts.
    fn ready(snapshot: &Snapshot) -> (String, i32) {
        let status = next(snapshot, &NoLinks);
        let ready = status.conditions.iter();
        let mut ready = ready.filter(|condition| condition.type_ == pool::READY);
        let reason = ready.next().map(|ready| ready.reason.clone());
        (reason.unwrap_or_default(), status.ready_replicas)
    }

    #[test]
    fn a_new_leader_leaves_the_status_alone_while_workers_may_still_dial_in() {
        let at = |name: &str, words: &str| pod(name, "r2", words);
        let mut snapshot = observed(2, vec![at("a", ""), at("b", "")]);
        snapshot.status = next(&snapshot, &NoLinks);
        assert_eq!(ready(&snapshot), ("Ready".to_owned(), 2));
        snapshot.leads_since = snapshot.now;
        snapshot.pods[1] = at("b", "away");
        assert_eq!(next(&snapshot, &NoLinks), snapshot.status);
        // A changed spec is answered at once, and so is a pod that has ended.
        snapshot.generation = Some(2);
        assert_eq!(ready(&snapshot), ("AwaitingWorkers".to_owned(), 1));
        snapshot.generation = Some(1);
        snapshot.pods[1] = at("b", "ended");
        assert_eq!(ready(&snapshot).1, 1);
        // A worker that does not come back is not waited for without end.
        snapshot.pods[1] = at("b", "away");
        let left = snapshot.inherits_status_for().expect("it still waits");
        snapshot.now += left;
        assert_eq!(ready(&snapshot), ("AwaitingWorkers".to_owned(), 1));
    }

    #[test]
    fn counts_of_workers_are_told_apart_from_what_people_wait_for() {
        let at = |name: &str, words: &str| pod(name, "r2", words);
        let status = |words: &str| {
            let pods = vec![at("a", ""), at("b", words), at("c", "away")];
            let mut snapshot = observed(3, pods);
            snapshot.now += SignedDuration::from_secs(60);
            next(&snapshot, &NoLinks)
        };
        let (one, two) = (status("away"), status(""));
        assert_ne!(one, two);
        assert!(is_only_counts(&one, &two));
        let mut ready = two.clone();
        let now = Timestamp::UNIX_EPOCH;
        set(
            &mut ready.conditions,
            pool::READY,
            Truth::True,
            "Ready",
            "",
            Some(1),
            now,
        );
        assert!(!is_only_counts(&two, &ready));
    }

    #[test]
    fn what_could_not_be_done_comes_first_in_the_condition() {
        let mut status = ModelPoolStatus::default();
        let now = jiff::Timestamp::UNIX_EPOCH;
        let conditions = &mut status.conditions;
        set(
            conditions,
            pool::READY,
            Truth::True,
            "Ready",
            "1 of 1",
            None,
            now,
        );
        tell(&mut status, "cannot delete");
        assert_eq!(status.conditions[0].message, "cannot delete; 1 of 1");
    }
}
