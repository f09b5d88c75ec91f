//! A submitted YAML: its AIJobs and ModelPools as plain values. No I/O.

use serde_json::Value;

use framewright_crds::names::{GROUP, OwnerKind};

/// One object of the YAML.
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

/// Why a YAML cannot be submitted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not YAML.
    #[error("{file} is no valid YAML")]
    Yaml {
        file: String,
        #[source]
        source: Box<serde_saphyr::Error>,
    },
    /// It has no objects.
    #[error("{file} holds no AIJob and no ModelPool")]
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

/// Parses the objects of `text`, in order. Errors call it `file`. `asked` is the namespace that the user asked for.
///
/// # Errors
/// If `text` is not YAML, has no objects, or has one that cannot be submitted.
pub fn parse(file: &str, text: &str, asked: Option<&str>) -> Result<Vec<Document>, Error> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|source| Error::Yaml {
        file: file.to_owned(),
        source: Box::new(source),
    })?;
    let documents: Vec<Document> = objects
        .into_iter()
        .filter(|object| !object.is_null())
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
        let documents = parse("x.yaml", TWO, None).expect("is fine");
        let seen: Vec<_> = documents
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
            seen,
            [
                (OwnerKind::ModelPools, "upscaler", Some("fleet")),
                (OwnerKind::AIJobs, "demo", None)
            ]
        );
    }

    #[test]
    fn another_kind_is_refused_with_the_way_out() {
        let error =
            parse("x.yaml", "apiVersion: v1\nkind: ConfigMap", None).expect_err("is none of ours");
        assert!(error.to_string().contains("\"v1 ConfigMap\""), "{error}");
        assert!(error.to_string().contains("kubectl apply"), "{error}");
    }

    #[test]
    fn a_namespace_that_contradicts_the_flag_is_refused() {
        assert!(matches!(
            parse("x.yaml", TWO, Some("studio")),
            Err(Error::Namespace { .. })
        ));
        assert!(parse("x.yaml", TWO, Some("fleet")).is_ok());
    }

    #[test]
    fn nothing_and_no_yaml_say_so() {
        assert!(matches!(
            parse("x.yaml", "---\n", None),
            Err(Error::Empty { .. })
        ));
        assert!(matches!(
            parse("x.yaml", "a: [", None),
            Err(Error::Yaml { .. })
        ));
    }
}
