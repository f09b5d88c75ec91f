//! Single decisions of the engine: what it asks for after one event, and what it does not.

use std::collections::BTreeMap;
use std::time::Duration;

use framewright_core::engine::effect::{Effect, Request, RequestId};
use framewright_core::engine::event::{Answer, Change, Event, Now, Read};
use framewright_core::engine::world::Job;
use framewright_core::engine::{Engine, Settings};
use framewright_core::jobs::admission::AdmitAll;
use framewright_core::links::{Place, Signer};
use framewright_core::names::ObjectName;
use framewright_core::pools::template;
use framewright_crds::AIJob;
use framewright_crds::aijob::OutputStatus;
use framewright_crds::names::ArtifactRole;
use framewright_crds::protocol::OutputFile;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

struct Links;

impl Signer for Links {
    fn upload(&self, _: &Place<'_>, sha256: &str, _: i64, _: Timestamp) -> String {
        format!("put {sha256}")
    }

    fn download(&self, _: &Place<'_>, _: &OutputStatus, name: &str, _: Timestamp) -> String {
        format!("get {name}")
    }

    fn worker_get(
        &self,
        _: &Place<'_>,
        (_, sha256): (ArtifactRole, &str),
        _: Timestamp,
    ) -> Option<String> {
        Some(format!("get {sha256}"))
    }

    fn worker_put(&self, _: &Place<'_>, output: &OutputFile, _: Timestamp) -> Option<String> {
        Some(format!("put {}", output.digest))
    }
}

/// An engine at a time of its own.
struct Test {
    engine: Engine,
    second: u64,
}

impl Test {
    /// It knows this job, and leads.
    fn leads(job: AIJob) -> Test {
        let settings = Settings {
            template: template::Settings {
                image: "worker".to_owned(),
                image_cuda: "worker".to_owned(),
                image_pull_policy: "IfNotPresent".to_owned(),
                operator: "operator:9443".to_owned(),
                authority: String::new(),
                log: "info".to_owned(),
                fixed_user: true,
            },
            catalog: Vec::new(),
            signer: Box::new(Links),
            gate: Box::new(AdmitAll),
        };
        let mut test = Test {
            engine: Engine::new(settings),
            second: 0,
        };
        test.tell(Event::Pool(Change::Listed(Vec::new())));
        test.tell(Event::Pod(Change::Listed(Vec::new())));
        test.tell(Event::NamespacesListed(BTreeMap::new()));
        test.tell(Event::Job(Change::Listed(vec![Read::Object(Box::new(
            job,
        ))])));
        test.tell(Event::TermBegan { epoch: 1 });
        test
    }

    fn now(&self) -> Now {
        let since = SignedDuration::from_secs(self.second.cast_signed());
        Now {
            wall: Timestamp::UNIX_EPOCH + since,
            monotonic: Duration::from_secs(self.second),
        }
    }

    fn tell(&mut self, event: Event) {
        let now = self.now();
        self.engine.handle(now, event);
    }

    /// Decides until nothing is left; what it asks for, the status writes among it.
    fn effects(&mut self) -> Vec<Effect> {
        let now = self.now();
        let mut effects = Vec::new();
        while self.engine.decide(now, 10, &mut effects) {}
        while let Some(write) = self.engine.next_write(now) {
            effects.push(Effect::Request {
                id: write.id,
                epoch: write.epoch,
                request: write.request,
            });
        }
        effects
    }

    /// The one status write that it asks for now, if any.
    fn write(&mut self) -> Option<(RequestId, AIJob)> {
        self.effects().into_iter().find_map(|effect| {
            if let Effect::Request {
                id,
                request: Request::WriteJob(job),
                ..
            } = effect
            {
                return Some((id, *job));
            }
            None
        })
    }

    /// Whether it asks for the job itself now.
    fn reads(&mut self) -> bool {
        self.effects().iter().any(|effect| {
            matches!(
                effect,
                Effect::Request {
                    request: Request::ReadJob(_),
                    ..
                }
            )
        })
    }

    fn answer(&mut self, request: RequestId, answer: Answer) {
        self.tell(Event::Answered { request, answer });
    }
}

fn job() -> AIJob {
    let job = json!({
        "metadata": {"name": "clip", "namespace": "studio", "uid": "u", "resourceVersion": "7", "creationTimestamp": "1970-01-01T00:00:00Z"},
        "spec": {"steps": [{"name": "large", "model": "x2", "upscale": {}, "inputs": [{"name": "video", "upload": {"digest": format!("sha256:{}", "ab".repeat(32)), "bytes": 5}}]}]},
    });
    serde_json::from_value(job).expect("is a job")
}

#[test]
fn a_field_that_the_api_server_drops_is_not_written_again_and_again() {
    let mut test = Test::leads(job());
    for version in 8..11 {
        let Some((id, mut written)) = test.write() else {
            assert!(version > 8, "nothing was written at all");
            return;
        };
        written.metadata.resource_version = Some(version.to_string());
        // A CRD of an earlier version knows no links.
        if let Some(status) = &mut written.status {
            status.files.clear();
        }
        test.answer(id, Answer::Job(Box::new(written)));
    }
    panic!("it is written again and again");
}

#[test]
fn after_an_answer_that_never_came_the_job_is_read_before_anything_else() {
    let mut test = Test::leads(job());
    let (id, _) = test.write().expect("links are written");
    let error = "the connection was lost".to_owned();
    test.answer(id, Answer::Unanswered { error });
    assert!(test.write().is_none());
    test.second += 1;
    assert!(test.reads());
    assert!(test.write().is_none());
}

#[test]
fn a_write_whose_answer_was_lost_is_published_once_whoever_shows_it_first() {
    for is_watched in [true, false] {
        let mut test = Test::leads(job());
        let (id, mut written) = test.write().expect("its first status is written");
        written.metadata.resource_version = Some("8".to_owned());
        let shown = || Box::new(written.clone());
        if is_watched {
            test.tell(Event::Job(Change::Applied(Read::Object(shown()))));
        }
        let error = "the connection was lost".to_owned();
        test.answer(id, Answer::Unanswered { error });
        test.second += 1;
        let mut counted = 0;
        for _ in 0..3 {
            for effect in test.effects() {
                counted += usize::from(matches!(effect, Effect::JobChanged { .. }));
                if let Effect::Request {
                    id,
                    request: Request::ReadJob(_),
                    ..
                } = effect
                {
                    test.answer(id, Answer::Job(shown()));
                }
            }
        }
        assert_eq!(counted, 1, "shown by a watch first: {is_watched}");
    }
}

#[test]
fn an_answer_of_an_earlier_term_changes_nothing() {
    let mut test = Test::leads(job());
    let (id, mut written) = test.write().expect("links are written");
    test.tell(Event::TermEnded);
    test.tell(Event::TermBegan { epoch: 2 });
    written.metadata.resource_version = Some("8".to_owned());
    written.spec.priority = 5;
    test.answer(id, Answer::Job(Box::new(written)));
    let (_, again) = test.write().expect("the new term writes what it knows");
    assert_eq!(again.spec.priority, 0);
}

#[test]
fn a_job_that_cannot_be_read_gets_one_event_and_what_was_known_of_it_stays() {
    let mut test = Test::leads(job());
    test.effects();
    let unreadable = |version: &str| {
        Event::Job(Change::Applied(Read::Unreadable {
            name: ObjectName::new("studio", "clip"),
            uid: "u".to_owned(),
            version: version.to_owned(),
            error: "unknown pipeline".to_owned(),
        }))
    };
    test.tell(unreadable("8"));
    let effects = test.effects();
    let told = effects.iter().filter(
        |effect| matches!(effect, Effect::Publish { event, .. } if event.reason == "Unreadable"),
    );
    assert_eq!(told.count(), 1, "{effects:?}");
    let known = test.engine.world().job(&ObjectName::new("studio", "clip"));
    assert!(matches!(known, Some(Job::Live(_))), "{known:?}");
}

#[test]
fn without_leadership_nothing_is_asked_for() {
    let mut test = Test::leads(job());
    test.tell(Event::TermEnded);
    assert!(test.effects().is_empty());
}

#[test]
fn an_older_version_in_a_list_is_read_and_if_it_is_true_the_process_starts_again() {
    for (read, restarts) in [("500", true), ("1001", false), ("1002", false)] {
        let mut job = job();
        job.metadata.resource_version = Some("1000".to_owned());
        let mut test = Test::leads(job);
        let (id, mut known) = test.write().expect("links are written");
        known.metadata.resource_version = Some("1001".to_owned());
        test.answer(id, Answer::Job(Box::new(known.clone())));
        test.effects();
        let mut older = known.clone();
        older.metadata.resource_version = Some("500".to_owned());
        let listed = vec![Read::Object(Box::new(older))];
        test.tell(Event::Job(Change::Listed(listed)));
        let effects = test.effects();
        let id = effects.iter().find_map(|effect| {
            if let Effect::Request {
                id,
                request: Request::ReadJob(_),
                ..
            } = effect
            {
                return Some(*id);
            }
            None
        });
        known.metadata.resource_version = Some(read.to_owned());
        test.answer(id.expect("it is read"), Answer::Job(Box::new(known)));
        let mut effects = test.effects().into_iter();
        let is_restart = effects.any(|effect| matches!(effect, Effect::Restart { .. }));
        assert_eq!(is_restart, restarts, "{read}");
    }
}

#[test]
fn a_status_that_the_api_server_refuses_gets_one_event_with_its_words() {
    let mut test = Test::leads(job());
    let (id, _) = test.write().expect("links are written");
    let answer = || Answer::Refused {
        code: 422,
        message: "status.files[0]: Duplicate value".to_owned(),
    };
    test.answer(id, answer());
    let told = test.effects().into_iter().filter_map(|effect| {
        if let Effect::Publish { event, .. } = effect {
            return Some((event.reason, event.message));
        }
        None
    });
    let told: Vec<(String, String)> = told.collect();
    let [(reason, message)] = told.as_slice() else {
        panic!("{told:?}");
    };
    assert_eq!(reason, "StatusRefused");
    assert!(message.contains("Duplicate value"), "{message}");
}
