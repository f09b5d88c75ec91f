//! Which of our objects are in a manifest, and do they keep to the schemas of their kinds? Pure.

use framewright_crds::schema::{self, Breach, CustomResourceExt};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::plan::PlanError;

/// Whether this is an object of ours, of this kind.
pub(super) fn is_of_kind(document: &Value, kind: &str) -> bool {
    let version = document["apiVersion"].as_str().unwrap_or_default();
    document["kind"] == kind && version.starts_with("framewright.dev/")
}

/// The objects of this kind; `explain` is what `kubectl explain` calls their spec.
///
/// # Errors
/// One of them does not keep to the schema of its kind.
pub(super) fn all<T: DeserializeOwned + CustomResourceExt>(
    documents: &[Value],
    kind: &'static str,
    explain: &'static str,
) -> Result<Vec<T>, PlanError> {
    let of_kind = documents
        .iter()
        .filter(|document| is_of_kind(document, kind));
    of_kind
        .map(|document| {
            let name = document["metadata"]["name"]
                .as_str()
                .unwrap_or("without a name");
            match schema::check::<T>(document) {
                Ok(()) => {
                    serde_json::from_value(document.clone()).map_err(|source| PlanError::Shape {
                        kind,
                        name: name.to_owned(),
                        source,
                    })
                }
                Err(Breach::Unknown { field }) => Err(PlanError::UnknownField {
                    kind,
                    name: name.to_owned(),
                    field,
                    explain,
                }),
                Err(source @ Breach::Wrong { .. }) => Err(PlanError::Schema {
                    kind,
                    name: name.to_owned(),
                    source,
                }),
            }
        })
        .collect()
}
