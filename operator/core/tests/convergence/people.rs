//! What people do: jobs, pools, uploads, and changes of mind.

use std::collections::BTreeSet;

use framewright_core::names::ObjectName;
use framewright_crds::names::{self, ANNOTATION_RENEW_LINKS, TaskId};
use framewright_crds::{AIJob, ModelPool};
use kube_core::ObjectMeta;
use kube_core::ResourceExt;
use serde_json::{Value, json};

use crate::api::{FOREGROUND, Millis};
use crate::kubelet::phase;
use crate::operator::Cursed;
use crate::watches::UNREADABLE;
use crate::world::{Happening, World};

/// The pools that people want: where, how they are called, and what they hold.
const POOLS: [(&str, &str, &[&str]); 3] = [
    ("fleet", "pool-0", &["x2"]),
    ("fleet", "pool-1", &["x2", "x4"]),
    ("studio", "pool-0", &["x2"]),
];
/// The weights that pools are made with.
const WEIGHTS: &str = "ab";
/// Somebody's own finalizer.
const FINALIZER: &str = "somebody.example/keeps";

/// What people know.
#[derive(Default)]
pub(crate) struct People {
    jobs_made: i64,
    /// Job UID and step: its input cannot be worked on.
    bad: BTreeSet<(String, String)>,
    /// Job UIDs whose uploads never come, at least one of them.
    pub forgetful: BTreeSet<String>,
    /// Jobs and pools whose links cannot be made for a while, and all that ever were.
    pub cursed: Cursed,
    pub was_cursed: BTreeSet<String>,
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
        for (name, team) in [
            ("studio", "film"),
            ("lab", "science"),
            ("fleet", "machines"),
        ] {
            self.set_team(name, team);
        }
        for (index, (namespace, _, _)) in POOLS.iter().enumerate() {
            if *namespace == "fleet" || self.chance.percent(40) {
                self.make_pool(index);
            }
        }
    }

    fn set_team(&mut self, namespace: &str, team: &str) {
        let labels = [("team".to_owned(), team.to_owned())];
        self.api.label_namespace(namespace, labels.into());
    }

    /// Makes a pool, unless it is there.
    fn make_pool(&mut self, index: usize) {
        let (namespace, name, models) = POOLS[index];
        let key = ObjectName::new(namespace, name);
        if self.api.pools.live.contains_key(&key) {
            return;
        }
        let replicas = self.chance.between(1, 2);
        let models: Vec<Value> = models.iter().map(|name| model(name, namespace)).collect();
        let spec =
            json!({"device": "cpu", "replicas": replicas, "models": models, "access": everybody()});
        let pool = ModelPool {
            metadata: self.metadata(name, namespace),
            spec: serde_json::from_value(spec).expect("a pool"),
            status: None,
        };
        let uid = self.api.create_pool(pool, self.now);
        self.note(|| format!("a person makes pool {key} ({uid})"));
        self.upload_weights(&key, WEIGHTS);
    }

    /// Uploads the weights of a pool that waits for them.
    fn upload_weights(&mut self, pool: &ObjectName, weights: &str) {
        let Some(owner) = self.api.pools.live.get(pool).and_then(|pool| pool.uid()) else {
            return;
        };
        let wait = self.chance.between(0, 20_000);
        let sha256 = weights.repeat(32);
        self.after(wait, Happening::Upload { owner, sha256 });
    }

    /// One more thing that people do.
    pub(crate) fn people_act(&mut self) {
        if !self.is_stormy() {
            return;
        }
        let wait = self.chance.between(200, 5000);
        self.after(wait, Happening::People);
        let names: Vec<ObjectName> = self.api.jobs.live.keys().cloned().collect();
        if names.is_empty() || self.chance.percent(35) {
            return self.make_job();
        }
        let name = self.chance.of(&names).clone();
        match self.chance.between(0, 28) {
            25 => self.make_unreadable(true, &name),
            26 => {
                if let Some(pool) = self.any_pool() {
                    self.make_unreadable(false, &pool);
                }
            }
            27 => self.curse(true, &name),
            28 => {
                if let Some(pool) = self.any_pool() {
                    self.curse(false, &pool);
                }
            }
            0..=1 => self.delete_job(&name),
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
            15 => self.person_deletes_pod(),
            16..=18 => self.renew_links_of_job(&name),
            19 => self.renew_links_of_pool(),
            20 => self.change_access(),
            21 => {
                let namespace = *self.chance.of(&["studio", "lab"]);
                let team = *self.chance.of(&["film", "science"]);
                self.note(|| format!("a person gives namespace {namespace} to {team}"));
                self.set_team(namespace, team);
            }
            22 => self.delete_pool(),
            _ => {
                let index = self.chance.between(0, 2);
                self.make_pool(usize::try_from(index).expect("three"));
            }
        }
    }

    fn delete_job(&mut self, name: &ObjectName) {
        if self.chance.percent(20) {
            self.api
                .edit_job(name, |job| add_finalizer(&mut job.metadata, FOREGROUND));
            self.finalize_later(true, name, FOREGROUND, 1000);
        }
        self.note(|| format!("a person deletes job {name}"));
        let _ = self.api.delete_job(name, None, None, self.now);
        self.end_finalizer(true, name);
    }

    fn delete_pool(&mut self) {
        let Some(name) = self.any_pool() else {
            return;
        };
        if self.chance.percent(30) {
            self.api
                .edit_pool(&name, |pool| add_finalizer(&mut pool.metadata, FOREGROUND));
        }
        self.note(|| format!("a person deletes pool {name}"));
        self.api.delete_pool(&name, self.now);
        self.end_finalizer(false, &name);
        self.collect_later();
    }

    /// Whoever put a finalizer on an object that is deleted now takes it away, mostly.
    fn end_finalizer(&mut self, is_job: bool, name: &ObjectName) {
        if self.chance.percent(80) {
            self.finalize_later(is_job, name, FINALIZER, 40_000);
        }
    }

    fn finalize_later(
        &mut self,
        is_job: bool,
        name: &ObjectName,
        finalizer: &'static str,
        most: Millis,
    ) {
        let wait = self.chance.between(100, most);
        let name = name.clone();
        self.after(
            wait,
            Happening::Finalized {
                is_job,
                name,
                finalizer,
            },
        );
    }

    pub(crate) fn finalized(&mut self, is_job: bool, name: &ObjectName, finalizer: &str) {
        self.note(|| format!("finalizer {finalizer} of {name} goes"));
        if is_job {
            self.api.unfinalize_job(name, finalizer);
        } else {
            self.api.unfinalize_pool(name, finalizer);
            self.collect_later();
        }
    }

    fn renew_links_of_job(&mut self, name: &ObjectName) {
        let value = self.now.to_string();
        self.note(|| format!("a person asks for new links of job {name}"));
        self.api.edit_job(name, |job| {
            job.annotations_mut()
                .insert(ANNOTATION_RENEW_LINKS.to_owned(), value);
        });
    }

    fn renew_links_of_pool(&mut self) {
        let Some(name) = self.any_pool() else {
            return;
        };
        let value = self.now.to_string();
        self.note(|| format!("a person asks for new links of pool {name}"));
        self.api.edit_pool(&name, |pool| {
            pool.annotations_mut()
                .insert(ANNOTATION_RENEW_LINKS.to_owned(), value);
        });
    }

    fn change_access(&mut self) {
        let Some(name) = self.any_pool() else {
            return;
        };
        let access = match self.chance.between(0, 3) {
            0 => json!([]),
            1 => {
                json!([{"name": "film", "namespaces": {"selector": {"matchLabels": {"team": "film"}}}}])
            }
            2 => {
                json!([{"name": "science", "namespaces": {"selector": {"matchLabels": {"team": "science"}}}}])
            }
            _ => everybody(),
        };
        self.note(|| format!("a person lets into pool {name}: {access}"));
        self.api.edit_pool(&name, |pool| {
            pool.spec.access = serde_json::from_value(access).expect("access");
        });
    }

    /// Somebody edits an object with a newer version, whose fields operators do not know, and later puts that right.
    fn make_unreadable(&mut self, is_job: bool, name: &ObjectName) {
        self.note(|| format!("a person makes {name} unreadable"));
        self.annotate(is_job, name, UNREADABLE, Some("yes"));
        let wait = self.chance.between(500, 30_000);
        let name = name.clone();
        self.after(wait, Happening::Readable { is_job, name });
    }

    pub(crate) fn readable(&mut self, is_job: bool, name: &ObjectName) {
        self.note(|| format!("{name} can be read again"));
        self.annotate(is_job, name, UNREADABLE, None);
    }

    /// For a while no links can be made for an object. Somebody touches it then.
    fn curse(&mut self, is_job: bool, name: &ObjectName) {
        let uid = if is_job {
            self.api.jobs.live.get(name).and_then(|job| job.uid())
        } else {
            self.api.pools.live.get(name).and_then(|pool| pool.uid())
        };
        let Some(uid) = uid else {
            return;
        };
        self.note(|| format!("to decide about {name} panics from now on"));
        self.cursed().insert(uid.clone());
        self.people.was_cursed.insert(uid.clone());
        let wait = self.chance.between(500, 60_000);
        let name = name.clone();
        self.after(wait, Happening::Uncursed { is_job, name, uid });
    }

    pub(crate) fn uncursed(&mut self, is_job: bool, name: &ObjectName, uid: &str) {
        self.note(|| format!("to decide about {name} panics no more, and a person touches it"));
        self.cursed().remove(uid);
        let value = self.now.to_string();
        self.annotate(is_job, name, "somebody.example/touched", Some(&value));
    }

    pub(crate) fn cursed(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.people.cursed.lock().expect("nobody panics with it")
    }

    fn annotate(&mut self, is_job: bool, name: &ObjectName, annotation: &str, value: Option<&str>) {
        let edit = |annotations: &mut std::collections::BTreeMap<String, String>| {
            drop(match value {
                Some(value) => annotations.insert(annotation.to_owned(), value.to_owned()),
                None => annotations.remove(annotation),
            });
        };
        if is_job {
            self.api.edit_job(name, |job| edit(job.annotations_mut()));
        } else {
            self.api
                .edit_pool(name, |pool| edit(pool.annotations_mut()));
        }
    }

    fn any_pool(&mut self) -> Option<ObjectName> {
        let pools: Vec<ObjectName> = self.api.pools.live.keys().cloned().collect();
        (!pools.is_empty()).then(|| self.chance.of(&pools).clone())
    }

    fn metadata(&mut self, name: &str, namespace: &str) -> ObjectMeta {
        let is_kept = self.chance.percent(20);
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            finalizers: is_kept.then(|| vec![FINALIZER.to_owned()]),
            ..ObjectMeta::default()
        }
    }

    fn make_job(&mut self) {
        let name = format!("job-{}", self.chance.between(0, 2));
        let namespace = *self.chance.of(&["studio", "lab"]);
        let key = ObjectName::new(namespace, &name);
        if self.api.jobs.live.contains_key(&key) || self.people.jobs_made >= 6 {
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
                json!({"name": "video", "upload": {"digest": names::digest(sha256), "bytes": 5}})
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
            "startDeadlineSeconds": self.chance.of(&[20, 60]),
            "activeDeadlineSeconds": self.chance.of(&[30, 120, 600]),
            "backoffLimit": self.chance.between(0, 3),
            "ttlSecondsAfterFinished": self.chance.of(&[40, 604_800, 604_800]),
            "suspend": self.chance.percent(10),
        });
        let job = AIJob {
            metadata: self.metadata(&name, namespace),
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
            let owner = uid.clone();
            self.after(wait, Happening::Upload { owner, sha256 });
        }
    }

    pub(crate) fn set_suspend(&mut self, name: &ObjectName, suspend: bool) {
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
        let Some(pool) = self.any_pool() else {
            return;
        };
        let replicas = i32::try_from(self.chance.between(0, 3)).expect("few");
        self.note(|| format!("a person scales {pool} to {replicas}"));
        self.api
            .edit_pool(&pool, |pool| pool.spec.replicas = replicas);
    }

    fn roll(&mut self) {
        let Some(pool) = self.any_pool() else {
            return;
        };
        let value = self.chance.between(0, 2);
        self.note(|| format!("a person changes the template of {pool}"));
        let template = json!({"metadata": {"labels": {"colour": value.to_string()}}});
        self.api.edit_pool(&pool, |pool| {
            pool.spec.template = serde_json::from_value(template).expect("a template");
        });
    }

    /// Other weights under a model's name.
    fn change_weights(&mut self) {
        let Some(pool) = self.any_pool() else {
            return;
        };
        let weights = *self.chance.of(&["ab", "ba", "bb"]);
        self.note(|| format!("a person changes weights of {pool} to {weights}…"));
        let which = usize::try_from(self.chance.between(0, 1)).expect("two");
        self.api.edit_pool(&pool, |pool| {
            let index = which % pool.spec.models.len();
            pool.spec.models[index].files[0].digest = names::digest(&weights.repeat(32));
        });
        self.upload_weights(&pool, weights);
    }

    /// A pool that holds two models holds only one of them, or both again.
    fn change_models(&mut self) {
        let (namespace, name, models) = POOLS[1];
        let holds_all = self.chance.percent(50);
        let models = if holds_all { models } else { &models[..1] };
        self.set_models(&ObjectName::new(namespace, name), models);
    }

    fn set_models(&mut self, pool: &ObjectName, names: &[&str]) {
        self.note(|| format!("{pool} is to hold {names:?}"));
        let namespace = pool.namespace.clone();
        self.api.edit_pool(pool, |pool| {
            let models = &mut pool.spec.models;
            models.retain(|model| names.contains(&model.name.as_str()));
            for name in names {
                if models.iter().all(|held| held.name != *name) {
                    models.push(serde_json::from_value(model(name, &namespace)).expect("a model"));
                }
            }
        });
    }

    /// What people still want when the weather turns is set right.
    pub(crate) fn come_to_rest(&mut self) {
        let jobs: Vec<ObjectName> = self.api.jobs.live.keys().cloned().collect();
        for name in jobs {
            self.annotate(true, &name, UNREADABLE, None);
            if self.chance.percent(85) {
                self.set_suspend(&name, false);
            }
        }
        // Either everybody is let in, or those who are not let in yet become members of the team that is.
        let is_for_all = self.chance.percent(50);
        let access = if is_for_all {
            everybody()
        } else {
            only("film")
        };
        self.after(10_000, Happening::Teams);
        for (index, (namespace, name, models)) in POOLS.iter().enumerate() {
            let pool = ObjectName::new(namespace, name);
            if *namespace == "fleet" {
                self.make_pool(index);
            }
            let replicas = i32::try_from(self.chance.between(1, 2)).expect("few");
            self.annotate(false, &pool, UNREADABLE, None);
            self.set_models(&pool, models);
            self.api.edit_pool(&pool, |pool| {
                pool.spec.replicas = replicas;
                pool.spec.access = serde_json::from_value(access.clone()).expect("access");
            });
        }
    }

    pub(crate) fn join_teams(&mut self) {
        self.note(|| "all namespaces belong to the team film".to_owned());
        for namespace in ["studio", "lab"] {
            self.set_team(namespace, "film");
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

/// A fleet's weights lie on a volume; others are uploaded.
fn model(name: &str, namespace: &str) -> Value {
    let source = if namespace == "fleet" {
        json!({"volume": {"claimName": "weights"}})
    } else {
        json!({"upload": {}})
    };
    json!({"name": name, "source": source,
        "files": [{"path": format!("{name}.safetensors"), "digest": names::digest(&WEIGHTS.repeat(32)), "bytes": 5}]})
}

fn everybody() -> Value {
    json!([{"name": "all", "namespaces": {"selector": {}}}])
}

fn only(team: &str) -> Value {
    json!([{"name": team, "namespaces": {"selector": {"matchLabels": {"team": team}}}}])
}

fn add_finalizer(metadata: &mut ObjectMeta, finalizer: &str) {
    let finalizers = metadata.finalizers.get_or_insert_default();
    finalizers.push(finalizer.to_owned());
}
