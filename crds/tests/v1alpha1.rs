//! What version 0.1 has written must be readable for as long as there is v1alpha1: the objects and the worker's session in
//! `crds/tests/v1alpha1`. The files are not edited; what a later version adds to the API gets files of its own.

use std::fs;
use std::path::{Path, PathBuf};

use framewright_crds::protocol::{OperatorMessage, WorkerMessage};
use framewright_crds::schema::{self, CustomResourceExt};
use framewright_crds::{AIJob, ModelPool};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

#[test]
fn objects_are_read_and_written_back_without_loss() {
    let mut kinds = Vec::new();
    for entry in fs::read_dir(folder()).expect("the kept files") {
        let path = entry.expect("a kept file").path();
        if path.extension().is_none_or(|end| end != "yaml") {
            continue;
        }
        let name = path.display().to_string();
        let text = fs::read_to_string(&path).expect("a kept file is text");
        let object: Value = serde_saphyr::from_str(&text).expect("a kept object is YAML");
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        match kind.as_str() {
            "AIJob" => keeps_object::<AIJob>(&name, &object),
            "ModelPool" => keeps_object::<ModelPool>(&name, &object),
            _ => panic!("{name} is of kind {kind:?}"),
        }
        kinds.push(kind);
    }
    kinds.sort();
    assert_eq!(kinds, ["AIJob", "AIJob", "ModelPool"]);
}

#[test]
fn a_session_of_a_worker_is_read_and_written_back_without_loss() {
    let text = fs::read_to_string(folder().join("session.jsonl")).expect("the kept session");
    for (index, line) in text.lines().enumerate() {
        let place = format!("line {}", index + 1);
        let line: Value = serde_json::from_str(line).expect("JSON");
        match line["from"].as_str() {
            Some("worker") => keeps::<WorkerMessage>(&place, &line["message"]),
            Some("operator") => keeps::<OperatorMessage>(&place, &line["message"]),
            other => panic!("{place} is from {other:?}"),
        }
    }
    assert!(text.lines().count() > 30, "the session is cut short");
}

/// The object keeps to the schema of its kind, too.
fn keeps_object<K: DeserializeOwned + Serialize + CustomResourceExt>(place: &str, object: &Value) {
    schema::check::<K>(object).unwrap_or_else(|breach| panic!("{place}: {breach}"));
    keeps::<K>(place, object);
}

/// Today's type reads the value, and writes all of it. It may write more.
fn keeps<T: DeserializeOwned + Serialize>(place: &str, kept: &Value) {
    let read: T = serde_json::from_value(kept.clone())
        .unwrap_or_else(|error| panic!("{place} cannot be read: {error}"));
    let written = serde_json::to_value(&read).expect("JSON");
    if let Some(lost) = lost("", kept, &written) {
        panic!("{place}: {lost} is lost or changed");
    }
}

/// The path of the first value that was kept and is not there, or is another one.
fn lost(path: &str, kept: &Value, written: &Value) -> Option<String> {
    match (kept, written) {
        (Value::Object(kept), Value::Object(written)) => kept.iter().find_map(|(name, value)| {
            let path = format!("{path}.{name}");
            match written.get(name) {
                Some(written) => lost(&path, value, written),
                None => Some(path),
            }
        }),
        (Value::Array(kept), Value::Array(written)) if kept.len() == written.len() => {
            let mut pairs = kept.iter().zip(written).enumerate();
            pairs.find_map(|(index, (kept, written))| {
                lost(&format!("{path}[{index}]"), kept, written)
            })
        }
        _ => (kept != written).then(|| path.to_owned()),
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/v1alpha1")
}
