//! One story a file in `tests/scenarios`: what is seen of a job, and the plan as text. A story needs no code.
//! `UPDATE=1 cargo test --test scenarios` writes the plans; read the difference before you commit it.

mod snapshot;
mod told;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A story. Times are seconds since the job was created.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Story {
    story: String,
    /// The job's name, `job` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    now: i64,
    /// Steps: `name <- upload` or `name <- earlier`.
    steps: Vec<String>,
    /// Fields of the spec that differ from their defaults.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    spec: serde_json::Map<String, serde_json::Value>,
    /// What the status says of a step: words such as `Queued since 3`, `Blocked since 3`, `Starting on w1 since 3`, `Running on w1 since 3`,
    /// `Succeeded`, with `failures N`, `made N`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    status: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    received: bool,
    /// Why the store cannot be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    store_error: Option<String>,
    /// What surrounds a step: `busy`, `bind w1`, `problem REASON`, `no model`, `not allowed`; its worker: `connected`, `away since 3`,
    /// `gone`, `oom`, `restarted`, `begun at 3`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    around: BTreeMap<String, Vec<String>>,
    /// Tasks: `large/1 on w1: starting`, `running 40% since 3`, `uploading`, `done`, `failed Cause`; then `; problem with the store`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    held: Vec<String>,
    /// The job may not start yet: a reason and a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    admission: Option<(String, String)>,
    /// What the job has used is not recorded yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    outcome_is_open: bool,
    /// Finalizers that keep the job, which is being deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    kept_by: Vec<String>,
    /// The last look before this one, whose plan was written: the status is what it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    earlier: Option<Earlier>,
    plan: String,
}

/// When it was, and which tasks there were.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Earlier {
    now: i64,
    held: Vec<String>,
}

#[test]
fn every_story_ends_in_its_plan() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .collect();
    files.sort();
    assert!(files.len() >= 15, "only {} stories found", files.len());
    let mut wrong = String::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a story can be read");
        let story: Story = serde_saphyr::from_str(&text)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let told = told::tell(&story);
        if told == story.plan {
            continue;
        }
        if std::env::var_os("UPDATE").is_some() {
            let (head, _) = text.split_once("plan:").expect("a story has a plan");
            let indented: String = told.lines().map(|line| format!("  {line}\n")).collect();
            std::fs::write(&file, format!("{head}plan: |\n{indented}"))
                .expect("a story can be written");
            continue;
        }
        let _ = writeln!(
            wrong,
            "{} ({})\n--- expected\n{}--- planned\n{told}",
            file.display(),
            story.story,
            story.plan
        );
    }
    assert!(wrong.is_empty(), "{wrong}");
}
