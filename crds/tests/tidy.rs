//! What the repository promises about itself: who may import whom, and what decisions must not touch.

use std::fs;
use std::path::{Path, PathBuf};

use framewright_crds::aijob::Cause;
use framewright_crds::pipelines::PIPELINES;

/// Folders and files that decide, and do nothing else.
const PURE: &[&str] = &[
    "operator/core/src",
    "operator/store/src/grants",
    "worker/queue/src",
];

/// What a decision does not know: clients, runtimes, files, clocks, chance.
const FOREIGN: &[&str] = &[
    "kube::",
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
    for file in rust_files(&root().join("operator/client/src"))
        .into_iter()
        .chain(rust_files(&root().join("operator/cli/src")))
    {
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

/// Which of our own crates each crate may be built with, and which its tests may use beside them.
const IMPORTS: &[(&str, &[&str], &[&str])] = &[
    ("crds", &[], &[]),
    (
        "operator",
        &["framewright-crds", "framewright-core", "framewright-store"],
        &[],
    ),
    (
        "operator/core",
        &["framewright-crds"],
        &["framewright-queue"],
    ),
    ("operator/store", &["framewright-crds"], &[]),
    ("operator/client", &["framewright-crds"], &[]),
    (
        "operator/cli",
        &["framewright-client", "framewright-crds"],
        &[],
    ),
    ("worker", &["framewright-crds", "framewright-queue"], &[]),
    ("worker/queue", &["framewright-crds"], &[]),
    ("e2e", &["framewright-crds"], &["framewright-operator"]),
];

#[test]
fn operator_and_worker_are_built_without_each_other() {
    for (folder, built_with, tested_with) in IMPORTS {
        let [build, test] = dependencies(folder);
        let ours = |names: &[String]| -> Vec<String> {
            let ours = names.iter().filter(|name| name.starts_with("framewright"));
            ours.cloned().collect()
        };
        assert_eq!(ours(&build), *built_with, "{folder}/Cargo.toml");
        assert_eq!(ours(&test), *tested_with, "{folder}/Cargo.toml");
    }
}

#[test]
fn what_decides_is_built_without_client_runtime_and_http() {
    let [build, _] = dependencies("operator/core");
    for foreign in [
        "kube", "tokio", "futures", "axum", "reqwest", "rustls", "rustix",
    ] {
        assert!(!build.iter().any(|name| name == foreign), "{foreign}");
    }
}

#[test]
fn the_queue_depends_on_crds_and_on_nothing_else() {
    let [build, test] = dependencies("worker/queue");
    assert_eq!(build, ["framewright-crds"]);
    assert!(test.is_empty(), "{test:?}");
}

/// What a crate depends on, on whatever system, and what its tests need beside that.
fn dependencies(folder: &str) -> [Vec<String>; 2] {
    let manifest = root().join(folder).join("Cargo.toml");
    let text = fs::read_to_string(&manifest).expect("a crate has a manifest");
    let mut found = [Vec::new(), Vec::new()];
    let mut section = "";
    for line in text.lines() {
        if line.starts_with('[') {
            section = line;
        }
        let is_test = section.ends_with("dev-dependencies]");
        if let Some((name, _)) = line.split_once(" = ")
            && section.ends_with("dependencies]")
        {
            found[usize::from(is_test)].push(name.to_owned());
        }
    }
    found
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

#[test]
fn the_documentation_has_each_published_pipeline_and_its_unit() {
    let docs = fs::read_to_string(root().join("docs/jobs.md")).expect("docs/jobs.md");
    for spec in PIPELINES.iter().filter(|spec| spec.is_published) {
        let begin = format!("| `{}` |", spec.name);
        let row = docs.lines().find(|line| line.starts_with(&begin));
        let row = row.unwrap_or_else(|| panic!("docs/jobs.md has no row for {}", spec.name));
        assert!(row.contains(&format!("| `{}`:", spec.unit)), "{row}");
        for output in spec.outputs {
            assert!(row.contains(&format!("`{}`", output.name)), "{row}");
        }
    }
}

#[test]
fn the_documentation_has_each_reason_and_cause_that_a_status_can_show() {
    let source = text("crds/src/conditions.rs");
    for (module, document) in [
        ("job", "docs/jobs.md"),
        ("job_reason", "docs/jobs.md"),
        ("pool_reason", "docs/pools.md"),
    ] {
        let names = constants(&source, module);
        assert!(!names.is_empty(), "conditions.rs has no module {module}");
        assert_documented(document, &names);
    }
    let causes: Vec<String> = Cause::ALL.iter().map(ToString::to_string).collect();
    assert_documented("docs/jobs.md", &causes);
}

/// The values of the text constants of a module, except those that name another constant.
fn constants(source: &str, module: &str) -> Vec<String> {
    let begin = format!("pub mod {module} {{");
    let body = source.split_once(&begin).map_or("", |(_, rest)| rest);
    let body = body.split_once("\n}").map_or("", |(body, _)| body);
    let values = body.lines().filter_map(|line| {
        let value = line.split_once(": &str = \"")?.1;
        value.strip_suffix("\";")
    });
    values.map(str::to_owned).collect()
}

/// Fails if a name is in no table: each needs a row whose first cell has it as code, or the sentence that gives the reason of a condition.
fn assert_documented(document: &str, names: &[String]) {
    let manual = text(document);
    for name in names {
        let code = format!("`{name}`");
        let mut rows = manual.lines().filter(|line| line.starts_with('|'));
        let is_there = rows.any(|row| row.split('|').nth(1).unwrap_or("").contains(&code))
            || manual.contains(&format!("reason is then {code}"));
        assert!(is_there, "{document} has no row for {name}");
    }
}

/// The endings that the metrics' format adds to a name.
const METRIC_ENDINGS: &[&str] = &[
    "",
    "_total",
    "_bytes",
    "_bytes_total",
    "_seconds_total",
    "_ratios",
    "_celsius",
    "_watts",
];

#[test]
fn the_documentation_has_each_metric() {
    let manual = text("docs/operations.md");
    for (file, prefix, count) in [
        ("operator/src/metrics.rs", "framewright", 10),
        ("operator/store/src/health.rs", "framewright_store", 7),
        ("worker/src/metrics.rs", "framewright_worker", 10),
    ] {
        let names = metrics(&text(file));
        assert!(names.len() >= count, "{file} has {names:?}");
        for name in names {
            let is_there = METRIC_ENDINGS.iter().any(|ending| {
                ["`", "{"]
                    .iter()
                    .any(|after| manual.contains(&format!("\n| `{prefix}_{name}{ending}{after}")))
            });
            assert!(
                is_there,
                "docs/operations.md has no row for {prefix}_{name}"
            );
        }
    }
}

/// The metrics that a source file registers: a name in quotes, which is followed by its description.
fn metrics(source: &str) -> Vec<String> {
    let source = source.split("#[cfg(test)]").next().unwrap_or("");
    let parts: Vec<&str> = source.split('"').collect();
    let is_name =
        |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let is_description =
        |text: &str| text.starts_with(|first: char| first.is_ascii_uppercase() || first == '1');
    let found = parts
        .windows(3)
        .filter(|three| is_name(three[0]) && three[1].trim() == "," && is_description(three[2]));
    found.map(|three| three[0].to_owned()).collect()
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
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
