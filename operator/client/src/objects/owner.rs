//! A job or pool that has files: the uploads, results and presigned links in its status.

use std::fmt;
use std::time::Duration;

use framewright_crds::aijob::{FileStatus, OutputStatus};
use framewright_crds::conditions::{self, job};
use framewright_crds::names::{ANNOTATION_RENEW_LINKS, OwnerKind};
use framewright_crds::{AIJob, ModelPool};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::api::{Patch, PatchParams};
use kube::core::ApiResource;
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
/// The source of a file that people upload.
const UPLOAD: &str = "upload";
/// The maximum of names in a message.
const NAMES: usize = 8;

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
    /// The files that have to be uploaded, or have been.
    pub uploads: Vec<FileStatus>,
    /// The results of a job.
    pub outputs: Vec<OutputStatus>,
    /// The newest request for presigned links that has been answered.
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
        "{owner}: the operator has written no link for {what} within {} s; check whether it runs with `kubectl get pods -A -l app.kubernetes.io/name=framewright`",
        LINKS.as_secs()
    )]
    NoLink { owner: Owner, what: String },
    /// The job has finished.
    #[error("{owner} accepts no more files: {reason}")]
    Over { owner: Owner, reason: String },
    /// The object does not need this file.
    #[error(
        "{owner} does not wait for a file with the digest {digest}; it waits for: {waited_for}"
    )]
    NotWaitedFor {
        owner: Owner,
        digest: String,
        waited_for: String,
    },
    /// Other files come first.
    #[error(
        "{owner}: there is no link for {name} yet, because only a few files have links at a time; upload these first: {first}"
    )]
    OthersFirst {
        owner: Owner,
        name: String,
        first: String,
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
    /// A job.
    #[must_use]
    pub fn job(namespace: &str, name: &str) -> Owner {
        Owner {
            kind: OwnerKind::AIJobs,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Reads the job. None if there is none of this name.
    ///
    /// # Errors
    /// If the API server refuses or does not answer.
    pub async fn find_job(&self, cluster: &Cluster) -> Result<Option<AIJob>, ApiError> {
        let job = cluster.jobs(&self.namespace).get_opt(&self.name).await;
        job.map_err(ApiError::when(format!("read {self}")))
    }

    /// Reads the job.
    ///
    /// # Errors
    /// If there is none of this name, or the API server refuses or does not answer.
    pub async fn read_job(&self, cluster: &Cluster) -> Result<AIJob, ApiError> {
        let job = cluster.jobs(&self.namespace).get(&self.name).await;
        job.map_err(ApiError::when(format!("read {self}")))
    }

    /// Reads the object's status.
    ///
    /// # Errors
    /// If the API server refuses or does not answer.
    pub async fn files(&self, cluster: &Cluster) -> Result<Files, ApiError> {
        Ok(match self.kind {
            OwnerKind::AIJobs => {
                let job = self.read_job(cluster).await?;
                let status = job.status.unwrap_or_default();
                Files {
                    is_observed: is_observed(&job.metadata, status.observed_generation),
                    over: over(&status.conditions),
                    uploads: uploads(status.files),
                    outputs: status.outputs,
                    links_renewed_for: status.links_renewed_for,
                }
            }
            OwnerKind::ModelPools => {
                let pool = cluster.pools(&self.namespace).get(&self.name).await;
                let pool = pool.map_err(ApiError::when(format!("read {self}")))?;
                let status = pool.status.unwrap_or_default();
                Files {
                    is_observed: is_observed(&pool.metadata, status.observed_generation),
                    over: None,
                    uploads: uploads(status.files),
                    outputs: Vec::new(),
                    links_renewed_for: status.links_renewed_for,
                }
            }
        })
    }

    /// The resource of its kind.
    pub(crate) fn resource(&self) -> ApiResource {
        match self.kind {
            OwnerKind::AIJobs => ApiResource::erase::<AIJob>(&()),
            OwnerKind::ModelPools => ApiResource::erase::<ModelPool>(&()),
        }
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
                return Err(self.no_link(&files, wanted));
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
        let objects = cluster.objects(&self.namespace, &self.resource());
        let patched = objects
            .patch_metadata(&self.name, &params, &Patch::Merge(&patch))
            .await;
        patched.map_err(ApiError::when(format!(
            "ask for new links of {self} with an annotation"
        )))?;
        Ok(now)
    }

    /// The error after the operator has written no link in time.
    fn no_link(&self, files: &Files, wanted: &Wanted) -> Error {
        let owner = self.clone();
        let what = match wanted {
            Wanted::Upload(digest) => names_of(files, digest),
            Wanted::Output(name) => format!("the result {name}"),
        };
        let linked = || awaited(&files.uploads).filter(|file| file.link.is_some());
        let has_link = |digest: &String| linked().any(|file| file.digest == *digest);
        match wanted {
            Wanted::Upload(digest) if linked().next().is_some() && !has_link(digest) => {
                Error::OthersFirst {
                    owner,
                    name: what,
                    first: listed(linked().map(|file| file.name.clone())),
                }
            }
            Wanted::Upload(_) | Wanted::Output(_) => Error::NoLink { owner, what },
        }
    }

    fn unknown(&self, files: &Files, wanted: &Wanted) -> Error {
        let owner = self.clone();
        match (wanted, &files.over) {
            (Wanted::Upload(_), Some(reason)) => Error::Over {
                owner,
                reason: reason.clone(),
            },
            (Wanted::Upload(digest), None) => Error::NotWaitedFor {
                owner,
                digest: digest.clone(),
                waited_for: listed(awaited(&files.uploads).map(description)),
            },
            (Wanted::Output(name), _) => Error::NoSuchOutput {
                owner,
                name: name.clone(),
                known: listed(files.outputs.iter().map(|output| output.name.clone())),
            },
        }
    }
}

/// The files of a status that have to be uploaded.
pub fn awaited(files: &[FileStatus]) -> impl Iterator<Item = &FileStatus> {
    let missing = files.iter().filter(|file| !file.is_received());
    missing.filter(|file| file.source == UPLOAD)
}

fn uploads(files: Vec<FileStatus>) -> Vec<FileStatus> {
    let uploads = files.into_iter().filter(|file| file.source == UPLOAD);
    uploads.collect()
}

/// The names of the files with this digest, such as "large/video, poster/video".
fn names_of(files: &Files, digest: &str) -> String {
    let same = files.uploads.iter().filter(|file| file.digest == digest);
    let names: Vec<String> = same.map(|file| file.name.clone()).collect();
    if names.is_empty() {
        return format!("the file with the digest {digest}");
    }
    listed(names.into_iter())
}

/// Such as "large/video (sha256:6f7c…, 83992 bytes)".
fn description(file: &FileStatus) -> String {
    format!("{} ({}, {} bytes)", file.name, file.digest, file.bytes)
}

fn listed(names: impl Iterator<Item = String>) -> String {
    let mut names: Vec<String> = names.collect();
    let more = names.len().saturating_sub(NAMES);
    names.truncate(NAMES);
    if names.is_empty() {
        return "nothing".to_owned();
    }
    let names = names.join(", ");
    match more {
        0 => names,
        more => format!("{names} and {more} more"),
    }
}

fn is_observed(metadata: &ObjectMeta, observed: Option<i64>) -> bool {
    observed.is_some() && observed >= metadata.generation
}

/// The reason and message of a job that has finished.
fn over(conditions: &[Condition]) -> Option<String> {
    conditions::is_true(conditions, job::FINISHED).then(|| {
        let state = conditions::get(conditions, job::SUCCEEDED);
        state.map_or("it has finished".to_owned(), |state| {
            format!("{}, {}", state.reason, state.message)
        })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn files_are_called_by_their_names() {
        let owner = Owner::job("studio", "demo");
        let files = files(&[
            ("large/video", "a", "upload", "Received", None),
            ("large/mask", "b", "upload", "Awaited", None),
            ("large/sound", "c", "https", "Awaited", None),
        ]);
        let wanted = Wanted::Upload("sha256:x".to_owned());
        assert_eq!(
            owner.unknown(&files, &wanted).to_string(),
            "AIJob studio/demo does not wait for a file with the digest sha256:x; it waits for: large/mask (sha256:b, 5 bytes)"
        );
        let error = owner.no_link(&files, &Wanted::Upload("sha256:b".to_owned()));
        assert!(
            error
                .to_string()
                .contains("has written no link for large/mask within 60 s"),
            "{error}"
        );
    }

    #[test]
    fn a_file_that_gets_its_link_after_others_says_which_come_first() {
        let owner = Owner::job("studio", "demo");
        let names: Vec<String> = (0..10).map(|number| format!("{number}/video")).collect();
        let mut list: Vec<_> = names
            .iter()
            .map(|name| (name.as_str(), "a", "upload", "Awaited", Some("https://x")))
            .collect();
        list.push(("last/video", "b", "upload", "Awaited", None));
        let error = owner.no_link(&files(&list), &Wanted::Upload("sha256:b".to_owned()));
        let error = error.to_string();
        assert!(error.contains("no link for last/video yet"), "{error}");
        assert!(error.ends_with("first: 0/video, 1/video, 2/video, 3/video, 4/video, 5/video, 6/video, 7/video and 2 more"), "{error}");
        let expires = owner.no_link(&files(&list), &Wanted::Upload("sha256:a".to_owned()));
        assert!(matches!(expires, Error::NoLink { .. }), "it has a link");
    }

    #[test]
    fn a_job_that_is_over_says_so_with_the_reason_of_its_state() {
        let condition = |type_, status, message| json!({"type": type_, "status": status, "reason": "InvalidInput", "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let conditions = |finished| -> Vec<Condition> {
            let all = json!([
                condition("Succeeded", "False", "it is no video"),
                condition("Finished", finished, ""),
            ]);
            serde_json::from_value(all).expect("conditions")
        };
        let text = "InvalidInput, it is no video".to_owned();
        assert_eq!(over(&conditions("True")), Some(text));
        assert_eq!(over(&conditions("False")), None);
    }

    /// Files as name, digest, source, state and link.
    fn files(list: &[(&str, &str, &str, &str, Option<&str>)]) -> Files {
        let file = |(name, digest, source, state, link): &(
            &str,
            &str,
            &str,
            &str,
            Option<&str>,
        )| {
            let file = json!({"name": name, "digest": format!("sha256:{digest}"), "source": source, "state": state, "bytes": 5, "link": link});
            serde_json::from_value(file).expect("a file")
        };
        Files {
            uploads: uploads(list.iter().map(file).collect()),
            ..Files::default()
        }
    }
}
