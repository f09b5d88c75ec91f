//! What differs between two statuses of a job that the API server has confirmed one after the other. The log, Kubernetes Events and
//! metrics follow from it, so that a write whose answer was lost loses none of them.

use framewright_crds::aijob::{AIJobStatus, Cause, StepState, StepStatus};
use framewright_crds::conditions::{get, job, job_reason, shortened};

use crate::jobs::plan::is_finished;
use crate::kubernetes_events::KubernetesEvent;

/// The API server accepts no longer action.
const ACTION_LIMIT: usize = 128;

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transition {
    /// The Succeeded condition has another reason.
    Reason {
        reason: String,
        message: String,
        attempts_made: i32,
    },
    /// A step has another state, or another attempt.
    Step {
        name: String,
        state: StepState,
        /// 0 before the first one.
        attempt: i32,
        /// The name of the newest attempt's worker, or nothing.
        worker: String,
        message: String,
    },
    /// An attempt has ended without an output.
    AttemptFailed {
        step: String,
        attempt: i32,
        worker: String,
        cause: Cause,
        message: String,
        /// It counts against backoffLimit, or the step has failed with it.
        is_warning: bool,
    },
    /// The job has ended, with this reason of its Succeeded condition.
    Finished { reason: String },
}

/// All differences: first that of the job's reason, then those of its steps, last its end.
#[must_use]
pub fn transitions(old: &AIJobStatus, new: &AIJobStatus) -> Vec<Transition> {
    let steps = new.steps.iter().flat_map(|step| {
        let known = old.steps.iter().find(|known| known.name == step.name);
        failed_attempts(known, step).chain(state(known, step))
    });
    let end = (is_finished(new) && !is_finished(old)).then(|| Transition::Finished {
        reason: get(&new.conditions, job::SUCCEEDED)
            .map(|condition| condition.reason.clone())
            .unwrap_or_default(),
    });
    reason(old, new)
        .into_iter()
        .chain(steps)
        .chain(end)
        .collect()
}

fn reason(old: &AIJobStatus, new: &AIJobStatus) -> Option<Transition> {
    let succeeded = get(&new.conditions, job::SUCCEEDED)?;
    let known = get(&old.conditions, job::SUCCEEDED);
    known
        .is_none_or(|known| known.reason != succeeded.reason)
        .then(|| Transition::Reason {
            reason: succeeded.reason.clone(),
            message: succeeded.message.clone(),
            attempts_made: new.attempts_made.unwrap_or(0),
        })
}

fn state(known: Option<&StepStatus>, step: &StepStatus) -> Option<Transition> {
    let is_same = known.is_some_and(|known| {
        (known.state, known.attempts_made) == (step.state, step.attempts_made)
    });
    (!is_same).then(|| Transition::Step {
        name: step.name.clone(),
        state: step.state,
        attempt: step.attempts_made,
        worker: step
            .attempts
            .last()
            .map(|attempt| attempt.worker.name.clone())
            .unwrap_or_default(),
        message: step.message.clone().unwrap_or_default(),
    })
}

fn failed_attempts<'a>(
    known: Option<&'a StepStatus>,
    step: &'a StepStatus,
) -> impl Iterator<Item = Transition> + use<'a> {
    let failures = known.map_or(0, |known| known.failures);
    let is_warning = step.failures > failures || step.state == StepState::Failed;
    let had_ended = move |number: i32| {
        let mut attempts = known.iter().flat_map(|known| &known.attempts);
        attempts.any(|attempt| attempt.number == number && attempt.finished_at.is_some())
    };
    let ended = step
        .attempts
        .iter()
        .filter(move |attempt| attempt.finished_at.is_some() && !had_ended(attempt.number));
    ended.filter_map(move |attempt| {
        Some(Transition::AttemptFailed {
            step: step.name.clone(),
            attempt: attempt.number,
            worker: attempt.worker.name.clone(),
            cause: attempt.cause?,
            message: attempt.message.clone().unwrap_or_default(),
            is_warning,
        })
    })
}

/// The Kubernetes Events about a job. Each is a write, so a job that goes well has none: there is one for each failed attempt, for each
/// new reason to wait except a missing upload, and for a failed end. Those of one change that are no warnings become one Event under
/// the first reason.
#[must_use]
pub fn kubernetes_events(transitions: &[Transition]) -> Vec<KubernetesEvent> {
    let (mut events, normal): (Vec<KubernetesEvent>, Vec<KubernetesEvent>) = transitions
        .iter()
        .filter_map(kubernetes_event)
        .partition(|event| event.is_warning);
    let joined = |of: fn(&KubernetesEvent) -> &str, between: &str| {
        let parts: Vec<&str> = normal.iter().map(of).collect();
        parts.join(between)
    };
    if let Some(first) = normal.first() {
        let mut action = joined(|event| &event.action, ",");
        action.truncate(ACTION_LIMIT); // names of steps are ASCII
        events.push(KubernetesEvent {
            is_warning: false,
            reason: first.reason.clone(),
            message: shortened(&joined(|event| &event.message, "; ")),
            action,
        });
    }
    events
}

fn kubernetes_event(transition: &Transition) -> Option<KubernetesEvent> {
    match transition {
        Transition::Reason {
            reason,
            message,
            attempts_made,
        } => {
            let is_warning = match reason.as_str() {
                job_reason::QUEUED | job_reason::POOL_NOT_READY | job_reason::SUSPENDED => false,
                job_reason::MODEL_NOT_FOUND
                | job_reason::PIPELINE_NOT_FOUND
                | job_reason::POOL_NOT_FOUND
                | job_reason::NOT_ALLOWED
                | job_reason::INVALID_SPEC
                | job_reason::QUEUE_DEADLINE_EXCEEDED
                | job_reason::BACKOFF_LIMIT_EXCEEDED
                | job_reason::DELETED => true,
                // A failed attempt has an Event of its own, and an upload is on its way as a rule.
                _ => return None,
            };
            Some(KubernetesEvent {
                is_warning,
                reason: reason.clone(),
                message: message.clone(),
                action: format!("{reason}/{attempts_made}"),
            })
        }
        Transition::AttemptFailed {
            step,
            attempt,
            worker,
            cause,
            message,
            is_warning,
        } => Some(KubernetesEvent {
            is_warning: *is_warning,
            reason: cause.as_str().to_owned(),
            message: shortened(&format!(
                "step {step}, attempt {attempt} on {worker}: {message}"
            )),
            action: format!("{step}/{attempt}"),
        }),
        Transition::Step { .. } | Transition::Finished { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use framewright_crds::aijob::{Attempt, AttemptWorker};
    use framewright_crds::conditions::{Truth, set};
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    const EPOCH: Timestamp = Timestamp::UNIX_EPOCH;

    fn attempt(number: i32, cause: Option<Cause>) -> Attempt {
        let worker = AttemptWorker::pod("fleet", "w", "u");
        Attempt {
            finished_at: cause.map(|_| Time(EPOCH)),
            cause,
            message: cause.map(|_| "the device is gone".to_owned()),
            ..Attempt::bound(number, worker, EPOCH)
        }
    }

    /// A step, with its failures and its attempts, of which the last one may be open.
    fn step(name: &str, state: StepState, failures: i32, attempts: Vec<Attempt>) -> StepStatus {
        StepStatus {
            state,
            failures,
            attempts_made: attempts.last().map_or(0, |attempt| attempt.number),
            attempts,
            ..StepStatus::blocked(name)
        }
    }

    fn status(reason: &str, is_over: bool, steps: Vec<StepStatus>) -> AIJobStatus {
        let mut status = AIJobStatus {
            steps,
            ..AIJobStatus::default()
        };
        for type_ in [job::SUCCEEDED, job::FINISHED] {
            let truth = Truth::from(is_over);
            set(
                &mut status.conditions,
                type_,
                truth,
                reason,
                "its words",
                None,
                EPOCH,
            );
        }
        status
    }

    /// The transitions in short.
    fn between(old: &AIJobStatus, new: &AIJobStatus) -> Vec<String> {
        let short = |transition: &Transition| match transition {
            Transition::Reason { reason, .. } => reason.clone(),
            Transition::Step {
                name,
                state,
                attempt,
                ..
            } => format!("{name} {state:?} {attempt}"),
            Transition::AttemptFailed {
                step,
                attempt,
                cause,
                is_warning,
                ..
            } => format!("{step}/{attempt} {cause:?} {is_warning}"),
            Transition::Finished { reason } => format!("end {reason}"),
        };
        transitions(old, new).iter().map(short).collect()
    }

    #[test]
    fn a_change_is_a_transition_once_whatever_lies_between() {
        let lost = Some(Cause::WorkerLost);
        let none = AIJobStatus::default();
        let queued = status(
            "Queued",
            false,
            vec![step("a", StepState::Queued, 0, vec![])],
        );
        let starting = vec![step("a", StepState::Starting, 0, vec![attempt(1, None)])];
        let starting = status("Starting", false, starting);
        let again = vec![step("a", StepState::Queued, 1, vec![attempt(1, lost)])];
        let again = status("Retrying", false, again);
        let second = vec![attempt(1, lost), attempt(2, None)];
        let second = vec![step("a", StepState::Running, 1, second)];
        let second = status("Running", false, second);
        let failed = vec![attempt(1, lost), attempt(2, Some(Cause::InvalidInput))];
        let failed = vec![step("a", StepState::Failed, 1, failed)];
        let failed = status("InvalidInput", true, failed);
        let cases: [(&AIJobStatus, &AIJobStatus, &[&str]); 9] = [
            (&none, &queued, &["Queued", "a Queued 0"]),
            (&queued, &queued, &[]),
            (&queued, &starting, &["Starting", "a Starting 1"]),
            (
                &starting,
                &again,
                &["Retrying", "a/1 WorkerLost true", "a Queued 1"],
            ),
            // A write of which no answer came, and the next one.
            (
                &starting,
                &second,
                &["Running", "a/1 WorkerLost true", "a Running 2"],
            ),
            (&again, &second, &["Running", "a Running 2"]),
            (
                &second,
                &failed,
                &[
                    "InvalidInput",
                    "a/2 InvalidInput true",
                    "a Failed 2",
                    "end InvalidInput",
                ],
            ),
            // Its links are renewed.
            (&failed, &failed, &[]),
            (&none, &none, &[]),
        ];
        for (old, new, expected) in cases {
            assert_eq!(between(old, new), expected);
        }
    }

    #[test]
    fn an_attempt_that_counts_for_nothing_is_no_warning() {
        let drained = Some(Cause::WorkerDrained);
        let old = vec![step("a", StepState::Starting, 0, vec![attempt(1, None)])];
        let new = vec![step("a", StepState::Queued, 0, vec![attempt(1, drained)])];
        let [old, new] = [old, new].map(|steps| status("Starting", false, steps));
        assert_eq!(
            between(&old, &new),
            ["a/1 WorkerDrained false", "a Queued 1"]
        );
    }

    #[test]
    fn a_job_that_goes_well_has_no_events_and_one_that_fails_has_one() {
        let events = |reason: &str, is_over| {
            let status = status(reason, is_over, vec![]);
            let transitions = transitions(&AIJobStatus::default(), &status);
            let events = kubernetes_events(&transitions).into_iter();
            let events = events.map(|event| (event.is_warning, event.message));
            events.collect::<Vec<_>>()
        };
        for reason in ["AwaitingUpload", "Starting", "Running", "Retrying"] {
            assert_eq!(events(reason, false), []);
        }
        assert_eq!(events("Succeeded", true), []);
        assert_eq!(events("Queued", false), [(false, "its words".to_owned())]);
        for reason in [
            "InvalidSpec",
            "QueueDeadlineExceeded",
            "BackoffLimitExceeded",
        ] {
            assert_eq!(events(reason, true), [(true, "its words".to_owned())]);
        }
    }

    fn failed(is_warning: bool, step: &str) -> Transition {
        Transition::AttemptFailed {
            step: step.to_owned(),
            attempt: 1,
            worker: "w".to_owned(),
            cause: Cause::Suspended,
            message: "stopped".to_owned(),
            is_warning,
        }
    }

    #[test]
    fn normal_events_of_one_change_are_one_event_and_warnings_stay_apart() {
        let events =
            kubernetes_events(&[failed(false, "a"), failed(true, "b"), failed(false, "c")]);
        let short: Vec<(&str, &str)> = events
            .iter()
            .map(|event| (event.action.as_str(), event.message.as_str()))
            .collect();
        let joined = "step a, attempt 1 on w: stopped; step c, attempt 1 on w: stopped";
        assert_eq!(
            short,
            [
                ("b/1", "step b, attempt 1 on w: stopped"),
                ("a/1,c/1", joined)
            ]
        );
    }

    #[test]
    fn many_steps_at_once_fit_an_events_action() {
        let many: Vec<Transition> = (0..50)
            .map(|number| failed(false, &format!("{number:040}")))
            .collect();
        assert_eq!(kubernetes_events(&many)[0].action.len(), ACTION_LIMIT);
    }
}
