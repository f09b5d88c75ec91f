//! Finds out all that a plan needs to know about one job.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use framewright_crds::AIJob;
use framewright_crds::aijob::{Attempt, Cause, Step};
use framewright_crds::names::{ANNOTATION_RENEW_LINKS, OwnerKind};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use super::plan::{attempt, is_finished, resolve};
use super::seen::{Ended, Observed, Presence, StepSeen};
use crate::context::Context;
use crate::links::Place;
use crate::pools::{facts, observe as pods};

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
    let (received, store_trouble) = if is_over {
        (BTreeSet::new(), None)
    } else {
        let answer = context
            .received
            .ask(&context.store, &place, &status.uploads, (created, now))
            .await;
        (answer.received, answer.trouble)
    };
    let steps = if is_over {
        BTreeMap::new()
    } else {
        steps(job, (&namespace, &uid), now, context)
    };
    Observed {
        name: job.name_any(),
        generation: job.metadata.generation,
        created,
        spec: job.spec.clone(),
        renew_links: job.annotations().get(ANNOTATION_RENEW_LINKS).cloned(),
        now,
        written_at: context.recent_jobs.written_at(&uid),
        received,
        store_trouble,
        steps,
        held: context.fleet.held_by(&uid),
        namespace,
        uid,
        status,
    }
}

fn steps(
    job: &AIJob,
    (namespace, uid): (&str, &str),
    now: Timestamp,
    context: &Context,
) -> BTreeMap<String, StepSeen> {
    let facts = facts::gather(context);
    let labels = facts::namespace_labels(context);
    let of = |step: &Step| {
        let status = job
            .status
            .iter()
            .flat_map(|status| &status.steps)
            .find(|status| status.name == step.name);
        let open = status.and_then(attempt::open);
        let pod = open.and_then(|open| pod_of(open, context));
        let restart = open
            .zip(pod.as_ref())
            .and_then(|(open, pod)| pods::ended_since(pod, open.bound_at.0));
        StepSeen {
            resolution: Some(resolve::resolve(
                namespace,
                step,
                &facts,
                &context.args.catalog_namespaces,
                &labels,
            )),
            binding: context.placements.binding(uid, &step.name),
            presence: open.map(|open| presence(open, pod.is_some(), restart.as_ref(), context)),
            restart,
            begun_at: open.and_then(|open| {
                let task = attempt::task_id(uid, &step.name, open.number);
                context.fleet.begun_at(&open.pod_uid, &task)
            }),
            awaits_look: context.placements.awaits_look(uid, &step.name, now),
        }
    };
    job.spec
        .steps
        .iter()
        .map(|step| (step.name.clone(), of(step)))
        .collect()
}

fn pod_of(open: &Attempt, context: &Context) -> Option<Arc<Pod>> {
    let pod = context
        .caches
        .pods
        .get(&ObjectRef::new(&open.worker).within(&open.namespace))?;
    (pod.uid().as_deref() == Some(open.pod_uid.as_str())).then_some(pod)
}

/// Whether the worker of an attempt is there. The stream's word comes first: a pod that answers is alive.
fn presence(open: &Attempt, has_pod: bool, ended: Option<&Ended>, context: &Context) -> Presence {
    let linked = context.fleet.presence(&open.pod_uid);
    match (linked, ended) {
        (Some(Presence::Connected), _) => Presence::Connected,
        (_, Some(ended)) => Presence::Gone(ended.clone()),
        (Some(away), None) if has_pod => away,
        (None, None) if has_pod => Presence::Away {
            since: context.leads_since(),
        },
        (_, None) => Presence::Gone(Ended {
            cause: Cause::WorkerLost,
            message: format!("worker pod {} is gone", open.worker),
        }),
    }
}
