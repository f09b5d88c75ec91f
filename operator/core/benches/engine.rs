//! What a decision costs in a large fleet. `cargo bench --workspace --bench engine` prints it: times from an event to its effects, the
//! memory that objects take, and how long it takes to place many steps at once, each beside a reference of the same run.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use framewright_core::engine::interface::{
    Answer, Change, Effect, Event, Now, Read, Request, RequestId,
};
use framewright_core::engine::{Engine, Settings};
use framewright_core::jobs::admission::AdmitAll;
use framewright_core::links::{Place, Signer};
use framewright_core::names::{PoolName, WorkerRef};
use framewright_core::pools::template;
use framewright_core::schedule::gather::Gathered;
use framewright_core::schedule::scheduler::Scheduler;
use framewright_core::schedule::{Pending, Provides, Requires, Slots};
use framewright_core::workers::sessions::Greeting;
use framewright_crds::aijob::OutputStatus;
use framewright_crds::modelpool::Device;
use framewright_crds::names::ArtifactRole;
use framewright_crds::protocol::{Command, ModelState, OutputFile, WorkerMessage};
use framewright_crds::{AIJob, ModelPool};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

const LIVE: usize = 10_000;
const FINISHED: usize = 100_000;
const WORKERS: usize = 1000;
const EVENTS: usize = 2000;
const NAMESPACES: usize = 100;
/// Objects that are decided about at a time, as in the operator.
const BUDGET: usize = 256;

struct Links;

impl Signer for Links {
    fn upload(&self, at: &Place<'_>, sha256: &str, _: i64, _: Timestamp) -> String {
        format!(
            "https://store/v1/put/{}/{sha256}?{}",
            at.uid,
            "s".repeat(200)
        )
    }

    fn download(&self, at: &Place<'_>, _: &OutputStatus, name: &str, _: Timestamp) -> String {
        format!("https://store/v1/get/{}/{name}?{}", at.uid, "s".repeat(200))
    }

    fn worker_get(
        &self,
        at: &Place<'_>,
        (_, sha256): (ArtifactRole, &str),
        _: Timestamp,
    ) -> Option<String> {
        Some(format!("https://store/v1/get/{}/{sha256}", at.uid))
    }

    fn worker_put(&self, at: &Place<'_>, output: &OutputFile, _: Timestamp) -> Option<String> {
        Some(format!("https://store/v1/put/{}/{}", at.uid, output.digest))
    }
}

/// An engine, and an API server that takes every write at once.
struct Fleet {
    engine: Engine,
    started: Instant,
    version: u64,
    /// By session: the worker's UID, and the tasks that it was sent.
    tasks: BTreeMap<u64, Vec<framewright_crds::names::TaskId>>,
    uids: BTreeMap<u64, String>,
    digests: BTreeMap<String, String>,
    writes: usize,
}

impl Fleet {
    fn new() -> Fleet {
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
            catalog: vec!["fleet".to_owned()],
            signer: Box::new(Links),
            gate: Box::new(AdmitAll),
        };
        Fleet {
            engine: Engine::new(settings),
            started: Instant::now(),
            version: 1_000_000,
            tasks: BTreeMap::new(),
            uids: BTreeMap::new(),
            digests: BTreeMap::new(),
            writes: 0,
        }
    }

    fn now(&self) -> Now {
        Now {
            wall: Timestamp::now(),
            monotonic: self.started.elapsed(),
        }
    }

    fn tell(&mut self, event: Event) {
        let now = self.now();
        self.engine.handle(now, event);
    }

    /// Decides once; the effects, and whether something is left.
    fn decide(&mut self) -> (Vec<Effect>, bool) {
        let now = self.now();
        let mut effects = Vec::new();
        let is_more = self.engine.decide(now, BUDGET, &mut effects);
        while let Some(write) = self.engine.next_write(now) {
            effects.push(Effect::Request {
                id: write.id,
                epoch: write.epoch,
                request: write.request,
            });
        }
        (effects, is_more)
    }

    /// Decides and answers until there is nothing left to do; the longest single decision.
    fn settle(&mut self) -> Duration {
        let mut longest = Duration::ZERO;
        loop {
            let began = Instant::now();
            let (effects, is_more) = self.decide();
            longest = longest.max(began.elapsed());
            let is_idle = effects.is_empty() && !is_more;
            for effect in effects {
                self.answer(effect);
            }
            if is_idle {
                return longest;
            }
        }
    }

    fn answer(&mut self, effect: Effect) {
        match effect {
            Effect::Request { id, request, .. } => self.answer_request(id, request),
            Effect::Send { session, command } => self.hear(session, command),
            Effect::CloseSession { .. }
            | Effect::WatchFile(_)
            | Effect::UnwatchFile(_)
            | Effect::Publish { .. }
            | Effect::JobChanged { .. }
            | Effect::Restart { .. }
            | Effect::Log(_) => {}
        }
    }

    fn answer_request(&mut self, request: RequestId, asked: Request) {
        self.version += 1;
        let version = Some(self.version.to_string());
        let answer = match asked {
            Request::WriteJob(mut job) => {
                self.writes += 1;
                job.metadata.resource_version = version;
                Answer::Job(job)
            }
            Request::WritePool(mut pool) => {
                self.writes += 1;
                pool.metadata.resource_version = version;
                Answer::Pool(pool)
            }
            // Nothing changes behind the operator's back: what is known is what there is.
            Request::ReadJob(name) => match self.engine.world().job(&name) {
                Some(framewright_core::engine::world::Job::Live(job)) => {
                    Answer::Job(Box::new((**job).clone()))
                }
                Some(_) | None => Answer::Gone,
            },
            Request::WriteOutcome { .. } => Answer::Done,
            Request::ReadPool(_)
            | Request::DeleteJob { .. }
            | Request::ReadJobMetadata(_)
            | Request::ListPods(_)
            | Request::ReadPodMetadata { .. }
            | Request::CreatePod(_)
            | Request::DeletePod(_)
            | Request::ProtectPod { .. } => Answer::Unanswered {
                error: "nobody asks for this here".to_owned(),
            },
        };
        self.tell(Event::Answered { request, answer });
    }

    /// A worker hears a command.
    fn hear(&mut self, session: u64, command: Command) {
        let Some(uid) = self.uids.get(&session).cloned() else {
            return;
        };
        match command {
            Command::Configure { models } => {
                for model in models {
                    self.digests
                        .insert(model.name.clone(), model.digest.clone());
                    let message = WorkerMessage::Model {
                        name: model.name,
                        digest: model.digest,
                        state: ModelState::Ready,
                    };
                    self.say(session, &uid, message);
                }
            }
            Command::Run(run) => {
                let task = run.task.clone();
                self.tasks.entry(session).or_default().push(task.clone());
                self.say(session, &uid, WorkerMessage::Started { task });
            }
            Command::Cancel { task } | Command::Ack { task } => {
                self.tasks
                    .entry(session)
                    .or_default()
                    .retain(|held| *held != task);
            }
            Command::Refused { .. }
            | Command::Proceed { .. }
            | Command::Upload { .. }
            | Command::Unknown => {}
        }
    }

    fn say(&mut self, session: u64, uid: &str, message: WorkerMessage) {
        self.tell(Event::SessionMessage {
            session,
            worker_uid: uid.to_owned(),
            message,
        });
    }
}

fn job(number: usize, is_finished: bool) -> AIJob {
    let digest = format!("sha256:{}", "ab".repeat(32));
    let kind = if is_finished { "done" } else { "live" };
    let finished = json!({
        "conditions": [{"type": "Finished", "status": "True", "reason": "Succeeded", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        "finishedAt": "2026-01-01T00:00:00Z",
    });
    let mut job = json!({
        "apiVersion": "framewright.dev/v1alpha1",
        "kind": "AIJob",
        "metadata": {
            "name": format!("{kind}-{number}"), "namespace": format!("studio-{}", number % NAMESPACES), "uid": format!("uid-{kind}-{number:032}"),
            "resourceVersion": format!("{}", 1000 + number), "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {
            "steps": [{"name": "large", "model": "x2", "upscale": {}, "inputs": [{"name": "video", "upload": {"digest": digest, "bytes": 1_000_000}}]}],
            "queueDeadlineSeconds": 1_000_000_000, "activeDeadlineSeconds": 1_000_000_000, "ttlSecondsAfterFinished": 1_000_000_000,
        },
    });
    if is_finished {
        job["status"] = finished;
    } else {
        job["status"] = json!({"files": [{"name": "large/video", "source": "upload", "state": "Received", "digest": digest, "bytes": 1_000_000}]});
    }
    serde_json::from_value(job).expect("is a job")
}

fn pool() -> ModelPool {
    let pool = json!({
        "apiVersion": "framewright.dev/v1alpha1",
        "kind": "ModelPool",
        "metadata": {"name": "p", "namespace": "fleet", "uid": "uid-pool", "resourceVersion": "7", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "device": "cpu", "replicas": WORKERS,
            "models": [{"name": "x2", "source": {"volume": {"claimName": "weights"}}, "files": [{"path": "x2.safetensors", "digest": format!("sha256:{}", "cd".repeat(32)), "bytes": 1}]}],
            "access": [{"name": "all", "namespaces": {"selector": {}}}],
        },
    });
    serde_json::from_value(pool).expect("is a pool")
}

fn pod(number: usize, revision: &str) -> Pod {
    let pod = json!({
        "metadata": {
            "name": format!("p-{revision}-{number}"), "namespace": "fleet", "uid": format!("uid-pod-{number}"),
            "labels": {"framewright.dev/pool": "p", "framewright.dev/revision": revision},
            "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "karpenter.sh/do-not-disrupt": "true"},
            "ownerReferences": [{"apiVersion": "framewright.dev/v1alpha1", "kind": "ModelPool", "name": "p", "uid": "uid-pool", "controller": true}],
        },
        "status": {"phase": "Running"},
    });
    serde_json::from_value(pod).expect("is a pod")
}

fn main() {
    let empty = resident();
    let mut fleet = Fleet::new();
    let settings = template::Settings {
        image: "worker".to_owned(),
        image_cuda: "worker".to_owned(),
        image_pull_policy: "IfNotPresent".to_owned(),
        operator: "operator:9443".to_owned(),
        authority: String::new(),
        log: "info".to_owned(),
        fixed_user: true,
    };
    let revision = template::build(&pool(), &settings).revision;
    let namespaces = (0..NAMESPACES).map(|number| format!("studio-{number}"));
    let namespaces = namespaces.chain(["fleet".to_owned()]);
    fleet.tell(Event::NamespacesListed(
        namespaces.map(|name| (name, BTreeMap::new())).collect(),
    ));
    fleet.tell(Event::Pool(Change::Listed(vec![Read::Object(Box::new(
        pool(),
    ))])));
    let pods = (0..WORKERS).map(|number| Read::Object(Box::new(pod(number, &revision))));
    fleet.tell(Event::Pod(Change::Listed(pods.collect())));
    let before = resident();
    let finished = (0..FINISHED).map(|number| Read::Object(Box::new(job(number, true))));
    fleet.tell(Event::Job(Change::Listed(finished.collect())));
    let finished = resident();
    println!(
        "memory: {} bytes a finished job (goal 1,024)",
        each(before, finished, FINISHED)
    );
    for number in 0..LIVE {
        fleet.tell(Event::Job(Change::Applied(Read::Object(Box::new(job(
            number, false,
        ))))));
    }
    fleet.tell(Event::TermBegan { epoch: 1 });
    let began = Instant::now();
    let longest = fleet.settle();
    println!(
        "first decisions about {LIVE} live and {FINISHED} finished jobs: {} ms, the longest slice of {BUDGET} objects {:.2} ms (goal 5)",
        began.elapsed().as_millis(),
        ms(longest)
    );
    let live = resident();
    println!(
        "memory: {} bytes a live job (goal 10,240)",
        each(finished, live, LIVE)
    );
    for number in 0..WORKERS {
        let session = number as u64;
        let uid = format!("uid-pod-{number}");
        fleet.uids.insert(session, uid.clone());
        let greeting = Greeting {
            worker: WorkerRef {
                namespace: "fleet".to_owned(),
                name: format!("p-{revision}-{number}"),
                uid,
            },
            pool: PoolName::new("fleet", "p"),
            device: Device::Cpu,
            device_error: None,
            slots: 1,
            pipelines: vec!["upscale".to_owned()],
            loaded: Vec::new(),
            tasks: Vec::new(),
        };
        fleet.tell(Event::SessionOpened { session, greeting });
    }
    let began = Instant::now();
    fleet.settle();
    let running: usize = fleet.tasks.values().map(Vec::len).sum();
    println!(
        "{WORKERS} workers dial in, {running} tasks begin: {} ms",
        began.elapsed().as_millis()
    );
    let workers = resident();
    println!(
        "memory: {} bytes a connected worker that runs a task, without its connection",
        each(live, workers, WORKERS)
    );
    let mut times = Vec::new();
    for number in 0..EVENTS {
        let session = (number * 7919 % WORKERS) as u64;
        let uid = fleet.uids[&session].clone();
        let Some(task) = fleet
            .tasks
            .get(&session)
            .and_then(|tasks| tasks.first())
            .cloned()
        else {
            continue;
        };
        let message = match number % 3 {
            0 => WorkerMessage::Progress {
                task,
                progress: serde_json::from_value(json!({"percent": number % 100}))
                    .unwrap_or_default(),
            },
            1 => WorkerMessage::StoreError {
                task,
                error: Some(format!("the store is slow ({number})")),
            },
            _ => WorkerMessage::Started { task },
        };
        let began = Instant::now();
        fleet.say(session, &uid, message);
        let (effects, _) = fleet.decide();
        times.push(began.elapsed());
        for effect in effects {
            fleet.answer(effect);
        }
        fleet.settle();
    }
    report("an event of a running task to its effects", &mut times);
    let mut times = Vec::new();
    for number in 0..EVENTS {
        let new = job(LIVE + number, false);
        let began = Instant::now();
        fleet.tell(Event::Job(Change::Applied(Read::Object(Box::new(new)))));
        let (effects, _) = fleet.decide();
        times.push(began.elapsed());
        for effect in effects {
            fleet.answer(effect);
        }
        fleet.settle();
    }
    report(
        "a new job to its effects, among as many that wait",
        &mut times,
    );
    println!(
        "{} status writes in all; {} MiB resident, {} MiB of them before",
        fleet.writes,
        workers >> 20,
        empty >> 20
    );
    place_many();
}

/// 50,000 pending steps in 1,000 namespaces with 10 priorities; 1,000 slots become free.
fn place_many() {
    let mut queue = Scheduler::default();
    let pool = PoolName::new("fleet", "p");
    for number in 0_i32..50_000 {
        let namespace = format!("n{}", number % 1000);
        let uid = format!("uid-{number}");
        let step = Pending {
            job_uid: uid.clone(),
            step: "large".to_owned(),
            namespace: namespace.clone(),
            requires: Requires {
                pipeline: "upscale".to_owned(),
                models: vec![("base".to_owned(), "x2".to_owned())],
            },
            pools: vec![pool.clone()],
            priority: number % 10,
            created: Timestamp::from_second(i64::from(number)).unwrap_or_default(),
            position: 0,
            avoid: BTreeSet::new(),
            near: BTreeSet::new(),
        };
        queue.update(
            &uid,
            &namespace,
            Gathered {
                pending: vec![step],
                tasks: Vec::new(),
            },
        );
    }
    let began = Instant::now();
    for number in 0..1000 {
        let uid = format!("w{number}");
        let slots = Slots {
            worker: WorkerRef {
                namespace: "fleet".to_owned(),
                name: uid.clone(),
                uid: uid.clone(),
            },
            pool: pool.clone(),
            free: 1,
            provides: Provides {
                pipelines: BTreeSet::from(["upscale".to_owned()]),
                models: BTreeMap::from([("x2".to_owned(), "d".to_owned())]),
                loaded: BTreeSet::new(),
            },
        };
        queue.set_worker(&uid, Some(slots));
    }
    let placed = queue.place().len();
    println!(
        "{placed} of 50,000 pending steps placed: {:.1} ms (goal 50)",
        ms(began.elapsed())
    );
}

fn report(what: &str, times: &mut [Duration]) {
    times.sort();
    let at = |share: f64| {
        times
            .get(((times.len() as f64) * share) as usize)
            .or(times.last())
    };
    let (p50, p99) = (
        at(0.5).copied().unwrap_or_default(),
        at(0.99).copied().unwrap_or_default(),
    );
    println!(
        "{what}: p50 {:.3} ms, p99 {:.3} ms (goal 1), of {}",
        ms(p50),
        ms(p99),
        times.len()
    );
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn each(before: usize, after: usize, count: usize) -> usize {
    after.saturating_sub(before) / count
}

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = status
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<usize>().ok());
    pages.unwrap_or(0) * 4096
}
