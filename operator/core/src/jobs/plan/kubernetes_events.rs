//! Events about a job. Each is a write, so a job that goes well has none: its status tells it. There is one for each failed attempt,
//! for each new reason to wait except a missing upload, and for a failed end.

use framewright_crds::aijob::{AIJobStatus, StepStatus};
use framewright_crds::conditions::{self, job, job_reason, shortened};

/// The API server takes no longer action.
const ACTION_LIMIT: usize = 128;

/// An Event on the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesEvent {
    pub warning: bool,
    pub reason: String,
    pub message: String,
    /// Which attempt it is about, as step/number. Events that differ in nothing but their message are shown as one that came
    /// several times, with the first one's message.
    pub action: String,
}

/// A note about a step's newest attempt, cut to what a status allows too.
#[must_use]
pub fn note(warning: bool, reason: &str, step: &StepStatus, message: &str) -> KubernetesEvent {
    KubernetesEvent {
        warning,
        reason: reason.to_owned(),
        message: shortened(message),
        action: format!("{}/{}", step.name, step.attempts_made),
    }
}

/// A note about the job as a whole, when it begins to wait for something or has failed. A missing upload makes none: it is on its way
/// as a rule, and its link is in the status.
#[must_use]
pub fn turn(before: &AIJobStatus, after: &AIJobStatus) -> Option<KubernetesEvent> {
    let new = conditions::get(&after.conditions, job::SUCCEEDED)?;
    let old = conditions::get(&before.conditions, job::SUCCEEDED);
    if old.is_some_and(|old| old.reason == new.reason) {
        return None;
    }
    let warning = match new.reason.as_str() {
        job_reason::QUEUED | job_reason::POOL_NOT_READY | job_reason::SUSPENDED => false,
        job_reason::MODEL_NOT_FOUND
        | job_reason::PIPELINE_NOT_FOUND
        | job_reason::POOL_NOT_FOUND
        | job_reason::NOT_ALLOWED
        | job_reason::BACKOFF_LIMIT_EXCEEDED
        | job_reason::DELETED => true,
        // The steps' own notes tell of failures; what goes well is in the status.
        _ => return None,
    };
    Some(KubernetesEvent {
        warning,
        reason: new.reason.clone(),
        message: new.message.clone(),
        action: format!("{}/{}", new.reason, after.attempts_made.unwrap_or(0)),
    })
}

/// Notes that are no warnings become one under the first reason, since each is a write of its own; each warning stays one.
#[must_use]
pub fn merged(notes: Vec<KubernetesEvent>) -> Vec<KubernetesEvent> {
    let (mut told, good): (Vec<KubernetesEvent>, Vec<KubernetesEvent>) =
        notes.into_iter().partition(|note| note.warning);
    let joined = |of: fn(&KubernetesEvent) -> &str, between: &str| {
        let parts: Vec<&str> = good.iter().map(of).collect();
        parts.join(between)
    };
    if let Some(first) = good.first() {
        let mut action = joined(|note| &note.action, ",");
        action.truncate(ACTION_LIMIT); // names of steps are ASCII
        told.push(KubernetesEvent {
            warning: false,
            reason: first.reason.clone(),
            message: shortened(&joined(|note| &note.message, "; ")),
            action,
        });
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(warning: bool, action: &str) -> KubernetesEvent {
        KubernetesEvent {
            warning,
            reason: "Suspended".to_owned(),
            message: format!("about {action}"),
            action: action.to_owned(),
        }
    }

    #[test]
    fn notes_of_one_write_are_one_event_and_warnings_stay_apart() {
        let notes = merged(vec![
            told(false, "a/1"),
            told(true, "b/1"),
            told(false, "c/2"),
        ]);
        let short: Vec<(&str, &str)> = notes
            .iter()
            .map(|note| (note.action.as_str(), note.message.as_str()))
            .collect();
        assert_eq!(
            short,
            [("b/1", "about b/1"), ("a/1,c/2", "about a/1; about c/2")]
        );
    }

    #[test]
    fn many_steps_at_once_fit_an_events_action() {
        let many = (0..50)
            .map(|number| told(false, &format!("{number:040}/1")))
            .collect();
        assert_eq!(merged(many)[0].action.len(), ACTION_LIMIT);
    }
}
