//! What is seen of a job, from the words of a story.

use std::collections::BTreeSet;

use framewright_core::jobs::plan::plan;
use framewright_core::jobs::seen::{
    Binding, Ended, Held, Observed, Presence, Resolution, StepSeen, Trouble,
};
use framewright_core::names::{PoolName, WorkerRef};
use framewright_crds::aijob::{
    AIJobSpec, AIJobStatus, Attempt, Cause, Progress, StepState, StepStatus,
};
use framewright_crds::names::TaskId;
use framewright_crds::wire::{Outcome, OutputFile, TaskState};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::told::Links;
use crate::{Earlier, Story};

pub(crate) fn observed(story: &Story) -> Observed {
    let spec = spec(story);
    let status = AIJobStatus {
        steps: spec
            .steps
            .iter()
            .filter_map(|step| status(&step.name, story))
            .collect(),
        ..AIJobStatus::default()
    };
    let mut seen = Observed {
        namespace: "studio".into(),
        name: story.name.clone().unwrap_or_else(|| "job".into()),
        uid: "uid".into(),
        generation: Some(1),
        created: at(0),
        spec,
        status,
        renew_links: None,
        now: at(story.now),
        written_at: Some(at(story.now)),
        received: if story.received {
            BTreeSet::from([digest()])
        } else {
            BTreeSet::new()
        },
        store_trouble: story.store_trouble.clone(),
        steps: story
            .around
            .iter()
            .map(|(step, words)| (step.clone(), around(words)))
            .collect(),
        held: story.held.iter().map(|words| held(words)).collect(),
        kept_by: story.kept_by.clone(),
    };
    if let Some(Earlier { now, held: tasks }) = &story.earlier {
        let earlier = Observed {
            now: at(*now),
            written_at: None,
            held: tasks.iter().map(|words| held(words)).collect(),
            ..seen.clone()
        };
        seen.status = plan(&earlier, &Links).status;
        seen.written_at = Some(at(*now));
    }
    // A job that is over says so: let the plan itself write the conditions of a status whose steps are all over.
    if !seen.status.steps.is_empty()
        && seen
            .status
            .steps
            .iter()
            .all(|step| step.state.is_terminal())
    {
        let finished = Observed {
            now: at(story.now - 100),
            ..seen.clone()
        };
        seen.status = plan(&finished, &Links).status;
    }
    seen
}

fn spec(story: &Story) -> AIJobSpec {
    let steps: Vec<serde_json::Value> = story
        .steps
        .iter()
        .map(|words| {
            let (name, from) = words.split_once(" <- ").expect("name <- input");
            let input = match from {
                "upload" => {
                    serde_json::json!({"name": "video", "upload": {"sha256": digest(), "bytes": 5}})
                }
                earlier => serde_json::json!({"name": "video", "fromStep": {"name": earlier}}),
            };
            serde_json::json!({"name": name, "model": "x2", "upscale": {}, "inputs": [input]})
        })
        .collect();
    let mut spec = story.spec.clone();
    spec.insert("steps".to_owned(), steps.into());
    serde_json::from_value(spec.into()).expect("a spec")
}

fn status(name: &str, story: &Story) -> Option<StepStatus> {
    let words: Vec<&str> = story.status.get(name)?.split(' ').collect();
    let after = |word: &str| {
        words
            .iter()
            .position(|&other| other == word)
            .map(|index| words[index + 1])
    };
    let since = after("since").map_or(0, |second| second.parse().expect("a second"));
    let failures = after("failures").map_or(0, |count| count.parse().expect("a count"));
    let worker = after("on");
    let made = match after("made") {
        Some(count) => count.parse().expect("a count"),
        None => failures + i32::from(worker.is_some()),
    };
    let state = match words[0] {
        "Blocked" => StepState::Blocked,
        "Queued" => StepState::Queued,
        "Starting" => StepState::Starting,
        "Running" => StepState::Running,
        "Succeeded" => StepState::Succeeded,
        "Failed" => StepState::Failed,
        other => panic!("no state {other}"),
    };
    let is_open = state == StepState::Starting || state == StepState::Running;
    let attempts = worker.map(|worker| Attempt {
        started_at: (state == StepState::Running).then(|| Time(at(since))),
        finished_at: (!is_open).then(|| Time(at(since))),
        ..Attempt::bound(made, "fleet", worker, worker, at(since))
    });
    Some(StepStatus {
        state,
        queued_at: (state == StepState::Queued || state == StepState::Blocked && since > 0)
            .then(|| Time(at(since))),
        pool: worker.map(|_| "fleet/p".into()),
        attempts_made: made,
        failures,
        attempts: attempts.into_iter().collect(),
        output: (state == StepState::Succeeded).then(|| framewright_crds::aijob::Artifact {
            uri: Some("artifact://".into()),
            digest: format!("sha256:{}", digest()),
            media_type: "video/mp4".into(),
            bytes: 7,
        }),
        ..StepStatus::blocked(name)
    })
}

fn around(words: &[String]) -> StepSeen {
    let pool = || PoolName {
        namespace: "fleet".into(),
        name: "p".into(),
    };
    let ended = |cause, message: &str| Ended {
        cause,
        message: message.to_owned(),
    };
    let mut seen = StepSeen {
        resolution: Some(Resolution::Pools {
            pools: vec![pool()],
            trouble: None,
        }),
        ..StepSeen::default()
    };
    for words in words {
        match words.split(' ').collect::<Vec<_>>().as_slice() {
            ["busy"] => {}
            ["begun", "at", second] => seen.begun_at = Some(at(second.parse().expect("a second"))),
            ["bind", worker] => {
                let worker = WorkerRef {
                    namespace: "fleet".into(),
                    name: (*worker).into(),
                    uid: (*worker).into(),
                };
                seen.binding = Some(Binding {
                    worker,
                    pool: pool(),
                    weights_digest: "d".into(),
                });
            }
            ["trouble", reason] => {
                let trouble = Trouble {
                    pool: pool(),
                    reason: (*reason).into(),
                    message: "0/3 nodes are available".into(),
                };
                seen.resolution = Some(Resolution::Pools {
                    pools: vec![pool()],
                    trouble: Some(trouble),
                });
            }
            ["no", "model"] => {
                seen.resolution = Some(Resolution::ModelNotFound {
                    searched: vec!["studio".into(), "fleet".into()],
                })
            }
            ["not", "allowed"] => seen.resolution = Some(Resolution::NotAllowed { pool: pool() }),
            ["connected"] => seen.presence = Some(Presence::Connected),
            ["away", "since", second] => {
                seen.presence = Some(Presence::Away {
                    since: at(second.parse().expect("a second")),
                })
            }
            ["gone"] => {
                seen.presence = Some(Presence::Gone(ended(
                    Cause::WorkerLost,
                    "worker pod w1 is gone",
                )))
            }
            ["oom"] => {
                seen.presence = Some(Presence::Gone(ended(
                    Cause::OutOfMemory,
                    "out of memory (OOMKilled)",
                )))
            }
            ["restarted"] => {
                seen.presence = Some(Presence::Connected);
                seen.restart = Some(ended(Cause::OutOfMemory, "out of memory (OOMKilled)"));
            }
            other => panic!("no surroundings {other:?}"),
        }
    }
    seen
}

fn held(words: &str) -> Held {
    let (words, trouble) = match words.split_once("; ") {
        Some((words, trouble)) => (words, Some(trouble.to_owned())),
        None => (words, None),
    };
    let (which, state) = words.split_once(": ").expect("task on worker: state");
    let (task, worker) = which.split_once(" on ").expect("task on worker");
    let (step, attempt) = task.split_once('/').expect("step/attempt");
    let output = || OutputFile {
        sha256: digest(),
        bytes: 7,
        media_type: "video/mp4".into(),
    };
    let mut changed_at = at(0);
    let state = match state.split(' ').collect::<Vec<_>>().as_slice() {
        ["starting"] => TaskState::Starting,
        ["running", percent, "since", second] => {
            changed_at = at(second.parse().expect("a second"));
            let percent = percent.trim_end_matches('%').parse().expect("a number");
            TaskState::Running {
                progress: Progress {
                    percent,
                    frame: Some(i64::from(percent)),
                    frames: Some(100),
                },
            }
        }
        ["uploading"] => TaskState::Uploading { output: output() },
        ["done"] => TaskState::Finished {
            outcome: Outcome::Succeeded {
                output: output(),
                units: 12,
            },
        },
        ["failed", cause] => {
            let cause = serde_json::from_value(serde_json::json!(cause)).expect("a cause");
            TaskState::Finished {
                outcome: Outcome::Failed {
                    cause,
                    message: "the file is not a video".into(),
                },
            }
        }
        other => panic!("no task state {other:?}"),
    };
    Held {
        task: TaskId {
            job_uid: "uid".into(),
            step: step.into(),
            replica: 0,
            attempt: attempt.parse().expect("a number"),
        },
        worker: WorkerRef {
            namespace: "fleet".into(),
            name: worker.into(),
            uid: worker.into(),
        },
        state,
        changed_at,
        wants_grants: false,
        store_trouble: trouble,
    }
}

fn digest() -> String {
    "ab".repeat(32)
}

fn at(second: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second)
}
