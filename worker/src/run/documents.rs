//! Which of our objects are in a text, and is every field of them one that we know? Pure.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::plan::PlanError;

/// All documents in a YAML text.
///
/// # Errors
/// It is no YAML.
pub(super) fn read(text: &str) -> Result<Vec<Value>, PlanError> {
    serde_saphyr::from_multiple(text).map_err(|source| PlanError::Yaml {
        source: Box::new(source),
    })
}

/// Whether this is an object of ours, of this kind.
pub(super) fn is_of_kind(document: &Value, kind: &str) -> bool {
    let version = document["apiVersion"].as_str().unwrap_or_default();
    document["kind"] == kind && version.starts_with("framewright.dev/")
}

/// The objects of this kind; `explain` is what `kubectl explain` calls their spec.
///
/// # Errors
/// One of them is not as its kind is, or has a field that its kind does not have.
pub(super) fn all<T: DeserializeOwned + Serialize>(
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
            let shape = |source| PlanError::Shape {
                kind,
                name: name.to_owned(),
                source,
            };
            let object: T = serde_json::from_value(document.clone()).map_err(shape)?;
            let known = serde_json::to_value(&object).map_err(shape)?;
            match unknown_field("spec", &document["spec"], &known["spec"]) {
                Some(field) => Err(PlanError::UnknownField {
                    kind,
                    name: name.to_owned(),
                    field,
                    explain,
                }),
                None => Ok(object),
            }
        })
        .collect()
}

/// The path of something in `given` that did not survive being read as our type.
fn unknown_field(path: &str, given: &Value, known: &Value) -> Option<String> {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => given.iter().find_map(|(key, value)| {
            let path = format!("{path}.{key}");
            match known.get(key) {
                Some(known) => unknown_field(&path, value, known),
                None if is_empty(value) => None,
                None => Some(path),
            }
        }),
        (Value::Array(given), Value::Array(known)) => {
            given
                .iter()
                .zip(known)
                .enumerate()
                .find_map(|(index, (given, known))| {
                    unknown_field(&format!("{path}[{index}]"), given, known)
                })
        }
        _ => None,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(members) => members.is_empty(),
        Value::Array(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
