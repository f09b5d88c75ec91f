//! Runs the scheduler whenever something changed: gathers pending steps and free slots, records the decisions, wakes the jobs.

pub mod placements;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use framewright_crds::AIJob;
use framewright_crds::aijob::{StepState, StepStatus};
use framewright_crds::names::TaskId;
use jiff::Timestamp;
use kube::ResourceExt;

use crate::context::Context;
use crate::jobs::plan::{attempt, is_finished, resolve, steps};
use crate::jobs::seen::Resolution;
use crate::pools::facts;
use crate::schedule::{Pending, schedule};

/// Changes that come together are looked at together.
const GATHER: Duration = Duration::from_millis(3);
/// A look though nothing seems to have changed: retries come due by time alone.
const AT_LEAST_EVERY: Duration = Duration::from_secs(1);

/// Schedules for ever.
pub async fn run(context: Arc<Context>) {
    loop {
        let woken = context.wake.scheduler.notified();
        let _ = tokio::time::timeout(AT_LEAST_EVERY, woken).await;
        tokio::time::sleep(GATHER).await;
        if context.leadership.epoch().is_some() {
            dispatch(&context);
        }
    }
}

/// One look at everything.
fn dispatch(context: &Context) {
    let now = context.now();
    context.placements.expire(now);
    let jobs: Vec<AIJob> = live_jobs(context);
    let facts = facts::gather(context);
    let labels = facts::namespace_labels(context);
    let succeeded = context.fleet.succeeded();
    let mut pending = Vec::new();
    let mut running: BTreeMap<String, u32> = BTreeMap::new();
    let mut taken: HashMap<String, BTreeSet<TaskId>> = context.placements.taken();
    for job in &jobs {
        let (Some(namespace), Some(uid)) = (job.namespace(), job.uid()) else {
            continue;
        };
        let known = job.status.as_ref().map_or(&[][..], |status| &status.steps);
        let steps = steps::foreseen(&uid, known, &succeeded);
        for (pod, task) in open_tasks(&steps, &uid) {
            *running.entry(namespace.clone()).or_insert(0) += 1;
            taken.entry(pod).or_default().insert(task);
        }
        let resolve = |step: &framewright_crds::aijob::Step| {
            resolve::resolve(
                &namespace,
                step,
                &facts,
                &context.args.catalog_namespaces,
                &labels,
            )
        };
        pending.extend(pending_steps(
            context,
            job,
            (&namespace, &uid),
            &steps,
            now,
            &resolve,
        ));
    }
    let mut without_room: BTreeSet<(String, String)> = pending
        .iter()
        .map(|step| (step.job_uid.clone(), step.step.clone()))
        .collect();
    let placements = schedule(pending, context.fleet.slots(&taken), &running);
    let mut touched: BTreeSet<String> = placements
        .iter()
        .map(|placement| placement.job_uid.clone())
        .collect();
    context.placements.add(placements, now);
    without_room.retain(|(uid, step)| !context.placements.has(uid, step));
    touched.extend(context.placements.found_no_room(without_room));
    for job in &jobs {
        if job.uid().is_some_and(|uid| touched.contains(&uid)) {
            context
                .wake
                .job(&job.namespace().unwrap_or_default(), &job.name_any());
        }
    }
}

/// Jobs that are neither over, suspended nor being deleted.
fn live_jobs(context: &Context) -> Vec<AIJob> {
    context
        .caches
        .jobs
        .state()
        .iter()
        .filter_map(|job| job.0.as_ref().ok())
        .map(|job| context.recent_jobs.newest(job))
        .filter(|job| job.metadata.deletion_timestamp.is_none())
        .filter(|job| !job.status.as_ref().is_some_and(is_finished))
        .collect()
}

fn open_tasks(steps: &[StepStatus], uid: &str) -> Vec<(String, TaskId)> {
    steps
        .iter()
        .filter(|step| !step.state.is_terminal())
        .filter_map(|step| {
            let open = attempt::open(step)?;
            Some((
                open.pod_uid.clone(),
                attempt::task_id(uid, &step.name, open.number),
            ))
        })
        .collect()
}

fn pending_steps(
    context: &Context,
    job: &AIJob,
    (namespace, uid): (&str, &str),
    known_steps: &[StepStatus],
    now: Timestamp,
    resolve: &dyn Fn(&framewright_crds::aijob::Step) -> Resolution,
) -> Vec<Pending> {
    if job.spec.suspend {
        return Vec::new();
    }
    let received = context.received.of(uid);
    let created = job
        .metadata
        .creation_timestamp
        .as_ref()
        .map_or(now, |created| created.0);
    let is_doomed = known_steps
        .iter()
        .any(|step| step.state == StepState::Failed);
    if is_doomed {
        return Vec::new();
    }
    job.spec
        .steps
        .iter()
        .filter_map(|step| {
            let known = known_steps.iter().find(|known| known.name == step.name);
            if !steps::is_pending(step, known, known_steps, &received, now)
                || context.placements.has(uid, &step.name)
            {
                return None;
            }
            // One that may run nowhere is looked at all the same: its job waits for that.
            let pools = match resolve(step) {
                Resolution::Pools { pools, .. } => pools,
                Resolution::ModelNotFound { .. }
                | Resolution::PoolNotFound { .. }
                | Resolution::ModelNotInPool { .. }
                | Resolution::NotAllowed { .. } => Vec::new(),
            };
            let attempts = known.iter().flat_map(|known| &known.attempts);
            let makers = step
                .inputs
                .iter()
                .filter_map(|input| input.from_step.as_ref())
                .filter_map(|from| {
                    let maker = known_steps.iter().find(|maker| maker.name == from.name)?;
                    Some(maker.attempts.last()?.pod_uid.clone())
                });
            Some(Pending {
                job_uid: uid.to_owned(),
                step: step.name.clone(),
                namespace: namespace.to_owned(),
                model: step.model.clone(),
                pools,
                priority: job.spec.priority,
                since: known
                    .and_then(|known| known.queued_at.as_ref())
                    .map_or(created, |since| since.0),
                avoid: attempts
                    .filter(|attempt| attempt.cause.is_some())
                    .map(|attempt| attempt.pod_uid.clone())
                    .collect(),
                near: makers.collect(),
            })
        })
        .collect()
}
