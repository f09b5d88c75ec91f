//! The Lease: when this replica leads, and when no longer.

use std::sync::Mutex;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde_json::{Value, json};

use super::api_server::{ApiServer, Reply, failure};
use crate::leadership::{Candidate, Leadership};

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/system/leases/leader";

fn candidate(api: &ApiServer) -> (Candidate, Leadership) {
    let leases: Api<Lease> = Api::namespaced(api.client(), "system");
    Candidate::new(leases, "leader".to_owned(), "me".to_owned())
}

/// A Lease of the year 2100, so that no epoch follows from the time.
fn lease(holder: &str, version: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"namespace": "system", "name": "leader", "uid": "u", "resourceVersion": version},
        "spec": {
            "holderIdentity": holder, "leaseTransitions": 50_000_000, "leaseDurationSeconds": 15,
            "acquireTime": "2100-01-01T00:00:00.000000Z", "renewTime": "2100-01-01T00:00:00.000000Z",
        },
    })
}

/// An API server that has this Lease, if any, and makes of each write what a real one would.
fn keeps(first: Option<Value>) -> ApiServer {
    let kept = Mutex::new(first);
    ApiServer::new(move |asked| {
        let mut kept = kept.lock().expect("nobody panics with it");
        match (asked.method.as_str(), &mut *kept) {
            ("GET", None) => failure(404, "NotFound"),
            ("GET", Some(lease)) => Reply::Json(200, lease.clone()),
            ("POST", Some(_)) => failure(409, "AlreadyExists"),
            ("PUT", Some(lease))
                if lease["metadata"]["resourceVersion"]
                    != asked.body["metadata"]["resourceVersion"] =>
            {
                failure(409, "Conflict")
            }
            (_, kept) => {
                let mut lease = asked.body.clone();
                let version = asked.body["metadata"]["resourceVersion"].as_str();
                let version = version.map_or(0, |version| version.parse().unwrap_or(0));
                lease["metadata"]["resourceVersion"] = json!((version + 1_u64).to_string());
                *kept = Some(lease.clone());
                Reply::Json(200, lease)
            }
        }
    })
}

#[tokio::test]
async fn a_lease_that_nobody_has_is_made_in_an_epoch_that_the_time_gives() {
    let api = keeps(None);
    let (mut candidate, leadership) = candidate(&api);
    assert_eq!(leadership.epoch(), None);
    candidate.try_lead().await.expect("it is answered");
    let minutes = (Timestamp::now().as_second() - 1_577_836_800) / 60;
    let epoch = leadership.epoch().expect("it leads");
    assert!(epoch.abs_diff(minutes.unsigned_abs()) <= 1, "{epoch}");
    let [_, made] = api.asked().try_into().expect("two requests");
    assert_eq!(made.body["spec"]["leaseTransitions"], epoch);
    assert_eq!(made.body["spec"]["holderIdentity"], "me");
}

#[tokio::test]
async fn a_lease_of_another_replica_is_left_alone() {
    let api = keeps(Some(lease("other", "4")));
    let (mut candidate, leadership) = candidate(&api);
    for _ in 0..3 {
        candidate.try_lead().await.expect("it is answered");
        assert_eq!(leadership.epoch(), None);
    }
    assert_eq!(api.lines(), vec![format!("GET {LEASE}"); 3]);
}

#[tokio::test]
async fn a_lease_that_was_handed_back_is_taken_in_the_next_epoch_and_renewed_in_it() {
    let api = keeps(Some(lease("", "4")));
    let (mut candidate, leadership) = candidate(&api);
    for version in ["4", "5", "6"] {
        candidate.try_lead().await.expect("it is answered");
        assert_eq!(leadership.epoch(), Some(50_000_001));
        let written = api.asked().pop().expect("it was asked");
        assert_eq!(written.line(), format!("PUT {LEASE}"));
        assert_eq!(written.body["metadata"]["resourceVersion"], version);
        assert_eq!(written.body["spec"]["leaseTransitions"], 50_000_001);
    }
}

#[tokio::test]
async fn a_lease_under_its_own_name_that_this_process_did_not_take_is_taken_anew() {
    let api = keeps(Some(lease("me", "4")));
    let (mut candidate, leadership) = candidate(&api);
    candidate.try_lead().await.expect("it is answered");
    assert_eq!(leadership.epoch(), Some(50_000_001));
}

#[tokio::test]
async fn a_replica_that_is_too_late_to_renew_leads_no_more() {
    let taken = std::sync::atomic::AtomicBool::new(false);
    let api = ApiServer::new(move |asked| {
        let is_taken = taken.load(std::sync::atomic::Ordering::Relaxed);
        match (asked.method.as_str(), is_taken) {
            ("GET", _) => Reply::Json(200, lease("", "4")),
            (_, false) => {
                taken.store(true, std::sync::atomic::Ordering::Relaxed);
                Reply::Json(200, asked.body.clone())
            }
            (_, true) => failure(409, "Conflict"),
        }
    });
    let (mut candidate, leadership) = candidate(&api);
    candidate.try_lead().await.expect("it is answered");
    assert!(leadership.epoch().is_some());
    candidate.try_lead().await.expect("it is answered");
    assert_eq!(leadership.epoch(), None);
}

#[tokio::test]
async fn a_term_goes_on_while_the_api_server_is_away_and_ends_when_another_one_leads() {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let api = ApiServer::new(move |asked| {
        match (
            asked.method.as_str(),
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
        ) {
            ("GET", 0) => Reply::Json(200, lease("", "4")),
            ("GET", 2) => failure(503, "ServiceUnavailable"),
            ("GET", _) => Reply::Json(200, lease("other", "6")),
            _ => Reply::Json(200, asked.body.clone()),
        }
    });
    let (mut candidate, leadership) = candidate(&api);
    candidate.try_lead().await.expect("it is answered");
    let epoch = leadership.epoch();
    assert!(epoch.is_some());
    assert!(candidate.try_lead().await.is_err());
    assert_eq!(leadership.epoch(), epoch);
    candidate.try_lead().await.expect("it is answered");
    assert_eq!(leadership.epoch(), None);
}
