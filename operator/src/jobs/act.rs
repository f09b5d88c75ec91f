//! Sends a plan's orders to workers, tells people, deletes what is past its time.

use framewright_crds::AIJob;
use framewright_crds::names::{OwnerKind, TaskId};
use framewright_crds::wire;
use jiff::{SignedDuration, Timestamp};
use kube::api::{Api, DeleteParams, Preconditions};
use kube::runtime::events::{Event, EventType};
use kube::{Resource, ResourceExt};

use crate::context::Context;
use crate::events;
use crate::links::Links;
use crate::stream::fleet::{Fleet, Sent};
use crate::writes;
use framewright_core::jobs::plan::Plan;
use framewright_core::jobs::plan::notes::Note;
use framewright_core::jobs::plan::orders::{Addressed, Order};
use framewright_core::jobs::seen::Observed;
use framewright_core::links::Place;
use framewright_core::names::PoolName;

/// How long a worker's grants live; it asks for new ones when it needs them longer.
const GRANT_LIFE: SignedDuration = SignedDuration::from_hours(6);

/// What could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot delete the finished job")]
    Delete(#[source] writes::Error),
}

/// Does what the plan says. Everything here may be repeated.
///
/// # Errors
/// [`Error`] when the API server refuses; orders that do not reach a worker are planned again.
pub async fn act(
    context: &Context,
    job: &AIJob,
    seen: &Observed,
    plan: &Plan,
) -> Result<(), Error> {
    let Plan {
        delete,
        status: _,
        orders,
        notes: _,
        awaits_look,
        look_again: _,
    } = plan;
    for order in orders {
        let Concerns { scheduler, pool } = send(&context.fleet, &context.links, seen, order);
        if scheduler {
            context.wake.scheduler.notify_one();
        }
        if let Some(pool) = pool {
            context.wake.pool(&pool.namespace, &pool.name);
        }
    }
    context
        .placements
        .await_look(&seen.uid, *awaits_look, seen.now);
    if *awaits_look {
        context.wake.scheduler.notify_one();
    }
    if *delete {
        tracing::info!(job = %format!("{}/{}", seen.namespace, seen.name), "deleting the job, ttlSecondsAfterFinished has passed");
        remove(context, job).await?;
    }
    Ok(())
}

/// Events of a plan whose status is now durable.
pub async fn tell(context: &Context, job: &AIJob, notes: &[Note]) {
    for Note {
        warning,
        reason,
        message,
        action,
    } in notes
    {
        let event = Event {
            type_: if *warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: reason.clone(),
            note: Some(message.clone()),
            action: action.clone(),
            secondary: None,
        };
        events::publish(context, event, &job.object_ref(&())).await;
    }
}

/// Who is to look, since an order was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Concerns {
    /// The scheduler: the worker has room now.
    pub scheduler: bool,
    /// The worker's pool: a busy period of it begins.
    pub pool: Option<PoolName>,
}

/// Sends one order to its worker; who is to look then.
pub fn send(
    fleet: &Fleet,
    links: &Links,
    seen: &Observed,
    Addressed { worker, order }: &Addressed,
) -> Concerns {
    let place = Place {
        namespace: &seen.namespace,
        kind: OwnerKind::AIJobs,
        uid: &seen.uid,
    };
    let job = format!("{}/{}", seen.namespace, seen.name);
    match order {
        Order::Run { task, .. } => {
            let sent =
                run_order(links, seen, order).map(|order| fleet.run(&worker.uid, order, seen.now));
            let Some(Sent::Yes { begins_period_of }) = sent else {
                return Concerns::default();
            };
            tracing::info!(%job, %task, worker = %worker.name, "task sent");
            Concerns {
                pool: begins_period_of,
                ..Concerns::default()
            }
        }
        Order::Upload { task, output } => {
            let expires = seen.now.checked_add(GRANT_LIFE).unwrap_or(seen.now);
            match links.worker_put(&place, output, expires) {
                Ok(url) => {
                    let sha256 = output.sha256.clone();
                    fleet.send(
                        &worker.uid,
                        wire::Order::Upload {
                            task: task.clone(),
                            sha256,
                            url,
                        },
                    );
                }
                Err(error) => {
                    tracing::warn!(%job, %task, %error, "a worker named an output that cannot be stored")
                }
            }
            Concerns::default()
        }
        Order::Settle { task } => tell_worker(
            fleet,
            &worker.uid,
            task,
            wire::Order::Settled { task: task.clone() },
            seen.now,
        ),
        Order::Cancel { task } => {
            let cancel = wire::Order::Cancel { task: task.clone() };
            let concerns = tell_worker(fleet, &worker.uid, task, cancel, seen.now);
            if concerns.scheduler {
                tracing::info!(%job, %task, worker = %worker.name, "task cancelled");
            }
            concerns
        }
    }
}

/// A worker that is told to forget a task is thought to have; if it has not, its next Hello says so.
fn tell_worker(
    fleet: &Fleet,
    uid: &str,
    task: &TaskId,
    order: wire::Order,
    now: Timestamp,
) -> Concerns {
    let is_told = fleet.send(uid, order);
    if is_told {
        fleet.forget(uid, task, now);
    }
    Concerns {
        scheduler: is_told,
        ..Concerns::default()
    }
}

/// The order with its grants signed.
fn run_order(links: &Links, seen: &Observed, order: &Order) -> Option<wire::TaskOrder> {
    let Order::Run {
        task,
        model,
        weights_digest,
        pipeline,
        inputs,
    } = order
    else {
        return None;
    };
    let place = Place {
        namespace: &seen.namespace,
        kind: OwnerKind::AIJobs,
        uid: &seen.uid,
    };
    let expires = seen.now.checked_add(GRANT_LIFE).ok()?;
    let inputs = inputs
        .iter()
        .map(|input| {
            Some(wire::InputOrder {
                name: input.name.clone(),
                sha256: input.sha256.clone(),
                bytes: input.bytes,
                url: links.worker_get(&place, &input.sha256, expires).ok()?,
            })
        })
        .collect::<Option<Vec<_>>>()?;
    Some(wire::TaskOrder {
        task: task.clone(),
        job: format!("{}/{}", seen.namespace, seen.name),
        model: model.clone(),
        digest: weights_digest.clone(),
        pipeline: pipeline.clone(),
        inputs,
    })
}

async fn remove(context: &Context, job: &AIJob) -> Result<(), Error> {
    let jobs: Api<AIJob> =
        Api::namespaced(context.client.clone(), &job.namespace().unwrap_or_default());
    let only_this = Preconditions {
        uid: job.uid(),
        resource_version: job.resource_version(),
    };
    let params = DeleteParams {
        preconditions: Some(only_this),
        ..DeleteParams::background()
    };
    let name = job.name_any();
    let deleting = jobs.delete(&name, &params);
    match writes::write(&context.leadership, writes::LIMIT, deleting).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(Error::Delete(error)),
    }
}
