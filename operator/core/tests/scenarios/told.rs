//! A plan as text.

use std::fmt::Write as _;

use framewright_core::jobs::commands::Command;
use framewright_core::jobs::plan::{Plan, plan};
use framewright_core::jobs::snapshot::Snapshot;
use framewright_core::jobs::transitions::{kubernetes_events, transitions};
use framewright_core::links::{Place, Signer};
use framewright_crds::aijob::OutputStatus;
use framewright_crds::conditions::{get, job};
use framewright_crds::names::ArtifactRole;
use framewright_crds::protocol::OutputFile;
use jiff::Timestamp;

use crate::Story;
use crate::snapshot::observed;

/// The plan as text.
pub(crate) fn tell(story: &Story) -> String {
    let snapshot = observed(story);
    let Plan {
        delete,
        status,
        commands,
        outcome,
        requeue_after,
    } = plan_of(&snapshot, story.outcome_is_open);
    let events = kubernetes_events(&transitions(&snapshot.status, &status));
    let mut text = String::new();
    if delete {
        text.push_str("delete the job\n");
    }
    if let Some(outcome) = outcome {
        let _ = writeln!(text, "record outcome {}", outcome.reason);
        for (task, usage) in outcome.tasks {
            let (step, attempt) = (task.step, task.attempt);
            let _ = writeln!(
                text,
                "used by {step}/{attempt}: {} {}",
                usage.amount, usage.unit
            );
        }
    }
    for addressed in commands {
        let worker = &addressed.worker.name;
        let _ = match &addressed.command {
            Command::Run { task, .. } => {
                writeln!(text, "tell {worker}: run {}/{}", task.step, task.attempt)
            }
            Command::Upload { task, .. } => {
                writeln!(text, "tell {worker}: upload {}/{}", task.step, task.attempt)
            }
            Command::Proceed { task } => {
                writeln!(
                    text,
                    "tell {worker}: proceed {}/{}",
                    task.step, task.attempt
                )
            }
            Command::Ack { task } => writeln!(
                text,
                "tell {worker}: acknowledged {}/{}",
                task.step, task.attempt
            ),
            Command::Cancel { task } => {
                writeln!(text, "tell {worker}: cancel {}/{}", task.step, task.attempt)
            }
        };
    }
    if status == snapshot.status {
        text.push_str("write nothing\n");
    } else {
        for step in &status.steps {
            let _ = write!(text, "{}: {:?}", step.name, step.state);
            if let Some(last) = step.attempts.last() {
                let _ = write!(text, ", attempt {} on {}", last.number, last.worker.name);
                if let Some(started) = &last.started_at {
                    let _ = write!(text, " started at {}", started.0.as_second());
                }
                if let Some(cause) = last.cause {
                    let _ = write!(text, " failed by {cause:?}");
                }
            }
            if step.failures > 0 {
                let _ = write!(text, ", failures {}", step.failures);
            }
            let _ = match &step.message {
                Some(message) => writeln!(text, " ({message})"),
                None => writeln!(text),
            };
        }
        let told = get(&status.conditions, job::SUCCEEDED).expect("a condition");
        let _ = writeln!(
            text,
            "Succeeded {} {}: {}",
            told.status, told.reason, told.message
        );
        let truths = status.conditions.iter();
        let truths: Vec<&str> = truths
            .filter(|condition| condition.status == "True")
            .map(|condition| condition.type_.as_str())
            .collect();
        let _ = writeln!(text, "true: {}", truths.join(", "));
        let _ = writeln!(text, "progress {}", status.progress.unwrap_or_default());
        for output in &status.outputs {
            let _ = writeln!(
                text,
                "result {} {}",
                output.name,
                output.link.as_deref().unwrap_or_default()
            );
        }
    }
    for event in events {
        let kind = if event.is_warning { "warning" } else { "event" };
        let _ = writeln!(text, "{kind} {}: {}", event.reason, event.message);
    }
    if let Some(wait) = requeue_after {
        let _ = writeln!(text, "requeue after {} s", wait.as_secs_f64());
    }
    text
}

/// The plan; what the job has used is recorded, unless that is still open.
pub(crate) fn plan_of(snapshot: &Snapshot, outcome_is_open: bool) -> Plan {
    let first = plan(snapshot, &Links);
    if first.outcome.is_none() || outcome_is_open {
        return first;
    }
    let snapshot = Snapshot {
        recorded: first.outcome,
        ..snapshot.clone()
    };
    plan(&snapshot, &Links)
}

pub(crate) struct Links;

impl Signer for Links {
    fn upload(&self, _: &Place<'_>, _: &str, _: i64, expires: Timestamp) -> String {
        format!("put@{}", expires.as_second())
    }

    fn download(
        &self,
        _: &Place<'_>,
        _: &OutputStatus,
        file_name: &str,
        expires: Timestamp,
    ) -> String {
        format!("{file_name}@{}", expires.as_second())
    }

    fn worker_get(
        &self,
        _: &Place<'_>,
        (_, sha256): (ArtifactRole, &str),
        expires: Timestamp,
    ) -> Option<String> {
        Some(format!("get {sha256}@{}", expires.as_second()))
    }

    fn worker_put(&self, _: &Place<'_>, _: &OutputFile, expires: Timestamp) -> Option<String> {
        Some(format!("put@{}", expires.as_second()))
    }
}
