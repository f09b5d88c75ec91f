//! Does a document keep to the schema of its kind? What the API server looks at before any CEL rule, from the same CRD. Pure.

#[cfg(test)]
mod tests;

use std::fmt;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use regex::Regex;
use serde_json::{Map, Value};

/// What gives a kind its CRD.
pub use kube::CustomResourceExt;

/// What the API server sees to itself, by the rules of all kinds; what is in status is nobody's wish.
const NOT_IN_THE_SCHEMA: [&str; 4] = ["apiVersion", "kind", "metadata", "status"];
/// Characters of a value that a message shows.
const SHOWN: usize = 80;

/// The first thing in a document that its kind does not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Breach {
    /// There is no such field.
    Unknown {
        /// Its path.
        field: String,
    },
    /// A field is not as it must be.
    Wrong {
        /// Its path.
        field: String,
        /// The value, and what it must be.
        why: String,
    },
}

impl fmt::Display for Breach {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Breach::Unknown { field } => write!(out, "unknown field {field}"),
            Breach::Wrong { field, why } => write!(out, "{field}: {why}"),
        }
    }
}

impl std::error::Error for Breach {}

/// Compares a document with the schema of its kind in its version, and its name with what Kubernetes allows as one.
///
/// # Errors
/// The first breach, by the path of its field.
pub fn check<K: CustomResourceExt>(document: &Value) -> Result<(), Breach> {
    check_name(&document["metadata"]["name"])?;
    let spec = K::crd().spec;
    let is_asked = |version: &str| document["apiVersion"] == format!("{}/{version}", spec.group);
    let Some(version) = spec.versions.iter().find(|version| is_asked(&version.name)) else {
        let known = spec.versions.iter();
        let known: Vec<String> = known
            .map(|version| format!("{}/{}", spec.group, version.name))
            .collect();
        let is = shown(&document["apiVersion"]);
        return wrong(
            "apiVersion",
            format!("{is} should be {}", known.join(" or ")),
        );
    };
    let schema = version.schema.clone();
    let mut schema = schema
        .and_then(|schema| schema.open_api_v3_schema)
        .unwrap_or_default();
    let properties = schema.properties.get_or_insert_default();
    for name in NOT_IN_THE_SCHEMA {
        let anything = JSONSchemaProps {
            x_kubernetes_preserve_unknown_fields: Some(true),
            ..JSONSchemaProps::default()
        };
        properties.insert(name.to_owned(), anything);
    }
    walk("", document, &schema)
}

/// An object's name: a DNS subdomain, so that it can be part of paths and host names.
fn check_name(name: &Value) -> Result<(), Breach> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.first().copied().is_some_and(is_plain)
            && bytes.last().copied().is_some_and(is_plain)
            && bytes.iter().all(|&byte| is_plain(byte) || byte == b'-')
    };
    let is_name = |name: &str| name.len() <= 253 && name.split('.').all(is_label);
    if name.as_str().is_some_and(is_name) {
        return Ok(());
    }
    if name.is_null() {
        return wrong("metadata.name", "is required".to_owned());
    }
    let is = shown(name);
    wrong(
        "metadata.name",
        format!(
            "{is} must consist of lower-case letters, digits, '-' or '.', begin and end with a letter or digit in each part between dots, and have at most 253 characters"
        ),
    )
}

fn walk(at: &str, value: &Value, schema: &JSONSchemaProps) -> Result<(), Breach> {
    if schema.x_kubernetes_preserve_unknown_fields == Some(true)
        || value.is_null() && schema.nullable == Some(true)
    {
        return Ok(());
    }
    kind(at, value, schema)?;
    match value {
        Value::Object(members) => object(at, members, schema)?,
        Value::Array(items) => array(at, items, schema)?,
        Value::String(text) => string(at, text, schema)?,
        Value::Number(_) => number(at, value, schema)?,
        Value::Bool(_) | Value::Null => {}
    }
    match &schema.enum_ {
        Some(allowed) if !allowed.iter().any(|allowed| allowed.0 == *value) => {
            let allowed: Vec<String> = allowed.iter().map(|allowed| shown(&allowed.0)).collect();
            let is = shown(value);
            wrong(at, format!("{is} should be one of {}", allowed.join(", ")))
        }
        Some(_) | None => Ok(()),
    }
}

fn kind(at: &str, value: &Value, schema: &JSONSchemaProps) -> Result<(), Breach> {
    let (is_right, name) = match schema.type_.as_deref() {
        Some(name @ "object") => (value.is_object(), name),
        Some(name @ "array") => (value.is_array(), name),
        Some(name @ "string") => (value.is_string(), name),
        Some(name @ "boolean") => (value.is_boolean(), name),
        Some(name @ "integer") => (value.is_i64(), name),
        Some(name @ "number") => (value.is_number(), name),
        _ if schema.x_kubernetes_int_or_string == Some(true) => {
            (value.is_i64() || value.is_string(), "integer or string")
        }
        Some(_) | None => return Ok(()),
    };
    if is_right {
        return Ok(());
    }
    wrong(at, format!("{} must be of type {name}", shown(value)))
}

fn object(at: &str, members: &Map<String, Value>, schema: &JSONSchemaProps) -> Result<(), Breach> {
    let inside = |name: &str| match at {
        "" => name.to_owned(),
        _ => format!("{at}.{name}"),
    };
    for name in schema.required.iter().flatten() {
        if !members.contains_key(name) {
            return wrong(&inside(name), "is required".to_owned());
        }
    }
    at_most(at, members.len(), schema.max_properties, "entries")?;
    for (name, value) in members {
        let known = schema.properties.as_ref().and_then(|known| known.get(name));
        match (known, &schema.additional_properties) {
            (Some(known), _) => walk(&inside(name), value, known)?,
            (None, Some(JSONSchemaPropsOrBool::Schema(known))) => {
                walk(&inside(name), value, known)?;
            }
            (None, Some(JSONSchemaPropsOrBool::Bool(true))) => {}
            (None, Some(JSONSchemaPropsOrBool::Bool(false)) | None) => {
                let field = inside(name);
                return Err(Breach::Unknown { field });
            }
        }
    }
    Ok(())
}

fn array(at: &str, items: &[Value], schema: &JSONSchemaProps) -> Result<(), Breach> {
    at_least(at, items.len(), schema.min_items, "items")?;
    at_most(at, items.len(), schema.max_items, "items")?;
    for (index, item) in items.iter().enumerate() {
        if let Some(JSONSchemaPropsOrArray::Schema(known)) = &schema.items {
            walk(&format!("{at}[{index}]"), item, known)?;
        }
    }
    if schema.x_kubernetes_list_type.as_deref() == Some("set") {
        for (index, item) in items.iter().enumerate() {
            if items[..index].contains(item) {
                return wrong(
                    &format!("{at}[{index}]"),
                    format!("duplicate value {}", shown(item)),
                );
            }
        }
    }
    let Some(keys) = &schema.x_kubernetes_list_map_keys else {
        return Ok(());
    };
    let key_of = |item: &Value| -> Map<String, Value> {
        let keys = keys.iter().map(|key| (key.clone(), item[key].clone()));
        keys.collect()
    };
    for (index, item) in items.iter().enumerate() {
        let key = key_of(item);
        if items[..index].iter().any(|before| key_of(before) == key) {
            let key = shown(&Value::Object(key));
            return wrong(&format!("{at}[{index}]"), format!("duplicate value {key}"));
        }
    }
    Ok(())
}

fn string(at: &str, text: &str, schema: &JSONSchemaProps) -> Result<(), Breach> {
    let length = text.chars().count();
    at_least(at, length, schema.min_length, "characters")?;
    at_most(at, length, schema.max_length, "characters")?;
    match &schema.pattern {
        Some(pattern) if !Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text)) => wrong(
            at,
            format!("{} should match {pattern}", shown(&text.into())),
        ),
        Some(_) | None => Ok(()),
    }
}

fn number(at: &str, value: &Value, schema: &JSONSchemaProps) -> Result<(), Breach> {
    let number = value.as_f64().unwrap_or_default();
    let is_small = schema.format.as_deref() == Some("int32");
    let least = is_small.then_some(f64::from(i32::MIN));
    let most = is_small.then_some(f64::from(i32::MAX));
    match (schema.minimum.or(least), schema.maximum.or(most)) {
        (Some(least), _) if number < least => {
            wrong(at, format!("{value} should be at least {least}"))
        }
        (_, Some(most)) if number > most => wrong(at, format!("{value} should be at most {most}")),
        _ => Ok(()),
    }
}

fn at_least(at: &str, count: usize, least: Option<i64>, of: &str) -> Result<(), Breach> {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    match least {
        Some(least) if count < least => wrong(
            at,
            format!("has {count} {of} and should have at least {least}"),
        ),
        Some(_) | None => Ok(()),
    }
}

fn at_most(at: &str, count: usize, most: Option<i64>, of: &str) -> Result<(), Breach> {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    match most {
        Some(most) if count > most => wrong(
            at,
            format!("has {count} {of} and should have at most {most}"),
        ),
        Some(_) | None => Ok(()),
    }
}

fn wrong(at: &str, why: String) -> Result<(), Breach> {
    let field = if at.is_empty() { "the document" } else { at };
    Err(Breach::Wrong {
        field: field.to_owned(),
        why,
    })
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
