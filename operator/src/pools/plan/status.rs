//! A pool's next status: the Ready condition in the words of what is wrong, the models, the upload links.

use framewright_crds::aijob::UploadStatus;
use framewright_crds::conditions::{Truth, ended_by, pool, pool_reason, set, shortened};
use framewright_crds::modelpool::{Model, ModelFile, ModelPoolStatus, ModelStatus};
use framewright_crds::names::{LABEL_POOL, OwnerKind};
use framewright_crds::wire::ModelState;
use jiff::Unit;

use super::ended;
use crate::links::{Place, Signer};
use crate::pools::seen::{Observed, Phase, PodSeen, StreamSeen};
use crate::uploads::Known;

/// The status that the pool should have.
#[must_use]
pub fn next(seen: &Observed, signer: &dyn Signer) -> ModelPoolStatus {
    let mut status = seen.status.clone();
    let alive = seen.pods.iter().filter(|pod| pod.is_alive());
    let ready = alive.clone().filter(|pod| pod.takes_tasks());
    status.observed_generation = seen.generation;
    status.replicas = count(alive.clone().count());
    status.ready_replicas = count(ready.count());
    status.selector = Some(format!("{LABEL_POOL}={}", seen.name));
    status.models = seen
        .spec
        .models
        .iter()
        .map(|model| model_status(seen, model))
        .collect();
    status.uploads = uploads(seen, signer);
    status.links_renewed_for.clone_from(&seen.renew_links);
    let (truth, reason, message) = readiness(seen, &status);
    set(
        &mut status.conditions,
        pool::READY,
        truth,
        reason,
        &message,
        seen.generation,
        seen.now,
    );
    status
}

/// Has the Ready condition say what could not be done.
pub fn tell(status: &mut ModelPoolStatus, trouble: &str) {
    let ready = status.conditions.iter_mut();
    for ready in ready.filter(|condition| condition.type_ == pool::READY) {
        ready.message = shortened(&format!("{trouble}; {}", ready.message));
    }
}

fn readiness(seen: &Observed, status: &ModelPoolStatus) -> (Truth, &'static str, String) {
    if !seen.kept_by.is_empty() {
        let message = format!(
            "the pool is being deleted, and its finalizers keep it: {}; whoever put them there has to remove them. Its workers finish what they do, and go",
            seen.kept_by.join(", ")
        );
        return (Truth::False, pool_reason::DELETING, message);
    }
    let wanted = seen.spec.replicas;
    if wanted == 0 {
        return (
            Truth::False,
            pool_reason::SCALED_TO_ZERO,
            "spec.replicas is 0".to_owned(),
        );
    }
    // What a person must mend comes before what only takes time.
    if let Some(failed) = status
        .models
        .iter()
        .find(|model| is_reason(model, pool_reason::WEIGHTS_FAILED))
    {
        let message = with_others(seen, status, failed);
        return (Truth::False, pool_reason::WEIGHTS_FAILED, message);
    }
    if let Some(waiting) = status
        .models
        .iter()
        .find(|model| is_reason(model, pool_reason::AWAITING_UPLOAD))
    {
        let message = with_others(seen, status, waiting);
        return (Truth::False, pool_reason::AWAITING_UPLOAD, message);
    }
    if let Some(refused) = &seen.refused {
        return (
            Truth::False,
            pool_reason::PODS_REFUSED,
            format!(
                "the API server refuses the pool's pods: {}",
                refused.message
            ),
        );
    }
    let alive = || seen.pods.iter().filter(|pod| pod.is_alive());
    let connected = |pod: &PodSeen| {
        pod.stream
            .as_ref()
            .is_some_and(|stream| stream.is_connected)
    };
    if let Some((pod, trouble)) = alive().find_map(|pod| Some((pod, device_trouble(pod)?))) {
        let message = format!("worker {}: {trouble}", pod.worker.name);
        return (Truth::False, pool_reason::DEVICE_MISSING, message);
    }
    if let Some((pod, trouble)) = alive()
        .filter(|pod| !connected(pod))
        .find_map(|pod| Some((pod, pod.trouble.as_ref()?)))
    {
        return (
            Truth::False,
            trouble.reason,
            format!("pod {}: {}", pod.worker.name, trouble.message),
        );
    }
    let ready = count(
        alive()
            .filter(|pod| pod.is_ready(&seen.spec.models))
            .count(),
    );
    let some = status.ready_replicas.min(wanted);
    let told = if some > ready {
        format!(
            "{ready} of {wanted} workers take tasks for all of its models, {some} for some of them"
        )
    } else {
        format!("{} of {wanted} workers take tasks", ready.min(wanted))
    };
    if ready >= wanted {
        let surplus = status.replicas.saturating_sub(wanted);
        let told = match surplus {
            ..=0 => told,
            _ => format!("{told}; {surplus} more finish what they do, and go"),
        };
        return (Truth::True, pool_reason::READY, told);
    }
    if alive().any(|pod| pod.phase == Phase::Running && !connected(pod)) {
        return (
            Truth::False,
            pool_reason::AWAITING_WORKERS,
            format!("{told}; the others have not dialled in yet"),
        );
    }
    if alive().any(|pod| connected(pod) && !pod.is_ready(&seen.spec.models)) {
        return (
            Truth::False,
            pool_reason::LOADING,
            match status
                .models
                .iter()
                .find_map(|model| model.message.as_ref())
            {
                Some(delayed) => format!("{told}; the others load their models: {delayed}"),
                None => format!("{told}; the others load their models"),
            },
        );
    }
    if let Some((pod, why)) = ended::newest(seen) {
        let again = match ended::next_try(seen).filter(|at| *at > seen.now) {
            Some(at) => format!(
                "the next one is made at {}",
                at.round(Unit::Second).unwrap_or(at)
            ),
            None => "another one is made".to_owned(),
        };
        return (
            Truth::False,
            pool_reason::PODS_ENDED,
            format!("{told}; pod {} ended: {why}; {again}", pod.worker.name),
        );
    }
    (
        Truth::False,
        pool_reason::PROGRESSING,
        format!("{told}; pods are being made"),
    )
}

/// What is wrong with one model, and what of the others.
fn with_others(seen: &Observed, status: &ModelPoolStatus, wrong: &ModelStatus) -> String {
    let message = wrong.message.clone().unwrap_or_default();
    let also = status
        .models
        .iter()
        .filter(|model| model.name != wrong.name && model.reason.is_some())
        .count();
    let good = status
        .models
        .iter()
        .filter(|model| model.reason.is_none() && model.ready_workers > 0)
        .count();
    let also = match also {
        0 => String::new(),
        _ => format!("; {also} of its other models are not ready either, see status.models"),
    };
    let good = match good {
        0 => String::new(),
        _ => format!(
            "; {} of {} workers take tasks for {good} of its models",
            status.ready_replicas.min(seen.spec.replicas),
            seen.spec.replicas,
        ),
    };
    ended_by(&message, &format!("{also}{good}"))
}

fn device_trouble(pod: &PodSeen) -> Option<&str> {
    pod.stream
        .as_ref()
        .filter(|stream| stream.is_connected)?
        .device_trouble
        .as_deref()
}

fn is_reason(model: &ModelStatus, reason: &str) -> bool {
    model.reason.as_deref() == Some(reason)
}

fn model_status(seen: &Observed, model: &Model) -> ModelStatus {
    let streams: Vec<&StreamSeen> = seen
        .pods
        .iter()
        .filter(|pod| pod.is_alive())
        .filter_map(|pod| pod.stream.as_ref())
        .filter(|stream| stream.is_connected && stream.device_trouble.is_none())
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
        ModelState::Loading { trouble } => trouble.as_ref(),
        ModelState::Failed { .. } | ModelState::Ready | ModelState::AwaitingUpload => None,
    });
    let missing = model
        .files
        .iter()
        .find(|file| model.source.upload.is_some() && !seen.received.contains(&file.sha256));
    let (reason, message) = match (missing, failed) {
        (Some(file), _) => (
            Some(pool_reason::AWAITING_UPLOAD),
            Some(awaits(seen, model, file)),
        ),
        (None, Some(message)) => (
            Some(pool_reason::WEIGHTS_FAILED),
            Some(format!("model {}: {message}", model.name)),
        ),
        (None, None) if ready < streams.len() => (
            Some(pool_reason::LOADING),
            delayed.map(|trouble| format!("model {}: {trouble}", model.name)),
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
fn awaits(seen: &Observed, model: &Model, file: &ModelFile) -> String {
    let waits = format!(
        "model {} waits for the upload of {} ({} bytes) to the link in status.uploads",
        model.name, file.path, file.bytes
    );
    match &seen.store_trouble {
        Some(trouble) => format!("{waits}; whether it is there is not known: {trouble}"),
        None => waits,
    }
}

fn uploads(seen: &Observed, signer: &dyn Signer) -> Vec<UploadStatus> {
    let files = seen
        .spec
        .models
        .iter()
        .filter(|model| model.source.upload.is_some())
        .flat_map(|model| &model.files)
        .map(|file| (file.sha256.as_str(), file.bytes));
    let renew = crate::uploads::is_renewal_due(
        seen.renew_links.as_deref(),
        seen.status.links_renewed_for.as_deref(),
    );
    let known = Known {
        old: &seen.status.uploads,
        received: &seen.received,
        renew,
        now: seen.now,
    };
    let place = Place {
        namespace: &seen.namespace,
        kind: OwnerKind::ModelPools,
        uid: &seen.uid,
    };
    let sign = |sha256: &str, bytes: i64, expires| signer.upload(&place, sha256, bytes, expires);
    crate::uploads::entries(files, &known, &sign)
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::pods::fixture::{observed, pod};
    use super::*;

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

    #[test]
    fn a_deleted_pool_says_what_keeps_it() {
        let mut seen = observed(1, vec![pod("p-r2-0", "r2", "")]);
        seen.kept_by = vec!["x/y".to_owned(), "z".to_owned()];
        let (truth, reason, message) = readiness(&seen, &ModelPoolStatus::default());
        assert_eq!((truth, reason), (Truth::False, "Deleting"));
        assert!(message.contains("keep it: x/y, z;"), "{message}");
    }
}
