//! `follow`: watches a job until it has finished, with a line for each change and a bar for each step, and prints the result.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use framewright_client::cluster::{ApiError, Cluster};
use framewright_client::objects::finalizers::kept_by;
use framewright_client::objects::owner::Owner;
use framewright_client::screen::Screen;
use framewright_crds::AIJob;
use framewright_crds::aijob::{AIJobStatus, StepState, StepStatus};
use framewright_crds::conditions::{self, job};
use futures::StreamExt as _;
use indicatif::ProgressBar;
use jiff::Timestamp;
use kube::runtime::{WatchStreamExt as _, watcher};
use tokio::time::{Instant, interval};

use crate::Ended;
use crate::args::Follow;
use crate::output::job_messages;
use crate::output::step_messages;
use crate::output::table;

/// How long the API server may be unavailable.
const AWAY: Duration = Duration::from_secs(300);
/// How long the operator may take to observe a job before a line says so. Without bars it is also the interval of progress lines.
const LINE_INTERVAL: Duration = Duration::from_secs(30);

/// Why the end of a job was not observed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(
        "{owner} does not exist any more: somebody deleted it, or its ttlSecondsAfterFinished passed"
    )]
    Gone { owner: Owner },
    #[error(
        "{owner} is being deleted and its work stops, but finalizers keep it: {finalizers}; the controllers that added them must remove them"
    )]
    Kept { owner: Owner, finalizers: String },
    #[error(
        "cannot watch {owner}; the job continues; to follow it again: kubectl framewright follow {} -n {}",
        owner.name, owner.namespace
    )]
    Away {
        owner: Owner,
        #[source]
        source: watcher::Error,
    },
}

pub(crate) async fn run(cluster: &Cluster, screen: &Screen, args: Follow) -> Result<Ended, Error> {
    let Follow { job } = args;
    let owner = Owner::job(&cluster.namespace, &job);
    owner.read_job(cluster).await?;
    screen.set_farewell(farewell(&owner));
    let job = until_over(cluster, screen, &owner, &BTreeSet::new()).await?;
    let ended = report(screen, &owner, &job);
    if ended == Ended::Well {
        screen.say(&format!(
            "its results: kubectl framewright get {} -n {}",
            owner.name, owner.namespace
        ));
    }
    Ok(ended)
}

/// The message for Ctrl-C.
pub(crate) fn farewell(owner: &Owner) -> String {
    let Owner {
        namespace, name, ..
    } = owner;
    format!(
        "{owner} continues in the cluster.\n  to follow it: kubectl framewright follow {name} -n {namespace}\n  to cancel it: kubectl framewright cancel {name} -n {namespace}"
    )
}

/// Watches a job until it has finished, and returns it. The files with the digests `sent` have just been uploaded for it.
pub(crate) async fn until_over(
    cluster: &Cluster,
    screen: &Screen,
    owner: &Owner,
    sent: &BTreeSet<String>,
) -> Result<AIJob, Error> {
    let watch =
        watcher::watch_object(cluster.jobs(&owner.namespace), &owner.name).default_backoff();
    let mut watch = std::pin::pin!(watch);
    let mut bars = Bars::default();
    let mut before = AIJobStatus::default();
    let mut last_event = Instant::now();
    let mut is_away = false;
    let mut clock = interval(LINE_INTERVAL);
    clock.reset();
    loop {
        let event = tokio::select! {
            event = watch.next() => event,
            _ = clock.tick() => {
                let unnoticed = job_messages::state(&before)
                    .filter(|state| job_messages::is_awaited_though_sent(&before, state, sent));
                if let Some(state) = unnoticed {
                    screen.say(&format!("{}: {}", owner.name, job_messages::in_words(state)));
                }
                if before.observed_generation.is_none() && !is_away {
                    screen.say(&format!("{}: the operator has not reconciled it for {} s; check whether it runs with `kubectl get pods -A -l app.kubernetes.io/name=framewright`", owner.name, LINE_INTERVAL.as_secs()));
                }
                if !screen.is_terminal && !is_away {
                    for line in job_messages::progress(&owner.name, &before, Timestamp::now()) {
                        screen.say(&line);
                    }
                }
                continue;
            }
        };
        let job = match event {
            Some(Ok(Some(job))) => job,
            Some(Ok(None)) | None => {
                return Err(Error::Gone {
                    owner: owner.clone(),
                });
            }
            Some(Err(source)) => {
                if is_final(&source) || last_event.elapsed() > AWAY {
                    return Err(Error::Away {
                        owner: owner.clone(),
                        source,
                    });
                }
                if !is_away {
                    screen.say(&format!(
                        "{}: the API server does not answer; the plugin tries again for {} s",
                        owner.name,
                        AWAY.as_secs()
                    ));
                }
                is_away = true;
                continue;
            }
        };
        last_event = Instant::now();
        is_away = false;
        let status = job.status.clone().unwrap_or_default();
        let progress_at = (!screen.is_terminal).then(Timestamp::now);
        for line in job_messages::changes(&owner.name, &before, &status, sent, progress_at) {
            screen.say(&line);
        }
        bars.show(screen, &owner.name, &status.steps);
        if conditions::is_true(&status.conditions, job::FINISHED) {
            return Ok(job);
        }
        if let Some(finalizers) = kept_by(&job) {
            return Err(Error::Kept {
                owner: owner.clone(),
                finalizers,
            });
        }
        before = status;
    }
}

fn is_final(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => {
            matches!(error, kube::Error::Api(status) if [401, 403, 404].contains(&status.code))
        }
        watcher::Error::WatchError(_) | watcher::Error::NoResourceVersion => false,
    }
}

/// A bar for each step that is starting or running.
#[derive(Default)]
struct Bars(BTreeMap<String, ProgressBar>);

impl Bars {
    fn show(&mut self, screen: &Screen, job: &str, steps: &[StepStatus]) {
        for step in steps {
            match step.state {
                StepState::Starting | StepState::Running => {
                    let bar = self.0.entry(step.name.clone());
                    let bar = bar.or_insert_with(|| screen.step(format!("{job}/{}", step.name)));
                    let percent = step
                        .progress
                        .as_ref()
                        .map_or(0, |progress| progress.percent);
                    bar.set_position(u64::try_from(percent).unwrap_or(0));
                    bar.set_message(step_messages::beside_bar(step, Timestamp::now()));
                }
                StepState::Blocked
                | StepState::Queued
                | StepState::Succeeded
                | StepState::Failed
                | StepState::Skipped
                | StepState::Unknown => {
                    if let Some(bar) = self.0.remove(&step.name) {
                        bar.finish_and_clear();
                    }
                }
            }
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        for bar in self.0.values() {
            bar.finish_and_clear();
        }
    }
}

/// Prints the result of a job: its steps, and why it failed.
pub(crate) fn report(screen: &Screen, owner: &Owner, job: &AIJob) -> Ended {
    let status = job.status.clone().unwrap_or_default();
    let steps = table::steps(&status.steps, Timestamp::now());
    screen.print(&format!("{owner}\n{steps}"));
    if conditions::is_true(&status.conditions, job::SUCCEEDED) {
        return Ended::Well;
    }
    let reason = job_messages::state(&status).map_or("without a reason".to_owned(), |state| {
        format!("{}, {}", state.reason, state.message)
    });
    screen.say(&format!("{owner} failed: {reason}"));
    Ended::JobFailed
}
