//! The snapshot of a job, from the words of a story.

use std::collections::BTreeSet;

use framewright_core::clock::Jumps;
use framewright_core::jobs::admission::Admission;
use framewright_core::jobs::snapshot::{
    Binding, Ended, NotProvided, PoolProblem, Presence, Resolution, Snapshot, StepSnapshot,
    WorkerTask,
};
use framewright_core::names::{PoolName, WorkerRef};
use framewright_crds::aijob::{
    AIJobSpec, AIJobStatus, Attempt, AttemptWorker, Cause, OutputRole, Progress, StepModel,
    StepOutput, StepState, StepStatus, Usage,
};
use framewright_crds::names::{self, TaskId};
use framewright_crds::protocol::{Outcome, OutputFile, TaskRecord, TaskState};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::told::plan_of;
use crate::{Earlier, Story};

pub(crate) fn observed(story: &Story) -> Snapshot {
    let spec = spec(story);
    let status = AIJobStatus {
        steps: spec
            .steps
            .iter()
            .filter_map(|step| status(&step.name, story))
            .collect(),
        ..AIJobStatus::default()
    };
    let mut snapshot = Snapshot {
        namespace: "studio".into(),
        name: story.name.clone().unwrap_or_else(|| "job".into()),
        uid: "uid".into(),
        generation: Some(1),
        created: at(0),
        spec,
        status,
        admission: match &story.admission {
            Some((reason, message)) => Admission::Waits {
                reason: reason.clone(),
                message: message.clone(),
            },
            None => Admission::Admitted,
        },
        recorded: None,
        renew_links: None,
        now: at(story.now),
        jumps: Jumps::default(),
        written_at: Some(at(story.now)),
        received: if story.received {
            BTreeSet::from([digest()])
        } else {
            BTreeSet::new()
        },
        store_error: story.store_error.clone(),
        steps: story
            .around
            .iter()
            .map(|(step, words)| (step.clone(), around(words)))
            .collect(),
        held: story.held.iter().map(|words| held(words)).collect(),
        kept_by: story.kept_by.clone(),
    };
    if let Some(Earlier { now, held: tasks }) = &story.earlier {
        let earlier = Snapshot {
            now: at(*now),
            written_at: None,
            held: tasks.iter().map(|words| held(words)).collect(),
            ..snapshot.clone()
        };
        snapshot.status = plan_of(&earlier, false).status;
        snapshot.written_at = Some(at(*now));
    }
    // A job that is over says so: let the plan itself write the conditions of a status whose steps are all over.
    if !snapshot.status.steps.is_empty()
        && snapshot
            .status
            .steps
            .iter()
            .all(|step| step.state.is_terminal())
    {
        let finished = Snapshot {
            now: at(story.now - 100),
            ..snapshot.clone()
        };
        snapshot.status = plan_of(&finished, false).status;
    }
    snapshot
}

fn spec(story: &Story) -> AIJobSpec {
    let steps: Vec<serde_json::Value> = story
        .steps
        .iter()
        .map(|words| {
            let (name, from) = words.split_once(" <- ").expect("name <- input");
            let input = match from {
                "upload" => {
                    serde_json::json!({"name": "video", "upload": {"digest": names::digest(&digest()), "bytes": 5}})
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
        ..Attempt::bound(made, AttemptWorker::pod("fleet", worker, worker), at(since))
    });
    Some(StepStatus {
        state,
        queued_at: (state == StepState::Queued || state == StepState::Blocked && since > 0)
            .then(|| Time(at(since))),
        pool: worker.map(|_| "fleet/p".into()),
        attempts_made: made,
        failures,
        attempts: attempts.into_iter().collect(),
        outputs: if state == StepState::Succeeded {
            vec![StepOutput {
                name: "video".into(),
                role: OutputRole::Result,
                digest: names::digest(&digest()),
                media_type: "video/mp4".into(),
                bytes: 7,
                facts: Vec::new(),
            }]
        } else {
            Vec::new()
        },
        ..StepStatus::blocked(name)
    })
}

fn around(words: &[String]) -> StepSnapshot {
    let pool = || PoolName {
        namespace: "fleet".into(),
        name: "p".into(),
    };
    let ended = |cause, message: &str| Ended {
        cause,
        message: message.to_owned(),
    };
    let mut snapshot = StepSnapshot {
        resolution: Some(Resolution::Pools {
            pools: vec![pool()],
            problem: None,
        }),
        ..StepSnapshot::default()
    };
    for words in words {
        match words.split(' ').collect::<Vec<_>>().as_slice() {
            ["busy"] => {}
            ["begun", "at", second] => {
                snapshot.begun_at = Some(at(second.parse().expect("a second")))
            }
            ["bind", worker] => {
                let worker = WorkerRef {
                    namespace: "fleet".into(),
                    name: (*worker).into(),
                    uid: (*worker).into(),
                };
                snapshot.binding = Some(Binding {
                    worker,
                    pool: pool(),
                    models: vec![StepModel {
                        role: "base".into(),
                        name: "x2".into(),
                        digest: "d".into(),
                    }],
                });
            }
            ["problem", reason] => {
                let problem = PoolProblem {
                    pool: pool(),
                    reason: (*reason).into(),
                    message: "0/3 nodes are available".into(),
                };
                snapshot.resolution = Some(Resolution::Pools {
                    pools: vec![pool()],
                    problem: Some(problem),
                });
            }
            ["no", "model"] => {
                snapshot.resolution = Some(Resolution::NotFound {
                    what: NotProvided::Model("x2".into()),
                    searched: vec!["studio".into(), "fleet".into()],
                })
            }
            ["not", "allowed"] => {
                snapshot.resolution = Some(Resolution::NotAllowed { pool: pool() })
            }
            ["connected"] => snapshot.presence = Some(Presence::Connected),
            ["away", "since", second] => {
                snapshot.presence = Some(Presence::Away {
                    since: at(second.parse().expect("a second")),
                })
            }
            ["gone"] => {
                snapshot.presence = Some(Presence::Gone(ended(
                    Cause::WorkerLost,
                    "worker pod w1 is gone",
                )))
            }
            ["oom"] => {
                snapshot.presence = Some(Presence::Gone(ended(
                    Cause::OutOfMemory,
                    "out of memory (OOMKilled)",
                )))
            }
            ["restarted"] => {
                snapshot.presence = Some(Presence::Connected);
                snapshot.restart = Some(ended(Cause::OutOfMemory, "out of memory (OOMKilled)"));
            }
            other => panic!("no surroundings {other:?}"),
        }
    }
    snapshot
}

fn held(words: &str) -> WorkerTask {
    let (words, problem) = match words.split_once("; ") {
        Some((words, problem)) => (words, Some(problem.to_owned())),
        None => (words, None),
    };
    let (which, state) = words.split_once(": ").expect("task on worker: state");
    let (task, worker) = which.split_once(" on ").expect("task on worker");
    let (step, attempt) = task.split_once('/').expect("step/attempt");
    let output = || OutputFile {
        name: "video".into(),
        role: OutputRole::Result,
        digest: names::digest(&digest()),
        bytes: 7,
        media_type: "video/mp4".into(),
        facts: Vec::new(),
    };
    let usage = || Usage {
        unit: "pixels".into(),
        amount: 12,
    };
    let mut changed_at = at(0);
    let state = match state.split(' ').collect::<Vec<_>>().as_slice() {
        ["starting"] => TaskState::Starting,
        ["stopping"] => TaskState::Stopping,
        ["prepared"] => TaskState::Prepared { units: 12 },
        ["running", percent, "since", second] => {
            changed_at = at(second.parse().expect("a second"));
            let percent = percent.trim_end_matches('%').parse().expect("a number");
            TaskState::Running {
                progress: Progress {
                    percent,
                    stage: Some("frame".into()),
                    done: Some(i64::from(percent)),
                    of: Some(100),
                },
            }
        }
        ["uploading"] => TaskState::Uploading {
            outputs: vec![output()],
        },
        ["done"] => TaskState::Finished {
            outcome: Outcome::Succeeded {
                outputs: vec![output()],
                usage: usage(),
                record: TaskRecord::default(),
            },
        },
        ["failed", cause] => {
            let cause = serde_json::from_value(serde_json::json!(cause)).expect("a cause");
            TaskState::Finished {
                outcome: Outcome::Failed {
                    cause,
                    message: "the file is not a video".into(),
                    usage: None,
                },
            }
        }
        other => panic!("no task state {other:?}"),
    };
    WorkerTask {
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
        may_proceed: true,
        wants_links: false,
        store_error: problem,
    }
}

fn digest() -> String {
    "ab".repeat(32)
}

fn at(second: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second)
}
