//! The objects in a manifest that are ours, checked against the schemas and rules of their kinds. Pure.

use framewright_crds::schema::{self, Breach, CustomResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::plan::PlanError;
use super::rules;

/// Whether this is an object of ours, of this kind.
pub(super) fn is_of_kind(document: &Value, kind: &str) -> bool {
    let version = document["apiVersion"].as_str().unwrap_or_default();
    document["kind"] == kind && version.starts_with("framewright.dev/")
}

/// The objects of this kind; `explain` is what `kubectl explain` calls their spec.
///
/// # Errors
/// One of them does not keep to the schema of its kind, or breaks one of its rules.
pub(super) fn all<K: DeserializeOwned + Serialize + CustomResourceExt>(
    documents: &[Value],
    kind: &'static str,
    explain: &'static str,
) -> Result<Vec<K>, PlanError> {
    let of_kind = documents
        .iter()
        .filter(|document| is_of_kind(document, kind));
    of_kind
        .map(|document| read(document, kind, explain))
        .collect()
}

fn read<K: DeserializeOwned + Serialize + CustomResourceExt>(
    document: &Value,
    kind: &'static str,
    explain: &'static str,
) -> Result<K, PlanError> {
    let name = document["metadata"]["name"]
        .as_str()
        .unwrap_or("without a name");
    let name = || name.to_owned();
    schema::check::<K>(document).map_err(|breach| match breach {
        Breach::Unknown { field } => PlanError::UnknownField {
            kind,
            name: name(),
            field,
            explain,
        },
        source @ Breach::Wrong { .. } => PlanError::Schema {
            kind,
            name: name(),
            source,
        },
    })?;
    let object = serde_json::from_value(document.clone()).map_err(|source| PlanError::Shape {
        kind,
        name: name(),
        source,
    })?;
    rules::check(&object).map_err(|message| PlanError::Rule {
        kind,
        name: name(),
        message,
    })?;
    Ok(object)
}
