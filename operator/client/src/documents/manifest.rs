//! A submitted manifest: its AIJobs and ModelPools as plain values. No I/O.

use serde_json::Value;

use framewright_crds::manifest;
use framewright_crds::names::{GROUP, OwnerKind};

/// One object of the manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// AIJob or ModelPool.
    pub kind: OwnerKind,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`, if it is set.
    pub namespace: Option<String>,
    /// The whole object.
    pub object: Value,
}

/// Why a manifest cannot be submitted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not text, or not YAML.
    #[error("cannot use {file}")]
    Read {
        file: String,
        #[source]
        source: manifest::Error,
    },
    /// It has no objects.
    #[error("{file} contains no AIJob and no ModelPool")]
    Empty { file: String },
    /// It has an object of another kind.
    #[error(
        "{file}: object {number} is of kind {kind:?}; submit takes AIJob and ModelPool of framewright.dev/v1alpha1, so apply the others with kubectl apply"
    )]
    Kind {
        file: String,
        number: usize,
        kind: String,
    },
    /// It has an object without a name.
    #[error("{file}: object {number}, of kind {kind}, has no metadata.name; give it one")]
    NoName {
        file: String,
        number: usize,
        kind: &'static str,
    },
    /// An object is for another namespace than the user asked for.
    #[error(
        "{file}: {kind} {name} is for namespace {its:?}, and --namespace says {asked:?}; make the two agree, or leave one out"
    )]
    Namespace {
        file: String,
        kind: &'static str,
        name: String,
        its: String,
        asked: String,
    },
}

/// The kind as the API spells it.
pub(crate) fn kind_name(kind: OwnerKind) -> &'static str {
    match kind {
        OwnerKind::AIJobs => "AIJob",
        OwnerKind::ModelPools => "ModelPool",
    }
}

/// Parses the objects of a manifest, in order. Errors call it `file`. `asked` is the namespace that the user asked for.
///
/// # Errors
/// If it is not YAML, has no objects, or has one that cannot be submitted.
pub fn parse(file: &str, bytes: &[u8], asked: Option<&str>) -> Result<Vec<Document>, Error> {
    let objects = manifest::read(bytes).map_err(|source| Error::Read {
        file: file.to_owned(),
        source,
    })?;
    let documents: Vec<Document> = objects
        .into_iter()
        .enumerate()
        .map(|(index, object)| document(file, index + 1, object, asked))
        .collect::<Result<_, _>>()?;
    if documents.is_empty() {
        return Err(Error::Empty {
            file: file.to_owned(),
        });
    }
    Ok(documents)
}

fn document(
    file: &str,
    number: usize,
    object: Value,
    asked: Option<&str>,
) -> Result<Document, Error> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let version = format!("{GROUP}/v1alpha1");
    let kind = match (text("/apiVersion"), text("/kind")) {
        (Some(api), Some("AIJob")) if api == version => OwnerKind::AIJobs,
        (Some(api), Some("ModelPool")) if api == version => OwnerKind::ModelPools,
        (api, kind) => {
            return Err(Error::Kind {
                file: file.to_owned(),
                number,
                kind: format!("{} {}", api.unwrap_or(""), kind.unwrap_or(""))
                    .trim()
                    .to_owned(),
            });
        }
    };
    let Some(name) = text("/metadata/name").map(str::to_owned) else {
        return Err(Error::NoName {
            file: file.to_owned(),
            number,
            kind: kind_name(kind),
        });
    };
    let namespace = text("/metadata/namespace").map(str::to_owned);
    if let (Some(its), Some(asked)) = (&namespace, asked)
        && its != asked
    {
        return Err(Error::Namespace {
            file: file.to_owned(),
            kind: kind_name(kind),
            name,
            its: its.clone(),
            asked: asked.to_owned(),
        });
    }
    Ok(Document {
        kind,
        name,
        namespace,
        object,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "
---
apiVersion: framewright.dev/v1alpha1
kind: ModelPool
metadata: {name: upscaler, namespace: fleet}
---
apiVersion: framewright.dev/v1alpha1
kind: AIJob
metadata: {name: demo}
---
";

    #[test]
    fn empty_documents_are_passed_over() {
        let documents = parse("x.yaml", TWO.as_bytes(), None).expect("is fine");
        let found: Vec<_> = documents
            .iter()
            .map(|document| {
                (
                    document.kind,
                    document.name.as_str(),
                    document.namespace.as_deref(),
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                (OwnerKind::ModelPools, "upscaler", Some("fleet")),
                (OwnerKind::AIJobs, "demo", None)
            ]
        );
    }

    #[test]
    fn another_kind_is_refused_with_the_way_out() {
        let error =
            parse("x.yaml", b"apiVersion: v1\nkind: ConfigMap", None).expect_err("is none of ours");
        assert!(error.to_string().contains("\"v1 ConfigMap\""), "{error}");
        assert!(error.to_string().contains("kubectl apply"), "{error}");
    }

    #[test]
    fn a_namespace_that_contradicts_the_flag_is_refused() {
        assert!(matches!(
            parse("x.yaml", TWO.as_bytes(), Some("studio")),
            Err(Error::Namespace { .. })
        ));
        assert!(parse("x.yaml", TWO.as_bytes(), Some("fleet")).is_ok());
    }

    #[test]
    fn nothing_and_no_yaml_say_so() {
        assert!(matches!(
            parse("x.yaml", b"---\n", None),
            Err(Error::Empty { .. })
        ));
        assert!(matches!(
            parse("x.yaml", b"a: [", None),
            Err(Error::Read { .. })
        ));
    }

    #[test]
    fn what_kubectl_prints_is_applied_without_what_the_api_server_has_set() {
        let printed = "\u{FEFF}apiVersion: v1
kind: List
items:
- apiVersion: framewright.dev/v1alpha1
  kind: AIJob
  metadata: {name: demo, namespace: fleet, uid: u, resourceVersion: '5', managedFields: []}
  spec: {priority: 1}
  status: {progress: 100%}
- apiVersion: v1
  kind: ConfigMap
";
        let bytes =
            |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
        let other = parse("x.yaml", &bytes(printed), None).expect_err("is none of ours");
        assert!(other.to_string().contains("object 2 is of kind"), "{other}");
        let ours = printed.split_once("- apiVersion: v1").expect("two").0;
        let documents = parse("x.yaml", &bytes(ours), None).expect("is fine");
        let objects: Vec<&Value> = documents.iter().map(|document| &document.object).collect();
        let wanted = serde_json::json!({
            "apiVersion": "framewright.dev/v1alpha1", "kind": "AIJob",
            "metadata": {"name": "demo", "namespace": "fleet"}, "spec": {"priority": 1},
        });
        assert_eq!(objects, [&wanted]);
    }
}
