//! What people do (jobs, pools, uploads, changes of mind) and what goes wrong around them, until the weather turns calm.

use std::collections::{BTreeMap, BTreeSet};

use framewright_crds::names::TaskId;
use framewright_crds::{AIJob, ModelPool};
use kube::ResourceExt;
use kube::core::ObjectMeta;
use serde_json::{Value, json};

use crate::api::Millis;
use crate::kubelet::phase;
use crate::world::{Happening, World};

/// How bad this world is, while it is.
pub(crate) struct Weather {
    /// Chance in 10,000 that an operator dies at any one of its steps.
    pub crash: i64,
    /// Per cent of writes that are lost, or their answers.
    pub lost_write: i64,
    /// Per cent of chances to fail that tasks take.
    pub failure: i64,
    /// Milliseconds between faults, at most.
    pub fault_every: Millis,
    /// When it turns calm.
    pub until: Millis,
}

/// What people know.
#[derive(Default)]
pub(crate) struct People {
    jobs_made: i64,
    /// Job UID and step: its input cannot be worked on.
    bad: BTreeSet<(String, String)>,
    /// Job UIDs whose uploads never come, at least one of them.
    pub forgetful: BTreeSet<String>,
}

/// The store's files.
pub(crate) struct Store {
    pub is_up: bool,
    files: BTreeMap<String, BTreeSet<String>>,
}

impl Store {
    pub(crate) fn new() -> Store {
        Store {
            is_up: true,
            files: BTreeMap::new(),
        }
    }

    pub(crate) fn put(&mut self, job_uid: &str, sha256: &str) {
        let files = self.files.entry(job_uid.to_owned()).or_default();
        files.insert(sha256.to_owned());
    }

    pub(crate) fn has(&self, job_uid: &str, sha256: &str) -> bool {
        self.files
            .get(job_uid)
            .is_some_and(|files| files.contains(sha256))
    }
}

impl People {
    pub(crate) fn is_bad(&self, task: &TaskId) -> bool {
        self.bad
            .contains(&(task.job_uid.clone(), task.step.clone()))
    }

    /// Whether a job has a step that nobody can do.
    pub(crate) fn has_bad_step(&self, job_uid: &str) -> bool {
        self.bad.iter().any(|(uid, _)| uid == job_uid)
    }
}

impl World {
    pub(crate) fn make_pools(&mut self) {
        let models = [vec!["x2"], vec!["x2", "x4"]];
        for (index, models) in models.into_iter().enumerate() {
            let replicas = self.chance.between(1, 2);
            let models: Vec<Value> = models
                .into_iter()
                .map(|model| {
                    json!({"name": model, "source": {"volume": {"claimName": "weights"}},
                        "files": [{"path": format!("{model}.safetensors"), "sha256": "ab".repeat(32), "bytes": 5}]})
                })
                .collect();
            let spec = json!({"device": "cpu", "replicas": replicas, "models": models,
                "access": [{"name": "all", "namespaces": {"selector": {}}}]});
            let pool = ModelPool {
                metadata: metadata(&format!("pool-{index}"), "fleet"),
                spec: serde_json::from_value(spec).expect("a pool"),
                status: None,
            };
            self.api.create_pool(pool, self.now);
        }
    }

    /// One more thing that people do.
    pub(crate) fn people_act(&mut self) {
        if !self.is_stormy() {
            return;
        }
        let wait = self.chance.between(200, 5000);
        self.after(wait, Happening::People);
        let names: Vec<String> = self.api.jobs.live.keys().cloned().collect();
        if names.is_empty() || self.chance.percent(35) {
            return self.make_job();
        }
        let name = self.chance.of(&names).clone();
        match self.chance.between(0, 11) {
            0..=1 => {
                self.note(|| format!("a person deletes job {name}"));
                let _ = self.api.delete_job(&name, None, None);
            }
            2..=3 => self.set_suspend(&name, true),
            4..=6 => self.set_suspend(&name, false),
            7 => {
                let priority = i32::try_from(self.chance.between(-5, 5)).expect("few");
                self.note(|| format!("a person sets the priority of {name}"));
                self.api.edit_job(&name, |job| job.spec.priority = priority);
            }
            8..=9 => self.scale(),
            10 => self.roll(),
            _ => self.person_deletes_pod(),
        }
    }

    fn make_job(&mut self) {
        let name = format!("job-{}", self.chance.between(0, 3));
        if self.api.jobs.live.contains_key(&name) || self.people.jobs_made >= 6 {
            return;
        }
        self.people.jobs_made += 1;
        let count = if self.chance.percent(5) {
            self.chance.between(6, 12)
        } else {
            self.chance.between(1, 5)
        };
        let digests = ["cd".repeat(32), "ef".repeat(32)];
        let mut steps = Vec::new();
        for number in 0..count {
            let input = if number == 0 || self.chance.percent(25) {
                let sha256 = self.chance.of(&digests);
                json!({"name": "video", "upload": {"sha256": sha256, "bytes": 5}})
            } else {
                let from = format!("step-{}", self.chance.between(0, number - 1));
                json!({"name": "video", "fromStep": {"name": from}})
            };
            let model = if self.chance.percent(2) {
                "unknown"
            } else {
                *self.chance.of(&["x2", "x2", "x4"])
            };
            steps.push(json!({"name": format!("step-{number}"), "model": model, "upscale": {}, "inputs": [input]}));
        }
        let spec = json!({
            "steps": steps,
            "priority": self.chance.between(-1, 1),
            "queueDeadlineSeconds": self.chance.of(&[20, 120, 600]),
            "preRunningDeadlineSeconds": self.chance.of(&[20, 60]),
            "activeDeadlineSeconds": self.chance.of(&[30, 120, 600]),
            "backoffLimit": self.chance.between(0, 3),
            "ttlSecondsAfterFinished": self.chance.of(&[40, 604_800, 604_800]),
            "suspend": self.chance.percent(10),
        });
        let namespace = *self.chance.of(&["studio", "lab"]);
        let job = AIJob {
            metadata: metadata(&name, namespace),
            spec: serde_json::from_value(spec).expect("a job"),
            status: None,
        };
        let uid = self.api.create_job(job, self.now);
        self.note(|| format!("a person makes job {namespace}/{name} ({uid}), {count} steps"));
        for number in 0..count {
            if self.chance.percent(3) {
                self.people
                    .bad
                    .insert((uid.clone(), format!("step-{number}")));
            }
        }
        for sha256 in digests {
            if self.chance.percent(6) {
                self.people.forgetful.insert(uid.clone());
                continue;
            }
            let late = self.chance.percent(30);
            let wait = self.chance.between(0, if late { 90_000 } else { 3000 });
            let job = uid.clone();
            self.after(wait, Happening::Upload { job, sha256 });
        }
    }

    fn set_suspend(&mut self, name: &str, suspend: bool) {
        let is_so = self
            .api
            .jobs
            .live
            .get(name)
            .is_some_and(|job| job.spec.suspend == suspend);
        if !is_so {
            self.note(|| format!("a person sets suspend of {name} to {suspend}"));
            self.api.edit_job(name, |job| job.spec.suspend = suspend);
            self.suspended(name);
        }
    }

    fn scale(&mut self) {
        let pool = format!("pool-{}", self.chance.between(0, 1));
        let replicas = i32::try_from(self.chance.between(0, 3)).expect("few");
        self.note(|| format!("a person scales {pool} to {replicas}"));
        self.api
            .edit_pool(&pool, |pool| pool.spec.replicas = replicas);
    }

    fn roll(&mut self) {
        let pool = format!("pool-{}", self.chance.between(0, 1));
        let value = self.chance.between(0, 2);
        self.note(|| format!("a person changes the template of {pool}"));
        let template = json!({"metadata": {"labels": {"colour": value.to_string()}}});
        self.api.edit_pool(&pool, |pool| {
            pool.spec.template = serde_json::from_value(template).expect("a template");
        });
    }

    fn any_pod(&mut self) -> Option<String> {
        let pods: Vec<String> = self
            .api
            .pods
            .live
            .values()
            .filter(|pod| phase(pod) == Some("Running"))
            .filter_map(|pod| pod.uid())
            .collect();
        (!pods.is_empty()).then(|| self.chance.of(&pods).clone())
    }

    fn person_deletes_pod(&mut self) {
        if let Some(uid) = self.any_pod() {
            self.note(|| format!("a person deletes the pod of worker {uid}"));
            self.pod_gone(&uid);
            self.end_pod(&uid);
        }
    }

    /// One more thing that goes wrong.
    pub(crate) fn fault(&mut self) {
        if !self.is_stormy() {
            return;
        }
        let wait = self.chance.between(300, self.weather.fault_every);
        self.after(wait, Happening::Fault);
        match self.chance.between(0, 19) {
            0..=3 => {
                let reason = *self.chance.of(&["OOMKilled", "Error"]);
                if let Some(uid) = self.any_pod() {
                    self.process_ends(&uid, reason);
                }
            }
            4 => {
                if let Some(uid) = self.any_pod() {
                    self.lose_node(&uid);
                }
            }
            5 => {
                if let Some(uid) = self.any_pod() {
                    self.evict(&uid);
                }
            }
            6..=9 => self.fault_on_a_stream(),
            10..=12 => {
                let index = usize::try_from(self.chance.between(0, 1)).expect("two");
                if self.operators[index].is_alive {
                    self.crash(index);
                }
            }
            13..=15 => self.overthrow(),
            16..=17 => {
                self.note(|| "the store is down".to_owned());
                self.store.is_up = false;
                let wait = self.chance.between(1000, 25_000);
                self.after(wait, Happening::StoreUp);
            }
            // A frozen watch: nothing is shown for a while.
            _ => {
                let index = usize::try_from(self.chance.between(0, 1)).expect("two");
                let until = self.now + self.chance.between(500, 12_000);
                self.note(|| format!("the watches of operator {index} freeze"));
                self.frozen[index] = until;
            }
        }
    }

    fn fault_on_a_stream(&mut self) {
        let open: Vec<u64> = self.streams.keys().copied().collect();
        if open.is_empty() {
            return;
        }
        let id = *self.chance.of(&open);
        if self.chance.percent(60) {
            self.hang_up(id);
        } else {
            self.cut(id);
        }
    }

    /// Another operator takes the lead, and the old leader does not know for a while.
    fn overthrow(&mut self) {
        let Some(old) = self.leader() else {
            return;
        };
        let new = 1 - old;
        if self.chance.percent(30) {
            return self.lapse(old);
        }
        if !self.operators[new].is_alive {
            return;
        }
        let epoch = self.operators[old].epoch().unwrap_or_default();
        self.elect(new);
        let wait = if self.chance.percent(50) {
            0
        } else {
            self.chance.between(0, 10_000)
        };
        self.after(
            wait,
            Happening::Overthrown {
                operator: old,
                epoch,
            },
        );
    }

    /// The API server answers nobody about the lease for a while.
    fn lapse(&mut self, leader: usize) {
        let (life, epoch) = (self.operators[leader].life, self.highest_epoch);
        self.end_term(leader);
        let wait = self.chance.between(1, 5000);
        self.after(
            wait,
            Happening::Regained {
                operator: leader,
                life,
                epoch,
            },
        );
    }

    /// The weather turns: what people still want is set right, and nothing goes wrong any more.
    pub(crate) fn turn_calm(&mut self) {
        self.note(|| "calm".to_owned());
        self.store.is_up = true;
        self.frozen = [0, 0];
        let jobs: Vec<String> = self.api.jobs.live.keys().cloned().collect();
        for name in jobs {
            if self.chance.percent(85) {
                self.set_suspend(&name, false);
            }
        }
        for pool in ["pool-0", "pool-1"] {
            let replicas = i32::try_from(self.chance.between(1, 2)).expect("few");
            self.api
                .edit_pool(pool, |pool| pool.spec.replicas = replicas);
        }
    }
}

fn metadata(name: &str, namespace: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        ..ObjectMeta::default()
    }
}
