//! Finds out all that a plan needs to know about one pool.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use framewright_crds::ModelPool;
use framewright_crds::deletion;
use framewright_crds::names::{LABEL_POOL, OwnerKind};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams};

use crate::context::Context;
use crate::dispatch;
use crate::received::{Answer, Doubt};
use crate::writes;
use framewright_core::links::Place;
use framewright_core::pools::pod::{pod_seen, pool_of};
use framewright_core::pools::seen::{Observed, PodSeen};
use framewright_core::pools::template::Template;

/// How long the API server may take to list the pods of a pool.
const LIST_LIMIT: Duration = Duration::from_secs(20);

/// One snapshot, with the time in it.
pub fn observe(pool: &ModelPool, template: &Template, context: &Context) -> Observed {
    let now = context.now();
    let namespace = pool.namespace().unwrap_or_default();
    let uid = pool.uid().unwrap_or_default();
    let status = pool.status.clone().unwrap_or_default();
    let place = Place {
        namespace: &namespace,
        kind: OwnerKind::ModelPools,
        uid: &uid,
    };
    let pods = context
        .caches
        .pods
        .state_filter(|pod| is_of(pod, &namespace, &uid));
    let annotations = template.pod.metadata.annotations.as_ref();
    let pods = pods_seen(pods.iter().map(AsRef::as_ref), annotations, context, now);
    context.deleted.seen(&uid, &pods);
    let renew_links = framewright_core::uploads::renewal(pool.annotations());
    let doubt = Doubt::of(
        pods.iter().any(PodSeen::waits_for_weights),
        framewright_core::uploads::is_renewal_due(
            renew_links.as_deref(),
            status.links_renewed_for.as_deref(),
        ),
    );
    let uploads = (&status.uploads[..], doubt);
    let Answer { received, trouble } = context.received.look(&place, &pool.name_any(), uploads);
    Observed {
        name: pool.name_any(),
        generation: pool.metadata.generation,
        spec: pool.spec.clone(),
        renew_links,
        now,
        leads_since: context.leads_since(),
        revision: template.revision.clone(),
        refused: context.refusals.get(&uid),
        failing: context.failures.get(&uid),
        deleted: context.deleted.get(&uid),
        kept_by: deletion::kept_by(&pool.metadata),
        namespace,
        uid,
        status,
        pods,
        received,
        store_trouble: trouble,
    }
}

/// The pool's pods as the API server itself tells them, in place of those that a cache shows.
///
/// # Errors
/// The API server's own, or that it does not answer.
pub async fn live_pods(
    seen: &Observed,
    template: &Template,
    context: &Context,
) -> Result<Vec<PodSeen>, writes::Error> {
    let pods: Api<Pod> = Api::namespaced(context.pods_client.clone(), &seen.namespace);
    let params = ListParams::default().labels(&format!("{LABEL_POOL}={}", seen.name));
    let listed = writes::in_time(LIST_LIMIT, pods.list(&params)).await?;
    let own = listed
        .items
        .iter()
        .filter(|pod| is_of(pod, &seen.namespace, &seen.uid));
    let annotations = template.pod.metadata.annotations.as_ref();
    let pods = pods_seen(own, annotations, context, seen.now);
    context.deleted.listed(&seen.uid, &pods, seen.now);
    Ok(pods)
}

fn pods_seen<'a>(
    pods: impl Iterator<Item = &'a Pod>,
    template: Option<&BTreeMap<String, String>>,
    context: &Context,
    now: Timestamp,
) -> Vec<PodSeen> {
    let taken = dispatch::taken(context);
    let mut pods: Vec<PodSeen> = pods
        .map(|pod| {
            let uid = pod.uid().unwrap_or_default();
            let bound = taken.get(&uid).map_or(0, BTreeSet::len);
            pod_seen(pod, template, context.fleet.stream_seen(&uid), bound, now)
        })
        .collect();
    pods.sort_by(|a, b| a.worker.cmp(&b.worker));
    pods
}

fn is_of(pod: &Pod, namespace: &str, pool_uid: &str) -> bool {
    pod.namespace().as_deref() == Some(namespace)
        && pool_of(pod).is_some_and(|(_, uid)| uid == pool_uid)
}
