//! Keeps the status of a job with very many steps and failures small. What came out is never dropped.

use framewright_crds::aijob::{AIJobStatus, StepState};

use super::plan::is_finished;

/// From what weight on a status is shortened: its JSON, in bytes.
pub const STATUS_LIMIT: usize = 64 * 1024;
/// What is left of each message when all of them are too much, in characters: tried in this order.
const MESSAGES: [usize; 3] = [100, 40, 0];

/// Drops what is least missed, until the status is small enough or only what is needed is left. The largest stays under 256 KiB.
pub fn shrink(status: &mut AIJobStatus) {
    let cuts: [fn(&mut AIJobStatus); 5] = [
        old_attempts_of_done_steps,
        old_attempts,
        files_of_a_finished_job,
        details,
        facts,
    ];
    for cut in cuts {
        if weight(status) <= STATUS_LIMIT {
            return;
        }
        cut(status);
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

fn old_attempts_of_done_steps(status: &mut AIJobStatus) {
    for step in &mut status.steps {
        if step.state == StepState::Succeeded {
            let surplus = step.attempts.len().saturating_sub(1);
            step.attempts.drain(..surplus);
            step.progress = None;
            step.queued_at = None;
        }
    }
}

fn old_attempts(status: &mut AIJobStatus) {
    for step in &mut status.steps {
        let surplus = step.attempts.len().saturating_sub(1);
        step.attempts.drain(..surplus);
    }
}

/// Nothing is uploaded for a job that is over.
fn files_of_a_finished_job(status: &mut AIJobStatus) {
    if is_finished(status) {
        status.files.clear();
    }
}

fn details(status: &mut AIJobStatus) {
    for file in &mut status.files {
        file.message = None;
    }
    for step in &mut status.steps {
        if step.state == StepState::Blocked || step.state == StepState::Skipped {
            step.message = None;
        }
    }
}

fn facts(status: &mut AIJobStatus) {
    for step in &mut status.steps {
        for output in &mut step.outputs {
            output.facts.clear();
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

    use framewright_crds::aijob::{
        Attempt, AttemptWorker, Cause, Fact, FileState, FileStatus, OutputRole, OutputStatus,
        Progress, StepModel, StepOutput, StepStatus, Usage,
    };
    use framewright_crds::conditions::{self, Truth, job, set};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use crate::workers::validate::OUTPUTS_LIMIT;

    /// The most that a status may ever weigh.
    const MOST: usize = 256 * 1024;
    /// The most that the status of a job of one step may weigh that went well.
    const ONE_STEP: usize = 3 * 1024;
    const EPOCH: Time = Time(jiff::Timestamp::UNIX_EPOCH);

    fn digest() -> String {
        format!("sha256:{}", "0".repeat(64))
    }

    fn usage() -> Usage {
        Usage {
            unit: "pixels".into(),
            amount: 9_999_999_999,
        }
    }

    /// A step that has failed four times, with all that there was to say about it.
    fn step(name: &str) -> StepStatus {
        let message = Some("–".repeat(conditions::MESSAGE_LIMIT));
        let worker = AttemptWorker::pod("fleet", "upscale-0123456789-0", &"3".repeat(36));
        let attempt = |number| Attempt {
            started_at: Some(EPOCH),
            finished_at: Some(EPOCH),
            cause: Some(Cause::Internal),
            message: message.clone(),
            usage: Some(usage()),
            ..Attempt::bound(number, worker.clone(), EPOCH.0)
        };
        StepStatus {
            state: StepState::Queued,
            message: message.clone(),
            queued_at: Some(EPOCH),
            pool: Some("fleet/upscale".into()),
            models: vec![StepModel {
                role: "base".into(),
                name: "m".repeat(63),
                digest: digest(),
            }],
            seed: Some(4_294_967_295),
            attempts_made: 4,
            failures: 4,
            attempts: (1..=4).map(attempt).collect(),
            usage: Some(usage()),
            ..StepStatus::blocked(name)
        }
    }

    fn steps(count: usize) -> AIJobStatus {
        AIJobStatus {
            steps: (0..count)
                .map(|index| step(&format!("{index:a>40}")))
                .collect(),
            ..AIJobStatus::default()
        }
    }

    /// All outputs that a step may have.
    fn outputs() -> Vec<StepOutput> {
        let fact = |index| Fact {
            name: format!("{index:f>20}"),
            value: "v".repeat(40),
        };
        let output = |index| StepOutput {
            name: format!("{index:o>40}"),
            role: OutputRole::Result,
            digest: digest(),
            media_type: "application/octet-stream".into(),
            bytes: 9_999_999_999,
            facts: (0..8).map(fact).collect(),
        };
        (0..OUTPUTS_LIMIT).map(output).collect()
    }

    fn files(steps: usize, has_come: bool) -> Vec<FileStatus> {
        let file = |index: usize| FileStatus {
            name: format!("{index:n>81}"),
            source: "upload".into(),
            state: if has_come || index >= 8 {
                FileState::Received
            } else {
                FileState::Awaited
            },
            digest: digest(),
            bytes: 9_999_999_999,
            link: (!has_come && index < 8)
                .then(|| "https://framewright.example.com/v1/".repeat(10)),
            expires_at: (!has_come && index < 8).then_some(EPOCH),
            message: None,
        };
        (0..8 * steps).map(file).collect()
    }

    fn conditions(status: &mut AIJobStatus, sentence: &str) {
        let types = [
            job::SUCCEEDED,
            job::ACCEPTED,
            job::RUNNING,
            job::FINISHED,
            job::READY,
        ];
        for type_ in types {
            let said = if type_ == job::SUCCEEDED {
                sentence
            } else {
                ""
            };
            let conditions = &mut status.conditions;
            set(
                conditions,
                type_,
                Truth::True,
                "Succeeded",
                said,
                Some(1),
                EPOCH.0,
            );
        }
    }

    #[test]
    fn what_is_too_much_is_cut_and_the_newest_attempt_stays() {
        for count in [1, 5, 20, 30] {
            let mut status = steps(count);
            shrink(&mut status);
            let weighs = weight(&status);
            assert!(weighs <= STATUS_LIMIT, "{count} steps weigh {weighs} bytes");
            let mut steps = status.steps.iter();
            assert!(
                steps.all(|step| { step.attempts.last().map(|attempt| attempt.number) == Some(4) })
            );
        }
    }

    #[test]
    fn the_status_of_one_step_that_went_well_weighs_less_than_three_kibibytes() {
        let mut step = step("large");
        step.state = StepState::Succeeded;
        step.message = None;
        step.failures = 0;
        step.attempts_made = 1;
        step.attempts.truncate(1);
        step.attempts[0].cause = None;
        step.attempts[0].message = None;
        step.progress = Some(Progress {
            percent: 100,
            stage: Some("frame".into()),
            done: Some(216_000),
            of: Some(216_000),
        });
        step.outputs = outputs();
        step.outputs.truncate(1);
        step.outputs[0].facts.truncate(3);
        let output = OutputStatus {
            name: "large".into(),
            step: "large".into(),
            output: "video".into(),
            digest: digest(),
            media_type: "video/mp4".into(),
            bytes: 9_999_999_999,
            link: Some("https://framewright.example.com/v1/".repeat(10)),
            expires_at: Some(EPOCH),
        };
        let mut status = AIJobStatus {
            observed_generation: Some(1),
            progress: Some("100%".into()),
            pool: Some("fleet/upscale".into()),
            worker: Some("upscale-0123456789-0".into()),
            attempts_made: Some(1),
            started_at: Some(EPOCH),
            finished_at: Some(EPOCH),
            files: files(1, true).into_iter().take(1).collect(),
            steps: vec![step],
            outputs: vec![output],
            ..AIJobStatus::default()
        };
        conditions(&mut status, "all steps are done");
        let weighs = weight(&status);
        assert!(weighs < ONE_STEP, "{weighs} bytes");
    }

    #[test]
    fn the_largest_status_of_each_time_of_a_jobs_life_weighs_less_than_256_kibibytes() {
        let mut begins = steps(50);
        begins.files = files(50, false);
        let mut nearly = steps(50);
        nearly.files = files(50, true);
        for step in &mut nearly.steps {
            step.state = StepState::Succeeded;
            step.outputs = outputs();
        }
        nearly.steps[49].state = StepState::Running;
        let mut over = nearly.clone();
        let output = |number| OutputStatus {
            name: format!("{number:r>40}"),
            step: "s".repeat(40),
            output: "o".repeat(40),
            digest: digest(),
            media_type: "application/octet-stream".into(),
            bytes: 9_999_999_999,
            link: Some("https://framewright.example.com/v1/".repeat(10)),
            expires_at: Some(EPOCH),
        };
        over.outputs = (0..16).map(output).collect();
        conditions(&mut over, &"–".repeat(conditions::MESSAGE_LIMIT));
        for (what, mut status) in [("begins", begins), ("nearly", nearly), ("over", over)] {
            let outputs: Vec<usize> = status.steps.iter().map(|step| step.outputs.len()).collect();
            shrink(&mut status);
            let weighs = weight(&status);
            assert!(weighs < MOST, "{what}: {weighs} bytes");
            let kept: Vec<usize> = status.steps.iter().map(|step| step.outputs.len()).collect();
            assert_eq!(kept, outputs, "{what}");
        }
    }

    #[test]
    fn what_was_cut_is_not_cut_again() {
        let mut status = steps(40);
        shrink(&mut status);
        let once = status.clone();
        shrink(&mut status);
        assert_eq!(status, once);
    }
}
