//! A plan as text.

use std::fmt::Write as _;

use framewright_core::jobs::plan::orders::Order;
use framewright_core::jobs::plan::{Plan, plan};
use framewright_core::links::{Place, Signer};
use framewright_crds::aijob::OutputStatus;
use framewright_crds::conditions::{get, job};
use framewright_crds::names::ArtifactRole;
use framewright_crds::wire::OutputFile;
use jiff::Timestamp;

use crate::Story;
use crate::seen::observed;

/// The plan as text.
pub(crate) fn tell(story: &Story) -> String {
    let seen = observed(story);
    let Plan {
        delete,
        status,
        orders,
        notes,
        look_again,
    } = plan(&seen, &Links);
    let mut text = String::new();
    if delete {
        text.push_str("delete the job\n");
    }
    for order in orders {
        let worker = &order.worker.name;
        let _ = match &order.order {
            Order::Run { task, .. } => {
                writeln!(text, "tell {worker}: run {}/{}", task.step, task.attempt)
            }
            Order::Upload { task, .. } => {
                writeln!(text, "tell {worker}: upload {}/{}", task.step, task.attempt)
            }
            Order::Settle { task } => writeln!(
                text,
                "tell {worker}: settled {}/{}",
                task.step, task.attempt
            ),
            Order::Cancel { task } => {
                writeln!(text, "tell {worker}: cancel {}/{}", task.step, task.attempt)
            }
        };
    }
    if status == seen.status {
        text.push_str("write nothing\n");
    } else {
        for step in &status.steps {
            let _ = write!(text, "{}: {:?}", step.name, step.state);
            if let Some(last) = step.attempts.last() {
                let _ = write!(text, ", attempt {} on {}", last.number, last.worker);
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
    for note in notes {
        let kind = if note.warning { "warning" } else { "event" };
        let _ = writeln!(text, "{kind} {}: {}", note.reason, note.message);
    }
    if let Some(wait) = look_again {
        let _ = writeln!(text, "look again in {} s", wait.as_secs_f64());
    }
    text
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
