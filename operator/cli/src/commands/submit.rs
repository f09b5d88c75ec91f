//! `submit`: replaces paths by digests, applies the manifests, uploads the files, follows the jobs and downloads the results.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;

use framewright_client::cluster::{ApiError, Cluster};
use framewright_client::digest::{self, FileDigest, LocalFile};
use framewright_client::documents::files;
use framewright_client::documents::inputs;
use framewright_client::documents::manifest::{self, Document};
use framewright_client::documents::needed::{self, Needed};
use framewright_client::objects::apply::{self, Applied};
use framewright_client::objects::owner::{self, Owner};
use framewright_client::screen::Screen;
use framewright_client::transfers::fetch;
use framewright_client::transfers::store::Store;
use framewright_client::transfers::upload;
use framewright_crds::error_chain::error_chain;
use framewright_crds::names::OwnerKind;
use futures::future::join_all;
use tokio::sync::Mutex;

use crate::Ended;
use crate::args::{OwnerName, Submit};
use crate::commands::follow;
use crate::commands::get;

/// Results that are kept for less than this, in seconds, may be deleted before a slow download is complete.
const SHORT_TTL: i64 = 3600;

/// Why a submission stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    File(#[from] digest::Error),
    #[error(transparent)]
    Manifest(#[from] manifest::Error),
    #[error(transparent)]
    Files(#[from] files::Error),
    #[error(transparent)]
    Needed(#[from] needed::Error),
    #[error(transparent)]
    Inputs(#[from] inputs::Error),
    #[error(transparent)]
    Apply(#[from] apply::Error),
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Upload(#[from] upload::Error),
    #[error(transparent)]
    Follow(#[from] follow::Error),
    #[error(transparent)]
    Fetch(#[from] fetch::Error),
}

impl Error {
    /// Whether the command line or a local file is wrong.
    pub(crate) fn is_usage(&self) -> bool {
        match self {
            Error::File(_)
            | Error::Manifest(_)
            | Error::Files(_)
            | Error::Inputs(_)
            | Error::Needed(_) => true,
            Error::Apply(_)
            | Error::Api(_)
            | Error::Upload(_)
            | Error::Follow(_)
            | Error::Fetch(_) => false,
        }
    }
}

pub(crate) async fn run(cluster: &Cluster, screen: &Screen, args: Submit) -> Result<Ended, Error> {
    let Submit {
        file,
        inputs,
        output,
        no_wait,
        force_conflicts,
    } = args;
    let bytes = read(&file)?;
    let name = file.display().to_string();
    let mut documents = manifest::parse(&name, &bytes, cluster.asked_namespace.as_deref())?;
    let mut places = files::places(&documents)?;
    inputs::assign(&mut places, &inputs)?;
    let folder = file
        .parent()
        .filter(|_| !is_standard_input(&file))
        .unwrap_or(Path::new(""));
    let needed = needed::resolve(screen, &mut documents, &places, folder).await?;
    if !no_wait {
        for line in documents.iter().filter_map(short_lived) {
            screen.say(&line);
        }
    }

    if documents.len() > 1 {
        for (index, owner) in in_order(cluster, &documents) {
            if let Some(document) = documents.get(index) {
                apply::check(cluster, &owner, document, force_conflicts).await?;
            }
        }
    }
    let mut jobs = Vec::new();
    for (index, owner) in in_order(cluster, &documents) {
        let Some(document) = documents.get(index) else {
            continue;
        };
        let applied = apply::apply(cluster, &owner, document, force_conflicts).await?;
        screen.say(&match applied {
            Applied::Pool => format!("{owner}: applied"),
            Applied::Job => format!("{owner}: created"),
            Applied::SameJob => format!("{owner}: exists with the same spec; nothing is created"),
        });
        if owner.kind == OwnerKind::AIJobs {
            jobs.push(owner.clone());
            screen.set_farewell(join(jobs.iter().map(|job| {
                format!(
                    "{}\n  if files were not uploaded yet, repeat the submit",
                    follow::farewell(job)
                )
            })));
        }
    }
    let mut sent = BTreeSet::new();
    for (index, owner) in in_order(cluster, &documents) {
        let needed = needed.iter().filter(|needed| needed.document == index);
        sent.append(&mut upload_files(cluster, screen, &owner, &needed.collect::<Vec<_>>()).await?);
        if owner.kind == OwnerKind::ModelPools {
            screen.say(&format!(
                "{owner}: to wait for its workers: kubectl wait --for=condition=Ready modelpool/{} -n {} --timeout=10m; if it does not become ready: kubectl describe modelpool {} -n {}",
                owner.name, owner.namespace, owner.name, owner.namespace
            ));
        }
    }
    if !jobs.is_empty() {
        screen.set_farewell(join(jobs.iter().map(follow::farewell)));
    }
    if no_wait {
        for job in &jobs {
            screen.say(&format!(
                "to follow it: kubectl framewright follow {} -n {}",
                job.name, job.namespace
            ));
        }
        return Ok(Ended::Well);
    }
    finish(cluster, screen, &jobs, &sent, &output).await
}

fn join(texts: impl Iterator<Item = String>) -> String {
    texts.collect::<Vec<_>>().join("\n")
}

fn is_standard_input(file: &Path) -> bool {
    file == Path::new("-")
}

fn read(file: &Path) -> Result<Vec<u8>, digest::Error> {
    let mut bytes = Vec::new();
    let result = if is_standard_input(file) {
        std::io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(file)
    };
    result.map_err(|source| digest::Error::Read {
        path: file.to_owned(),
        source,
    })
}

/// Pools before jobs, so that a job finds its pool.
fn in_order(cluster: &Cluster, documents: &[Document]) -> Vec<(usize, Owner)> {
    let owner = |(index, document): (usize, &Document)| {
        let namespace = document
            .namespace
            .clone()
            .unwrap_or_else(|| cluster.namespace.clone());
        (
            index,
            Owner {
                kind: document.kind,
                namespace,
                name: document.name.clone(),
            },
        )
    };
    let mut owners: Vec<(usize, Owner)> = documents.iter().enumerate().map(owner).collect();
    owners.sort_by_key(|(_, owner)| owner.kind == OwnerKind::AIJobs);
    owners
}

/// Uploads the local files that the owner needs, and returns their digests.
async fn upload_files(
    cluster: &Cluster,
    screen: &Screen,
    owner: &Owner,
    needed: &[&Needed],
) -> Result<BTreeSet<String>, Error> {
    let mut sent = BTreeSet::new();
    if needed.is_empty() {
        return Ok(sent);
    }
    let files = owner.files(cluster).await?;
    if files.over.is_some() {
        return Ok(sent);
    }
    let store = Store { cluster };
    for Needed {
        document: _,
        name,
        content,
        path,
    } in needed
    {
        if sent.contains(&content.digest) {
            continue;
        }
        match path {
            Some(path) => {
                let file = LocalFile {
                    path: path.clone(),
                    content: content.clone(),
                };
                upload::upload(&store, screen, owner, &file).await?;
                sent.insert(content.digest.clone());
            }
            None if is_received(&files, content) => {}
            None => screen.say(&format!(
                "{owner}: no file beside the manifest has the digest of {name}; to upload the file: kubectl framewright upload {} PATH -n {}",
                OwnerName::from(owner), owner.namespace
            )),
        }
    }
    Ok(sent)
}

fn is_received(files: &owner::Files, content: &FileDigest) -> bool {
    let mut received = files.uploads.iter().filter(|file| file.is_received());
    received.any(|file| file.digest == content.digest)
}

/// A warning for a job whose results may be deleted before they are downloaded.
fn short_lived(document: &Document) -> Option<String> {
    let seconds = document.object.pointer("/spec/ttlSecondsAfterFinished")?;
    let seconds = seconds.as_i64().filter(|seconds| *seconds < SHORT_TTL)?;
    Some(format!(
        "warning: spec.ttlSecondsAfterFinished of AIJob {} is {seconds}: {seconds} s after its end the job and its results are deleted, even if the download is not complete; set {SHORT_TTL} or more, or leave it out to keep them for a week",
        document.name
    ))
}

/// Follows all jobs at the same time. As soon as one is over, reports it and downloads its results, so that they do not expire while
/// other jobs run.
async fn finish(
    cluster: &Cluster,
    screen: &Screen,
    jobs: &[Owner],
    sent: &BTreeSet<String>,
    output: &Path,
) -> Result<Ended, Error> {
    let farewells = Farewells::new(jobs);
    let turn = Mutex::new(());
    let ends = join_all(jobs.iter().enumerate().map(async |(index, owner)| {
        let job = follow::until_over(cluster, screen, owner, sent).await?;
        // One download at a time.
        let _turn = turn.lock().await;
        let ended = follow::report(screen, owner, &job);
        farewells.replace(
            screen,
            index,
            format!(
                "stopped; to download the results: kubectl framewright get {} -n {}",
                owner.name, owner.namespace
            ),
        );
        get::results(cluster, screen, owner, &job, output).await?;
        farewells.replace(screen, index, String::new());
        Ok::<_, Error>(ended)
    }))
    .await;
    let mut ended = Ended::Well;
    let mut lost = None;
    for end in ends {
        match end {
            Ok(Ended::Well) => {}
            Ok(Ended::JobFailed) => ended = Ended::JobFailed,
            Err(error) => {
                if let Some(earlier) = lost.replace(error) {
                    screen.say(&error_chain(&earlier).to_string());
                }
            }
        }
    }
    match lost {
        Some(error) => Err(error),
        None => Ok(ended),
    }
}

/// The message for Ctrl-C, a part for each job.
struct Farewells(RefCell<Vec<String>>);

impl Farewells {
    fn new(jobs: &[Owner]) -> Farewells {
        Farewells(RefCell::new(jobs.iter().map(follow::farewell).collect()))
    }

    fn replace(&self, screen: &Screen, index: usize, text: String) {
        let mut parts = self.0.borrow_mut();
        if let Some(part) = parts.get_mut(index) {
            *part = text;
        }
        let parts = parts.iter().filter(|part| !part.is_empty());
        screen.set_farewell(join(parts.cloned()));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_job_whose_results_may_be_gone_before_the_download_ends_is_warned_of() {
        let warning = |spec| {
            short_lived(&Document {
                kind: OwnerKind::AIJobs,
                name: "demo".into(),
                namespace: None,
                object: json!({"spec": spec}),
            })
        };
        for seconds in [0, 60, 3599] {
            let said = warning(json!({"ttlSecondsAfterFinished": seconds}));
            let said = said.expect("is warned of");
            assert!(
                said.contains(&format!("is {seconds}: ")) && said.contains("set 3600"),
                "{said}"
            );
        }
        for spec in [json!({"ttlSecondsAfterFinished": 3600}), json!({})] {
            assert_eq!(warning(spec), None);
        }
    }
}
