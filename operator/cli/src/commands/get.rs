//! `get`: downloads the results of a job, or lists the jobs.

use std::path::Path;

use framewright_client::cluster::{ApiError, Cluster};
use framewright_client::objects::owner::Owner;
use framewright_client::screen::Screen;
use framewright_client::transfers::fetch;
use framewright_client::transfers::store::Store;
use framewright_crds::AIJob;
use framewright_crds::conditions::{self, job};
use jiff::Timestamp;
use kube::api::ListParams;

use crate::Ended;
use crate::args::Get;
use crate::commands::follow;
use crate::output::job_messages;
use crate::output::table;

/// Why there are no results.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Fetch(#[from] fetch::Error),
    #[error(
        "{owner} has not finished: it {state}; to follow it: kubectl framewright follow {} -n {}",
        owner.name, owner.namespace
    )]
    NotOver { owner: Owner, state: String },
}

pub(crate) async fn run(cluster: &Cluster, screen: &Screen, args: Get) -> Result<Ended, Error> {
    let Get {
        job,
        output,
        all_namespaces,
    } = args;
    let Some(name) = job else {
        return list(cluster, all_namespaces).await;
    };
    let owner = Owner::job(&cluster.namespace, &name);
    screen.set_farewell(format!(
        "stopped; to continue the download: kubectl framewright get {} -n {}",
        owner.name, owner.namespace
    ));
    let job = owner.read_job(cluster).await?;
    let status = job.status.clone().unwrap_or_default();
    if !conditions::is_true(&status.conditions, job::FINISHED) {
        let state =
            job_messages::state(&status).map_or("is new".to_owned(), job_messages::in_words);
        return Err(Error::NotOver { owner, state });
    }
    let ended = follow::report(screen, &owner, &job);
    results(cluster, screen, &owner, &job, &output).await?;
    Ok(ended)
}

/// Downloads all results of a job that has finished, and prints their paths, one a line.
pub(crate) async fn results(
    cluster: &Cluster,
    screen: &Screen,
    owner: &Owner,
    job: &AIJob,
    folder: &Path,
) -> Result<(), fetch::Error> {
    let store = Store { cluster };
    for output in job.status.iter().flat_map(|status| &status.outputs) {
        let path = fetch::fetch(&store, screen, owner, output, folder).await?;
        screen.print(&format!("{}\n", path.display()));
    }
    Ok(())
}

async fn list(cluster: &Cluster, all_namespaces: bool) -> Result<Ended, Error> {
    let (jobs, whose) = if all_namespaces {
        (cluster.all_jobs(), "all namespaces".to_owned())
    } else {
        (
            cluster.jobs(&cluster.namespace),
            format!("namespace {}", cluster.namespace),
        )
    };
    let found = jobs.list(&ListParams::default()).await;
    let found = found
        .map_err(ApiError::when(format!("list the AIJobs of {whose}")))?
        .items;
    if found.is_empty() {
        eprintln!("no AIJobs in {whose}");
    } else {
        print!("{}", table::jobs(&found, all_namespaces, Timestamp::now()));
    }
    Ok(Ended::Well)
}
