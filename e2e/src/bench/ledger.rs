//! How many writes a job costs, by whom and of what, from the API server's own record.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::stage::Stage;

const WRITES: [&str; 5] = ["create", "update", "patch", "delete", "deletecollection"];

/// The operator's name in the audit log.
const OPERATOR: &str = ":framewright-operator";
/// What it writes about work; it renews its Lease all the time.
const COUNTED: [&str; 3] = ["aijobs", "modelpools", "pods"];

/// Writes by user, verb and kind, over some jobs.
pub(super) struct Ledger {
    jobs: usize,
    writes: BTreeMap<What, usize>,
}

/// One kind of write.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct What {
    user: String,
    what: String,
    is_refused: bool,
}

/// What a line of the audit log says, as far as it matters here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    stage: String,
    verb: String,
    user: User,
    object_ref: Option<Reference>,
    response_status: Option<Answer>,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize)]
struct Reference {
    resource: String,
    namespace: Option<String>,
    subresource: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    code: i64,
}

/// Counts what was written in a namespace in which so many jobs have run.
pub(super) fn count(stage: &Stage, namespace: &str, jobs: usize) -> Result<Ledger> {
    let mut writes = BTreeMap::new();
    let named = format!("\"{namespace}\"");
    for log in logs(&stage.cluster.audit_log())? {
        let file = File::open(&log).with_context(|| log.display().to_string())?;
        for line in BufReader::new(file).lines() {
            let line = line.with_context(|| log.display().to_string())?;
            // Most lines are long and about something else.
            if !line.contains(&named) {
                continue;
            }
            // The last line may be half written.
            let Ok(entry) = serde_json::from_str::<Entry>(&line) else {
                continue;
            };
            if let Some(what) = write(entry, namespace) {
                *writes.entry(what).or_insert(0) += 1;
            }
        }
    }
    Ok(Ledger { jobs, writes })
}

/// How many writes to jobs, pools and pods the operator has made so far.
pub(super) fn operators(stage: &Stage) -> Result<usize> {
    let mut count = 0;
    for log in logs(&stage.cluster.audit_log())? {
        let file = File::open(&log).with_context(|| log.display().to_string())?;
        for line in BufReader::new(file).lines() {
            let line = line.with_context(|| log.display().to_string())?;
            if !line.contains(OPERATOR) {
                continue;
            }
            // The last line may be half written.
            let Ok(entry) = serde_json::from_str::<Entry>(&line) else {
                continue;
            };
            let about = entry.object_ref.map(|about| about.resource);
            let is_counted = about.is_some_and(|about| COUNTED.contains(&about.as_str()))
                && WRITES.contains(&entry.verb.as_str())
                && entry.stage == "ResponseComplete"
                && entry.user.username.ends_with(OPERATOR);
            count += usize::from(is_counted);
        }
    }
    Ok(count)
}

/// The log, and the parts that the API server has put aside since it grew.
fn logs(newest: &Path) -> Result<Vec<PathBuf>> {
    let folder = newest.parent().context("the audit log has no folder")?;
    let stem = newest.file_stem().context("the audit log has no name")?;
    let stem = stem.to_string_lossy().into_owned();
    let mut logs = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(&stem) && name.ends_with(".log") {
            logs.push(path);
        }
    }
    Ok(logs)
}

/// What was written, if the entry tells of a write in this namespace that concerns a job.
fn write(entry: Entry, namespace: &str) -> Option<What> {
    let about = entry.object_ref?;
    let is_write = WRITES.contains(&entry.verb.as_str())
        && about.namespace.as_deref() == Some(namespace)
        && entry.stage == "ResponseComplete";
    // Every new namespace gets these, jobs or not.
    let kind = about.resource;
    if !is_write || kind == "serviceaccounts" || kind == "configmaps" {
        return None;
    }
    let kind = match about.subresource {
        Some(part) => format!("{kind}/{part}"),
        None => kind,
    };
    let user = entry.user.username;
    Some(What {
        user: user.rsplit(':').next().unwrap_or(&user).to_owned(),
        what: format!("{} {kind}", entry.verb),
        is_refused: entry
            .response_status
            .is_some_and(|answer| answer.code >= 400),
    })
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of some thousand are exact"
)]
impl Ledger {
    /// Writes a job, those that were refused left out.
    pub(super) fn each(&self) -> f64 {
        let taken = self.writes.iter().filter(|(what, _)| !what.is_refused);
        let all: usize = taken.map(|(_, count)| count).sum();
        all as f64 / self.jobs as f64
    }

    pub(super) fn print(&self, title: &str) {
        println!(
            "{title}: {:.2} writes, over {} jobs",
            self.each(),
            self.jobs
        );
        for (what, count) in &self.writes {
            let each = *count as f64 / self.jobs as f64;
            let refused = if what.is_refused { ", refused" } else { "" };
            let kind = format!("{}{refused}", what.what);
            println!("  {each:>5.2}  {kind:<28} {}", what.user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(verb: &str, namespace: &str, code: i64) -> Entry {
        serde_json::from_value(json!({
            "stage": "ResponseComplete", "verb": verb, "user": {"username": "system:serviceaccount:a:operator"},
            "objectRef": {"namespace": namespace, "resource": "aijobs", "subresource": "status"},
            "responseStatus": {"code": code},
        }))
        .unwrap()
    }

    #[test]
    fn only_writes_of_the_namespace_count_and_refused_ones_apart() {
        let found = |verb, namespace, code| write(entry(verb, namespace, code), "n");
        let written = |is_refused| {
            Some(What {
                user: "operator".to_owned(),
                what: "update aijobs/status".to_owned(),
                is_refused,
            })
        };
        assert_eq!(found("update", "n", 200), written(false));
        assert_eq!(found("update", "n", 409), written(true));
        assert_eq!(found("update", "other", 200), None);
        assert_eq!(found("get", "n", 200), None);
        let ledger = Ledger {
            jobs: 2,
            writes: [found("update", "n", 200), found("update", "n", 409)]
                .into_iter()
                .flatten()
                .map(|what| (what, 4))
                .collect(),
        };
        assert!((ledger.each() - 2.0).abs() < f64::EPSILON);
    }
}
