//! What follows from the answers to requests.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "an answer that is not the one to the request is a failure, whatever it is"
)]

use std::sync::Arc;

use framewright_crds::aijob::AIJobStatus;
use framewright_crds::conditions::shortened;
use framewright_crds::deletion::goes_by_itself;
use framewright_crds::modelpool::ModelPoolStatus;
use framewright_crds::names::{LABEL_POOL, OwnerKind};
use framewright_crds::{AIJob, ModelPool};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube_core::ResourceExt;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Engine;
use super::deadlines::Cause;
use super::decide_job::{believed_until, cancel};
use super::interface::{Answer, Effect, Log, Now, Request, RequestId};
use super::term::{Open, PodCheck, PodWork};
use super::world::{Job, version};
use crate::jobs::plan::Outcome as JobOutcome;
use crate::kubernetes_events::KubernetesEvent;
use crate::names::{JobName, ObjectName, PoolName};
use crate::pools::pod_failures::{Outcome, Request as PodRequest};
use crate::workers::sessions::Orphan;

impl Engine {
    /// A request has come to an end. One of another term is not known any more.
    pub(super) fn answered(&mut self, now: Now, id: RequestId, answer: Answer) {
        let open = self
            .term
            .as_mut()
            .and_then(|term| term.requests.remove(&id));
        // The object has gone since: an answer must not bring it back.
        let is_gone = open.as_ref().is_some_and(|open| match open {
            Open::ReadJob { uid, .. }
            | Open::WriteJob { uid, .. }
            | Open::WriteOutcome { uid, .. }
            | Open::DeleteJob { uid, .. } => self.world.job_name(uid).is_none(),
            Open::ReadPool { uid, .. }
            | Open::WritePool { uid, .. }
            | Open::ListPods { uid, .. }
            | Open::Pod { uid, .. }
            | Open::PodOwner { uid, .. } => self.world.pool_name(uid).is_none(),
            Open::CheckPod { .. } | Open::Orphans { .. } => false,
        });
        match open.filter(|_| !is_gone) {
            None => {}
            Some(Open::WriteJob {
                name,
                uid,
                before,
                wanted,
            }) => self.job_written(now, (&name, &uid), (before, wanted), answer),
            Some(Open::ReadJob { name, uid, known }) => {
                self.job_was_read(now, (&name, &uid), known, answer)
            }
            Some(Open::WriteOutcome { name, uid, outcome }) => {
                self.outcome_written(now, (&name, &uid), outcome, &answer)
            }
            Some(Open::DeleteJob { name, uid, version }) => match answer {
                Answer::Done => self.job_deleted(&name, &uid, version),
                Answer::Gone => self.job_gone(&name, &uid),
                answer => self.job_unanswered(now, &name, &uid, "delete", &answer),
            },
            Some(Open::WritePool {
                name,
                uid,
                before,
                wanted,
            }) => self.pool_written(now, (&name, &uid), (before, wanted), answer),
            Some(Open::ReadPool { name, uid, known }) => {
                self.pool_was_read(now, (&name, &uid), known, answer)
            }
            Some(Open::ListPods { pool, uid }) => self.pods_listed(now, &pool, &uid, answer),
            Some(Open::Pod { pool, uid, work }) => {
                self.pod_work_done(now, &pool, &uid, work, answer)
            }
            Some(Open::PodOwner { pool, uid }) => self.pod_owner_answered(now, &pool, &uid, answer),
            Some(Open::CheckPod { worker_uid }) => self.pod_checked(now, worker_uid, &answer),
            Some(Open::Orphans { job, tasks }) => {
                self.orphan_job_answered(now, &job, tasks, &answer)
            }
        }
    }

    fn job_written(
        &mut self,
        now: Now,
        (name, uid): (&JobName, &str),
        (before, wanted): (Arc<AIJob>, Box<AIJobStatus>),
        answer: Answer,
    ) {
        let Some(term) = &mut self.term else {
            return;
        };
        let state = term.jobs.entry(uid.to_owned()).or_default();
        if may_be_written(&answer) {
            state.published.get_or_insert(before);
        }
        let written = match answer {
            Answer::Job(written) => written,
            Answer::Gone => return self.job_gone(name, uid),
            answer => return self.job_unanswered(now, name, uid, "write the status of", &answer),
        };
        state.request = None;
        state.is_confirmed = true;
        state.is_unknown = false;
        state.written_at = Some(now.wall);
        state.backoff.succeeded();
        state.fresh = None;
        state.sent = dropped(&wanted, &written.status.clone().unwrap_or_default());
        term.dirty.job(name);
        self.take_job(*written);
    }

    fn outcome_written(
        &mut self,
        now: Now,
        (name, uid): (&JobName, &str),
        outcome: JobOutcome,
        answer: &Answer,
    ) {
        if !matches!(answer, Answer::Done) {
            return self.job_unanswered(now, name, uid, "record what was used by", answer);
        }
        if let Some(term) = &mut self.term {
            let state = term.jobs.entry(uid.to_owned()).or_default();
            state.request = None;
            state.recorded = Some(outcome);
            term.dirty.job(name);
        }
    }

    /// A job was deleted in this version. The watch shows one that a finalizer keeps, before the answer or after it.
    fn job_deleted(&mut self, name: &JobName, uid: &str, deleted: u64) {
        let known = self.world.job(name).map_or(0, Job::version);
        if known <= deleted {
            // It may still be there: the answer does not say whether a finalizer keeps it.
            if self.world.remove_job(name, uid) {
                self.job_forgotten(name, uid);
            }
            return;
        }
        if let Some(term) = &mut self.term {
            let state = term.jobs.entry(uid.to_owned()).or_default();
            state.request = None;
            state.fresh = None;
            term.dirty.job(name);
        }
    }

    /// What is read is never older than what was known when it was asked for, unless the API server's state is not the one that it was.
    fn is_of_the_past(&mut self, what: &str, name: &ObjectName, read: u64, known: u64) {
        if read < known {
            let reason = format!(
                "{what} {name} was at version {known}, and the API server says that it is at version {read}: its state was restored from a backup"
            );
            self.outbox.push(Effect::Restart { reason });
        }
    }

    fn job_was_read(
        &mut self,
        now: Now,
        (name, uid): (&JobName, &str),
        known: u64,
        answer: Answer,
    ) {
        let live = match answer {
            Answer::Job(live) if live.uid().as_deref() == Some(uid) => live,
            // Another job of that name: this one is gone.
            Answer::Job(_) | Answer::Gone => return self.job_gone(name, uid),
            answer => return self.job_unanswered(now, name, uid, "read", &answer),
        };
        let Some(term) = &mut self.term else {
            return;
        };
        let state = term.jobs.entry(uid.to_owned()).or_default();
        state.request = None;
        state.is_confirmed = true;
        state.is_unknown = false;
        term.dirty.job(name);
        let job = self.take_job(*live);
        let is_finished = matches!(self.world.job(name), Some(Job::Finished(_)));
        if let Some(term) = &mut self.term {
            let state = term.jobs.entry(uid.to_owned()).or_default();
            state.published.get_or_insert_with(|| Arc::clone(&job));
            state.fresh = is_finished.then(|| Arc::clone(&job));
        }
        self.is_of_the_past("job", name, version(&*job), known);
    }

    /// A request about a job ended in a way that leaves open what the job is now: it is read after a while, before anything else.
    fn job_unanswered(&mut self, now: Now, name: &JobName, uid: &str, what: &str, answer: &Answer) {
        let Some(term) = &mut self.term else {
            return;
        };
        let state = term.jobs.entry(uid.to_owned()).or_default();
        state.request = None;
        state.is_confirmed = false;
        state.is_unknown = true;
        state.fresh = None;
        let until = state.backoff.failed(now.monotonic);
        let is_first = state.backoff.failures() == 1;
        term.deadlines.set(Cause::Job(name.clone()), until);
        if let Answer::Refused { message, .. } = answer
            && is_first
        {
            self.refused(OwnerKind::AIJobs, name, uid, message);
        }
        self.log_failure(format!("{what} job {name}"), answer);
    }

    /// Somebody must know that the API server refuses what is to be written: the object stands still.
    fn refused(&mut self, kind: OwnerKind, name: &ObjectName, uid: &str, message: &str) {
        self.outbox.push(Effect::Publish {
            kind,
            name: name.clone(),
            uid: uid.to_owned(),
            version: String::new(),
            event: KubernetesEvent {
                is_warning: true,
                reason: "StatusRefused".to_owned(),
                message: shortened(&format!(
                    "the API server refuses the operator's request about this object, which stands still until it is accepted: {message}"
                )),
                action: "Reconcile".to_owned(),
            },
        });
    }

    fn log_failure(&mut self, what: String, answer: &Answer) {
        // Somebody wrote in between, as happens.
        if !matches!(answer, Answer::Conflict) {
            let error = error_of(answer);
            self.outbox.push(Effect::Log(Log::Failed { what, error }));
        }
    }

    fn pool_written(
        &mut self,
        now: Now,
        (name, uid): (&PoolName, &str),
        (before, wanted): (Arc<ModelPool>, Box<ModelPoolStatus>),
        answer: Answer,
    ) {
        let Some(term) = &mut self.term else {
            return;
        };
        let state = term.pools.entry(uid.to_owned()).or_default();
        if may_be_written(&answer) {
            state.published.get_or_insert(before);
        }
        let written = match answer {
            Answer::Pool(written) => written,
            Answer::Gone => return self.pool_gone(name, uid),
            answer => return self.pool_unanswered(now, name, uid, "write the status of", &answer),
        };
        state.request = None;
        state.is_unknown = false;
        state.backoff.succeeded();
        state.sent = dropped(&wanted, &written.status.clone().unwrap_or_default());
        term.dirty.pool(name);
        self.take_pool(*written);
    }

    fn pool_was_read(
        &mut self,
        now: Now,
        (name, uid): (&PoolName, &str),
        known: u64,
        answer: Answer,
    ) {
        let live = match answer {
            Answer::Pool(live) if live.uid().as_deref() == Some(uid) => live,
            Answer::Pool(_) | Answer::Gone => return self.pool_gone(name, uid),
            answer => return self.pool_unanswered(now, name, uid, "read", &answer),
        };
        if let Some(term) = &mut self.term {
            let state = term.pools.entry(uid.to_owned()).or_default();
            state.request = None;
            state.is_unknown = false;
            term.dirty.pool(name);
        }
        let pool = self.take_pool(*live);
        if let Some(term) = &mut self.term {
            let state = term.pools.entry(uid.to_owned()).or_default();
            state.published.get_or_insert_with(|| Arc::clone(&pool));
        }
        self.is_of_the_past("pool", name, version(&*pool), known);
    }

    fn pool_gone(&mut self, name: &PoolName, uid: &str) {
        if self.world.delete_pool(name, uid) {
            self.pool_forgotten(name, uid);
        }
    }

    fn pool_unanswered(
        &mut self,
        now: Now,
        name: &PoolName,
        uid: &str,
        what: &str,
        answer: &Answer,
    ) {
        let Some(term) = &mut self.term else {
            return;
        };
        let state = term.pools.entry(uid.to_owned()).or_default();
        state.request = None;
        state.is_unknown = true;
        let until = state.backoff.failed(now.monotonic);
        let is_first = state.backoff.failures() == 1;
        term.deadlines.set_earlier(Cause::Pool(name.clone()), until);
        if let Answer::Refused { message, .. } = answer
            && is_first
        {
            self.refused(OwnerKind::ModelPools, name, uid, message);
        }
        self.log_failure(format!("{what} pool {name}"), answer);
    }

    fn pods_listed(&mut self, now: Now, pool: &PoolName, uid: &str, answer: Answer) {
        let Some(term) = &mut self.term else {
            return;
        };
        let state = term.pools.entry(uid.to_owned()).or_default();
        state.pod_request = None;
        match answer {
            Answer::Pods(pods) => {
                state.live = Some(pods.into_iter().map(std::sync::Arc::new).collect());
                state.is_list_new = true;
                term.failures.note(uid, PodRequest::List, Outcome::Answered);
                term.dirty.pool(pool);
            }
            answer => {
                let what = "list the pool's pods".to_owned();
                self.pod_work_failed(now, pool, uid, (PodRequest::List, what), &answer);
            }
        }
    }

    /// A request about a pod ended in a way that tells nothing: the rest waits, the pool's status does not.
    fn pod_work_failed(
        &mut self,
        now: Now,
        pool: &PoolName,
        uid: &str,
        (request, what): (PodRequest, String),
        answer: &Answer,
    ) {
        if let Some(term) = &mut self.term {
            let state = term.pools.entry(uid.to_owned()).or_default();
            state.work.clear();
            state.is_working = false;
            state.live = None;
            state.tried.clear();
            let until = state.pod_backoff.failed(now.monotonic);
            let told = format!("cannot {what}: {}", error_of(answer));
            term.failures.note(uid, request, Outcome::Failed(told));
            term.deadlines.set_earlier(Cause::Pool(pool.clone()), until);
            term.dirty.pool(pool);
        }
        self.log_failure(what, answer);
    }

    fn pod_work_done(
        &mut self,
        now: Now,
        pool: &PoolName,
        uid: &str,
        work: PodWork,
        answer: Answer,
    ) {
        let Some(term) = &mut self.term else {
            return;
        };
        let state = term.pools.entry(uid.to_owned()).or_default();
        state.pod_request = None;
        // Whatever the answer: the same is not asked for again at once.
        if !matches!(work, PodWork::Create { .. }) {
            let is_open = matches!(answer, Answer::Unanswered { .. } | Answer::Refused { .. });
            let done_for = if is_open {
                super::decide_pool::OPEN_FOR
            } else {
                super::decide_pool::DONE_FOR
            };
            let until = now.monotonic.saturating_add(done_for);
            state.done.insert(work.clone(), until);
        }
        match (work, answer) {
            (PodWork::Create { name }, Answer::Metadata(made)) => {
                state.made += 1;
                state.pod_backoff.succeeded();
                term.refusals.clear(uid);
                term.failures
                    .note(uid, PodRequest::Create, Outcome::Answered);
                let made = made.uid.unwrap_or_default();
                term.deleted.made(uid, &made, &name);
            }
            (PodWork::Create { name }, Answer::Exists) => {
                return self.ask_for_owner(pool, uid, name);
            }
            (PodWork::Create { .. }, Answer::Refused { code, message }) if refuses(code) => {
                state
                    .work
                    .retain(|work| !matches!(work, PodWork::Create { .. }));
                let spec = self
                    .world
                    .pool(pool)
                    .map(|pool| (&pool.spec, pool.metadata.generation));
                let generation = spec.and_then(|(_, generation)| generation);
                let wrong =
                    spec.and_then(|(spec, _)| crate::pools::template::quantities::wrong(spec));
                let message = wrong.unwrap_or(message);
                term.failures
                    .note(uid, PodRequest::Create, Outcome::Answered);
                term.refusals.add(uid, &message, generation, now.wall);
            }
            (PodWork::Delete(_), Answer::Done | Answer::Gone | Answer::Conflict) => {
                // Gone, or another one of that name: neither is ours to delete.
                state.pod_backoff.succeeded();
                term.failures
                    .note(uid, PodRequest::Delete, Outcome::Answered);
            }
            (PodWork::Delete(worker), Answer::Refused { code, message }) if refuses(code) => {
                let told = format!(
                    "the API server refuses to delete pod {}: {message}",
                    worker.name
                );
                term.failures
                    .note(uid, PodRequest::Delete, Outcome::Refused(told));
            }
            // A worker works without it.
            (PodWork::Protect { .. }, Answer::Done | Answer::Gone | Answer::Conflict) => {}
            (PodWork::Protect { worker, .. }, answer) => {
                self.log_failure(
                    format!("annotate pod {} for node autoscalers", worker.name),
                    &answer,
                );
            }
            (PodWork::Create { name }, answer) => {
                let what = (PodRequest::Create, format!("create pod {name}"));
                return self.pod_work_failed(now, pool, uid, what, &answer);
            }
            (PodWork::Delete(worker), answer) => {
                let what = (PodRequest::Delete, format!("delete pod {}", worker.name));
                return self.pod_work_failed(now, pool, uid, what, &answer);
            }
        }
        self.pool_goes_on(pool);
    }

    /// What is next about a pool's pods is decided with the rest.
    fn pool_goes_on(&mut self, pool: &PoolName) {
        if let Some(term) = &mut self.term {
            term.dirty.pool(pool);
        }
    }

    /// A name for a new pod is taken: by a pod of the pool's own, made by a request that came late, or by a stranger.
    fn ask_for_owner(&mut self, pool: &PoolName, uid: &str, name: String) {
        let open = Open::PodOwner {
            pool: pool.clone(),
            uid: uid.to_owned(),
        };
        let request = Request::ReadPodMetadata {
            namespace: pool.namespace.clone(),
            name,
        };
        let mut effects = std::mem::take(&mut self.outbox);
        self.request(open, request, &mut effects);
        self.outbox = effects;
    }

    fn pod_owner_answered(&mut self, now: Now, pool: &PoolName, uid: &str, answer: Answer) {
        if let Some(term) = &mut self.term {
            term.pools.entry(uid.to_owned()).or_default().pod_request = None;
        }
        match answer {
            Answer::Metadata(pod) if !is_own(&pod, &pool.name, uid) => {
                self.try_another_name(now, pool, uid)
            }
            // One of its own, made by a request that came late.
            Answer::Metadata(_) | Answer::Gone => {
                if let Some(term) = &mut self.term {
                    term.pools.entry(uid.to_owned()).or_default().made += 1;
                }
            }
            answer => {
                let what = "read a pod that has the name of one to be made".to_owned();
                let what = (PodRequest::Create, what);
                return self.pod_work_failed(now, pool, uid, what, &answer);
            }
        }
        self.pool_goes_on(pool);
    }

    fn pod_checked(&mut self, now: Now, worker_uid: String, answer: &Answer) {
        let Some(term) = &mut self.term else {
            return;
        };
        let check = match answer {
            Answer::Metadata(pod) if pod.uid.as_deref() != Some(worker_uid.as_str()) => {
                PodCheck::Gone
            }
            Answer::Gone => PodCheck::Gone,
            // An API server that cannot be asked leaves the worker its time to come back.
            Answer::Metadata(_)
            | Answer::Job(_)
            | Answer::Pool(_)
            | Answer::Pods(_)
            | Answer::Done
            | Answer::Conflict
            | Answer::Exists
            | Answer::Refused { .. }
            | Answer::Unanswered { .. } => PodCheck::There {
                until: believed_until(now),
            },
        };
        for uid in term.jobs_on(&worker_uid) {
            if let Some(name) = self.world.job_name(&uid) {
                term.dirty.job(name);
            }
        }
        term.pod_checks.insert(worker_uid, check);
    }

    fn orphan_job_answered(&mut self, now: Now, job: &str, tasks: Vec<Orphan>, answer: &Answer) {
        let Some(term) = &mut self.term else {
            return;
        };
        term.orphans.remove(job);
        let found = match answer {
            Answer::Metadata(found) => Some(found),
            Answer::Gone => None,
            answer => {
                return self.log_failure(format!("tell whether job {job} is deleted"), answer);
            }
        };
        for Orphan { task, job, worker } in tasks {
            let is_wanted = found.is_some_and(|found| {
                found.uid.as_deref() == Some(task.job_uid.as_str()) && !goes_by_itself(found)
            });
            if is_wanted {
                continue;
            }
            cancel(term, &worker, &task, now.wall);
            self.outbox.push(Effect::Log(Log::OrphanCancelled {
                job,
                task: task.to_string(),
                worker: worker.name.clone(),
            }));
        }
    }
}

/// Whether the version that was written on was the newest one, as far as can be known: what has changed since then is not published yet.
fn may_be_written(answer: &Answer) -> bool {
    matches!(
        answer,
        Answer::Job(_) | Answer::Pool(_) | Answer::Unanswered { .. }
    )
}

/// The status that was wanted and the one that the API server made of it, if that is another one. Both are compared as JSON has them:
/// a status of which nothing is dropped loses the fractions of its seconds.
fn dropped<S>(wanted: &S, made: &S) -> Option<Box<(S, S)>>
where
    S: Serialize + DeserializeOwned + Clone + PartialEq,
{
    if wanted == made {
        return None;
    }
    let json = serde_json::to_vec(wanted).ok()?;
    let wanted: S = serde_json::from_slice(&json).ok()?;
    (wanted != *made).then(|| Box::new((wanted, made.clone())))
}

/// What an answer that is no success says.
fn error_of(answer: &Answer) -> String {
    match answer {
        Answer::Refused { code, message } => {
            format!("the API server refuses it ({code}): {message}")
        }
        Answer::Unanswered { error } => error.clone(),
        Answer::Conflict => "the object has changed, or is another one of that name".to_owned(),
        Answer::Exists => "it exists already".to_owned(),
        Answer::Gone => "it is gone".to_owned(),
        Answer::Job(_) | Answer::Pool(_) | Answer::Pods(_) | Answer::Metadata(_) | Answer::Done => {
            "the answer is to another question".to_owned()
        }
    }
}

/// Whether the API server, or an admission webhook, will say the same again. 500 is what a webhook that does not answer comes to.
fn refuses(code: u16) -> bool {
    matches!(code, 400 | 403 | 422 | 500)
}

/// Whether a pod is shown as this pool's.
fn is_own(pod: &ObjectMeta, pool: &str, pool_uid: &str) -> bool {
    let label = pod
        .labels
        .as_ref()
        .and_then(|labels| labels.get(LABEL_POOL));
    let mut owners = pod.owner_references.iter().flatten();
    label.is_some_and(|label| label == pool) && owners.any(|owner| owner.uid == pool_uid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_without_the_pools_label_or_of_an_earlier_pool_is_a_stranger() {
        let pod = |label: Option<&str>, owner: &str| {
            let pod = json!({
                "labels": label.map(|name| json!({LABEL_POOL: name})),
                "ownerReferences": [{"apiVersion": "v", "kind": "k", "name": "p", "uid": owner}],
            });
            let pod = serde_json::from_value(pod).expect("is metadata");
            is_own(&pod, "p", "u")
        };
        assert!(pod(Some("p"), "u"));
        assert!(!pod(None, "u"));
        assert!(!pod(Some("p"), "earlier"));
    }
}
