//! Single decisions of the engine: what it asks for after one event, and what it does not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use framewright_core::engine::interface::{
    Answer, Change, Effect, Event, Now, Read, Request, RequestId,
};
use framewright_core::engine::world::Job;
use framewright_core::engine::{Engine, Settings};
use framewright_core::jobs::admission::AdmitAll;
use framewright_core::links::{Place, Signer};
use framewright_core::names::{ObjectName, WorkerRef};
use framewright_core::pools::template;
use framewright_core::workers::sessions::Greeting;
use framewright_crds::aijob::OutputStatus;
use framewright_crds::conditions::pool_reason;
use framewright_crds::modelpool::Device;
use framewright_crds::names::ArtifactRole;
use framewright_crds::protocol::{Command, ModelState, OutputFile, WorkerMessage};
use framewright_crds::{AIJob, ModelPool};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
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
    time: Duration,
    /// The last version that the API server has given to an object.
    version: u64,
    /// The pods that were made.
    pods: Vec<Pod>,
    /// What workers were sent.
    sent: Vec<Command>,
}

impl Test {
    /// It knows this job, and leads.
    fn leads(job: AIJob) -> Test {
        let mut test = Test::knows(vec![job], Vec::new());
        test.tell(Event::TermBegan { epoch: 1 });
        test
    }

    /// It knows these objects, and does not lead.
    fn knows(jobs: Vec<AIJob>, pools: Vec<ModelPool>) -> Test {
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
            time: Duration::ZERO,
            version: 1000,
            pods: Vec::new(),
            sent: Vec::new(),
        };
        test.tell(Event::Pool(Change::Listed(listed(pools))));
        test.tell(Event::Pod(Change::Listed(Vec::new())));
        test.tell(Event::NamespacesListed(BTreeMap::new()));
        test.tell(Event::Job(Change::Listed(listed(jobs))));
        test
    }

    fn now(&self) -> Now {
        let since = SignedDuration::try_from(self.time).expect("some minutes");
        Now {
            wall: Timestamp::UNIX_EPOCH + since,
            monotonic: self.time,
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

    /// The one request of this kind that it asks for now.
    fn requests(&mut self, is_it: impl Fn(&Request) -> bool) -> RequestId {
        let effects = self.effects();
        let found = effects.iter().find_map(|effect| {
            if let Effect::Request { id, request, .. } = effect
                && is_it(request)
            {
                return Some(*id);
            }
            None
        });
        found.unwrap_or_else(|| panic!("it is not among {effects:?}"))
    }

    /// Decides, and writes nothing; how many steps are placed then.
    fn placements(&mut self) -> usize {
        let now = self.now();
        while self.engine.decide(now, 10, &mut Vec::new()) {}
        let term = self.engine.term().expect("it leads");
        term.scheduler.placements().count()
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

    /// The worker of the first pod dials in, holds no task, and has the weights.
    fn connects(&mut self, session: u64, slots: u32) {
        let pod = self.pods[0].metadata.name.clone().expect("a name");
        self.tell(Event::SessionOpened {
            session,
            greeting: Greeting {
                worker: WorkerRef {
                    namespace: "studio".to_owned(),
                    name: pod.clone(),
                    uid: pod.clone(),
                },
                pool: ObjectName::new("studio", "p"),
                device: Device::Cpu,
                device_error: None,
                slots,
                pipelines: vec!["upscale".to_owned()],
                loaded: Vec::new(),
                tasks: Vec::new(),
            },
        });
        self.sent.clear();
        self.settles();
        let configured = self.sent.iter().find_map(|command| {
            if let Command::Configure { models } = command {
                return models.first();
            }
            None
        });
        let model = configured.expect("it gets the models").clone();
        self.tell(Event::SessionMessage {
            session,
            worker_uid: pod,
            message: WorkerMessage::Model {
                name: model.name,
                digest: model.digest,
                state: ModelState::Ready,
            },
        });
    }

    fn answer(&mut self, request: RequestId, answer: Answer) {
        self.tell(Event::Answered { request, answer });
    }

    /// Has it decide, until nothing about jobs and pods is left: their writes are answered as the API server does, and all files are in the
    /// store. The jobs that were written.
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "other effects ask for nothing that this test answers"
    )]
    fn settles(&mut self) -> Vec<AIJob> {
        let mut written = Vec::new();
        loop {
            let effects = self.effects();
            let mut is_more = false;
            for effect in effects {
                match effect {
                    Effect::Request {
                        id,
                        request: Request::WriteJob(mut job),
                        ..
                    } => {
                        is_more = true;
                        self.version += 1;
                        job.metadata.resource_version = Some(self.version.to_string());
                        written.push((*job).clone());
                        self.answer(id, Answer::Job(job));
                    }
                    Effect::Request {
                        id,
                        request: Request::ListPods(_),
                        ..
                    } => {
                        is_more = true;
                        self.answer(id, Answer::Pods(self.pods.clone()));
                    }
                    Effect::Request {
                        id,
                        request: Request::CreatePod(mut pod),
                        ..
                    } => {
                        is_more = true;
                        pod.metadata.uid.clone_from(&pod.metadata.name);
                        self.pods.push((*pod).clone());
                        let made = Box::new(pod.metadata.clone());
                        self.answer(id, Answer::Metadata(made));
                        self.tell(Event::Pod(Change::Applied(Read::Object(pod))));
                    }
                    Effect::Send { command, .. } => self.sent.push(command),
                    Effect::WatchFile(key) => {
                        is_more = true;
                        let is_present = true;
                        self.tell(Event::File { key, is_present });
                    }
                    _ => {}
                }
            }
            if !is_more {
                return written;
            }
        }
    }
}

fn listed<K>(objects: Vec<K>) -> Vec<Read<K>> {
    let objects = objects.into_iter().map(Box::new);
    objects.map(Read::Object).collect()
}

fn job() -> AIJob {
    let job = json!({
        "metadata": {"name": "clip", "namespace": "studio", "uid": "u", "resourceVersion": "7", "creationTimestamp": "1970-01-01T00:00:00Z"},
        "spec": {"steps": [{"name": "large", "model": "x2", "upscale": {}, "inputs": [{"name": "video", "upload": {"digest": format!("sha256:{}", "ab".repeat(32)), "bytes": 5}}]}]},
    });
    serde_json::from_value(job).expect("is a job")
}

/// A job like the other one, of another name.
fn job_number(number: usize) -> AIJob {
    let mut job = job();
    job.metadata.name = Some(format!("clip-{number}"));
    job.metadata.uid = Some(format!("uid-{number}"));
    job
}

/// A pool of the jobs' namespace that takes no tasks for this reason.
fn pool(reason: &str, version: u64) -> ModelPool {
    let pool = json!({
        "metadata": {"namespace": "studio", "name": "p", "uid": "pool", "resourceVersion": version.to_string(), "generation": 1},
        "spec": {
            "device": "cpu", "replicas": 1,
            "models": [{"name": "x2", "source": {"upload": {}}, "files": [
                {"path": "x2.safetensors", "digest": format!("sha256:{}", "ef".repeat(32)), "bytes": 1},
            ]}],
        },
        "status": {"conditions": [{
            "type": "Ready", "status": "False", "reason": reason, "message": "its words",
            "lastTransitionTime": "1970-01-01T00:00:00Z",
        }]},
    });
    serde_json::from_value(pool).expect("is a pool")
}

#[test]
fn a_pools_new_reason_rewrites_20_waiting_jobs_a_second_and_each_once_a_minute() {
    const JOBS: usize = 50;
    let tick = Duration::from_millis(100);
    let jobs = (0..JOBS).map(job_number).collect();
    let mut test = Test::knows(jobs, vec![pool(pool_reason::UNSCHEDULABLE, 1)]);
    test.tell(Event::TermBegan { epoch: 1 });
    assert!(
        test.settles().len() >= JOBS,
        "all are told what they wait for"
    );
    for (version, reason, until) in [
        (2, pool_reason::IMAGE_PULL_FAILED, 10),
        (3, pool_reason::WORKER_CRASHING, 80),
    ] {
        let changed = pool(reason, version);
        let read = Read::Object(Box::new(changed));
        test.tell(Event::Pool(Change::Applied(read)));
        let begun = test.time;
        let mut written: Vec<(Duration, AIJob)> = Vec::new();
        while test.time < Duration::from_secs(until) {
            let jobs = test.settles();
            written.extend(jobs.into_iter().map(|job| (test.time, job)));
            let second = test.time.saturating_sub(Duration::from_millis(999));
            let newest = written.iter().filter(|(at, _)| *at >= second).count();
            assert!(newest <= 20, "{newest} jobs are written in a second");
            test.time += tick;
        }
        let names: BTreeSet<_> = written.iter().map(|(_, job)| &job.metadata.name).collect();
        assert_eq!((written.len(), names.len()), (JOBS, JOBS), "{reason}");
        // The second time each waits until a minute is over.
        let first = written.first().map(|(at, _)| *at - begun);
        let waits = first.is_some_and(|first| first > Duration::from_secs(40));
        assert_eq!(waits, version == 3, "{first:?}");
        for (_, job) in &written {
            let status = serde_json::to_string(&job.status).expect("is JSON");
            assert!(status.contains(reason), "{status}");
        }
    }
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
    test.time += Duration::from_secs(1);
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
        test.time += Duration::from_secs(1);
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
    test.tell(unreadable("clip", "u", "8"));
    let effects = test.effects();
    let told = effects.iter().filter(
        |effect| matches!(effect, Effect::Publish { event, .. } if event.reason == "Unreadable"),
    );
    assert_eq!(told.count(), 1, "{effects:?}");
    let known = test.engine.world().job(&ObjectName::new("studio", "clip"));
    assert!(matches!(known, Some(Job::Live(_))), "{known:?}");
}

/// A watch shows that this version of a job cannot be read.
fn unreadable(name: &str, uid: &str, version: &str) -> Event {
    Event::Job(Change::Applied(Read::Unreadable {
        name: ObjectName::new("studio", name),
        uid: uid.to_owned(),
        version: version.to_owned(),
        error: "unknown pipeline".to_owned(),
    }))
}

#[test]
fn the_worker_of_a_job_that_cannot_be_read_any_more_is_free_when_it_has_lost_the_task() {
    let mut test = Test::knows(vec![job_number(0)], vec![pool("Loading", 1)]);
    test.tell(Event::TermBegan { epoch: 1 });
    test.settles();
    test.connects(1, 1);
    test.settles();
    let runs = |test: &Test, job: &str| {
        let mut sent = test.sent.iter();
        sent.any(|command| matches!(command, Command::Run(run) if run.task.job_uid == job))
    };
    assert!(runs(&test, "uid-0"), "{:?}", test.sent);
    test.tell(unreadable("clip-0", "uid-0", "5000"));
    test.tell(Event::Job(Change::Applied(Read::Object(Box::new(
        job_number(1),
    )))));
    test.settles();
    assert!(!runs(&test, "uid-1"), "the first task still runs");
    // Its worker starts anew.
    test.connects(2, 1);
    test.settles();
    assert!(runs(&test, "uid-1"), "{:?}", test.sent);
}

#[test]
fn a_deleted_job_that_an_older_list_still_shows_stays_deleted() {
    let mut test = Test::leads(job());
    test.tell(unreadable("clip", "u", "8"));
    test.effects();
    let name = ObjectName::new("studio", "clip");
    test.tell(Event::Job(Change::Deleted {
        name: name.clone(),
        uid: "u".to_owned(),
    }));
    let older = Read::Unreadable {
        name: name.clone(),
        uid: "u".to_owned(),
        version: "8".to_owned(),
        error: "unknown pipeline".to_owned(),
    };
    test.tell(Event::Job(Change::Listed(vec![older])));
    assert!(test.effects().is_empty(), "nothing is published twice");
    test.tell(Event::Job(Change::Listed(listed(vec![job()]))));
    assert!(test.engine.world().job(&name).is_none());
}

#[test]
fn a_pool_that_a_list_shows_in_an_older_version_is_read() {
    let mut test = Test::knows(Vec::new(), vec![pool("Loading", 5)]);
    test.tell(Event::TermBegan { epoch: 1 });
    let older = listed(vec![pool("Loading", 4)]);
    test.tell(Event::Pool(Change::Listed(older)));
    test.requests(|request| matches!(request, Request::ReadPool(_)));
}

#[test]
fn a_replica_that_does_not_lead_reads_its_clock_each_second() {
    let mut test = Test::knows(vec![job()], Vec::new());
    test.time += Duration::from_secs(5);
    test.effects();
    assert_eq!(test.engine.next_deadline(), Some(Duration::from_secs(6)));
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
fn a_deleted_job_that_a_finalizer_keeps_stays_known_whether_the_watch_or_the_answer_is_first() {
    let name = ObjectName::new("studio", "clip");
    for is_shown_first in [true, false] {
        let mut finished = job();
        finished.metadata.finalizers = Some(vec!["somebody.example/keeps".to_owned()]);
        finished.spec.ttl_seconds_after_finished = 10;
        let status = json!({
            "finishedAt": "1970-01-01T00:00:00Z",
            "conditions": [{
                "type": "Finished", "status": "True", "reason": "Finished", "message": "",
                "lastTransitionTime": "1970-01-01T00:00:00Z",
            }],
        });
        finished.status = Some(serde_json::from_value(status).expect("is a status"));
        let mut test = Test::leads(finished.clone());
        test.time += Duration::from_secs(11);
        let asked = test.requests(|request| matches!(request, Request::ReadJob(_)));
        test.answer(asked, Answer::Job(Box::new(finished.clone())));
        let deletes = test.requests(|request| matches!(request, Request::DeleteJob { .. }));
        let mut kept = finished;
        kept.metadata.resource_version = Some("8".to_owned());
        kept.metadata.deletion_timestamp =
            serde_json::from_value(json!("1970-01-01T00:00:11Z")).ok();
        let shown = Event::Job(Change::Applied(Read::Object(Box::new(kept))));
        if is_shown_first {
            test.tell(shown);
            test.answer(deletes, Answer::Done);
        } else {
            test.answer(deletes, Answer::Done);
            assert!(test.engine.world().job(&name).is_none());
            test.tell(shown);
        }
        assert!(test.effects().is_empty());
        let known = test.engine.world().job(&name);
        assert!(matches!(known, Some(Job::Finished(_))), "{is_shown_first}");
    }
}

#[test]
fn a_placement_is_taken_back_when_its_worker_turns_out_to_be_full() {
    for (slots, stays) in [(1, false), (2, true)] {
        let mut test = Test::knows(vec![job_number(0)], vec![pool("Loading", 1)]);
        test.tell(Event::TermBegan { epoch: 1 });
        // Links are written, the file comes, and a pod is made.
        test.settles();
        let pod = test.pods[0].metadata.name.clone().expect("a name");
        test.connects(1, slots);
        assert_eq!(test.placements(), 1);
        let mut bound = job_number(1);
        bound.metadata.resource_version = Some("5000".to_owned());
        let status = json!({"steps": [{
            "name": "large", "state": "Starting", "attemptsMade": 1,
            "attempts": [{
                "number": 1, "boundAt": "1970-01-01T00:00:00Z",
                "worker": {"kind": "Pod", "namespace": "studio", "name": pod, "uid": pod},
            }],
        }]});
        bound.status = Some(serde_json::from_value(status).expect("is a status"));
        test.tell(Event::Job(Change::Applied(Read::Object(Box::new(bound)))));
        assert_eq!(test.placements() == 1, stays, "{slots} slots");
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

/// A job whose step is bound to a worker of this name.
fn bound_job(worker: &str) -> AIJob {
    let mut job = job();
    let status = json!({"steps": [{
        "name": "large", "state": "Starting", "attemptsMade": 1,
        "attempts": [{
            "number": 1, "boundAt": "1970-01-01T00:00:00Z",
            "worker": {"kind": "Pod", "namespace": "studio", "name": worker, "uid": worker},
        }],
    }], "files": [{
        "name": "large/video", "source": "upload", "state": "Received", "digest": format!("sha256:{}", "ab".repeat(32)), "bytes": 5,
    }]});
    job.status = Some(serde_json::from_value(status).expect("is a status"));
    job
}

/// A worker of the pool `p` dials in.
fn dials(worker: &str, session: u64) -> Event {
    Event::SessionOpened {
        session,
        greeting: Greeting {
            worker: WorkerRef {
                namespace: "studio".to_owned(),
                name: worker.to_owned(),
                uid: worker.to_owned(),
            },
            pool: ObjectName::new("studio", "p"),
            device: Device::Cpu,
            device_error: None,
            slots: 1,
            pipelines: vec!["upscale".to_owned()],
            loaded: Vec::new(),
            tasks: Vec::new(),
        },
    }
}

/// The requests among effects, and the commands that run a task.
fn asks(effects: &[Effect]) -> (Vec<&Request>, usize) {
    let requests = effects.iter().filter_map(|effect| {
        if let Effect::Request { request, .. } = effect {
            return Some(request);
        }
        None
    });
    let runs = effects.iter().filter(|effect| {
        matches!(
            effect,
            Effect::Send {
                command: Command::Run(_),
                ..
            }
        )
    });
    (requests.collect(), runs.count())
}

#[test]
fn a_command_waits_until_the_api_server_has_returned_the_job_in_this_term() {
    let mut test = Test::leads(bound_job("w"));
    test.tell(dials("w", 1));
    let effects = test.effects();
    let (requests, runs) = asks(&effects);
    assert_eq!(runs, 0, "a watch may show what was changed since");
    assert!(matches!(requests.as_slice(), [Request::ReadJob(_)]));
    let read = effects.iter().find_map(|effect| {
        if let Effect::Request { id, .. } = effect {
            return Some(*id);
        }
        None
    });
    let live = Answer::Job(Box::new(bound_job("w")));
    test.answer(read.expect("it is read"), live);
    assert_eq!(asks(&test.effects()).1, 1);
}

#[test]
fn a_job_is_not_written_beside_a_request_about_it_though_the_write_was_due_before() {
    let mut test = Test::leads(bound_job("w"));
    // The write of its conditions is due, and has no permit yet.
    let now = test.now();
    while test.engine.decide(now, 10, &mut Vec::new()) {}
    test.tell(dials("w", 1));
    for _ in 0..2 {
        let effects = test.effects();
        let (requests, _) = asks(&effects);
        let is_write = |request: &&Request| matches!(request, Request::WriteJob(_));
        assert!(!requests.iter().any(is_write), "{requests:?}");
        // It changes while it is read.
        let mut changed = bound_job("w");
        changed.metadata.resource_version = Some("8".to_owned());
        let read = Read::Object(Box::new(changed));
        test.tell(Event::Job(Change::Applied(read)));
    }
}

#[test]
fn what_a_worker_said_in_an_older_session_counts_for_nothing() {
    for (session, placed) in [(1, 0), (2, 1)] {
        let mut test = Test::knows(vec![job_number(0)], vec![pool("Loading", 1)]);
        test.tell(Event::TermBegan { epoch: 1 });
        test.settles();
        let pod = test.pods[0].metadata.name.clone().expect("a name");
        for session in [1, 2] {
            test.tell(dials(&pod, session));
            test.settles();
        }
        let Some(Command::Configure { models }) = test.sent.last() else {
            panic!("{:?}", test.sent);
        };
        let model = models[0].clone();
        test.tell(Event::SessionMessage {
            session,
            worker_uid: pod,
            message: WorkerMessage::Model {
                name: model.name,
                digest: model.digest,
                state: ModelState::Ready,
            },
        });
        assert_eq!(test.placements(), placed, "session {session}");
    }
}

#[test]
fn another_job_of_the_name_that_was_read_is_not_taken_for_this_one() {
    let mut test = Test::leads(job());
    let (id, _) = test.write().expect("links are written");
    let error = "the connection was lost".to_owned();
    test.answer(id, Answer::Unanswered { error });
    test.time += Duration::from_secs(1);
    let read = test.requests(|request| matches!(request, Request::ReadJob(_)));
    let mut other = job();
    other.metadata.uid = Some("other".to_owned());
    other.metadata.resource_version = Some("9".to_owned());
    test.answer(read, Answer::Job(Box::new(other)));
    let term = test.engine.term().expect("it leads");
    assert!(!term.jobs.contains_key("u"), "nothing of it is left");
    assert_eq!(test.engine.world().job_name("u"), None);
}

#[test]
fn the_deletion_of_an_earlier_object_of_that_name_takes_nothing_from_the_present_one() {
    let mut test = Test::knows(vec![job()], vec![pool("Loading", 1)]);
    let made = json!({"metadata": {"namespace": "studio", "name": "p-0", "uid": "present", "resourceVersion": "1"}});
    let made: Pod = serde_json::from_value(made).expect("is a pod");
    test.tell(Event::Pod(Change::Applied(Read::Object(Box::new(made)))));
    test.tell(Event::TermBegan { epoch: 1 });
    let name = |name: &str| ObjectName::new("studio", name);
    let uid = || "earlier".to_owned();
    test.tell(Event::Job(Change::Deleted {
        name: name("clip"),
        uid: uid(),
    }));
    test.tell(Event::Pool(Change::Deleted {
        name: name("p"),
        uid: uid(),
    }));
    test.tell(Event::Pod(Change::Deleted {
        name: name("p-0"),
        uid: uid(),
    }));
    let world = test.engine.world();
    assert!(world.job(&name("clip")).is_some());
    assert!(world.pool(&name("p")).is_some());
    let worker = WorkerRef {
        namespace: "studio".to_owned(),
        name: "p-0".to_owned(),
        uid: "present".to_owned(),
    };
    assert!(world.pod(&worker).is_some());
}

#[test]
fn no_pod_is_made_before_the_api_server_has_listed_those_of_the_pool() {
    let mut test = Test::knows(Vec::new(), vec![pool("Loading", 1)]);
    test.tell(Event::TermBegan { epoch: 1 });
    let effects = test.effects();
    let (requests, _) = asks(&effects);
    let is_made = |request: &&Request| matches!(request, Request::CreatePod(_));
    assert!(!requests.iter().any(is_made), "{requests:?}");
    let list = effects.iter().find_map(|effect| {
        if let Effect::Request {
            id,
            request: Request::ListPods(_),
            ..
        } = effect
        {
            return Some(*id);
        }
        None
    });
    test.answer(list.expect("they are listed"), Answer::Pods(Vec::new()));
    let effects = test.effects();
    assert!(asks(&effects).0.iter().any(is_made), "{effects:?}");
}
