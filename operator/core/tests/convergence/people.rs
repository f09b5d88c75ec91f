//! What people do: jobs, pools, uploads, and changes of mind.

use std::collections::BTreeSet;

use framewright_crds::names::TaskId;
use framewright_crds::{AIJob, ModelPool};
use kube_core::ObjectMeta;
use kube_core::ResourceExt;
use serde_json::{Value, json};

use crate::kubelet::phase;
use crate::world::{Happening, World};

/// What each pool is made to hold.
const MODELS: [&[&str]; 2] = [&["x2"], &["x2", "x4"]];

/// What people know.
#[derive(Default)]
pub(crate) struct People {
    jobs_made: i64,
    /// Job UID and step: its input cannot be worked on.
    bad: BTreeSet<(String, String)>,
    /// Job UIDs whose uploads never come, at least one of them.
    pub forgetful: BTreeSet<String>,
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
        for (index, names) in MODELS.iter().enumerate() {
            let replicas = self.chance.between(1, 2);
            let models: Vec<Value> = names.iter().map(|name| model(name)).collect();
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
        match self.chance.between(0, 15) {
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
            11..=12 => self.change_weights(),
            13..=14 => self.change_models(),
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

    pub(crate) fn set_suspend(&mut self, name: &str, suspend: bool) {
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

    /// Other weights under a model's name.
    fn change_weights(&mut self) {
        let pool = format!("pool-{}", self.chance.between(0, 1));
        let sha256 = self.chance.of(&["ab", "ba", "bb"]).repeat(32);
        self.note(|| format!("a person changes the weights of {pool} to {sha256}"));
        let which = usize::try_from(self.chance.between(0, 1)).expect("two");
        self.api.edit_pool(&pool, |pool| {
            let index = which % pool.spec.models.len();
            pool.spec.models[index].files[0].sha256 = sha256;
        });
    }

    /// A pool that holds two models holds only one of them, or both again.
    fn change_models(&mut self) {
        let holds = self.chance.percent(50);
        self.set_models("pool-1", if holds { MODELS[1] } else { MODELS[0] });
    }

    fn set_models(&mut self, pool: &str, names: &[&str]) {
        self.note(|| format!("{pool} is to hold {names:?}"));
        self.api.edit_pool(pool, |pool| {
            let models = &mut pool.spec.models;
            models.retain(|model| names.contains(&model.name.as_str()));
            for name in names {
                if models.iter().all(|held| held.name != *name) {
                    models.push(serde_json::from_value(model(name)).expect("a model"));
                }
            }
        });
    }

    /// What people still want when the weather turns is set right.
    pub(crate) fn come_to_rest(&mut self) {
        let jobs: Vec<String> = self.api.jobs.live.keys().cloned().collect();
        for name in jobs {
            if self.chance.percent(85) {
                self.set_suspend(&name, false);
            }
        }
        for (index, names) in MODELS.iter().enumerate() {
            let pool = format!("pool-{index}");
            let replicas = i32::try_from(self.chance.between(1, 2)).expect("few");
            self.set_models(&pool, names);
            self.api
                .edit_pool(&pool, |pool| pool.spec.replicas = replicas);
        }
    }

    pub(crate) fn any_pod(&mut self) -> Option<String> {
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
}

fn model(name: &str) -> Value {
    json!({"name": name, "source": {"volume": {"claimName": "weights"}},
        "files": [{"path": format!("{name}.safetensors"), "sha256": "ab".repeat(32), "bytes": 5}]})
}

fn metadata(name: &str, namespace: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        ..ObjectMeta::default()
    }
}
