//! The objects in a manifest: YAML or JSON, as people write it or as `kubectl get -o yaml` prints it. No I/O.

use std::fmt;

use serde_json::{Map, Value};

/// Fields of `metadata` that the API server sets. It refuses an object that is applied with some of them.
const SET_BY_THE_SERVER: [&str; 8] = [
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
];
/// The annotation in which `kubectl apply` keeps the object as it was applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Why a manifest cannot be read.
#[derive(Debug)]
pub enum Error {
    /// The bytes are not text.
    Encoding,
    /// The text is not YAML.
    Yaml(Box<serde_saphyr::Error>),
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Error::Encoding => "it is not text in UTF-8 or UTF-16; save it as UTF-8",
            Error::Yaml(_) => "it is not YAML",
        })
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Encoding => None,
            Error::Yaml(source) => Some(source),
        }
    }
}

/// The objects of all documents in order, lists replaced by their items, without the fields that the API server sets.
///
/// # Errors
/// If the bytes are not text, or the text is not YAML.
pub fn read(bytes: &[u8]) -> Result<Vec<Value>, Error> {
    let text = decode(bytes).ok_or(Error::Encoding)?;
    let mut objects = Vec::new();
    for document in documents(&text)? {
        add(document, &mut objects);
    }
    Ok(objects)
}

/// UTF-8 or UTF-16, with or without a byte order mark. PowerShell writes UTF-16 with one.
fn decode(bytes: &[u8]) -> Option<String> {
    let text = match bytes {
        // Without a mark: YAML begins with an ASCII character, and has no NUL.
        [0xFF, 0xFE, ..] | [1..=0x7F, 0, ..] => utf16(bytes, u16::from_le_bytes)?,
        [0xFE, 0xFF, ..] | [0, 1..=0x7F, ..] => utf16(bytes, u16::from_be_bytes)?,
        _ => String::from_utf8(bytes.to_vec()).ok()?,
    };
    // Files that were joined have a mark each.
    let text = text.trim_start_matches('\u{FEFF}');
    Some(text.replace("\n\u{FEFF}", "\n"))
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Option<String> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let units: Vec<u16> = pairs.iter().map(|pair| unit(*pair)).collect();
    let text = String::from_utf16(&units).ok()?;
    (rest.is_empty() && !text.contains('\0')).then_some(text)
}

fn documents(text: &str) -> Result<Vec<Value>, Error> {
    // JSON has escapes that YAML does not have, and objects may follow each other without a separator.
    if text.trim_start().starts_with('{')
        && let Ok(documents) = serde_json::Deserializer::from_str(text)
            .into_iter()
            .collect()
    {
        return Ok(documents);
    }
    serde_saphyr::from_multiple(text).map_err(|source| Error::Yaml(Box::new(source)))
}

/// Adds an object, or the items of a list.
fn add(mut document: Value, objects: &mut Vec<Value>) {
    if document.is_null() {
        return;
    }
    let Some(items) = take_items(&mut document) else {
        drop_server_fields(&mut document);
        objects.push(document);
        return;
    };
    let text = |name: &str| document.get(name).and_then(Value::as_str);
    let (version, kind) = (text("apiVersion"), text("kind"));
    let item_kind = kind.and_then(|kind| kind.strip_suffix("List"));
    for mut item in items {
        // The items of an AIJobList may leave out what its kind says.
        if let (Some(members), Some(version), Some(kind)) = (
            item.as_object_mut(),
            version,
            item_kind.filter(|kind| !kind.is_empty()),
        ) {
            members.entry("apiVersion").or_insert(version.into());
            members.entry("kind").or_insert(kind.into());
        }
        add(item, objects);
    }
}

/// The items, if this is a list: `v1 List`, or a list of one kind, such as `AIJobList`.
fn take_items(document: &mut Value) -> Option<Vec<Value>> {
    let kind = document.get("kind")?.as_str()?;
    let is_plain = kind == "List";
    if !kind.ends_with("List") {
        return None;
    }
    match document.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => Some(items),
        Some(Value::Null) => Some(Vec::new()),
        None if is_plain => Some(Vec::new()),
        _ => None,
    }
}

fn drop_server_fields(object: &mut Value) {
    let Some(members) = object.as_object_mut() else {
        return;
    };
    members.remove("status");
    let Some(metadata) = members.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    // The owners of a printed object are those of that object, and not of the one that is made from it.
    if metadata.contains_key("uid") || metadata.contains_key("resourceVersion") {
        metadata.remove("ownerReferences");
    }
    for field in SET_BY_THE_SERVER {
        metadata.remove(field);
    }
    let annotations = metadata
        .get_mut("annotations")
        .and_then(Value::as_object_mut);
    let is_empty = annotations.is_some_and(|annotations| {
        annotations.remove(LAST_APPLIED);
        Map::is_empty(annotations)
    });
    if is_empty {
        metadata.remove("annotations");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TWO: &str = "# Größe\nkind: AIJob\nmetadata: {name: a}\n---\nkind: ModelPool\n";

    fn names(objects: &[Value]) -> Vec<&str> {
        let names = objects
            .iter()
            .map(|object| object["metadata"]["name"].as_str());
        names.map(Option::unwrap_or_default).collect()
    }

    #[test]
    fn what_powershell_writes_is_read_in_each_encoding() {
        let wanted = read(TWO.as_bytes()).expect("UTF-8");
        assert_eq!(wanted.len(), 2);
        let units = |text: &str, bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
            text.encode_utf16().flat_map(bytes).collect()
        };
        for end in ["\n", "\r\n"] {
            let text = TWO.replace('\n', end);
            let marked = format!("\u{FEFF}{text}");
            let joined = format!("\u{FEFF}{}", text.replace("---", "---\n\u{FEFF}"));
            for bytes in [
                marked.clone().into_bytes(),
                joined.into_bytes(),
                units(&marked, u16::to_le_bytes),
                units(&marked, u16::to_be_bytes),
                units(&text, u16::to_le_bytes),
                units(&text, u16::to_be_bytes),
            ] {
                assert_eq!(read(&bytes).expect("text"), wanted, "{:?}", &bytes[..8]);
            }
        }
    }

    #[test]
    fn bytes_that_are_not_text_are_refused_with_the_way_out() {
        for bytes in [
            &b"# Gr\xF6\xDFe\nkind: AIJob"[..],
            b"\xFF\xFEa",
            b"\xFF\xFEa\0b",
            b"\xFF\xFE\0\0a\0\0\0",
            b"\xFF\xFE\0\xD8a\0",
        ] {
            let error = read(bytes).expect_err("not text").to_string();
            assert!(error.contains("save it as UTF-8"), "{error}");
        }
    }

    #[test]
    fn a_list_is_its_items_in_yaml_and_in_json() {
        let job = json!({"apiVersion": "framewright.dev/v1alpha1", "kind": "AIJob", "metadata": {"name": "a"}});
        let bare = json!({"metadata": {"name": "b"}});
        let jobs = json!({"apiVersion": "framewright.dev/v1alpha1", "kind": "AIJobList", "metadata": {"resourceVersion": ""}, "items": [job, bare]});
        let pool = json!({"apiVersion": "framewright.dev/v1alpha1", "kind": "ModelPool", "metadata": {"name": "c"}});
        let all = json!({"apiVersion": "v1", "kind": "List", "items": [jobs, pool]});
        let yaml = serde_saphyr::to_string(&all).expect("YAML");
        for text in [
            yaml.clone(),
            format!("{yaml}---\n{{kind: List, apiVersion: v1}}\n"),
            all.to_string(),
            format!("{jobs}\n{pool}"),
        ] {
            let objects = read(text.as_bytes()).expect("objects");
            assert_eq!(names(&objects), ["a", "b", "c"], "{text}");
            assert_eq!(objects[1]["kind"], "AIJob");
            assert_eq!(objects[1]["apiVersion"], "framewright.dev/v1alpha1");
        }
    }

    #[test]
    fn an_empty_list_and_empty_documents_have_no_objects() {
        for text in [
            "",
            "---\n---\n",
            "kind: List\napiVersion: v1\nitems: []",
            "kind: AIJobList\nitems:",
        ] {
            assert_eq!(
                read(text.as_bytes()).expect("YAML"),
                [] as [Value; 0],
                "{text}"
            );
        }
    }

    #[test]
    fn json_is_read_with_its_own_escapes() {
        let text = r#"{"metadata": {"name": "\ud83c\udfac"}}"#;
        assert_eq!(names(&read(text.as_bytes()).expect("JSON")), ["\u{1F3AC}"]);
    }

    #[test]
    fn what_the_api_server_sets_is_left_out() {
        let printed = "
kind: AIJob
metadata:
  annotations: {kubectl.kubernetes.io/last-applied-configuration: '{}', mine: kept}
  creationTimestamp: '2026-01-01T00:00:00Z'
  deletionGracePeriodSeconds: 0
  deletionTimestamp: '2026-01-01T00:00:00Z'
  finalizers: [x/y]
  generation: 1
  labels: {mine: kept}
  managedFields: []
  name: a
  namespace: studio
  ownerReferences: [{name: there}]
  resourceVersion: '5'
  selfLink: /x
  uid: u
spec: {priority: 1}
status: {observedGeneration: 1}
";
        let wanted = json!({
            "kind": "AIJob",
            "metadata": {
                "annotations": {"mine": "kept"}, "finalizers": ["x/y"], "labels": {"mine": "kept"}, "name": "a", "namespace": "studio",
            },
            "spec": {"priority": 1},
        });
        assert_eq!(read(printed.as_bytes()).expect("YAML"), [wanted]);
        let written = "{metadata: {creationTimestamp: null, annotations: {kubectl.kubernetes.io/last-applied-configuration: ''}, ownerReferences: [{name: mine}]}}";
        let wanted = json!({"metadata": {"ownerReferences": [{"name": "mine"}]}});
        assert_eq!(read(written.as_bytes()).expect("YAML"), [wanted]);
    }
}
