//! What must hold for each write of a job's status.

use framewright_core::links::STATUS_LINK_LIFE;
use framewright_core::links::{is_renewal_due, renewal};
use framewright_crds::aijob::FileStatus;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use kube_core::Resource;
use serde::Serialize;

use super::*;
use crate::api::{name_of, whole};
use crate::requests::Sender;

impl World {
    // Writes.

    /// A job's status has become durable.
    pub(crate) fn durable(
        &mut self,
        sender: Sender,
        wanted: &AIJob,
        before: &AIJob,
        after: &AIJob,
    ) {
        self.ledger.writes += 1;
        let Sender {
            operator: index,
            epoch,
            sent_at,
            wall,
            ..
        } = sender;
        let uid = after.uid().unwrap_or_default();
        let name = name_of(after);
        let writer = (epoch, sent_at, self.now);
        self.ledger.writer.insert(uid, writer);
        self.is_no_repetition(sender, wanted, before, after);
        let (old, new) = (
            before.status.clone().unwrap_or_default(),
            after.status.clone().unwrap_or_default(),
        );
        let version = after.resource_version().unwrap_or_default();
        self.note(|| {
            format!(
                "durable by operator {index}: {name} is {} (version {version})",
                words(&new)
            )
        });
        if weight(&new) > STATUS_LIMIT {
            self.blame(|| format!("the status of {name} weighs {} bytes", weight(&new)));
        }
        if is_finished(&old) && story_of(&old) != story_of(&new) {
            self.blame(|| {
                format!(
                    "job {name} was over ({}), and is now {}",
                    story_of(&old),
                    story_of(&new)
                )
            });
        }
        let asked = renewal(before.annotations());
        if is_finished(&old) && !is_renewal_due(asked.as_deref(), old.links_renewed_for.as_deref())
        {
            self.blame(|| {
                format!("job {name} is over, and is written though nobody asks for links")
            });
        }
        if old.links_renewed_for != new.links_renewed_for && new.links_renewed_for.is_some() {
            let outputs = new.outputs.iter();
            let outputs = outputs.map(|output| (&output.link, &output.expires_at));
            // Nothing is uploaded for a job that is over.
            let files = if is_finished(&new) {
                &[][..]
            } else {
                &new.files
            };
            self.links_are_new(&name, wall, outputs.chain(links(files)));
        }
        for step in &new.steps {
            let known = old.steps.iter().find(|known| known.name == step.name);
            self.step_written(after, sent_at, known, step);
        }
        if is_finished(&new) && !is_finished(&old) {
            self.ledger
                .finished_at
                .insert(after.uid().unwrap_or_default(), sent_at);
            let ended_by = (index, sender.life, epoch);
            self.ledger
                .ended_by
                .insert(after.uid().unwrap_or_default(), ended_by);
            self.job_over(index, after, &new);
        }
    }

    /// Nobody writes what is there already, nor again what the API server has made something else of.
    pub(super) fn is_no_repetition<K: Resource + Serialize>(
        &mut self,
        sender: Sender,
        wanted: &K,
        before: &K,
        after: &K,
    ) {
        if sender.is_copy {
            return;
        }
        let name = name_of(after);
        let is_same = before.resource_version() == after.resource_version();
        // A new leader cannot know what is dropped until it has written once.
        if is_same && self.api.prunes.is_none() {
            return self.blame(|| format!("{name} is written, and nothing changes"));
        }
        let status = serde_json::to_value(wanted).expect("an object is JSON")["status"].take();
        let writing = (sender.operator, after.uid().unwrap_or_default());
        let last = self.ledger.last_written.get(&writing);
        let is_repeated = last.is_some_and(|(epoch, version, last)| {
            *epoch == sender.epoch && *version == before.resource_version() && *last == status
        });
        if is_repeated {
            self.blame(|| format!("{name} is written again and again"));
        }
        let written = (sender.epoch, after.resource_version(), status);
        self.ledger.last_written.remove(&writing);
        let term = self.operators[sender.operator].term;
        let is_of_term =
            term.is_some_and(|term| term.epoch == sender.epoch && term.since <= at(sender.sent_at));
        // The answer to a write that was on its way when a list lacked the object is an answer about an object that is gone.
        let lacked_at = self.ledger.lacked_at.get(&writing);
        let is_known = lacked_at.is_none_or(|lacked_at| *lacked_at < sender.sent_at);
        if sender.is_answered && is_of_term && is_known {
            self.ledger.last_written.insert(writing, written);
        }
    }

    /// Links that were asked for are new ones, and work for as long as new ones do.
    pub(super) fn links_are_new<'a>(
        &mut self,
        name: &ObjectName,
        sent_at: Timestamp,
        mut links: impl Iterator<Item = (&'a Option<String>, &'a Option<Time>)>,
    ) {
        let expires = whole(sent_at) + STATUS_LINK_LIFE;
        let end = format!("@{}", expires.as_second());
        let old = links.find(|(link, expires_at)| {
            let has_end = link.as_ref().is_some_and(|link| link.ends_with(&end));
            !has_end || expires_at.as_ref().is_none_or(|at| at.0 != expires)
        });
        if let Some((link, _)) = old {
            self.blame(|| format!("{name} has new links, but one is {link:?}, not {end}"));
        }
    }

    pub(super) fn step_written(
        &mut self,
        job: &AIJob,
        sent_at: Millis,
        old: Option<&StepStatus>,
        new: &StepStatus,
    ) {
        let uid = job.uid().unwrap_or_default();
        let name = format!("step {} of {}", new.name, name_of(job));
        let made = old.map_or(0, |old| old.attempts_made);
        if let Some(old) = old.filter(|old| old.state.is_terminal())
            && (old.state, &old.outputs, old.attempts_made, old.failures)
                != (new.state, &new.outputs, new.attempts_made, new.failures)
        {
            return self
                .blame(|| format!("{name} was {:?}, and is now {:?}", old.state, new.state));
        }
        self.step_waits(&uid, sent_at, old, new);
        let failures = old.map_or(0, |old| old.failures);
        if new.attempts_made < made || new.failures < failures || new.failures > new.attempts_made {
            return self.blame(|| {
                format!(
                    "{name} had {made} attempts and {failures} failures, and now {} and {}",
                    new.attempts_made, new.failures
                )
            });
        }
        if new.attempts_made > made {
            self.step_bound(job, sent_at, &name, old, new);
        }
        if new.state == StepState::Succeeded && old.is_none_or(|old| old.state != new.state) {
            self.step_succeeded(&uid, &name, new);
        }
    }

    /// Notes since when a step waits. A time that was set back with the clock is the same time.
    fn step_waits(
        &mut self,
        uid: &str,
        sent_at: Millis,
        old: Option<&StepStatus>,
        new: &StepStatus,
    ) {
        let key = (uid.to_owned(), new.name.clone());
        let time = |step: &StepStatus| step.queued_at.as_ref().map(|at| at.0);
        match (old.and_then(time), time(new)) {
            (_, None) => drop(self.ledger.queued_at.remove(&key)),
            (Some(old), Some(new)) if new <= old => {}
            (_, Some(_)) => drop(self.ledger.queued_at.insert(key, sent_at)),
        }
    }

    /// A job is deleted when it is past its time.
    pub(crate) fn past_its_time(&mut self, sender: Sender, name: &ObjectName) {
        let Some(job) = self.api.jobs.live.get(name).cloned() else {
            return;
        };
        let uid = job.uid().unwrap_or_default();
        let Some(&over) = self.ledger.finished_at.get(&uid) else {
            return self.blame(|| format!("job {name} is not over, and deleted by an operator"));
        };
        let limit = job.spec.ttl_seconds_after_finished;
        if !self.is_late(sender.operator, over, limit) {
            self.blame(|| format!("job {name} is deleted before its time"));
        }
    }

    pub(super) fn step_bound(
        &mut self,
        job: &AIJob,
        sent_at: Millis,
        name: &str,
        old: Option<&StepStatus>,
        new: &StepStatus,
    ) {
        let uid = &job.uid().unwrap_or_default();
        let Some(open) = attempt::open(new).filter(|open| open.number == new.attempts_made) else {
            return self.blame(|| format!("{name}: a new attempt that is not open"));
        };
        if job.spec.suspend {
            self.blame(|| format!("{name} is bound while its job is suspended"));
        }
        if let Some(before) = old.and_then(attempt::open) {
            let number = before.number;
            let is_closed = new
                .attempts
                .iter()
                .any(|other| other.number == number && other.finished_at.is_some());
            if !is_closed {
                self.blame(|| format!("{name}: attempt {number} is open beside a newer one"));
            }
        }
        let task = attempt::task_id(uid, &new.name, open.number);
        self.ledger.bound_at.insert(task.clone(), sent_at);
        let pod = open.worker.uid.clone();
        if let Some(other) = self.ledger.bound.insert(task.clone(), pod.clone())
            && other != pod
        {
            self.blame(|| format!("{task} was bound to {other}, and now to {pod}"));
        }
    }

    pub(super) fn step_succeeded(&mut self, uid: &str, name: &str, step: &StepStatus) {
        let [output] = step.outputs.as_slice() else {
            return self.blame(|| format!("{name} succeeded with {:?}", step.outputs));
        };
        let last = step.attempts.last();
        let expected = last.map(|last| {
            let task = attempt::task_id(uid, &step.name, last.number);
            (task, last.worker.uid.clone())
        });
        if self.ledger.outputs.get(&output.digest) != expected.as_ref() {
            let maker = self.ledger.outputs.get(&output.digest).cloned();
            self.blame(|| {
                format!("{name} takes an output of {maker:?}, but {expected:?} is bound")
            });
        }
        if !self.store.has(uid, output.sha256()) {
            self.blame(|| format!("{name} takes an output that is not in the store"));
        }
    }

    /// A job that fails has a reason that the world confirms.
    pub(super) fn job_over(&mut self, index: usize, over: &AIJob, status: &AIJobStatus) {
        let name = name_of(over);
        let uid = over.uid().unwrap_or_default();
        if !self.ledger.recorded.contains(&uid) {
            self.blame(|| format!("{name} is over, and what it has used is not recorded"));
        }
        let told = get(&status.conditions, job::SUCCEEDED).cloned();
        let Some(told) = told.filter(|told| told.status == "False") else {
            let all = status
                .steps
                .iter()
                .all(|step| step.state == StepState::Succeeded);
            if !all || status.steps.len() != over.spec.steps.len() {
                self.blame(|| format!("{name} succeeded, but: {}", words(status)));
            }
            return;
        };
        let failed = status
            .steps
            .iter()
            .find(|step| step.state == StepState::Failed);
        let is_founded = match (told.reason.as_str(), failed) {
            (job_reason::INVALID_INPUT, Some(_)) => self.people.has_bad_step(&uid),
            (job_reason::DELETED, None) => over.metadata.deletion_timestamp.is_some(),
            (job_reason::BACKOFF_LIMIT_EXCEEDED, Some(step)) => {
                step.failures == over.spec.backoff_limit + 1
            }
            (job_reason::QUEUE_DEADLINE_EXCEEDED, Some(step)) => {
                let limit = over.spec.queue_deadline_seconds;
                let key = (uid, step.name.clone());
                let since = self.ledger.queued_at.get(&key);
                since.is_some_and(|since| self.is_late(index, *since, limit))
            }
            _ => false,
        };
        if !is_founded {
            self.blame(|| {
                format!(
                    "{name} failed with {}: {}, but: {}",
                    told.reason,
                    told.message,
                    words(status)
                )
            });
        }
    }
}

/// Whether the status says that this attempt is open on this pod.
pub(super) fn is_bound(job: &AIJob, task: &TaskId, pod: &str) -> bool {
    let steps = job.status.iter().flat_map(|status| &status.steps);
    steps
        .filter(|step| step.name == task.step && !step.state.is_terminal())
        .filter_map(attempt::open)
        .any(|open| open.number == task.attempt && open.worker.uid == pod)
}

/// What a terminal job must keep.
pub(super) fn story_of(status: &AIJobStatus) -> String {
    let told = |type_| {
        let condition = get(&status.conditions, type_);
        condition.map(|condition| (condition.status.clone(), condition.reason.clone()))
    };
    format!(
        "{:?} {:?} {:?}",
        told(job::SUCCEEDED),
        told(job::FINISHED),
        status.finished_at
    )
}

/// A status in short.
pub(super) fn words(status: &AIJobStatus) -> String {
    let steps = status.steps.iter().map(|step| {
        let last = step.attempts.last().map(|last| {
            let end = match (&last.finished_at, last.cause) {
                (None, _) if last.started_at.is_some() => " started".to_owned(),
                (None, _) => String::new(),
                (Some(_), None) => " done".to_owned(),
                (Some(_), Some(cause)) => format!(" {cause:?}"),
            };
            format!(" #{} {}{end}", last.number, last.worker.uid)
        });
        format!("{} {:?}{}", step.name, step.state, last.unwrap_or_default())
    });
    format!("[{}]", steps.collect::<Vec<_>>().join(", "))
}

/// The links of the files that have not come, where there is one.
pub(super) fn links(
    files: &[FileStatus],
) -> impl Iterator<Item = (&Option<String>, &Option<Time>)> {
    let files = files.iter().filter(|file| file.link.is_some());
    files.map(|file| (&file.link, &file.expires_at))
}
