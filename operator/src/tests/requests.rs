//! What each request is to the API server, what its answer is taken for, and when it is not made.

use std::time::{Duration, Instant};

use framewright_core::engine::interface::{Answer, Request};
use framewright_core::jobs::plan::Outcome;
use framewright_core::names::{ObjectName, WorkerRef};
use framewright_crds::{AIJob, ModelPool};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::api_server::{ApiServer, DEADLINE, MOMENT, Reply, failure};
use super::shell::{client_over_tcp, job, of, parts, pool};
use crate::leadership::MARGIN;
use crate::requests::{Answered, limit, make, make_within};

const JOB: &str = "/apis/framewright.dev/v1alpha1/namespaces/studio/aijobs/clip";
const POOL: &str = "/apis/framewright.dev/v1alpha1/namespaces/studio/modelpools/p";
const PODS: &str = "/api/v1/namespaces/studio/pods";
const POD: &str = "/api/v1/namespaces/studio/pods/p-0";
const EPOCH: u64 = 7;

fn clip() -> ObjectName {
    ObjectName::new("studio", "clip")
}

fn worker() -> WorkerRef {
    WorkerRef {
        namespace: "studio".to_owned(),
        name: "p-0".to_owned(),
        uid: "uid-p-0".to_owned(),
    }
}

fn pod() -> Pod {
    of(json!({"metadata": {"namespace": "studio", "name": "p-0", "uid": "uid-p-0"}}))
}

/// A job with a status to write.
fn wanted_job() -> AIJob {
    let mut job = job("clip");
    job.status = Some(of(json!({"progress": "40%"})));
    job
}

fn wanted_pool() -> ModelPool {
    let mut pool = pool("p");
    pool.status = Some(of(json!({"replicas": 1})));
    pool
}

fn read_job() -> Request {
    Request::ReadJob(clip())
}

fn write_job() -> Request {
    Request::WriteJob(Box::new(wanted_job()))
}

fn create_pod() -> Request {
    Request::CreatePod(Box::new(pod()))
}

fn delete_pod() -> Request {
    Request::DeletePod(worker())
}

fn write_outcome() -> Request {
    Request::WriteOutcome {
        name: clip(),
        uid: "uid-clip".to_owned(),
        outcome: Outcome {
            reason: "Succeeded".to_owned(),
            steps: Vec::new(),
            tasks: Vec::new(),
        },
    }
}

/// Each kind of request that asks something of the API server, with its method and path.
fn all() -> Vec<(Request, &'static str, &'static str)> {
    let p = ObjectName::new("studio", "p");
    vec![
        (read_job(), "GET", JOB),
        (Request::ReadPool(p.clone()), "GET", POOL),
        (
            write_job(),
            "PUT",
            "/apis/framewright.dev/v1alpha1/namespaces/studio/aijobs/clip/status",
        ),
        (
            Request::WritePool(Box::new(wanted_pool())),
            "PUT",
            "/apis/framewright.dev/v1alpha1/namespaces/studio/modelpools/p/status",
        ),
        (delete_job(), "DELETE", JOB),
        (Request::ReadJobMetadata(clip()), "GET", JOB),
        (Request::ListPods(p), "GET", PODS),
        (read_pod_metadata(), "GET", POD),
        (create_pod(), "POST", PODS),
        (delete_pod(), "DELETE", POD),
        (protect_pod(), "PATCH", POD),
    ]
}

fn delete_job() -> Request {
    Request::DeleteJob {
        name: clip(),
        uid: "uid-clip".to_owned(),
        version: "7".to_owned(),
    }
}

fn read_pod_metadata() -> Request {
    Request::ReadPodMetadata {
        namespace: "studio".to_owned(),
        name: "p-0".to_owned(),
    }
}

fn protect_pod() -> Request {
    Request::ProtectPod {
        worker: worker(),
        is_protected: true,
    }
}

/// What a request asks for, in short: two requests of one method and path are told apart by it.
fn name(request: &Request) -> String {
    let text = format!("{request:?}");
    let end = text.find(|letter: char| !letter.is_alphanumeric());
    text.get(..end.unwrap_or(text.len()))
        .unwrap_or_default()
        .to_owned()
}

/// Makes a request in its own term.
async fn ask(api: &ApiServer, request: Request) -> Answered {
    let parts = parts(api.client(), Some(EPOCH));
    make(&parts.context, EPOCH, request).await
}

/// Makes a request that gets this answer.
async fn answered(request: Request, reply: impl Fn() -> Reply + Send + Sync + 'static) -> Answered {
    ask(&ApiServer::new(move |_| reply()), request).await
}

/// The body of the one request that it makes.
async fn body(request: Request) -> Value {
    let api = ApiServer::new(|_| failure(404, "NotFound"));
    ask(&api, request).await;
    let [asked] = api.asked().try_into().expect("one request");
    asked.body
}

/// An answer in a word.
fn word(answer: &Answer) -> String {
    let text = format!("{answer:?}");
    let end = text.find(['(', ' ', '{']).unwrap_or(text.len());
    text.get(..end).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn each_request_is_one_call_of_the_path_that_its_kind_has() {
    for (request, method, path) in all() {
        let name = name(&request);
        let api = ApiServer::new(|_| failure(404, "NotFound"));
        ask(&api, request).await;
        assert_eq!(api.lines(), [format!("{method} {path}")], "{name}");
    }
}

#[tokio::test]
async fn nothing_is_sent_without_leadership_or_in_another_epoch() {
    for leads in [None, Some(EPOCH - 1), Some(EPOCH + 1)] {
        let requests = all().into_iter().map(|(request, ..)| request);
        for request in requests.chain([write_outcome()]) {
            let name = name(&request);
            let api = ApiServer::new(|_| failure(404, "NotFound"));
            let parts = parts(api.client(), leads);
            let Answered {
                answer,
                is_throttled,
            } = make(&parts.context, EPOCH, request).await;
            let Answer::Unanswered { error } = answer else {
                panic!("{name} in {leads:?}: {answer:?}");
            };
            assert!(error.contains("no longer leads"), "{name}: {error}");
            assert!(!is_throttled && api.asked().is_empty(), "{name}");
        }
    }
}

#[tokio::test]
async fn whether_this_replica_leads_is_asked_when_the_request_is_sent() {
    let api = ApiServer::new(|_| failure(404, "NotFound"));
    let parts = parts(api.client(), Some(EPOCH));
    let making = make(&parts.context, EPOCH, write_job());
    parts.context.leadership.set_for_test(None);
    let answered = making.await;
    assert_eq!(word(&answered.answer), "Unanswered");
    assert!(api.asked().is_empty());
}

#[tokio::test]
async fn what_a_job_has_used_is_recorded_without_a_request() {
    let api = ApiServer::new(|_| failure(404, "NotFound"));
    let answered = ask(&api, write_outcome()).await;
    assert_eq!(word(&answered.answer), "Done");
    assert!(api.asked().is_empty());
}

#[tokio::test]
async fn a_status_is_written_on_one_version_of_one_object_and_nothing_else_is_sent() {
    let job = body(write_job()).await;
    assert_eq!(job["metadata"]["resourceVersion"], "7");
    assert_eq!(job["metadata"]["uid"], "uid-clip");
    assert_eq!(job["status"]["progress"], "40%");
    assert_eq!(job["kind"], "AIJob");
    let pool = body(Request::WritePool(Box::new(wanted_pool()))).await;
    assert_eq!(pool["metadata"]["resourceVersion"], "3");
    assert_eq!(pool["metadata"]["uid"], "uid-p");
    assert_eq!(pool["status"]["replicas"], 1);
    for body in [job, pool] {
        let body = body.as_object().expect("is an object");
        let fields: Vec<&String> = body.keys().collect();
        assert_eq!(fields, ["apiVersion", "kind", "metadata", "status"]);
    }
}

#[tokio::test]
async fn a_job_is_deleted_in_the_version_in_which_it_was_over_and_in_no_other() {
    let body = body(delete_job()).await;
    let expected = json!({"uid": "uid-clip", "resourceVersion": "7"});
    assert_eq!(body["preconditions"], expected);
    assert_eq!(body["propagationPolicy"], "Background");
}

#[tokio::test]
async fn a_pod_is_deleted_and_protected_by_its_uid() {
    let deleted = body(delete_pod()).await;
    assert_eq!(deleted["preconditions"], json!({"uid": "uid-p-0"}));
    let protected = body(protect_pod()).await;
    assert_eq!(protected["metadata"]["uid"], "uid-p-0");
}

#[tokio::test]
async fn the_pods_of_one_pool_alone_are_listed() {
    let api = ApiServer::new(|_| {
        let pods = [pod()];
        Reply::Json(
            200,
            json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods}),
        )
    });
    let list = Request::ListPods(ObjectName::new("studio", "p"));
    let answered = ask(&api, list).await;
    let Answer::Pods(pods) = answered.answer else {
        panic!("{:?}", answered.answer);
    };
    assert_eq!(pods.len(), 1);
    let query = &api.asked()[0].query;
    assert!(
        query.contains("labelSelector=framewright.dev%2Fpool%3Dp"),
        "{query}"
    );
}

#[tokio::test]
async fn an_answer_is_the_object_that_the_api_server_returned() {
    let mut newer = wanted_job();
    newer.metadata.resource_version = Some("8".to_owned());
    for request in [read_job(), write_job()] {
        let newer = json!(newer);
        let answered = answered(request, move || Reply::Json(200, newer.clone())).await;
        let Answer::Job(job) = answered.answer else {
            panic!("{:?}", answered.answer);
        };
        assert_eq!(job.resource_version().as_deref(), Some("8"));
    }
    let returned = || Reply::Json(200, json!(wanted_pool()));
    for request in [
        Request::ReadPool(ObjectName::new("studio", "p")),
        Request::WritePool(Box::new(wanted_pool())),
    ] {
        let answered = answered(request, returned).await;
        assert_eq!(word(&answered.answer), "Pool");
    }
    for request in [create_pod(), read_pod_metadata()] {
        let answered = answered(request, || Reply::Json(201, json!(pod()))).await;
        let Answer::Metadata(metadata) = answered.answer else {
            panic!("{:?}", answered.answer);
        };
        assert_eq!(metadata.uid.as_deref(), Some("uid-p-0"));
    }
}

#[tokio::test]
async fn what_was_deleted_or_protected_is_done() {
    let gone = || Reply::Json(200, json!({"kind": "Status", "status": "Success"}));
    for request in [delete_job(), delete_pod()] {
        let answered = answered(request, gone).await;
        assert_eq!(word(&answered.answer), "Done");
    }
    // One that a finalizer keeps, or whose process has its grace period, is returned.
    let kept = answered(delete_pod(), || Reply::Json(200, json!(pod()))).await;
    assert_eq!(word(&kept.answer), "Done");
    let patched = answered(protect_pod(), || Reply::Json(200, json!(pod()))).await;
    assert_eq!(word(&patched.answer), "Done");
}

#[tokio::test]
async fn an_object_that_is_not_there_is_gone_for_each_request() {
    for (request, ..) in all() {
        let name = name(&request);
        let answered = answered(request, || failure(404, "NotFound")).await;
        assert_eq!(word(&answered.answer), "Gone", "{name}");
    }
}

#[tokio::test]
async fn a_conflict_is_not_a_refusal_and_a_name_that_is_taken_is_not_a_conflict() {
    for (request, reason, expected) in [
        (write_job(), "Conflict", "Conflict"),
        (delete_job(), "Conflict", "Conflict"),
        (delete_pod(), "Conflict", "Conflict"),
        (protect_pod(), "Conflict", "Conflict"),
        (create_pod(), "AlreadyExists", "Exists"),
        // Such as a namespace that is being deleted, or a quota that two requests met at once.
        (create_pod(), "Conflict", "Conflict"),
    ] {
        let name = name(&request);
        let answered = answered(request, move || failure(409, reason)).await;
        assert_eq!(word(&answered.answer), expected, "{name} {reason}");
    }
}

#[tokio::test]
async fn what_the_api_server_refuses_has_its_code_and_its_words() {
    for (code, reason) in [
        (400, "BadRequest"),
        (401, "Unauthorized"),
        (403, "Forbidden"),
        (422, "Invalid"),
    ] {
        for (request, ..) in all() {
            let name = name(&request);
            let answered = answered(request, move || failure(code, reason)).await;
            let Answer::Refused {
                code: told,
                message,
            } = answered.answer
            else {
                panic!("{name} {code}: {:?}", answered.answer);
            };
            assert_eq!((told, message.as_str()), (code, "its words"), "{name}");
            assert!(!answered.is_throttled, "{name} {code}");
        }
    }
}

#[tokio::test]
async fn an_internal_error_refuses_a_pod_and_leaves_everything_else_open() {
    for (request, ..) in all() {
        let name = name(&request);
        let is_of_pod = matches!(request, Request::CreatePod(_) | Request::DeletePod(_));
        let expected = if is_of_pod { "Refused" } else { "Unanswered" };
        let answered = answered(request, || failure(500, "InternalError")).await;
        assert_eq!(word(&answered.answer), expected, "{name}");
    }
}

#[tokio::test]
async fn an_overloaded_api_server_may_have_done_it_and_gets_less_to_do() {
    for code in [429, 500, 502, 503, 504] {
        for request in [write_job(), read_job(), protect_pod()] {
            let name = name(&request);
            let answered = answered(request, move || failure(code, "")).await;
            assert_eq!(word(&answered.answer), "Unanswered", "{name} {code}");
            assert!(answered.is_throttled, "{name} {code}");
        }
    }
    for code in [404, 409, 422] {
        let answered = answered(write_job(), move || failure(code, "")).await;
        assert!(!answered.is_throttled, "{code}");
    }
}

#[tokio::test]
async fn a_proxys_error_page_is_an_error_by_its_code() {
    for (code, expected) in [(502, "Unanswered"), (503, "Unanswered"), (403, "Refused")] {
        let page = move || Reply::Text(code, "<html>no</html>");
        let answered = answered(write_job(), page).await;
        assert_eq!(word(&answered.answer), expected, "{code}");
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_or_not_understood_leaves_open_what_was_done() {
    for (request, ..) in all() {
        let name = name(&request);
        let cut = answered(request, || Reply::Breaks).await;
        assert_eq!(word(&cut.answer), "Unanswered", "{name}");
    }
    let foreign = answered(write_job(), || Reply::Text(200, "ok")).await;
    assert_eq!(word(&foreign.answer), "Unanswered");
    assert!(!foreign.is_throttled);
}

#[tokio::test]
async fn an_error_that_leaves_it_open_says_why() {
    let answered = answered(write_job(), || failure(503, "ServiceUnavailable")).await;
    let Answer::Unanswered { error } = answered.answer else {
        panic!("{:?}", answered.answer);
    };
    assert!(error.contains("its words"), "{error}");
}

#[tokio::test]
async fn a_request_that_gets_no_answer_is_given_up() {
    for (request, ..) in all() {
        let name = name(&request);
        let api = ApiServer::new(|_| Reply::Silence);
        let parts = parts(api.client(), Some(EPOCH));
        let asked = make_within(Duration::from_millis(20), &parts.context, EPOCH, request);
        let answered = tokio::time::timeout(DEADLINE, asked).await;
        let Answered {
            answer,
            is_throttled,
        } = answered.expect("it ends");
        assert_eq!(word(&answer), "Unanswered", "{name}");
        assert!(!is_throttled, "{name}");
    }
}

#[test]
fn nothing_but_a_new_pod_and_a_list_is_waited_for_once_another_replica_may_lead() {
    for (request, ..) in all() {
        let limit = limit(&request);
        if matches!(request, Request::CreatePod(_)) {
            // Its name is taken then, and admission webhooks have up to 30 s.
            assert!(limit > Duration::from_secs(30));
        } else if matches!(request, Request::ListPods(_)) {
            assert!(limit <= Duration::from_secs(20));
        } else {
            assert!(limit <= MARGIN, "{request:?}");
        }
    }
}

#[tokio::test]
async fn the_operators_own_client_makes_each_request_once_whatever_the_answer() {
    for code in [429, 500, 502, 503, 504] {
        let api = ApiServer::new(move |_| failure(code, ""));
        let client = client_over_tcp(&api).await;
        let parts = parts(client, Some(EPOCH));
        let begun = Instant::now();
        let answered = make(&parts.context, EPOCH, write_job()).await;
        assert_eq!(word(&answered.answer), "Unanswered", "{code}");
        tokio::time::sleep(MOMENT.saturating_sub(begun.elapsed())).await;
        assert_eq!(api.asked().len(), 1, "{code}");
    }
}

#[tokio::test]
async fn a_connection_that_cannot_be_opened_leaves_open_what_was_done() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let url = format!("http://{address}").parse().expect("is a URL");
    let client = crate::run::client_of(kube::Config::new(url)).expect("is a client");
    let parts = parts(client, Some(EPOCH));
    let answered = make(&parts.context, EPOCH, write_job()).await;
    assert_eq!(word(&answered.answer), "Unanswered");
}
