//! What was asked of the API server, by whom and in which order: its audit log.

use std::fs;

use anyhow::{Context, Result, ensure};
use framewright_crds::aijob::{AIJobStatus, Attempt, StepState, StepStatus};
use framewright_crds::conditions::{is_true, job};
use framewright_e2e::Cluster;
use serde_json::Value;

/// A request that the API server has fulfilled.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    /// Such as `update aijobs/status`.
    pub(crate) what: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// The pod whose token it came with, if any.
    pub(crate) pod: String,
    /// The object as it was afterwards, where the log has bodies.
    pub(crate) object: Value,
}

/// All of them so far, the oldest first.
pub(crate) fn done(cluster: &Cluster) -> Result<Vec<Done>> {
    let log = fs::read_to_string(cluster.audit_log()).context("read the audit log")?;
    let entries = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(entries.filter_map(|entry| one(&entry)).collect())
}

fn one(entry: &Value) -> Option<Done> {
    let code = entry["responseStatus"]["code"].as_u64()?;
    if entry["stage"] != "ResponseComplete" || !(200..300).contains(&code) {
        return None;
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let object = &entry["objectRef"];
    let mut what = format!("{} {}", text(&entry["verb"]), text(&object["resource"]));
    if let Some(part) = object["subresource"].as_str() {
        what = format!("{what}/{part}");
    }
    let pod = &entry["user"]["extra"]["authentication.kubernetes.io/pod-name"][0];
    let mut name = text(&object["name"]);
    if name.is_empty() {
        name = text(&entry["responseObject"]["metadata"]["name"]);
    }
    Some(Done {
        what,
        namespace: text(&object["namespace"]),
        name,
        pod: text(pod),
        object: entry["responseObject"].clone(),
    })
}

impl Done {
    /// Whether something is different now.
    pub(crate) fn is_write(&self) -> bool {
        let changes = ["create ", "update ", "patch ", "delete "];
        changes.iter().any(|verb| self.what.starts_with(verb)) && self.what != "create tokenreviews"
    }
}

/// The statuses of a job in the order in which they were written.
pub(crate) fn statuses(done: &[Done], namespace: &str, name: &str) -> Result<Vec<AIJobStatus>> {
    let its = done.iter().filter(|done| {
        done.what == "update aijobs/status" && done.namespace == namespace && done.name == name
    });
    its.map(|done| {
        serde_json::from_value(done.object["status"].clone())
            .with_context(|| format!("a status of {name} in the audit log"))
    })
    .collect()
}

/// What a status says is never taken back by a later one.
pub(crate) fn never_go_back(statuses: &[AIJobStatus]) -> Result<()> {
    ensure!(!statuses.is_empty(), "the audit log has no status");
    for pair in statuses.windows(2) {
        let [before, after] = pair else { continue };
        goes_on(before, after).with_context(|| {
            let text = |status| serde_json::to_string(status).unwrap_or_default();
            format!("{}\nbecame {}", text(before), text(after))
        })?;
    }
    Ok(())
}

fn goes_on(before: &AIJobStatus, after: &AIJobStatus) -> Result<()> {
    if is_true(&before.conditions, job::FINISHED) {
        ensure!(
            before.conditions == after.conditions,
            "a finished job changed"
        );
    }
    for old in &before.steps {
        let new = after.steps.iter().find(|new| new.name == old.name);
        let new = new.with_context(|| format!("step {} is gone", old.name))?;
        step_goes_on(old, new).with_context(|| format!("step {}", old.name))?;
    }
    Ok(())
}

fn step_goes_on(old: &StepStatus, new: &StepStatus) -> Result<()> {
    if old.state.is_terminal() {
        ensure!(old == new, "a finished step changed");
    }
    ensure!(old.attempts_made <= new.attempts_made, "attempts are fewer");
    ensure!(old.failures <= new.failures, "failures are fewer");
    if old.attempts_made == new.attempts_made {
        ensure!(
            rank(old.state) <= rank(new.state),
            "{:?} became {:?} in the same attempt",
            old.state,
            new.state
        );
    }
    for attempt in &old.attempts {
        let same = new
            .attempts
            .iter()
            .find(|new| (new.replica, new.number) == (attempt.replica, attempt.number));
        // Only the newest are kept.
        if let Some(same) = same {
            attempt_goes_on(attempt, same)
                .with_context(|| format!("attempt {}", attempt.number))?;
        }
    }
    Ok(())
}

fn attempt_goes_on(old: &Attempt, new: &Attempt) -> Result<()> {
    ensure!(old.worker == new.worker, "it moved to another pod");
    ensure!(old.bound_at == new.bound_at, "it was bound again");
    ensure!(
        old.started_at.is_none() || old.started_at == new.started_at,
        "it was started again"
    );
    ensure!(
        old.finished_at.is_none() || old.finished_at == new.finished_at,
        "it ended again"
    );
    Ok(())
}

fn rank(state: StepState) -> u8 {
    match state {
        StepState::Blocked | StepState::Unknown => 0,
        StepState::Queued => 1,
        StepState::Starting => 2,
        StepState::Running => 3,
        StepState::Succeeded | StepState::Failed | StepState::Skipped => 4,
    }
}
