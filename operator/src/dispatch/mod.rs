//! Runs the scheduler whenever something changed: gathers pending steps and free slots, records the decisions, wakes the jobs.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use framewright_crds::AIJob;
use framewright_crds::names::TaskId;
use jiff::Timestamp;
use kube::ResourceExt;

use crate::context::Context;
use crate::stream::fleet::Fleet;
use framewright_core::schedule::gather::{self, Around, Gathered};
use framewright_core::schedule::placements::Placements;
use framewright_core::schedule::schedule;

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
    // Before the jobs: see Placed.
    let placed = context.placements.snapshot();
    let jobs: Vec<AIJob> = live_jobs(context);
    let around = Around {
        pools: &context.pool_facts(),
        catalog: &context.args.catalog_namespaces,
        labels: &context.namespace_labels(),
        placed: &placed,
        succeeded: &context.fleet.succeeded(),
        now,
    };
    let received = |uid: &str| context.received.of(uid);
    let gathered = gather::gather(&jobs, &around, &received);
    let touched = look(gathered, &context.placements, &context.fleet, now);
    for job in &jobs {
        if job.uid().is_some_and(|uid| touched.contains(&uid)) {
            context
                .wake
                .job(&job.namespace().unwrap_or_default(), &job.name_any());
        }
    }
}

/// Places what there is room for and records it, with what found no room; UIDs of the jobs that are to look at that.
#[must_use]
pub fn look(
    gathered: Gathered,
    placements: &Placements,
    fleet: &Fleet,
    now: Timestamp,
) -> BTreeSet<String> {
    let Gathered {
        pending,
        running,
        taken,
    } = gathered;
    let mut without_room: BTreeSet<(String, String)> = pending
        .iter()
        .map(|step| (step.job_uid.clone(), step.step.clone()))
        .collect();
    let placed = schedule(pending, fleet.slots(&taken), &running);
    let mut touched: BTreeSet<String> = placed
        .iter()
        .map(|placement| placement.job_uid.clone())
        .collect();
    for placement in &placed {
        without_room.remove(&(placement.job_uid.clone(), placement.step.clone()));
    }
    placements.add(placed, now);
    touched.extend(placements.found_no_room(without_room));
    touched
}

/// Tasks that are bound to each pod UID, or about to be.
#[must_use]
pub fn taken(context: &Context) -> HashMap<String, BTreeSet<TaskId>> {
    let placed = context.placements.snapshot();
    gather::taken(&live_jobs(context), &placed)
}

/// The newest known state of all jobs that are neither over nor being deleted.
fn live_jobs(context: &Context) -> Vec<AIJob> {
    context
        .caches
        .jobs
        .state()
        .iter()
        .filter_map(|job| job.0.as_ref().ok())
        .map(|job| context.recent_jobs.newest(job))
        .filter(gather::is_live)
        .collect()
}
