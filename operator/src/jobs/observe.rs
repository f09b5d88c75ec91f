//! Finds out all that a plan needs to know about one job.

use std::collections::{BTreeMap, BTreeSet};

use framewright_crds::AIJob;
use framewright_crds::aijob::Attempt;
use framewright_crds::deletion;
use framewright_crds::names::OwnerKind;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};

use crate::context::Context;
use crate::received::Doubt;
use framewright_core::jobs::plan::{attempt, is_finished, presence, resolve};
use framewright_core::jobs::seen::{Ended, Observed, Presence, StepSeen};
use framewright_core::links::Place;
use framewright_core::pools::pod as pods;

/// One snapshot, with the time in it.
pub async fn observe(job: &AIJob, context: &Context) -> Observed {
    let now = context.now();
    let namespace = job.namespace().unwrap_or_default();
    let uid = job.uid().unwrap_or_default();
    let status = job.status.clone().unwrap_or_default();
    let place = Place {
        namespace: &namespace,
        kind: OwnerKind::AIJobs,
        uid: &uid,
    };
    let created = job
        .metadata
        .creation_timestamp
        .as_ref()
        .map_or(now, |created| created.0);
    let is_over = is_finished(&status);
    let held = context.fleet.held_by(&uid);
    let renew_links = framewright_core::uploads::renewal(job.annotations());
    let doubt = Doubt::of(
        held.iter().any(|held| held.store_trouble.is_some()),
        framewright_core::uploads::is_renewal_due(
            renew_links.as_deref(),
            status.links_renewed_for.as_deref(),
        ),
    );
    let (received, store_trouble) = if is_over {
        context.received.forget(&uid);
        (BTreeSet::new(), None)
    } else {
        let uploads = (&status.uploads[..], doubt);
        let answer = context.received.look(&place, &job.name_any(), uploads);
        (answer.received, answer.trouble)
    };
    let steps = if is_over {
        BTreeMap::new()
    } else {
        steps(job, (&namespace, &uid), now, context).await
    };
    Observed {
        name: job.name_any(),
        generation: job.metadata.generation,
        created,
        spec: job.spec.clone(),
        renew_links,
        now,
        written_at: context.recent_jobs.written_at(&uid),
        received,
        store_trouble,
        steps,
        held,
        kept_by: deletion::kept_by(&job.metadata),
        namespace,
        uid,
        status,
    }
}

/// Asks the API server for the job itself, and remembers the answer; whether it is still there.
///
/// # Errors
/// The API server's own.
pub async fn read_live(
    job: &AIJob,
    context: &Context,
    epoch: u64,
) -> Result<bool, Box<kube::Error>> {
    let namespace = job.namespace().unwrap_or_default();
    let jobs: Api<AIJob> = Api::namespaced(context.client.clone(), &namespace);
    let live = jobs.get_opt(&job.name_any()).await?;
    let Some(live) = live.filter(|live| live.uid() == job.uid()) else {
        return Ok(false);
    };
    context.recent_jobs.read(&live, epoch, context.now());
    Ok(true)
}

async fn steps(
    job: &AIJob,
    (namespace, uid): (&str, &str),
    now: Timestamp,
    context: &Context,
) -> BTreeMap<String, StepSeen> {
    let facts = context.pool_facts();
    let labels = context.namespace_labels();
    let mut steps = BTreeMap::new();
    for step in &job.spec.steps {
        let known = job
            .status
            .iter()
            .flat_map(|status| &status.steps)
            .find(|status| status.name == step.name);
        let open = known.and_then(attempt::open);
        let (presence, leaves_at, restart) = match open {
            Some(open) => {
                let (presence, leaves_at, restart) = worker(open, context).await;
                (Some(presence), leaves_at, restart)
            }
            None => (None, None, None),
        };
        let resolution = resolve::resolve(
            namespace,
            step,
            &facts,
            &context.args.catalog_namespaces,
            &labels,
        );
        let seen = StepSeen {
            resolution: Some(resolution),
            binding: context.placements.binding(uid, &step.name),
            presence,
            leaves_at,
            restart,
            begun_at: open.and_then(|open| {
                let task = attempt::task_id(uid, &step.name, open.number);
                context.fleet.begun_at(&open.pod_uid, &task)
            }),
            awaits_look: context.placements.awaits_look(uid, &step.name, now),
        };
        steps.insert(step.name.clone(), seen);
    }
    steps
}

/// The worker of an attempt: whether it is there, when its pod ends, if that was asked for, and how its process ended, if it did.
async fn worker(open: &Attempt, context: &Context) -> (Presence, Option<Timestamp>, Option<Ended>) {
    let stream = context.fleet.presence(&open.pod_uid);
    let pod = context
        .caches
        .pods
        .get(&ObjectRef::new(&open.worker).within(&open.namespace))
        .filter(|pod| pod.uid().as_deref() == Some(open.pod_uid.as_str()));
    let has_pod = match (&pod, &stream) {
        (Some(_), _) | (None, Some(Presence::Connected)) => true,
        (None, Some(Presence::Away { .. } | Presence::Gone(_)) | None) => {
            is_pod_there(open, context).await
        }
    };
    let leaves_at = pod.as_ref().and_then(|pod| pods::leaves_at(pod));
    let restart = pod.and_then(|pod| pods::ended_since(&pod, open.bound_at.0));
    let since = context.leads_since();
    let is_leaving = context.leaving.has(&open.pod_uid);
    let presence = presence::presence(open, stream, (has_pod, is_leaving), restart.as_ref(), since);
    (presence, leaves_at, restart)
}

/// A cache that does not show a pod proves nothing: the API server itself says whether it is gone. One that cannot be asked leaves
/// the worker its time to come back.
async fn is_pod_there(open: &Attempt, context: &Context) -> bool {
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &open.namespace);
    match pods.get_metadata_opt(&open.worker).await {
        Ok(found) => {
            found.is_some_and(|found| found.uid().as_deref() == Some(open.pod_uid.as_str()))
        }
        Err(error) => {
            tracing::warn!(worker = %open.worker, error = %crate::chain(&error), "cannot read a worker's pod");
            true
        }
    }
}
