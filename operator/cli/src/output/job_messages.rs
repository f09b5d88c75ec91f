//! What has changed between two statuses of a job, as lines. No I/O and no clock.

use std::collections::BTreeSet;

use framewright_client::objects::owner;
use framewright_crds::aijob::{AIJobStatus, StepState};
use framewright_crds::conditions::{self, job, job_reason as reason};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::output::step_messages;

/// One line for each change. If `progress_at` has the current time, each 10% of a step's progress is a change, too; it is for output
/// without progress bars. The files with the digests `sent` are in the store, even if the status does not say so yet.
pub(crate) fn changes(
    job: &str,
    before: &AIJobStatus,
    after: &AIJobStatus,
    sent: &BTreeSet<String>,
    progress_at: Option<Timestamp>,
) -> Vec<String> {
    let mut lines = Vec::new();
    for step in &after.steps {
        let old = before.steps.iter().find(|old| old.name == step.name);
        let new = step_messages::changes(old, step, progress_at);
        lines.extend(
            new.into_iter()
                .map(|line| format!("{job}/{}: {line}", step.name)),
        );
    }
    let (old, new) = (state(before), state(after));
    if let Some(new) = new
        && is_worth_a_line(old, new)
        && !is_awaited_though_sent(after, new, sent)
    {
        lines.push(format!("{job}: {}", in_words(new)));
    }
    lines
}

/// The progress of each step that is running.
pub(crate) fn progress(job: &str, status: &AIJobStatus, now: Timestamp) -> Vec<String> {
    let steps = status.steps.iter();
    let running = steps.filter(|step| step.state == StepState::Running);
    running
        .filter_map(|step| Some((step, step_messages::how_far(step, now)?)))
        .map(|(step, far)| format!("{job}/{}: {far}", step.name))
        .collect()
}

/// The condition whose reason is the job's state.
pub(crate) fn state(status: &AIJobStatus) -> Option<&Condition> {
    conditions::get(&status.conditions, job::SUCCEEDED)
}

/// Whether the job waits only for files that are in the store.
pub(crate) fn is_awaited_though_sent(
    status: &AIJobStatus,
    state: &Condition,
    sent: &BTreeSet<String>,
) -> bool {
    state.reason == reason::AWAITING_UPLOAD
        && owner::awaited(&status.files).all(|file| sent.contains(&file.digest))
}

/// Whether the job's state is worth a line. While a step runs, its own lines say more. The reason of a failure is written at the end,
/// below the steps.
fn is_worth_a_line(old: Option<&Condition>, new: &Condition) -> bool {
    let is_shown_by_steps =
        [reason::RUNNING, reason::STARTING, reason::RETRYING].contains(&new.reason.as_str());
    match old {
        _ if is_shown_by_steps || new.status == "False" => false,
        Some(old) => old.reason != new.reason || old.message != new.message,
        None => true,
    }
}

/// The job's state as a sentence, with its reason as kubectl shows it.
pub(crate) fn in_words(state: &Condition) -> String {
    let Condition {
        status,
        reason,
        message,
        ..
    } = state;
    let lead = match (status.as_str(), reason.as_str()) {
        ("True", _) => return "done".to_owned(),
        ("False", _) => "failed",
        (_, reason::RUNNING) => "runs",
        (_, reason::STARTING) => "starts",
        (_, _) => "waits",
    };
    let message = if message.is_empty() {
        String::new()
    } else {
        format!(": {message}")
    };
    format!("{lead} ({reason}){message}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_job_that_waits_says_for_what_and_once() {
        let waits = status(
            "Queued",
            "all 2 workers of pool fleet/x are busy",
            json!([step("Queued", 0, json!({}))]),
        );
        assert_eq!(
            lines(&AIJobStatus::default(), &waits, true),
            ["demo: waits (Queued): all 2 workers of pool fleet/x are busy"]
        );
        assert!(lines(&waits, &waits, true).is_empty());
        let other = status("Queued", "another", json!([step("Queued", 0, json!({}))]));
        assert_eq!(
            lines(&waits, &other, true),
            ["demo: waits (Queued): another"]
        );
    }

    #[test]
    fn a_step_says_where_it_runs_and_how_far_it_is() {
        let queued = status("Queued", "", json!([step("Queued", 0, json!({}))]));
        let runs = |percent| {
            let more = json!({"attempts": [attempt(1, json!({}))], "progress": {"percent": percent, "stage": "frame", "done": 3, "of": 9}});
            status("Running", "1 step", json!([step("Running", 1, more)]))
        };
        assert_eq!(
            lines(&queued, &runs(0), true),
            ["demo/large: computes on fleet/upscaler-0, attempt 1"]
        );
        assert!(lines(&runs(30), &runs(39), true).is_empty());
        assert_eq!(
            lines(&runs(39), &runs(40), true),
            ["demo/large: 40%, frame 3 of 9"]
        );
        assert!(lines(&runs(39), &runs(40), false).is_empty());
    }

    #[test]
    fn the_time_left_is_shown_once_some_has_passed() {
        let runs = |started: &str, frame| {
            let attempt = attempt(1, json!({"startedAt": started}));
            let progress =
                json!({"percent": 100 * frame / 90, "stage": "frame", "done": frame, "of": 90});
            let more = json!({"attempts": [attempt], "progress": progress});
            let runs = status("Running", "1 step", json!([step("Running", 1, more)]));
            step_messages::how_far(&runs.steps[0], now())
        };
        let far = |text: &str| Some(text.to_owned());
        assert_eq!(
            runs("2026-01-01T00:00:10Z", 30),
            far("33%, frame 30 of 90, about 1 min 00 s left")
        );
        assert_eq!(runs("2026-01-01T00:00:38Z", 30), far("33%, frame 30 of 90"));
        assert_eq!(runs("2026-01-01T00:00:10Z", 0), far("0%, frame 0 of 90"));
    }

    #[test]
    fn the_time_left_is_of_the_step_and_not_of_its_stage() {
        let attempts = json!([attempt(1, json!({"startedAt": "2026-01-01T00:00:10Z"}))]);
        let runs = |progress: Value| {
            let more = json!({"attempts": attempts, "progress": progress});
            let runs = status("Running", "1 step", json!([step("Running", 1, more)]));
            step_messages::beside_bar(&runs.steps[0], now())
        };
        for (progress, message) in [
            (
                json!({"percent": 50, "stage": "encode", "done": 1, "of": 90}),
                "encode 1 of 90, about 30 s left",
            ),
            (json!({"percent": 50}), "about 30 s left"),
            (
                json!({"percent": 0, "stage": "frame", "done": 7}),
                "frame 7",
            ),
            (json!({"percent": 0}), ""),
        ] {
            assert_eq!(runs(progress), message);
        }
    }

    #[test]
    fn states_and_causes_of_newer_versions_are_shown_as_unknown() {
        let failed = attempt(1, json!({"cause": "MeltedDown", "message": "it is hot"}));
        let more = json!({"attempts": [failed], "message": "it cools down"});
        let paused = status("Paused", "later", json!([step("Cooling", 1, more)]));
        assert_eq!(
            lines(&AIJobStatus::default(), &paused, true),
            [
                "demo/large: attempt 1 on fleet/upscaler-0 failed: Unknown, it is hot",
                "demo/large: Unknown: it cools down",
                "demo: waits (Paused): later"
            ]
        );
    }

    #[test]
    fn a_failed_attempt_is_shown_once_with_its_cause() {
        let runs = status(
            "Running",
            "",
            json!([step(
                "Running",
                1,
                json!({"attempts": [attempt(1, json!({}))]})
            )]),
        );
        let lost = attempt(
            1,
            json!({"cause": "WorkerLost", "message": "its stream broke"}),
        );
        let failed = status(
            "Retrying",
            "",
            json!([step(
                "Queued",
                1,
                json!({"attempts": [lost], "message": "tried again"})
            )]),
        );
        assert_eq!(
            lines(&runs, &failed, true),
            [
                "demo/large: attempt 1 on fleet/upscaler-0 failed: WorkerLost, its stream broke",
                "demo/large: waits: tried again"
            ]
        );
        let again = status(
            "Retrying",
            "",
            json!([step(
                "Starting",
                2,
                json!({"attempts": [lost, attempt(2, json!({}))]})
            )]),
        );
        assert_eq!(
            lines(&failed, &again, true),
            ["demo/large: starts on fleet/upscaler-0, attempt 2"]
        );
    }

    #[test]
    fn a_failure_is_explained_once() {
        let failed = attempt(
            1,
            json!({"cause": "InvalidInput", "message": "it is no video"}),
        );
        let step = step(
            "Failed",
            1,
            json!({"attempts": [failed], "message": "it is no video"}),
        );
        let failed = status("Running", "", json!([step]));
        assert_eq!(
            lines(&AIJobStatus::default(), &failed, true),
            [
                "demo/large: attempt 1 on fleet/upscaler-0 failed: InvalidInput, it is no video",
                "demo/large: failed"
            ]
        );
    }

    #[test]
    fn the_end_has_time_and_usage() {
        let ended = attempt(
            1,
            json!({"startedAt": "2026-01-01T00:00:10Z", "finishedAt": "2026-01-01T00:00:52Z"}),
        );
        let done = status(
            "Succeeded",
            "",
            json!([step(
                "Succeeded",
                1,
                json!({"attempts": [ended], "usage": {"unit": "pixels", "amount": 1_000_000}})
            )]),
        );
        assert_eq!(
            lines(&AIJobStatus::default(), &done, true),
            ["demo/large: done in 42 s, 1,000,000 pixels", "demo: done"]
        );
    }

    #[test]
    fn files_that_were_sent_are_not_waited_for() {
        let mut waits = status(
            "AwaitingUpload",
            "step large waits for the upload",
            json!([]),
        );
        let file = |name, digest, source, state| json!({"name": name, "digest": digest, "source": source, "state": state, "bytes": 1});
        waits.files = serde_json::from_value(json!([
            file("large/video", "sha256:a", "upload", "Received"),
            file("large/mask", "sha256:b", "upload", "Awaited"),
            file("poster/image", "sha256:b", "upload", "Awaited"),
            file("large/sound", "sha256:c", "https", "Awaited"),
        ]))
        .expect("are files");
        let before = AIJobStatus::default();
        let sent = BTreeSet::from(["sha256:b".to_owned()]);
        assert!(changes("demo", &before, &waits, &sent, Some(now())).is_empty());
        assert_eq!(lines(&before, &waits, true).len(), 1);
    }

    fn lines(before: &AIJobStatus, after: &AIJobStatus, with_progress: bool) -> Vec<String> {
        let progress_at = with_progress.then(now);
        changes("demo", before, after, &BTreeSet::new(), progress_at)
    }

    /// Half a minute after the attempts of these tests began to compute.
    fn now() -> Timestamp {
        "2026-01-01T00:00:40Z".parse().expect("is a time")
    }

    fn status(reason: &str, message: &str, steps: Value) -> AIJobStatus {
        serde_json::from_value(json!({
            "conditions": [{
                "type": "Succeeded", "status": if reason == "Succeeded" { "True" } else { "Unknown" }, "reason": reason, "message": message,
                "lastTransitionTime": "2026-01-01T00:00:00Z"
            }],
            "steps": steps
        }))
        .expect("is a status")
    }

    fn step(state: &str, attempts_made: i32, more: Value) -> Value {
        extended(
            json!({"name": "large", "state": state, "attemptsMade": attempts_made}),
            more,
        )
    }

    fn attempt(number: i32, more: Value) -> Value {
        let attempt = json!({
            "number": number, "boundAt": "2026-01-01T00:00:00Z",
            "worker": {"kind": "Pod", "namespace": "fleet", "name": "upscaler-0", "uid": "u"}
        });
        extended(attempt, more)
    }

    fn extended(mut value: Value, more: Value) -> Value {
        if let (Some(value), Value::Object(more)) = (value.as_object_mut(), more) {
            value.extend(more);
        }
        value
    }
}
