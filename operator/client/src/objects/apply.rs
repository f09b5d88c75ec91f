//! Applies manifests: pools by server-side apply; a job is created once, and one that exists must have the same spec.

use framewright_crds::AIJob;
use framewright_crds::aijob::AIJobSpec;
use framewright_crds::names::OwnerKind;
use kube::api::{Patch, PatchParams, ValidationDirective};
use serde_json::Value;

use crate::cluster::{ApiError, Cluster};
use crate::documents::manifest::Document;
use crate::objects::finalizers::kept_by;
use crate::objects::owner::Owner;

/// The field manager in managedFields.
pub(crate) const MANAGER: &str = "kubectl-framewright";

/// The result of an apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The pool was created, changed, or is as the manifest has it.
    Pool,
    /// The job was created.
    Job,
    /// The job existed with the same spec.
    SameJob,
}

/// Why a manifest was not applied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused it or did not answer.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// Another field manager owns fields of the manifest.
    #[error(
        "{owner} has fields that another manager has set; overwrite them with --force-conflicts, or remove them from the manifest"
    )]
    Conflict {
        owner: String,
        #[source]
        source: ApiError,
    },
    /// A job of this name has another spec.
    #[error(
        "{owner} exists with another spec, which differs in {fields}; give the new job another metadata.name, or delete the old one with `kubectl framewright cancel {} -n {}`",
        owner.name, owner.namespace
    )]
    OtherJob { owner: Owner, fields: String },
    /// A job of this name is being deleted.
    #[error(
        "{owner} is being deleted, but finalizers keep it: {finalizers}; give the new job another metadata.name, or wait until the controllers that added them have removed them"
    )]
    Kept { owner: Owner, finalizers: String },
    /// A job of this name exists, and the manifest's spec cannot be read.
    #[error("{owner} exists, but cannot be compared with the manifest: {why}")]
    NotComparable {
        owner: Owner,
        why: serde_json::Error,
    },
}

/// Applies a manifest as a dry run, so that errors in any of several manifests are known before the first one is applied. `force`
/// takes over fields that another manager owns.
///
/// # Errors
/// As [`apply`], except that the spec of a job that exists is not compared.
pub async fn check(
    cluster: &Cluster,
    owner: &Owner,
    document: &Document,
    force: bool,
) -> Result<(), Error> {
    if owner.kind == OwnerKind::AIJobs
        && let Some(job) = owner.find_job(cluster).await?
    {
        return stays(owner, &job);
    }
    let written = write(cluster, owner, document, force, Write::Dry).await;
    written.map_err(|source| conflict(owner, source))
}

/// Whether the API server persists the write.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Write {
    Kept,
    Dry,
}

fn conflict(owner: &Owner, source: ApiError) -> Error {
    match source.code() {
        Some(409) => Error::Conflict {
            owner: owner.to_string(),
            source,
        },
        Some(_) | None => Error::Api(source),
    }
}

/// Applies a manifest, whose local paths have been replaced by digests. `force` takes over fields of a pool that another manager owns.
///
/// # Errors
/// If the API server refuses it, or a job of this name exists that is not the same.
pub async fn apply(
    cluster: &Cluster,
    owner: &Owner,
    document: &Document,
    force: bool,
) -> Result<Applied, Error> {
    match owner.kind {
        OwnerKind::ModelPools => {
            let written = write(cluster, owner, document, force, Write::Kept).await;
            written.map_err(|source| conflict(owner, source))?;
            Ok(Applied::Pool)
        }
        OwnerKind::AIJobs => match owner.find_job(cluster).await? {
            Some(job) => same(owner, &job, document),
            None => {
                write(cluster, owner, document, false, Write::Kept).await?;
                Ok(Applied::Job)
            }
        },
    }
}

async fn write(
    cluster: &Cluster,
    owner: &Owner,
    document: &Document,
    force: bool,
    kept: Write,
) -> Result<(), ApiError> {
    let params = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        force,
        dry_run: kept == Write::Dry,
        // A misspelt field must not be dropped in silence.
        field_validation: Some(ValidationDirective::Strict),
    };
    cluster
        .objects(&owner.namespace, &owner.resource())
        .patch(&owner.name, &params, &Patch::Apply(&document.object))
        .await
        .map_err(ApiError::when(format!("apply {owner}")))?;
    Ok(())
}

/// A job that is being deleted cannot be taken up.
fn stays(owner: &Owner, job: &AIJob) -> Result<(), Error> {
    match kept_by(job) {
        None => Ok(()),
        Some(finalizers) => Err(Error::Kept {
            owner: owner.clone(),
            finalizers,
        }),
    }
}

fn same(owner: &Owner, job: &AIJob, document: &Document) -> Result<Applied, Error> {
    stays(owner, job)?;
    let spec = document.object.get("spec").cloned().unwrap_or(Value::Null);
    let asked: AIJobSpec = serde_json::from_value(spec).map_err(|why| Error::NotComparable {
        owner: owner.clone(),
        why,
    })?;
    let fields = differing(&job.spec, &asked);
    if fields.is_empty() {
        return Ok(Applied::SameJob);
    }
    Err(Error::OtherJob {
        owner: owner.clone(),
        fields: fields.join(", "),
    })
}

/// The spec's fields that differ, defaults filled in on both sides.
fn differing(there: &AIJobSpec, asked: &AIJobSpec) -> Vec<String> {
    let members = |spec: &AIJobSpec| match serde_json::to_value(spec) {
        Ok(Value::Object(members)) => members,
        Ok(_) | Err(_) => serde_json::Map::new(),
    };
    let (there, asked) = (members(there), members(asked));
    let mut names: Vec<&String> = there.keys().chain(asked.keys()).collect();
    names.sort();
    names.dedup();
    names
        .into_iter()
        .filter(|name| there.get(*name) != asked.get(*name))
        .map(|name| format!("spec.{name}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use framewright_crds::names;
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_make_no_difference() {
        assert!(differing(&spec(json!({})), &spec(json!({"backoffLimit": 3}))).is_empty());
    }

    #[test]
    fn what_differs_is_named() {
        let there = spec(json!({}));
        let asked = spec(json!({"priority": 5, "suspend": true}));
        assert_eq!(differing(&there, &asked), ["spec.priority", "spec.suspend"]);
    }

    #[test]
    fn a_job_that_is_being_deleted_is_not_taken_up() {
        let owner = Owner::job("studio", "a");
        let mut job = AIJob::new("a", spec(json!({})));
        job.metadata.finalizers = Some(vec!["x/y".to_owned()]);
        assert!(stays(&owner, &job).is_ok());
        let deleted =
            k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH);
        job.metadata.deletion_timestamp = Some(deleted);
        let error = stays(&owner, &job).expect_err("it is deleted").to_string();
        assert!(error.contains("finalizers keep it: x/y;"), "{error}");
    }

    fn spec(more: Value) -> AIJobSpec {
        let mut spec = json!({"steps": [{
            "name": "large", "model": "x2", "upscale": {},
            "inputs": [{"name": "video", "upload": {"digest": names::digest(&"a".repeat(64)), "bytes": 1}}]
        }]});
        if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
            spec.extend(more);
        }
        serde_json::from_value(spec).expect("is a spec")
    }
}
