//! What a worker's word may be. A worker computes other people's files and may be taken over by one: whatever it says is bounded
//! here, before it is kept or written anywhere, so that it can lie about its own tasks and do no more.

use framewright_crds::aijob::{Cause, Progress};
use framewright_crds::conditions::shortened;
use framewright_crds::names::{TaskId, is_sha256};
use framewright_crds::wire::{ModelState, Outcome, OutputFile, TaskReport, TaskState, ToOperator};

/// Tasks that one worker may hold, finished ones that are not settled included.
pub const TASKS_LIMIT: usize = 256;
/// Characters of a name: of objects and their namespaces, of models.
const NAME_LIMIT: usize = 253;
const MEDIA_TYPE_LIMIT: usize = 100;

/// The message as it may be used; none if it means nothing.
#[must_use]
pub fn message(said: ToOperator) -> Option<ToOperator> {
    Some(match said {
        ToOperator::Hello {
            protocol,
            version,
            device,
            device_trouble,
            slots,
            tasks,
            epoch,
        } => ToOperator::Hello {
            protocol,
            version: shortened(&version),
            device,
            device_trouble: device_trouble.as_deref().map(shortened),
            slots,
            tasks: tasks.into_iter().filter_map(report).collect(),
            epoch,
        },
        ToOperator::Model {
            name,
            digest,
            state,
        } => {
            if name.len() > NAME_LIMIT || !is_sha256(&digest) {
                return None;
            }
            let state = match state {
                ModelState::Failed { message } => ModelState::Failed {
                    message: shortened(&message),
                },
                ModelState::Loading { trouble } => ModelState::Loading {
                    trouble: trouble.as_deref().map(shortened),
                },
                ModelState::Ready | ModelState::AwaitingUpload => state,
            };
            ToOperator::Model {
                name,
                digest,
                state,
            }
        }
        ToOperator::Progress { task, progress } => ToOperator::Progress {
            task,
            progress: bounded(progress),
        },
        ToOperator::UploadRequest { task, output } => match file(&output) {
            Ok(()) => ToOperator::UploadRequest { task, output },
            Err(why) => ToOperator::Finished {
                task,
                outcome: incredible(&why),
            },
        },
        ToOperator::StoreTrouble { task, trouble } => ToOperator::StoreTrouble {
            task,
            trouble: trouble.as_deref().map(shortened),
        },
        ToOperator::Finished { task, outcome } => ToOperator::Finished {
            task,
            outcome: ended(outcome),
        },
        ToOperator::Started { .. } | ToOperator::RenewGrants { .. } | ToOperator::Draining => said,
    })
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
            progress: bounded(progress),
        },
        TaskState::Uploading { output } => match file(&output) {
            Ok(()) => TaskState::Uploading { output },
            Err(why) => TaskState::Finished {
                outcome: incredible(&why),
            },
        },
        TaskState::Finished { outcome } => TaskState::Finished {
            outcome: ended(outcome),
        },
        TaskState::Starting => TaskState::Starting,
    };
    Some(TaskReport { task, job, state })
}

fn ended(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Succeeded { output, units } => match file(&output) {
            Ok(()) if units >= 0 => Outcome::Succeeded { output, units },
            Ok(()) => incredible(&format!("it has done {units} units")),
            Err(why) => incredible(&why),
        },
        Outcome::Failed { cause, message } => Outcome::Failed {
            cause,
            message: shortened(&message),
        },
    }
}

/// Whether a file can be what it is said to be; else why not.
fn file(output: &OutputFile) -> Result<(), String> {
    let OutputFile {
        sha256,
        bytes,
        media_type,
    } = output;
    if !is_sha256(sha256) {
        return Err("the digest of its output is no SHA-256 in hexadecimal".to_owned());
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

fn incredible(why: &str) -> Outcome {
    Outcome::Failed {
        cause: Cause::Internal,
        message: format!("the worker says what cannot be: {why}"),
    }
}

fn bounded(progress: Progress) -> Progress {
    let Progress {
        percent,
        frame,
        frames,
    } = progress;
    Progress {
        percent: percent.clamp(0, 100),
        frame: frame.map(|frame| frame.max(0)),
        frames: frames.map(|frames| frames.max(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task() -> TaskId {
        TaskId {
            job_uid: "5f0f9a9e".into(),
            step: "large".into(),
            replica: 0,
            attempt: 1,
        }
    }

    fn output(sha256: &str, bytes: i64, media_type: &str) -> OutputFile {
        OutputFile {
            sha256: sha256.to_owned(),
            bytes,
            media_type: media_type.to_owned(),
        }
    }

    fn finished(output: OutputFile, units: i64) -> Option<ToOperator> {
        let outcome = Outcome::Succeeded { output, units };
        message(ToOperator::Finished {
            task: task(),
            outcome,
        })
    }

    fn is_failure(said: Option<ToOperator>) -> bool {
        matches!(
            said,
            Some(ToOperator::Finished {
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
        let digest = "a".repeat(64);
        let good = output(&digest, 7, "video/mp4");
        assert!(!is_failure(finished(good.clone(), 1)));
        assert!(is_failure(finished(good, -1)));
        for bad in [
            output(&digest, -1, "video/mp4"),
            output("", 7, "video/mp4"),
            output(&"A".repeat(64), 7, "video/mp4"),
            output(&digest, 7, ""),
            output(&digest, 7, "video"),
            output(&digest, 7, "video/mp4\r\nx: y"),
            output(&digest, 7, &format!("video/{}", "4".repeat(1 << 20))),
        ] {
            assert!(is_failure(finished(bad.clone(), 1)), "{bad:?}");
            let asks = ToOperator::UploadRequest {
                task: task(),
                output: bad,
            };
            assert!(is_failure(message(asks)));
        }
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
            ToOperator::StoreTrouble {
                task: task(),
                trouble: Some(long.clone()),
            },
            ToOperator::Finished {
                task: task(),
                outcome: Outcome::Failed {
                    cause: Cause::Stuck,
                    message: long.clone(),
                },
            },
            ToOperator::Model {
                name: "x2".into(),
                digest: "0".repeat(64),
                state: ModelState::Failed { message: long },
            },
        ];
        for said in told {
            let kept = serde_json::to_string(&message(said)).unwrap_or_default();
            assert!(kept.len() < 2000, "{} bytes", kept.len());
        }
    }
}
