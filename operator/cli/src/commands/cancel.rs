//! `cancel`: deletes a job, which stops its work and deletes its results.

use std::io::Write as _;
use std::time::Duration;

use framewright_client::cluster::{ApiError, Cluster};
use framewright_client::objects::owner::Owner;
use framewright_client::screen::Screen;
use framewright_crds::aijob::StepState;
use framewright_crds::conditions::{self, job};
use kube::api::{DeleteParams, Preconditions};
use tokio::time::{Instant, sleep};

use crate::Ended;
use crate::args::Cancel;

/// How long the deletion may take.
const GONE: Duration = Duration::from_secs(60);
/// How often the job is read during the deletion.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Why the job was not cancelled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error("cannot read an answer; use --yes to delete without a question")]
    Ask(#[source] std::io::Error),
    #[error(
        "{owner} was not cancelled, because the answer was not yes; use --yes to delete without a question"
    )]
    Declined { owner: Owner },
    #[error(
        "{owner} is marked for deletion and still there after {} s; check whether the operator runs with `kubectl get pods -A -l app.kubernetes.io/name=framewright`",
        GONE.as_secs()
    )]
    StillThere { owner: Owner },
    #[error(
        "{owner} is marked for deletion and its work stops, but finalizers keep it: {finalizers}; the controllers that added them must remove them"
    )]
    Kept { owner: Owner, finalizers: String },
}

pub(crate) async fn run(cluster: &Cluster, screen: &Screen, args: Cancel) -> Result<Ended, Error> {
    let Cancel { job, yes } = args;
    let owner = Owner::job(&cluster.namespace, &job);
    screen.set_farewell(format!(
        "stopped; check whether the job still exists with `kubectl get aijob {} -n {}`",
        owner.name, owner.namespace
    ));
    let jobs = cluster.jobs(&owner.namespace);
    let job = owner.read_job(cluster).await?;
    let status = job.status.clone().unwrap_or_default();
    let done = status
        .steps
        .iter()
        .filter(|step| step.state == StepState::Succeeded)
        .count();
    let is_over = conditions::is_true(&status.conditions, job::FINISHED);
    if !yes && !ask(&question(&owner, is_over, done)).await? {
        return Err(Error::Declined { owner });
    }
    let params = DeleteParams {
        // A new job of the same name must not be deleted.
        preconditions: Some(Preconditions {
            uid: job.metadata.uid.clone(),
            ..Preconditions::default()
        }),
        ..DeleteParams::background()
    };
    jobs.delete(&owner.name, &params)
        .await
        .map_err(ApiError::when(format!("delete {owner}")))?;
    let begun = Instant::now();
    loop {
        let there = owner.find_job(cluster).await?;
        let Some(there) = there.filter(|there| there.metadata.uid == job.metadata.uid) else {
            break;
        };
        if begun.elapsed() >= GONE {
            let finalizers = there.metadata.finalizers.unwrap_or_default().join(", ");
            return Err(match finalizers.as_str() {
                "" => Error::StillThere { owner },
                _ => Error::Kept { owner, finalizers },
            });
        }
        sleep(POLL_INTERVAL).await;
    }
    println!("{owner} is deleted{}", with_results(done));
    Ok(Ended::Well)
}

fn question(owner: &Owner, is_over: bool, done: usize) -> String {
    let what = if is_over { "Delete" } else { "Stop and delete" };
    format!("{what} {owner}{}? [y/N] ", with_results(done))
}

fn with_results(done: usize) -> String {
    match done {
        0 => String::new(),
        1 => ", with the result of its finished step".to_owned(),
        more => format!(", with the results of its {more} finished steps"),
    }
}

async fn ask(question: &str) -> Result<bool, Error> {
    eprint!("{question}");
    let _ = std::io::stderr().flush();
    let reading = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).map(|_| answer)
    });
    let answer = reading
        .await
        .map_err(|stopped| Error::Ask(std::io::Error::other(stopped)))?;
    let answer = answer.map_err(Error::Ask)?.trim().to_ascii_lowercase();
    Ok(answer == "y" || answer == "yes")
}
