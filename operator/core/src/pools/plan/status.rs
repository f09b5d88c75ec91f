//! A pool's next status: the Ready condition, the models, the upload links.

use framewright_crds::aijob::UploadStatus;
use framewright_crds::conditions::{pool, pool_reason, set, shortened};
use framewright_crds::modelpool::{Model, ModelFile, ModelPoolStatus, ModelStatus};
use framewright_crds::names::{LABEL_POOL, OwnerKind};
use framewright_crds::wire::ModelState;

use super::readiness::readiness;
use crate::links::{Place, Signer};
use crate::pools::seen::{Observed, StreamSeen};
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
    if let Some(error) = &seen.failing.delete {
        tell(&mut status, error);
    }
    status
}

/// Has the Ready condition say what could not be done.
fn tell(status: &mut ModelPoolStatus, trouble: &str) {
    let ready = status.conditions.iter_mut();
    for ready in ready.filter(|condition| condition.type_ == pool::READY) {
        ready.message = shortened(&format!("{trouble}; {}", ready.message));
    }
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

pub(super) fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use framewright_crds::conditions::Truth;

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
