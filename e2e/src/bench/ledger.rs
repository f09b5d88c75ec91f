//! How many writes a job costs, by whom and of what, from the API server's own record.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};
use serde_json::Value;

use super::desk::Desk;
use super::stage::Stage;

const WRITES: [&str; 5] = ["create", "update", "patch", "delete", "deletecollection"];

/// Writes by user, verb and kind, over some jobs.
pub(super) struct Ledger {
    jobs: usize,
    writes: BTreeMap<(String, String), usize>,
}

/// Runs jobs of so many steps, one after the other, and counts what was written in their namespace.
pub(super) async fn count(stage: &Stage, desk: &Desk, steps: usize, jobs: usize) -> Result<Ledger> {
    let namespace = format!("bench-{steps}");
    for index in 0..jobs {
        desk.run(&namespace, &format!("job-{index}"), steps).await?;
    }
    let log = stage.cluster.audit_log();
    let text = fs::read_to_string(&log).with_context(|| log.display().to_string())?;
    let mut writes = BTreeMap::new();
    for line in text.lines() {
        // The last line may be half written.
        let Ok(entry) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        if let Some(write) = write(&entry, &namespace) {
            *writes.entry(write).or_insert(0) += 1;
        }
    }
    Ok(Ledger { jobs, writes })
}

/// Who wrote what, if the entry tells of a write in this namespace that concerns a job.
fn write(entry: &Value, namespace: &str) -> Option<(String, String)> {
    let verb = entry["verb"].as_str()?;
    let about = &entry["objectRef"];
    let is_write = WRITES.contains(&verb)
        && about["namespace"] == namespace
        && entry["stage"] == "ResponseComplete";
    // Every new namespace gets these, jobs or not.
    let kind = about["resource"].as_str()?;
    if !is_write || kind == "serviceaccounts" || kind == "configmaps" {
        return None;
    }
    let kind = match about["subresource"].as_str() {
        Some(part) => format!("{kind}/{part}"),
        None => kind.to_owned(),
    };
    let refused = entry["responseStatus"]["code"].as_i64() >= Some(400);
    let what = format!("{verb} {kind}{}", if refused { ", refused" } else { "" });
    let user = entry["user"]["username"].as_str()?;
    let user = user.rsplit(':').next().unwrap_or(user).to_owned();
    Some((user, what))
}

impl Ledger {
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of some hundred are exact"
    )]
    pub(super) fn print(&self, title: &str) {
        println!("{title}: writes a job, over {} jobs", self.jobs);
        for ((user, what), count) in &self.writes {
            let each = *count as f64 / self.jobs as f64;
            println!("  {each:>5.2}  {what:<28} {user}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(verb: &str, namespace: &str, code: i64) -> Value {
        json!({
            "stage": "ResponseComplete", "verb": verb, "user": {"username": "system:serviceaccount:a:operator"},
            "objectRef": {"namespace": namespace, "resource": "aijobs", "subresource": "status"},
            "responseStatus": {"code": code},
        })
    }

    #[test]
    fn only_writes_of_the_namespace_count_and_refused_ones_apart() {
        let found = |verb, namespace, code| write(&entry(verb, namespace, code), "n");
        let written = |what: &str| Some(("operator".to_owned(), what.to_owned()));
        assert_eq!(found("update", "n", 200), written("update aijobs/status"));
        assert_eq!(
            found("update", "n", 409),
            written("update aijobs/status, refused")
        );
        assert_eq!(found("update", "other", 200), None);
        assert_eq!(found("get", "n", 200), None);
    }
}
