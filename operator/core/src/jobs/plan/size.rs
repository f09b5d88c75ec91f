//! Keeps a status near 16 KiB, and under 24 KiB, whatever a job with fifty steps went through.

use framewright_crds::aijob::{AIJobStatus, StepState};

use super::is_finished;

/// What a status weighs as JSON before it is shortened, in bytes.
pub const STATUS_LIMIT: usize = 16 * 1024;
/// What is left of each message when all of them are too much, in characters: tried in this order.
const MESSAGES: [usize; 4] = [200, 100, 50, 0];

/// Drops what is least missed, until the status is small enough.
pub fn shrink(status: &mut AIJobStatus) {
    if weight(status) <= STATUS_LIMIT {
        return;
    }
    for step in status
        .steps
        .iter_mut()
        .filter(|step| step.state == StepState::Succeeded)
    {
        let surplus = step.attempts.len().saturating_sub(1);
        step.attempts.drain(..surplus);
        step.progress = None;
        step.queued_at = None;
        step.weights_digest = None;
    }
    if weight(status) <= STATUS_LIMIT {
        return;
    }
    for step in &mut status.steps {
        if step.state == StepState::Blocked || step.state == StepState::Skipped {
            step.message = None;
        }
        if step.state == StepState::Succeeded {
            step.attempts.clear();
            step.pool = None;
        }
        if let Some(output) = &mut step.output {
            output.uri = None;
        }
        let surplus = step.attempts.len().saturating_sub(1);
        step.attempts.drain(..surplus);
    }
    if is_finished(status) {
        shrink_finished(status);
    }
    for most in MESSAGES {
        if weight(status) <= STATUS_LIMIT {
            return;
        }
        for step in &mut status.steps {
            cut(&mut step.message, most);
            for attempt in &mut step.attempts {
                cut(&mut attempt.message, most);
            }
        }
    }
}

/// Of a job that is over nothing is uploaded, and its results are in `outputs`.
fn shrink_finished(status: &mut AIJobStatus) {
    if weight(status) > STATUS_LIMIT {
        status.uploads.clear();
    }
    if weight(status) > STATUS_LIMIT {
        for step in &mut status.steps {
            step.output = None;
        }
    }
}

/// What the status weighs as JSON, in bytes.
#[must_use]
pub fn weight(status: &AIJobStatus) -> usize {
    serde_json::to_vec(status).map_or(usize::MAX, |json| json.len())
}

fn cut(message: &mut Option<String>, most: usize) {
    let Some(text) = message.as_mut().filter(|text| text.chars().count() > most) else {
        return;
    };
    let start: String = text.chars().take(most.saturating_sub(1)).collect();
    *message = (most > 0).then(|| format!("{start}…"));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What cannot be left out of the longest job with the longest names, while its last step runs.
    const MOST: usize = 24 * 1024;
    use framewright_crds::aijob::{
        Artifact, Attempt, Cause, OutputStatus, StepStatus, UploadStatus,
    };
    use framewright_crds::conditions::{Truth, job, set};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    /// Steps that have failed three times each, with all that there was to say about it.
    fn wordy(steps: usize) -> AIJobStatus {
        let message = Some("–".repeat(400));
        let epoch = jiff::Timestamp::UNIX_EPOCH;
        let attempt = |number| Attempt {
            started_at: Some(Time(epoch)),
            finished_at: Some(Time(epoch)),
            cause: Some(Cause::Internal),
            message: message.clone(),
            ..Attempt::bound(
                number,
                "fleet",
                "upscale-0123456789-0",
                &"3".repeat(36),
                epoch,
            )
        };
        let step = |index: usize| StepStatus {
            state: StepState::Queued,
            message: message.clone(),
            queued_at: Some(Time(epoch)),
            pool: Some("fleet/upscale".into()),
            attempts_made: 3,
            failures: 3,
            attempts: (1..=3).map(attempt).collect(),
            ..StepStatus::blocked(&format!("step-{index}"))
        };
        AIJobStatus {
            steps: (0..steps).map(step).collect(),
            ..AIJobStatus::default()
        }
    }

    #[test]
    fn what_is_too_much_is_cut_and_the_newest_attempt_stays() {
        for steps in [1, 5, 20, 30] {
            let mut status = wordy(steps);
            shrink(&mut status);
            assert!(
                weight(&status) <= STATUS_LIMIT,
                "{steps} steps weigh {} bytes",
                weight(&status)
            );
            assert!(
                status
                    .steps
                    .iter()
                    .all(|step| { step.attempts.last().map(|attempt| attempt.number) == Some(3) })
            );
        }
    }

    #[test]
    fn the_longest_workflow_stays_small_from_its_first_upload_to_its_last_result() {
        let digest = "0".repeat(64);
        let link = |count| UploadStatus {
            sha256: digest.clone(),
            bytes: 9_999_999_999,
            received: count >= 8,
            link: (count < 8).then(|| "https://framewright.example.com/v1/".repeat(10)),
            expires_at: (count < 8).then_some(Time(jiff::Timestamp::UNIX_EPOCH)),
        };
        let mut begins = wordy(50);
        begins.uploads = (0..50).map(link).collect();
        for step in &mut begins.steps {
            step.state = StepState::Blocked;
            step.attempts.clear();
        }
        let mut ends = wordy(50);
        for step in &mut ends.steps {
            step.state = StepState::Succeeded;
            step.message = None;
            step.units = Some(1_000_000);
            step.output = Some(Artifact {
                uri: Some(format!(
                    "artifact://studio/aijobs/{}/output/{digest}",
                    "5".repeat(36)
                )),
                digest: format!("sha256:{digest}"),
                media_type: "video/mp4".into(),
                bytes: 9_999_999_999,
            });
        }
        let mut over = ends.clone();
        let (at, said) = (jiff::Timestamp::UNIX_EPOCH, "all steps are done");
        for type_ in [job::ACCEPTED, job::RUNNING, job::SUCCEEDED, job::FINISHED] {
            set(
                &mut over.conditions,
                type_,
                Truth::True,
                "Succeeded",
                said,
                None,
                at,
            );
        }
        over.uploads = (0..50).map(|_| link(8)).collect();
        over.outputs = (0..16)
            .map(|number| OutputStatus {
                name: format!("result-{number}"),
                step: "s".repeat(63),
                digest: format!("sha256:{digest}"),
                media_type: "video/mp4".into(),
                bytes: 9_999_999_999,
                link: Some("https://framewright.example.com/v1/".repeat(10)),
                expires_at: Some(Time(jiff::Timestamp::UNIX_EPOCH)),
            })
            .collect();
        let mut nearly = ends.clone();
        nearly.uploads.clone_from(&over.uploads);
        nearly.steps[49].state = StepState::Running;
        for mut status in [begins.clone(), ends.clone()] {
            shrink(&mut status);
            let weighs = weight(&status);
            assert!(weighs <= STATUS_LIMIT, "{weighs} bytes");
        }
        for mut status in [begins, ends, nearly, over] {
            for (index, step) in status.steps.iter_mut().enumerate() {
                step.name = format!("{index:a>63}");
            }
            shrink(&mut status);
            let weighs = weight(&status);
            assert!(weighs <= MOST, "{weighs} bytes");
        }
    }

    #[test]
    fn what_was_cut_is_not_cut_again() {
        let mut status = wordy(20);
        shrink(&mut status);
        let once = status.clone();
        shrink(&mut status);
        assert_eq!(status, once);
    }
}
