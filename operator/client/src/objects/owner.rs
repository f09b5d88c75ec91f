//! A job or pool that has files: the uploads, results and presigned links in its status.

use std::fmt;
use std::time::Duration;

use framewright_crds::aijob::{OutputStatus, UploadStatus};
use framewright_crds::conditions;
use framewright_crds::names::{ANNOTATION_RENEW_LINKS, OwnerKind};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::cluster::{ApiError, Cluster};
use crate::objects::links::{Choice, Found, Wanted, choose};

/// How long the operator may take to write links into a status.
const LINKS: Duration = Duration::from_secs(60);
/// How often the status is read while a link is waited for.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How long a file may be missing in the status of an observed object before that is an error.
const GRACE: Duration = Duration::from_secs(5);

/// Names a job or a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// AIJob or ModelPool.
    pub kind: OwnerKind,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

impl fmt::Display for Owner {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Owner {
            kind,
            namespace,
            name,
        } = self;
        write!(
            out,
            "{} {namespace}/{name}",
            crate::documents::manifest::kind_name(*kind)
        )
    }
}

/// What a status says about files.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Files {
    /// Whether the operator has observed the newest spec.
    pub is_observed: bool,
    /// The files that the object needs in the store.
    pub uploads: Vec<UploadStatus>,
    /// The results of a job.
    pub outputs: Vec<OutputStatus>,
    /// The newest request for links that has been answered.
    pub links_renewed_for: Option<String>,
    /// The reason, if the job has finished and takes no more files.
    pub over: Option<String>,
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused a request or did not answer.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The operator has not written it in time.
    #[error(
        "{owner}: the operator wrote no link for {what} within {} s; `kubectl get pods -A -l app.kubernetes.io/name=framewright` tells whether it runs",
        LINKS.as_secs()
    )]
    NoLink { owner: Owner, what: String },
    /// The job has finished.
    #[error("{owner} takes no files any more: {reason}")]
    Over { owner: Owner, reason: String },
    /// The object does not need this file.
    #[error("{owner} does not wait for a file with SHA-256 {sha256}; it waits for: {waited_for}")]
    NotWaitedFor {
        owner: Owner,
        sha256: String,
        waited_for: String,
    },
    /// The job has no result of this name.
    #[error("{owner} has no result {name}; it has: {known}")]
    NoSuchOutput {
        owner: Owner,
        name: String,
        known: String,
    },
}

impl Owner {
    /// Reads the object's status.
    ///
    /// # Errors
    /// If the API server refuses or does not answer.
    pub async fn files(&self, cluster: &Cluster) -> Result<Files, ApiError> {
        let doing = || ApiError::when(format!("read {self}"));
        Ok(match self.kind {
            OwnerKind::AIJobs => {
                let job = cluster
                    .jobs(&self.namespace)
                    .get(&self.name)
                    .await
                    .map_err(doing())?;
                let status = job.status.unwrap_or_default();
                Files {
                    is_observed: is_observed(&job.metadata, status.observed_generation),
                    over: over(&status.conditions),
                    uploads: status.uploads,
                    outputs: status.outputs,
                    links_renewed_for: status.links_renewed_for,
                }
            }
            OwnerKind::ModelPools => {
                let pool = cluster
                    .pools(&self.namespace)
                    .get(&self.name)
                    .await
                    .map_err(doing())?;
                let status = pool.status.unwrap_or_default();
                Files {
                    is_observed: is_observed(&pool.metadata, status.observed_generation),
                    over: None,
                    uploads: status.uploads,
                    outputs: Vec::new(),
                    links_renewed_for: status.links_renewed_for,
                }
            }
        })
    }

    /// A link that can be used now. With `is_new` the operator is asked for new links first.
    pub(crate) async fn link(
        &self,
        cluster: &Cluster,
        wanted: &Wanted,
        is_new: bool,
    ) -> Result<Found, Error> {
        let begun = Instant::now();
        let mut asked = None;
        if is_new {
            asked = Some(self.ask_for_links(cluster).await?);
        }
        loop {
            let files = self.files(cluster).await?;
            let is_answered = asked.is_none() || files.links_renewed_for == asked;
            // A result stays valid when the spec changes.
            let is_current = files.is_observed || matches!(wanted, Wanted::Output(_));
            if is_current && is_answered {
                match choose(&files, wanted, Timestamp::now()) {
                    Choice::Found(found) => return Ok(found),
                    Choice::Renew if asked.is_none() => {
                        asked = Some(self.ask_for_links(cluster).await?);
                    }
                    Choice::Renew => {}
                    Choice::Unknown if files.over.is_some() || begun.elapsed() >= GRACE => {
                        return Err(self.unknown(&files, wanted));
                    }
                    Choice::Unknown => {}
                }
            }
            if begun.elapsed() >= LINKS {
                let what = match wanted {
                    Wanted::Upload(sha256) => format!("the file with SHA-256 {sha256}"),
                    Wanted::Output(name) => format!("the result {name}"),
                };
                return Err(Error::NoLink {
                    owner: self.clone(),
                    what,
                });
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Asks for new links with an annotation. The operator repeats its value, which is returned, in the status.
    async fn ask_for_links(&self, cluster: &Cluster) -> Result<String, ApiError> {
        let now = Timestamp::now().to_string();
        let patch = json!({"metadata": {"annotations": {ANNOTATION_RENEW_LINKS: now}}});
        let params = PatchParams {
            field_manager: Some(crate::objects::apply::MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let doing = ApiError::when(format!("ask for new links of {self} with an annotation"));
        let patch = Patch::Merge(&patch);
        match self.kind {
            OwnerKind::AIJobs => {
                let jobs = cluster.jobs(&self.namespace);
                jobs.patch_metadata(&self.name, &params, &patch)
                    .await
                    .map(drop)
            }
            OwnerKind::ModelPools => {
                let pools = cluster.pools(&self.namespace);
                pools
                    .patch_metadata(&self.name, &params, &patch)
                    .await
                    .map(drop)
            }
        }
        .map_err(doing)?;
        Ok(now)
    }

    fn unknown(&self, files: &Files, wanted: &Wanted) -> Error {
        let owner = self.clone();
        match (wanted, &files.over) {
            (Wanted::Upload(_), Some(reason)) => Error::Over {
                owner,
                reason: reason.clone(),
            },
            (Wanted::Upload(sha256), None) => Error::NotWaitedFor {
                owner,
                sha256: sha256.clone(),
                waited_for: waited_for(files),
            },
            (Wanted::Output(name), _) => Error::NoSuchOutput {
                owner,
                name: name.clone(),
                known: listed(files.outputs.iter().map(|output| output.name.clone())),
            },
        }
    }
}

/// The files that have not been received, as text.
fn waited_for(files: &Files) -> String {
    let missing = files.uploads.iter().filter(|upload| !upload.received);
    listed(missing.map(|upload| format!("{} ({} bytes)", upload.sha256, upload.bytes)))
}

fn listed(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    if names.is_empty() {
        "nothing".to_owned()
    } else {
        names.join(", ")
    }
}

fn is_observed(metadata: &ObjectMeta, observed: Option<i64>) -> bool {
    observed.is_some() && observed >= metadata.generation
}

fn over(job: &[Condition]) -> Option<String> {
    let finished = conditions::get(job, conditions::job::FINISHED)?;
    (finished.status == "True").then(|| format!("{}, {}", finished.reason, finished.message))
}
