//! What the repository promises about itself: who may import whom, and what decisions must not touch.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders and files that decide, and do nothing else.
const PURE: &[&str] = &[
    "operator/src/jobs/plan",
    "operator/src/pools/plan",
    "operator/src/schedule",
    "operator/src/dispatch/gather.rs",
    "operator/src/grants",
    "worker/src/queue",
];

/// What a decision does not know: clients, runtimes, files, clocks, chance.
const FOREIGN: &[&str] = &[
    "kube::Client",
    "kube::Api",
    "kube::api::",
    "tokio::",
    "reqwest::",
    "std::fs",
    "std::net",
    "std::env",
    "async fn",
    "Timestamp::now",
    "SystemTime::now",
    "Instant::now",
    "rand::",
    "SystemRandom",
];

#[test]
fn decisions_touch_no_client_no_clock_and_no_disk() {
    for place in PURE {
        for file in rust_files(&root().join(place)) {
            let text = fs::read_to_string(&file).expect("a source file is text");
            for word in FOREIGN {
                assert!(
                    !text.contains(word),
                    "{} holds {word}: what decides gets facts and the time as arguments",
                    file.display()
                );
            }
        }
    }
}

/// What would tie the kubectl plugin to one system: the operator's library, which is for Unix, and what one system alone has.
const TIED: &[&str] = &[
    "framewright_operator",
    "std::os::",
    "rustix::",
    "signal::unix",
    "tokio::process",
    "UnixStream",
];

#[test]
fn the_kubectl_plugin_is_tied_to_no_system() {
    for file in rust_files(&root().join("operator/src/bin/kubectl-framewright")) {
        let text = fs::read_to_string(&file).expect("a source file is text");
        for word in TIED {
            assert!(
                !text.contains(word),
                "{} holds {word}: people run the plugin on other systems, too",
                file.display()
            );
        }
    }
}

#[test]
fn operator_and_worker_meet_in_crds_only() {
    for (one, other) in [
        ("operator", "framewright-worker"),
        ("worker", "framewright-operator"),
    ] {
        let manifest = root().join(one).join("Cargo.toml");
        let text = fs::read_to_string(&manifest).expect("a crate has a manifest");
        let imports = text.lines().any(|line| line.starts_with(other));
        assert!(!imports, "{} depends on {other}", manifest.display());
    }
}

#[test]
fn the_chart_installs_the_crds_of_this_repository() {
    for name in ["aijobs.yaml", "modelpools.yaml"] {
        let ours = fs::read_to_string(root().join("crds/yaml").join(name)).unwrap_or_default();
        let installed = root().join("charts/framewright/files/crds").join(name);
        let theirs = fs::read_to_string(&installed).unwrap_or_default();
        assert!(
            ours == theirs && !ours.is_empty(),
            "{} is not what crds/yaml has; run `make generate`",
            installed.display()
        );
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The file itself, or all Rust files below a folder.
fn rust_files(place: &Path) -> Vec<PathBuf> {
    if place.is_file() {
        return vec![place.to_owned()];
    }
    let entries = fs::read_dir(place)
        .unwrap_or_else(|error| panic!("{} is named in this test: {error}", place.display()));
    entries
        .flat_map(|entry| rust_files(&entry.expect("a folder can be read").path()))
        .filter(|path| path.extension().is_some_and(|end| end == "rs"))
        .collect()
}
