//! The YAML in `crds/yaml` is what the types say. `UPDATE=1 cargo test -p framewright-crds` writes it.

use framewright_crds::{AIJob, ModelPool};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use std::path::Path;

fn check(file: &str, definition: &CustomResourceDefinition) {
    let header = "# Generated from the types in crds/src; `make generate` writes it.\n";
    let wanted = format!(
        "{header}{}",
        serde_saphyr::to_string(definition).expect("a CRD is YAML")
    );
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("yaml")
        .join(file);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &wanted).expect("crds/yaml can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "crds/yaml/{file} is not what the types say; run `make generate`"
    );
}

#[test]
fn the_aijob_yaml_is_what_the_types_say() {
    check("aijobs.yaml", &AIJob::crd());
}

#[test]
fn the_modelpool_yaml_is_what_the_types_say() {
    check("modelpools.yaml", &ModelPool::crd());
}
