//! What must hold for each write of a job's status.

use super::*;

impl World {
    // Writes.

    /// A job's status has become durable.
    pub(crate) fn durable(&mut self, index: usize, life: u64, before: &AIJob, after: &AIJob) {
        self.ledger.writes += 1;
        let uid = after.uid().unwrap_or_default();
        let name = after.name_any();
        let epoch = self.operators[index]
            .epoch()
            .filter(|_| self.operators[index].life == life)
            .unwrap_or(0);
        self.ledger.writer.insert(uid, (epoch, self.now));
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
        for step in &new.steps {
            let known = old.steps.iter().find(|known| known.name == step.name);
            self.step_written(after, known, step);
        }
        if is_finished(&new) && !is_finished(&old) {
            self.job_over(after, &new);
        }
    }

    pub(super) fn step_written(&mut self, job: &AIJob, old: Option<&StepStatus>, new: &StepStatus) {
        let uid = job.uid().unwrap_or_default();
        let name = format!("step {} of {}", new.name, job.name_any());
        let made = old.map_or(0, |old| old.attempts_made);
        if let Some(old) = old.filter(|old| old.state.is_terminal())
            && (old.state, &old.output, old.attempts_made, old.failures)
                != (new.state, &new.output, new.attempts_made, new.failures)
        {
            return self
                .blame(|| format!("{name} was {:?}, and is now {:?}", old.state, new.state));
        }
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
            self.step_bound(job, &uid, &name, old, new);
        }
        if new.state == StepState::Succeeded && old.is_none_or(|old| old.state != new.state) {
            self.step_succeeded(&uid, &name, new);
        }
    }

    pub(super) fn step_bound(
        &mut self,
        job: &AIJob,
        uid: &str,
        name: &str,
        old: Option<&StepStatus>,
        new: &StepStatus,
    ) {
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
        let pod = open.pod_uid.clone();
        if let Some(other) = self.ledger.bound.insert(task.clone(), pod.clone())
            && other != pod
        {
            self.blame(|| format!("{task} was bound to {other}, and now to {pod}"));
        }
    }

    pub(super) fn step_succeeded(&mut self, uid: &str, name: &str, step: &StepStatus) {
        let Some(output) = &step.output else {
            return self.blame(|| format!("{name} succeeded without an output"));
        };
        let sha256 = output.sha256();
        let last = step.attempts.last();
        let expected = last.map(|last| {
            let task = attempt::task_id(uid, &step.name, last.number);
            (task, last.pod_uid.clone())
        });
        if self.ledger.outputs.get(sha256) != expected.as_ref() {
            let maker = self.ledger.outputs.get(sha256).cloned();
            self.blame(|| {
                format!("{name} takes an output of {maker:?}, but {expected:?} is bound")
            });
        }
        if !self.store.has(uid, sha256) {
            self.blame(|| format!("{name} takes an output that is not in the store"));
        }
    }

    /// A job that fails has a reason that the world confirms.
    pub(super) fn job_over(&mut self, over: &AIJob, status: &AIJobStatus) {
        let name = over.name_any();
        let uid = over.uid().unwrap_or_default();
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
            (job_reason::BACKOFF_LIMIT_EXCEEDED, Some(step)) => {
                step.failures == over.spec.backoff_limit + 1
            }
            (job_reason::QUEUE_DEADLINE_EXCEEDED, Some(step)) => {
                let limit = over.spec.queue_deadline_seconds;
                let created = over.metadata.creation_timestamp.as_ref().map(|time| time.0);
                let since = step.queued_at.as_ref().map(|time| time.0).or(created);
                since.is_some_and(|since| at(self.now).duration_since(since).as_secs() >= limit)
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
        .any(|open| open.number == task.attempt && open.pod_uid == pod)
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
            format!(" #{} {}{end}", last.number, last.pod_uid)
        });
        format!("{} {:?}{}", step.name, step.state, last.unwrap_or_default())
    });
    format!("[{}]", steps.collect::<Vec<_>>().join(", "))
}
