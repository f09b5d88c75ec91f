//! Validates what a worker sends. A worker computes other people's files and may be taken over by one of them. So each message is
//! checked and cut here, before anything uses it: a worker can lie about its own tasks, and do no more.

use std::collections::BTreeSet;

use framewright_crds::aijob::{Cause, Fact, OutputRole, Progress, Usage};
use framewright_crds::conditions::shortened;
use framewright_crds::names::{TaskId, is_digest};
use framewright_crds::protocol::{
    Hello, LoadedModel, ModelState, Outcome, OutputFile, TaskRecord, TaskReport, TaskState,
    WorkerMessage,
};

/// Tasks that one worker may hold, finished ones that are not acknowledged included.
pub const TASKS_LIMIT: usize = 256;
/// Files that may come out of one task.
pub const OUTPUTS_LIMIT: usize = 8;
/// Facts about one of them.
const FACTS_LIMIT: usize = 8;
/// Pipelines that a worker may say it does.
const PIPELINES_LIMIT: usize = 64;
/// Models that a worker may say it has loaded.
const LOADED_LIMIT: usize = 256;
/// Characters of a name: of objects and their namespaces, of models.
const NAME_LIMIT: usize = 253;
/// Characters of what a pipeline, an output or a fact is called.
const WORD_LIMIT: usize = 40;
const MEDIA_TYPE_LIMIT: usize = 100;

/// What a worker says of itself, as it may be used.
#[must_use]
pub fn hello(said: Hello) -> Hello {
    Hello {
        version: shortened(&said.version),
        device_error: said.device_error.as_deref().map(shortened),
        pipelines: said
            .pipelines
            .into_iter()
            .filter(|name| is_word(name))
            .take(PIPELINES_LIMIT)
            .collect(),
        loaded: loaded(said.loaded),
        tasks: said.tasks.into_iter().filter_map(report).collect(),
        ..said
    }
}

/// The message as it may be used; none if it means nothing.
#[must_use]
pub fn message(said: WorkerMessage) -> Option<WorkerMessage> {
    Some(match said {
        WorkerMessage::Hello(said) => WorkerMessage::Hello(Box::new(hello(*said))),
        WorkerMessage::Model {
            name,
            digest,
            state,
        } => {
            if name.len() > NAME_LIMIT || !is_digest(&digest) {
                return None;
            }
            let state = match state {
                ModelState::Failed { message } => ModelState::Failed {
                    message: shortened(&message),
                },
                ModelState::Loading { error } => ModelState::Loading {
                    error: error.as_deref().map(shortened),
                },
                ModelState::Ready | ModelState::AwaitingUpload => state,
            };
            WorkerMessage::Model {
                name,
                digest,
                state,
            }
        }
        WorkerMessage::Loaded { models, free } => WorkerMessage::Loaded {
            models: loaded(models),
            free,
        },
        WorkerMessage::Progress { task, progress } => WorkerMessage::Progress {
            task,
            progress: clamped(progress),
        },
        WorkerMessage::UploadRequest { task, role, file } => match check(&file) {
            Ok(()) => WorkerMessage::UploadRequest { task, role, file },
            Err(why) => WorkerMessage::Finished {
                task,
                outcome: invalid_outcome(&why),
            },
        },
        WorkerMessage::StoreError { task, error } => WorkerMessage::StoreError {
            task,
            error: error.as_deref().map(shortened),
        },
        WorkerMessage::Finished { task, outcome } => WorkerMessage::Finished {
            task,
            outcome: ended(outcome),
        },
        WorkerMessage::Prepared { .. }
        | WorkerMessage::Started { .. }
        | WorkerMessage::Stopped { .. }
        | WorkerMessage::RenewLinks { .. }
        | WorkerMessage::Draining => said,
        WorkerMessage::Unknown => return None,
    })
}

fn loaded(models: Vec<LoadedModel>) -> Vec<LoadedModel> {
    let models = models.into_iter();
    let models = models.filter(|model| is_digest(&model.digest));
    models.take(LOADED_LIMIT).collect()
}

/// Whether this can be the name of a pipeline, an output or a fact.
fn is_word(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= WORD_LIMIT
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// A task that a worker says it holds; none if no such task was ever sent.
fn report(said: TaskReport) -> Option<TaskReport> {
    let TaskReport { task, job, state } = said;
    let is_name = |name: &str| {
        !name.is_empty()
            && name.len() <= NAME_LIMIT
            && name
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
    };
    let (namespace, name) = job.split_once('/')?;
    let TaskId { job_uid, step, .. } = &task;
    if ![namespace, name, job_uid, step].into_iter().all(is_name) {
        return None;
    }
    let state = match state {
        TaskState::Running { progress } => TaskState::Running {
            progress: clamped(progress),
        },
        TaskState::Uploading { outputs } => match check_all(&outputs) {
            Ok(()) => TaskState::Uploading { outputs },
            Err(why) => TaskState::Finished {
                outcome: invalid_outcome(&why),
            },
        },
        TaskState::Finished { outcome } => TaskState::Finished {
            outcome: ended(outcome),
        },
        TaskState::Starting | TaskState::Prepared { .. } | TaskState::Stopping => state,
    };
    Some(TaskReport { task, job, state })
}

fn ended(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Succeeded {
            outputs,
            usage,
            record,
        } => match check_all(&outputs).and_then(|()| check_usage(&usage)) {
            Ok(()) => Outcome::Succeeded {
                outputs,
                usage,
                record: short(record),
            },
            Err(why) => invalid_outcome(&why),
        },
        Outcome::Failed {
            cause,
            message,
            usage,
        } => Outcome::Failed {
            cause,
            message: shortened(&message),
            usage: usage.filter(|usage| check_usage(usage).is_ok()),
        },
    }
}

fn short(record: TaskRecord) -> TaskRecord {
    TaskRecord {
        version: shortened(&record.version),
        device: shortened(&record.device),
        driver: record.driver.as_deref().map(shortened),
        models: record
            .models
            .into_iter()
            .filter(|digest| is_digest(digest))
            .take(LOADED_LIMIT)
            .collect(),
        ..record
    }
}

fn check_usage(usage: &Usage) -> Result<(), String> {
    let Usage { unit, amount } = usage;
    if *amount < 0 || !is_word(unit) {
        return Err(format!("it has done {amount} {}", shortened(unit)));
    }
    Ok(())
}

fn check_all(outputs: &[OutputFile]) -> Result<(), String> {
    if outputs.len() > OUTPUTS_LIMIT {
        let count = outputs.len();
        return Err(format!(
            "it has {count} outputs, of {OUTPUTS_LIMIT} at most"
        ));
    }
    for (index, output) in outputs.iter().enumerate() {
        check(output)?;
        if outputs[..index]
            .iter()
            .any(|other| other.name == output.name)
        {
            return Err(format!("two of its outputs are called {}", output.name));
        }
    }
    Ok(())
}

/// Whether a file can be what it is said to be; else why not.
fn check(output: &OutputFile) -> Result<(), String> {
    let OutputFile {
        name,
        role,
        digest,
        bytes,
        media_type,
        facts,
    } = output;
    if !is_word(name) || *role == OutputRole::Unknown {
        return Err("the name or the role of its output is none".to_owned());
    }
    let is_short = |fact: &Fact| is_word(&fact.name) && fact.value.chars().count() <= WORD_LIMIT;
    let names: BTreeSet<&str> = facts.iter().map(|fact| fact.name.as_str()).collect();
    if facts.len() > FACTS_LIMIT || !facts.iter().all(is_short) || names.len() < facts.len() {
        return Err(
            "the facts of its output are too many or too long, or two have one name".to_owned(),
        );
    }
    if !is_digest(digest) {
        return Err("the digest of its output is no SHA-256".to_owned());
    }
    if *bytes < 0 {
        return Err(format!("its output has {bytes} bytes"));
    }
    let is_media_type = media_type.len() <= MEDIA_TYPE_LIMIT
        && media_type.split('/').count() == 2
        && media_type
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'+' | b'.'));
    if !is_media_type {
        return Err("the media type of its output is none".to_owned());
    }
    Ok(())
}

fn invalid_outcome(why: &str) -> Outcome {
    Outcome::Failed {
        cause: Cause::Internal,
        message: format!("the worker reported an invalid result: {why}"),
        usage: None,
    }
}

fn clamped(progress: Progress) -> Progress {
    let Progress {
        percent,
        stage,
        done,
        of,
    } = progress;
    Progress {
        percent: percent.clamp(0, 100),
        stage: stage.filter(|stage| is_word(stage)),
        done: done.map(|done| done.max(0)),
        of: of.map(|of| of.max(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use framewright_crds::names::ArtifactRole;

    fn task() -> TaskId {
        TaskId {
            job_uid: "5f0f9a9e".into(),
            step: "large".into(),
            replica: 0,
            attempt: 1,
        }
    }

    fn output(digest: &str, bytes: i64, media_type: &str) -> OutputFile {
        OutputFile {
            name: "video".to_owned(),
            role: OutputRole::Result,
            digest: digest.to_owned(),
            bytes,
            media_type: media_type.to_owned(),
            facts: Vec::new(),
        }
    }

    fn succeeded(outputs: Vec<OutputFile>, amount: i64) -> Option<WorkerMessage> {
        let usage = Usage {
            unit: "pixels".to_owned(),
            amount,
        };
        message(WorkerMessage::Finished {
            task: task(),
            outcome: Outcome::Succeeded {
                outputs,
                usage,
                record: TaskRecord::default(),
            },
        })
    }

    fn finished(output: OutputFile, amount: i64) -> Option<WorkerMessage> {
        succeeded(vec![output], amount)
    }

    fn is_failure(said: Option<WorkerMessage>) -> bool {
        matches!(
            said,
            Some(WorkerMessage::Finished {
                outcome: Outcome::Failed {
                    cause: Cause::Internal,
                    ..
                },
                ..
            })
        )
    }

    #[test]
    fn an_output_that_cannot_be_fails_its_attempt() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let good = output(&digest, 7, "video/mp4");
        assert!(!is_failure(finished(good.clone(), 1)));
        assert!(is_failure(finished(good, -1)));
        for bad in [
            output(&digest, -1, "video/mp4"),
            output("", 7, "video/mp4"),
            output(&digest.to_uppercase(), 7, "video/mp4"),
            output(&"a".repeat(64), 7, "video/mp4"),
            output(&digest, 7, ""),
            output(&digest, 7, "video"),
            output(&digest, 7, "video/mp4\r\nx: y"),
            output(&digest, 7, &format!("video/{}", "4".repeat(1 << 20))),
        ] {
            assert!(is_failure(finished(bad.clone(), 1)), "{bad:?}");
            let asks = WorkerMessage::UploadRequest {
                task: task(),
                role: ArtifactRole::Output,
                file: bad,
            };
            assert!(is_failure(message(asks)));
        }
    }

    #[test]
    fn outputs_are_few_and_have_names_of_their_own() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let named = |name: String| OutputFile {
            name,
            ..output(&digest, 7, "video/mp4")
        };
        let many = |count: usize| {
            (0..count)
                .map(|index| named(format!("image-{index}")))
                .collect()
        };
        assert!(!is_failure(succeeded(many(OUTPUTS_LIMIT), 1)));
        assert!(is_failure(succeeded(many(OUTPUTS_LIMIT + 1), 1)));
        let twice = vec![named("video".to_owned()), named("video".to_owned())];
        assert!(is_failure(succeeded(twice, 1)));
        assert!(is_failure(finished(named("../video".to_owned()), 1)));
    }

    #[test]
    fn tasks_that_nobody_can_have_sent_are_not_taken_in() {
        let job = |job: &str| {
            report(TaskReport {
                task: task(),
                job: job.to_owned(),
                state: TaskState::Starting,
            })
        };
        assert!(job("studio/clip").is_some());
        for bad in ["x/", "/x", "x", "x/y/z", "x/..%2f", "X/y", ""] {
            assert_eq!(job(bad), None, "{bad}");
        }
    }

    #[test]
    fn no_text_of_a_worker_is_kept_at_length() {
        let long = "x".repeat(1 << 20);
        let told = [
            WorkerMessage::StoreError {
                task: task(),
                error: Some(long.clone()),
            },
            WorkerMessage::Finished {
                task: task(),
                outcome: Outcome::Failed {
                    cause: Cause::Stuck,
                    message: long.clone(),
                    usage: None,
                },
            },
            WorkerMessage::Model {
                name: "x2".into(),
                digest: format!("sha256:{}", "0".repeat(64)),
                state: ModelState::Failed { message: long },
            },
        ];
        for said in told {
            let kept = serde_json::to_string(&message(said)).unwrap_or_default();
            assert!(kept.len() < 2000, "{} bytes", kept.len());
        }
    }
}
