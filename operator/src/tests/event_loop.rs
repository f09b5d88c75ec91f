//! When the event loop makes requests, how many at a time, and what it does with workers' sessions.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use framewright_core::engine::interface::{Change, Event, Read};
use framewright_core::names::{ObjectName, WorkerRef};
use framewright_core::workers::sessions::Greeting;
use framewright_crds::AIJob;
use framewright_crds::modelpool::Device;
use framewright_crds::protocol::Command;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::api_server::{ApiServer, Asked, DEADLINE, MOMENT, Reply, failure, until};
use super::shell::{Shell, finished_job, job, pool};
use crate::event_loop::Input;

const PUT: &str = "PUT /apis/framewright.dev/v1alpha1/namespaces/studio/aijobs/";
const GET: &str = "GET /apis/framewright.dev/v1alpha1/namespaces/studio/aijobs/";

fn jobs(count: usize, make: fn(&str) -> AIJob) -> Vec<AIJob> {
    (0..count)
        .map(|number| make(&format!("clip-{number}")))
        .collect()
}

/// An API server that has this job, and takes a status only on its newest version.
fn keeps(job: AIJob) -> impl Fn(&Asked) -> Reply + Send + Sync {
    let kept = Mutex::new(job);
    move |asked| {
        let mut kept = kept.lock().expect("nobody panics with it");
        if asked.method == "PUT" {
            let version = kept.metadata.resource_version.clone();
            if asked.body["metadata"]["resourceVersion"] != json!(version) {
                return failure(409, "Conflict");
            }
            let next = version.and_then(|version| version.parse::<u64>().ok());
            kept.metadata.resource_version = next.map(|version| (version + 1).to_string());
            kept.status = serde_json::from_value(asked.body["status"].clone()).ok();
        }
        Reply::Json(200, json!(*kept))
    }
}

/// The answer to the write of a status: the object, in a newer version.
fn written(asked: &Asked) -> Reply {
    let name = asked.path.rsplit('/').nth(1).unwrap_or_default();
    let mut job: Value = json!(job(name));
    job["metadata"]["resourceVersion"] = json!("8");
    job["status"] = asked.body["status"].clone();
    Reply::Json(200, job)
}

fn held(gate: &Arc<Semaphore>, reply: Reply) -> Reply {
    Reply::Held(Arc::clone(gate), Box::new(reply))
}

fn shown(job: AIJob) -> Event {
    Event::Job(Change::Applied(Read::Object(Box::new(job))))
}

fn greeting() -> Greeting {
    Greeting {
        worker: WorkerRef {
            namespace: "studio".to_owned(),
            name: "p-0".to_owned(),
            uid: "uid-p-0".to_owned(),
        },
        pool: ObjectName::new("studio", "p"),
        device: Device::Cpu,
        device_error: None,
        slots: 1,
        pipelines: vec!["upscale".to_owned()],
        loaded: Vec::new(),
        tasks: Vec::new(),
    }
}

/// A worker dials in; what it is sent.
async fn dials(shell: &Shell, epoch: u64) -> mpsc::Receiver<Command> {
    let (commands, sent) = mpsc::channel(8);
    let input = Input::SessionOpened {
        session: 1,
        epoch,
        greeting: greeting(),
        commands,
    };
    shell.context.send(input).await;
    sent
}

/// The next command to a worker; none if its session has ended.
async fn next(sent: &mut mpsc::Receiver<Command>) -> Option<Command> {
    let next = tokio::time::timeout(DEADLINE, sent.recv()).await;
    next.expect("a command comes, or the session ends")
}

async fn owners(shell: &Shell) -> Option<usize> {
    let (ask, told) = oneshot::channel();
    shell.context.send(Input::KnownOwners(ask)).await;
    let known = told.await.expect("it answers");
    known.map(|known| known.len())
}

#[tokio::test]
async fn a_standby_asks_for_nothing() {
    let api = ApiServer::new(keeps(job("clip")));
    let shell = Shell::knows(api, vec![job("clip")], vec![pool("p")]).await;
    shell.tell(shown(job("other"))).await;
    tokio::time::sleep(MOMENT).await;
    assert_eq!(shell.api.lines(), Vec::<String>::new());
}

#[tokio::test]
async fn a_new_jobs_status_is_written_once_on_the_version_that_is_known() {
    let shell = Shell::knows(
        ApiServer::new(keeps(job("clip"))),
        vec![job("clip")],
        Vec::new(),
    )
    .await;
    shell.leads(1).await;
    let counted = "framewright_job_status_writes_total 1";
    until(counted, || shell.counts(counted)).await;
    tokio::time::sleep(MOMENT).await;
    assert_eq!(shell.api.count(PUT), 1);
    assert_eq!(
        shell.api.asked()[0].body["metadata"]["resourceVersion"],
        "7"
    );
}

#[tokio::test]
async fn nothing_is_sent_once_the_lease_has_run_out_though_the_engine_has_not_heard_of_it() {
    let api = ApiServer::new(written);
    let shell = Shell::knows(api, vec![job("clip")], Vec::new()).await;
    shell.leads(1).await;
    shell.api.until(PUT, 1).await;
    shell.context.leadership.set_for_test(None);
    let before = shell.api.lines();
    shell.tell(shown(job("other"))).await;
    let failed = "framewright_request_failures_total 1";
    until(failed, || shell.counts(failed)).await;
    assert_eq!(shell.api.lines(), before);
}

#[tokio::test]
async fn a_write_that_was_decided_in_an_earlier_term_is_not_sent_in_the_next_one() {
    let api = ApiServer::new(written);
    let shell = Shell::knows(api, vec![job("clip")], Vec::new()).await;
    // The lease was taken again, and the engine is still in the term before.
    shell.context.leadership.set_for_test(Some(2));
    shell.tell(Event::TermBegan { epoch: 1 }).await;
    let failed = "framewright_request_failures_total 1";
    until(failed, || shell.counts(failed)).await;
    assert_eq!(shell.api.count(PUT), 0);
    shell.tell(Event::TermBegan { epoch: 2 }).await;
    shell.api.until(PUT, 1).await;
}

#[tokio::test]
async fn a_request_that_waits_for_its_turn_is_not_sent_when_the_term_ends_meanwhile() {
    let gate = Arc::new(Semaphore::new(0));
    let holds = Arc::clone(&gate);
    let api = ApiServer::new(move |_| held(&holds, failure(503, "")));
    let shell = Shell::knows(api, jobs(70, finished_job), Vec::new()).await;
    shell.leads(1).await;
    shell.api.until(GET, 64).await;
    tokio::time::sleep(MOMENT).await;
    assert_eq!(shell.api.count(GET), 64, "so many at a time");
    shell.context.leadership.set_for_test(None);
    gate.add_permits(1000);
    // All 70 come to an end, and six of them were never sent.
    let failed = "framewright_request_failures_total 70";
    until(failed, || shell.counts(failed)).await;
    assert_eq!(shell.api.count(GET), 64);
}

#[tokio::test]
async fn thirty_two_statuses_are_written_at_a_time_and_the_others_as_answers_come() {
    let gate = Arc::new(Semaphore::new(0));
    let holds = Arc::clone(&gate);
    let api = ApiServer::new(move |asked| held(&holds, written(asked)));
    let shell = Shell::knows(api, jobs(40, job), Vec::new()).await;
    shell.leads(1).await;
    shell.api.until(PUT, 32).await;
    tokio::time::sleep(MOMENT).await;
    assert_eq!(shell.api.count(PUT), 32);
    gate.add_permits(3);
    shell.api.until(PUT, 35).await;
    tokio::time::sleep(MOMENT).await;
    assert_eq!(shell.api.count(PUT), 35);
    gate.add_permits(1000);
    shell.api.until(PUT, 40).await;
}

#[tokio::test]
async fn an_api_server_that_says_it_has_too_much_to_do_gets_one_write_at_a_time() {
    let gate = Arc::new(Semaphore::new(0));
    let holds = Arc::clone(&gate);
    let puts = AtomicUsize::new(0);
    let api = ApiServer::new(move |asked| {
        if asked.method != "PUT" {
            let name = asked.path.rsplit('/').next().unwrap_or_default();
            return Reply::Json(200, json!(job(name)));
        }
        match puts.fetch_add(1, Ordering::Relaxed) {
            0..40 => failure(429, "TooManyRequests"),
            _ => held(&holds, written(asked)),
        }
    });
    let shell = Shell::knows(api, jobs(40, job), Vec::new()).await;
    shell.leads(1).await;
    shell.api.until(PUT, 41).await;
    tokio::time::sleep(MOMENT).await;
    assert_eq!(shell.api.count(PUT), 41);
    gate.add_permits(1000);
    shell.api.until(PUT, 80).await;
}

#[tokio::test]
async fn after_a_conflict_the_job_is_read_and_written_on_what_was_read() {
    let mut newer = job("clip");
    newer.metadata.resource_version = Some("9".to_owned());
    newer.spec.priority = 5;
    let api = ApiServer::new(keeps(newer));
    let shell = Shell::knows(api, vec![job("clip")], Vec::new()).await;
    shell.leads(1).await;
    shell.api.until(PUT, 2).await;
    let put = format!("{PUT}clip/status");
    let get = format!("{GET}clip");
    assert_eq!(shell.api.lines(), [put.clone(), get, put]);
    assert_eq!(
        shell.api.asked()[2].body["metadata"]["resourceVersion"],
        "9"
    );
}

#[tokio::test]
async fn a_write_that_may_have_been_made_is_never_repeated_before_a_read() {
    let failures: [fn() -> Reply; 4] = [
        || failure(503, "ServiceUnavailable"),
        || failure(504, "Timeout"),
        || Reply::Breaks,
        || Reply::Text(200, "ok"),
    ];
    for fails in failures {
        let keeps = keeps(job("clip"));
        let is_first = AtomicUsize::new(0);
        // It is made, and the answer does not say so.
        let api = ApiServer::new(move |asked| {
            let made = keeps(asked);
            if asked.method == "PUT" && is_first.fetch_add(1, Ordering::Relaxed) == 0 {
                return fails();
            }
            made
        });
        let shell = Shell::knows(api, vec![job("clip")], Vec::new()).await;
        shell.leads(1).await;
        shell.api.until(GET, 1).await;
        tokio::time::sleep(MOMENT).await;
        let expected = [format!("{PUT}clip/status"), format!("{GET}clip")];
        assert_eq!(shell.api.lines(), expected);
    }
}

#[tokio::test]
async fn a_status_that_the_api_server_refuses_gets_an_event_with_its_words() {
    let api = ApiServer::new(|asked| match asked.method.as_str() {
        "PUT" => failure(422, "Invalid"),
        _ => Reply::Json(200, json!(job("clip"))),
    });
    let shell = Shell::knows(api, vec![job("clip")], Vec::new()).await;
    shell.leads(1).await;
    let events = "POST /apis/events.k8s.io/v1/namespaces/studio/events";
    shell.api.until(events, 1).await;
    let asked = shell.api.asked().into_iter();
    let mut published = asked.filter(|asked| asked.line() == events);
    let event = published.next().expect("it is published").body;
    assert_eq!(event["reason"], "StatusRefused");
    assert_eq!(event["regarding"]["uid"], "uid-clip");
    let note = event["note"].as_str().unwrap_or_default();
    assert!(note.contains("its words"), "{note}");
}

#[tokio::test]
async fn a_job_past_its_time_is_read_before_it_is_deleted_in_that_version() {
    let api = ApiServer::new(|asked| match asked.method.as_str() {
        "GET" => {
            let mut job = finished_job("clip");
            job.metadata.resource_version = Some("9".to_owned());
            Reply::Json(200, json!(job))
        }
        _ => Reply::Json(200, json!({"kind": "Status", "status": "Success"})),
    });
    let shell = Shell::knows(api, vec![finished_job("clip")], Vec::new()).await;
    shell.leads(1).await;
    shell.api.until("DELETE", 1).await;
    let asked = shell.api.asked();
    assert_eq!(asked[0].line(), format!("{GET}clip"));
    let expected = json!({"uid": "uid-clip", "resourceVersion": "9"});
    assert_eq!(asked[1].body["preconditions"], expected);
    tokio::time::sleep(MOMENT).await;
    assert_eq!(shell.api.asked().len(), 2);
}

#[tokio::test]
async fn the_pods_of_a_pool_are_listed_before_one_is_made() {
    let pods = "/api/v1/namespaces/studio/pods";
    let api = ApiServer::new(move |asked| match asked.line() {
        line if line == format!("GET {pods}") => Reply::Json(
            200,
            json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": []}),
        ),
        line if line == format!("POST {pods}") => {
            let mut pod = asked.body.clone();
            pod["metadata"]["uid"] = json!("uid-pod");
            Reply::Json(201, pod)
        }
        _ => {
            let mut pool = json!(pool("p"));
            pool["metadata"]["resourceVersion"] = json!("4");
            pool["status"] = asked.body["status"].clone();
            Reply::Json(200, pool)
        }
    });
    let shell = Shell::knows(api, Vec::new(), vec![pool("p")]).await;
    shell.leads(1).await;
    shell.api.until("POST", 1).await;
    let lines = shell.api.lines().into_iter();
    let of_pods: Vec<String> = lines.filter(|line| line.contains(pods)).collect();
    let [first, second, ..] = of_pods.as_slice() else {
        panic!("{of_pods:?}");
    };
    assert_eq!(
        (first, second),
        (&format!("GET {pods}"), &format!("POST {pods}"))
    );
}

#[tokio::test]
async fn a_worker_that_dials_in_is_told_its_models_until_the_term_ends() {
    let api = ApiServer::new(|_| Reply::Silence);
    let shell = Shell::knows(api, Vec::new(), vec![pool("p")]).await;
    shell.leads(3).await;
    let mut sent = dials(&shell, 3).await;
    let command = next(&mut sent).await;
    assert!(matches!(command, Some(Command::Configure { .. })));
    shell.tell(Event::TermEnded).await;
    assert_eq!(next(&mut sent).await, None);
}

#[tokio::test]
async fn a_session_of_another_term_ends_at_once() {
    let api = ApiServer::new(|_| Reply::Silence);
    let shell = Shell::knows(api, Vec::new(), vec![pool("p")]).await;
    assert_eq!(next(&mut dials(&shell, 3).await).await, None, "no term");
    shell.leads(3).await;
    for epoch in [2, 4] {
        assert_eq!(next(&mut dials(&shell, epoch).await).await, None, "{epoch}");
    }
}

#[tokio::test]
async fn the_older_session_of_a_worker_that_dials_in_again_ends() {
    let api = ApiServer::new(|_| Reply::Silence);
    let shell = Shell::knows(api, Vec::new(), vec![pool("p")]).await;
    shell.leads(3).await;
    let mut older = dials(&shell, 3).await;
    assert!(next(&mut older).await.is_some());
    let (commands, mut sent) = mpsc::channel(8);
    let input = Input::SessionOpened {
        session: 2,
        epoch: 3,
        greeting: greeting(),
        commands,
    };
    shell.context.send(input).await;
    assert_eq!(next(&mut older).await, None);
    assert!(next(&mut sent).await.is_some());
}

#[tokio::test]
async fn a_worker_that_does_not_read_loses_its_session() {
    let api = ApiServer::new(|_| Reply::Silence);
    let shell = Shell::knows(api, Vec::new(), vec![pool("p")]).await;
    shell.leads(3).await;
    let (commands, mut sent) = mpsc::channel(1);
    commands
        .try_send(Command::Unknown)
        .expect("it takes one command");
    let input = Input::SessionOpened {
        session: 1,
        epoch: 3,
        greeting: greeting(),
        commands,
    };
    shell.context.send(input).await;
    assert_eq!(owners(&shell).await, Some(1), "it has decided");
    assert_eq!(next(&mut sent).await, Some(Command::Unknown));
    assert_eq!(next(&mut sent).await, None);
}

#[tokio::test]
async fn workers_are_served_in_the_term_in_which_the_engine_is() {
    let api = ApiServer::new(|_| Reply::Silence);
    let shell = Shell::knows(api, Vec::new(), Vec::new()).await;
    let serving = shell.context.serving.clone();
    assert_eq!(*serving.borrow(), None);
    shell.leads(3).await;
    until("it serves", || *serving.borrow() == Some(3)).await;
    shell.tell(Event::TermEnded).await;
    until("it serves nobody", || serving.borrow().is_none()).await;
}

#[tokio::test]
async fn whose_artifacts_may_go_is_not_told_before_all_lists_are_complete() {
    let api = ApiServer::new(|_| Reply::Silence);
    let shell = Shell::empty(api);
    assert_eq!(owners(&shell).await, None);
    let jobs = vec![Read::Object(Box::new(job("clip")))];
    shell.tell(Event::Job(Change::Listed(jobs))).await;
    shell.tell(Event::Pool(Change::Listed(Vec::new()))).await;
    shell.tell(Event::Pod(Change::Listed(Vec::new()))).await;
    assert_eq!(owners(&shell).await, None);
    let namespaces = Event::NamespacesListed(std::collections::BTreeMap::new());
    shell.tell(namespaces).await;
    assert_eq!(owners(&shell).await, Some(1));
}

#[tokio::test]
async fn nothing_is_decided_before_all_lists_are_complete() {
    let api = ApiServer::new(written);
    let shell = Shell::empty(api);
    let jobs = vec![Read::Object(Box::new(job("clip")))];
    shell.tell(Event::Job(Change::Listed(jobs))).await;
    shell.leads(1).await;
    shell.tell(Event::Pool(Change::Listed(Vec::new()))).await;
    shell.tell(Event::Pod(Change::Listed(Vec::new()))).await;
    tokio::time::sleep(MOMENT).await;
    assert_eq!(shell.api.lines(), Vec::<String>::new());
    let namespaces = Event::NamespacesListed(std::collections::BTreeMap::new());
    shell.tell(namespaces).await;
    shell.api.until(PUT, 1).await;
}

#[tokio::test]
async fn the_event_loop_ends_when_the_api_servers_state_is_an_older_one() {
    let older = || {
        let mut older = job("clip");
        older.metadata.resource_version = Some("5".to_owned());
        older
    };
    let api = ApiServer::new(move |asked| match asked.method.as_str() {
        "PUT" => written(asked),
        _ => Reply::Json(200, json!(older())),
    });
    let mut shell = Shell::knows(api, vec![job("clip")], Vec::new()).await;
    shell.leads(1).await;
    shell.api.until(PUT, 1).await;
    let listed = vec![Read::Object(Box::new(older()))];
    shell.tell(Event::Job(Change::Listed(listed))).await;
    let ended = tokio::time::timeout(DEADLINE, &mut shell.running).await;
    ended.expect("it ends").expect("it does not panic");
}

#[tokio::test]
async fn a_deadline_alone_makes_it_decide() {
    let mut finished = finished_job("clip");
    finished.spec.ttl_seconds_after_finished = 1;
    let now = jiff::Timestamp::now();
    if let Some(status) = &mut finished.status {
        status.finished_at = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
    }
    let shell = Shell::knows(
        ApiServer::new(|_| Reply::Silence),
        vec![finished],
        Vec::new(),
    )
    .await;
    shell.leads(1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(shell.api.count(GET), 0, "it is not past its time yet");
    shell.api.until(GET, 1).await;
}
