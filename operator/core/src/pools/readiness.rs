//! Whether a pool is ready, and if not, the one thing to say of it.

use std::collections::BTreeSet;

use framewright_crds::conditions::{Truth, ended_by, pool_reason};
use framewright_crds::modelpool::{ModelPoolStatus, ModelStatus};
use jiff::Unit;

use super::ended_pods;
use super::status::count;
use crate::pools::snapshot::{Phase, PodSnapshot, Snapshot};

/// The Ready condition: its status, its reason, its message.
pub type Verdict = (Truth, &'static str, String);

/// What a person must mend comes before what only takes time.
const RULES: [fn(&View<'_>) -> Option<Verdict>; 16] = [
    deleting,
    scaled_to_zero,
    weights_failed,
    awaiting_upload,
    pods_refused,
    requests_failing,
    device_missing,
    pod_problem,
    pipeline_missing,
    ready,
    pods_deleted,
    pod_waits,
    awaiting_workers,
    loading,
    pods_ended,
    pod_deleted,
];

/// The first rule that has something to say decides. `status` has the replicas and the models as they are now.
#[must_use]
pub fn readiness(snapshot: &Snapshot, status: &ModelPoolStatus) -> Verdict {
    let view = View { snapshot, status };
    let verdict = RULES.iter().find_map(|rule| rule(&view));
    verdict.unwrap_or_else(|| {
        let told = format!("{}; pods are being created", view.told());
        (Truth::False, pool_reason::PROGRESSING, told)
    })
}

struct View<'a> {
    snapshot: &'a Snapshot,
    status: &'a ModelPoolStatus,
}

impl View<'_> {
    fn alive(&self) -> impl Iterator<Item = &PodSnapshot> {
        self.snapshot.pods.iter().filter(|pod| pod.is_alive())
    }

    /// Workers that take tasks for all models.
    fn ready(&self) -> i32 {
        let models = &self.snapshot.spec.models;
        count(self.alive().filter(|pod| pod.is_ready(models)).count())
    }

    /// Pods whose workers say nothing.
    fn silent(&self) -> impl Iterator<Item = &PodSnapshot> {
        self.alive().filter(|pod| !is_connected(pod))
    }

    fn told(&self) -> String {
        let (ready, wanted) = (self.ready(), self.snapshot.spec.replicas);
        let some = self.status.ready_replicas.min(wanted);
        if some > ready {
            return format!(
                "{ready} of {wanted} workers take tasks for all models, {some} for some models"
            );
        }
        format!("{} of {wanted} workers take tasks", ready.min(wanted))
    }

    fn model_with(&self, reason: &'static str) -> Option<Verdict> {
        let mut models = self.status.models.iter();
        let model = models.find(|model| model.reason.as_deref() == Some(reason))?;
        Some((Truth::False, reason, self.with_others(model)))
    }

    /// What is wrong with one model, and what of the others.
    fn with_others(&self, wrong: &ModelStatus) -> String {
        let View { snapshot, status } = self;
        let message = wrong.message.clone().unwrap_or_default();
        let also = status
            .models
            .iter()
            .filter(|model| model.name != wrong.name && model.reason.is_some())
            .count();
        let good = status
            .models
            .iter()
            .filter(|model| model.reason.is_none() && model.ready_workers > 0)
            .count();
        let also = match also {
            0 => String::new(),
            _ => format!("; {also} of its other models are not ready either, see status.models"),
        };
        let good = match good {
            0 => String::new(),
            _ => format!(
                "; {} of {} workers take tasks for {good} of its models",
                status.ready_replicas.min(snapshot.spec.replicas),
                snapshot.spec.replicas,
            ),
        };
        ended_by(&message, &format!("{also}{good}"))
    }
}

fn is_connected(pod: &PodSnapshot) -> bool {
    let stream = pod.stream.as_ref();
    stream.is_some_and(|stream| stream.is_connected)
}

fn deleting(View { snapshot, .. }: &View<'_>) -> Option<Verdict> {
    let message = format!(
        "the pool is being deleted, but finalizers keep it: {}; the controllers that added them must remove them. Its workers finish their tasks and are then removed",
        snapshot.kept_by.join(", ")
    );
    (!snapshot.kept_by.is_empty()).then_some((Truth::False, pool_reason::DELETING, message))
}

fn scaled_to_zero(View { snapshot, .. }: &View<'_>) -> Option<Verdict> {
    // It is as its owner wants it.
    let message = "spec.replicas is 0".to_owned();
    (snapshot.spec.replicas == 0).then_some((Truth::True, pool_reason::SCALED_TO_ZERO, message))
}

fn pipeline_missing(View { snapshot, .. }: &View<'_>) -> Option<Verdict> {
    let streams = snapshot.pods.iter().filter_map(|pod| pod.stream.as_ref());
    let streams = streams.filter(|stream| stream.is_connected);
    let done: BTreeSet<&String> = streams.flat_map(|stream| &stream.pipelines).collect();
    let mut asked = snapshot.spec.pipelines.iter().flatten();
    let missing = asked.find(|name| !done.contains(name))?;
    let done: Vec<&str> = done.iter().map(|name| name.as_str()).collect();
    let message = format!(
        "spec.pipelines lists {missing}, but the pool's workers run only {}; correct spec.pipelines, or use a worker image that runs {missing}",
        done.join(", ")
    );
    (!done.is_empty()).then_some((Truth::False, pool_reason::PIPELINE_MISSING, message))
}

fn weights_failed(view: &View<'_>) -> Option<Verdict> {
    view.model_with(pool_reason::WEIGHTS_FAILED)
}

fn awaiting_upload(view: &View<'_>) -> Option<Verdict> {
    view.model_with(pool_reason::AWAITING_UPLOAD)
}

fn pods_refused(View { snapshot, .. }: &View<'_>) -> Option<Verdict> {
    let said = &snapshot.refused.as_ref()?.message;
    let message = format!("the API server refuses the pool's pods: {said}");
    Some((Truth::False, pool_reason::PODS_REFUSED, message))
}

/// None is known to be wrong with the pool. That requests to delete fail is told beside whatever else is told.
fn requests_failing(view: &View<'_>) -> Option<Verdict> {
    let failing = &view.snapshot.failing;
    let error = failing.list.as_ref().or(failing.create.as_ref())?;
    let told = format!("; the operator tries again; {}", view.told());
    let message = ended_by(error, &told);
    Some((Truth::False, pool_reason::REQUESTS_FAILING, message))
}

fn pods_deleted(view: &View<'_>) -> Option<Verdict> {
    let deleted = view.snapshot.deleted.as_ref()?;
    let message = format!("{}; {}", view.told(), deleted.message);
    Some((Truth::False, pool_reason::PODS_ENDED, message))
}

fn device_missing(view: &View<'_>) -> Option<Verdict> {
    let (pod, problem) = view.alive().find_map(|pod| {
        let stream = pod.stream.as_ref().filter(|stream| stream.is_connected)?;
        Some((pod, stream.device_error.as_deref()?))
    })?;
    let message = format!("worker {}: {problem}", pod.worker.name);
    Some((Truth::False, pool_reason::DEVICE_MISSING, message))
}

fn pod_problem(view: &View<'_>) -> Option<Verdict> {
    let (pod, problem) = view
        .silent()
        .find_map(|pod| Some((pod, pod.problem.as_ref()?)))?;
    let message = format!("pod {}: {}", pod.worker.name, problem.message);
    Some((Truth::False, problem.reason, message))
}

fn ready(view: &View<'_>) -> Option<Verdict> {
    let wanted = view.snapshot.spec.replicas;
    let told = match view.status.replicas.saturating_sub(wanted) {
        ..=0 => view.told(),
        surplus => format!(
            "{}; {surplus} more finish their tasks and are then removed",
            view.told()
        ),
    };
    (view.ready() >= wanted).then_some((Truth::True, pool_reason::READY, told))
}

fn pod_waits(view: &View<'_>) -> Option<Verdict> {
    let (pod, waits) = view
        .silent()
        .find_map(|pod| Some((pod, pod.waits_for.as_ref()?)))?;
    let message = format!(
        "{}; pod {}: {}",
        view.told(),
        pod.worker.name,
        waits.message
    );
    Some((Truth::False, waits.reason, message))
}

/// Of pods that somebody deletes, one that says who.
fn pod_deleted(view: &View<'_>) -> Option<Verdict> {
    let mut pods = view.snapshot.pods.iter();
    let (pod, why) = pods.find_map(|pod| {
        let why = pod.waits_for.as_ref()?;
        (pod.phase == Phase::Ending).then_some((pod, &why.message))
    })?;
    let (told, name) = (view.told(), &pod.worker.name);
    let message = format!("{told}; pod {name} {why}; the pool creates another one");
    Some((Truth::False, pool_reason::PROGRESSING, message))
}

fn awaiting_workers(view: &View<'_>) -> Option<Verdict> {
    let mut alive = view.alive();
    let is_one_silent = alive.any(|pod| pod.phase == Phase::Running && !is_connected(pod));
    let message = format!("{}; the others have not connected yet", view.told());
    is_one_silent.then_some((Truth::False, pool_reason::AWAITING_WORKERS, message))
}

fn loading(view: &View<'_>) -> Option<Verdict> {
    let models = &view.snapshot.spec.models;
    let mut alive = view.alive();
    let is_one_loading = alive.any(|pod| is_connected(pod) && !pod.is_ready(models));
    let mut models = view.status.models.iter();
    let delayed = models.find_map(|model| model.message.as_ref());
    let delayed = delayed.map_or(String::new(), |delayed| format!(": {delayed}"));
    let message = format!("{}; the others load their models{delayed}", view.told());
    is_one_loading.then_some((Truth::False, pool_reason::LOADING, message))
}

fn pods_ended(view: &View<'_>) -> Option<Verdict> {
    let snapshot = view.snapshot;
    let (pod, why) = ended_pods::newest(snapshot)?;
    let again = match ended_pods::next_try(snapshot).filter(|at| *at > snapshot.now) {
        Some(at) => {
            let at = at.round(Unit::Second).unwrap_or(at);
            format!("the next one is created at {at}")
        }
        None => "the pool creates another one".to_owned(),
    };
    let (told, name) = (view.told(), &pod.worker.name);
    let message = format!("{told}; pod {name} ended: {why}; {again}");
    Some((Truth::False, pool_reason::PODS_ENDED, message))
}

#[cfg(test)]
mod tests {
    use super::super::scaling::fixture::{NOW, observed, pod};
    use super::*;
    use crate::pools::pod_failures::Refusal;
    use crate::pools::snapshot::PodProblem;

    /// What is said of a pool of two, whose pods are in these words.
    fn check(words: &[&str], change: impl Fn(&mut Snapshot, &mut ModelPoolStatus), expected: &str) {
        let names = ["p-r2-0", "p-r2-1", "p-r2-2"];
        let pods = names.iter().zip(words);
        let pods = pods.map(|(name, words)| pod(name, "r2", words)).collect();
        let mut snapshot = observed(2, pods);
        let mut status = ModelPoolStatus {
            replicas: count(words.len()),
            ..ModelPoolStatus::default()
        };
        change(&mut snapshot, &mut status);
        let (truth, reason, message) = readiness(&snapshot, &status);
        let is_ready = [pool_reason::READY, pool_reason::SCALED_TO_ZERO].contains(&reason);
        assert_eq!(truth == Truth::True, is_ready, "{reason}: {message}");
        assert_eq!(format!("{reason}: {message}"), expected);
    }

    fn model(reason: &str, message: &str) -> ModelStatus {
        ModelStatus {
            name: "m".to_owned(),
            ready_workers: 0,
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
        }
    }

    fn waiting_for(reason: &'static str, message: &str) -> Option<PodProblem> {
        let message = message.to_owned();
        Some(PodProblem { reason, message })
    }

    #[test]
    fn each_reason_is_told_in_its_words() {
        let none = |_: &mut Snapshot, _: &mut ModelPoolStatus| {};
        check(&["", "busy"], none, "Ready: 2 of 2 workers take tasks");
        check(
            &["", "", "busy"],
            none,
            "Ready: 2 of 2 workers take tasks; 1 more finish their tasks and are then removed",
        );
        check(
            &["", "away"],
            none,
            "AwaitingWorkers: 1 of 2 workers take tasks; the others have not connected yet",
        );
        check(
            &["", "pending"],
            none,
            "Progressing: 1 of 2 workers take tasks; pods are being created",
        );
        check(
            &[],
            none,
            "Progressing: 0 of 2 workers take tasks; pods are being created",
        );
        let zero = |snapshot: &mut Snapshot, _: &mut ModelPoolStatus| snapshot.spec.replicas = 0;
        check(&["busy"], zero, "ScaledToZero: spec.replicas is 0");
        let asks = |snapshot: &mut Snapshot, _: &mut ModelPoolStatus| {
            snapshot.spec.pipelines = Some(vec!["upscale".to_owned(), "upscail".to_owned()]);
        };
        check(
            &["", ""],
            asks,
            "PipelineMissing: spec.pipelines lists upscail, but the pool's workers run only upscale; correct spec.pipelines, or use a worker image that runs upscail",
        );
        let kept = |snapshot: &mut Snapshot, _: &mut ModelPoolStatus| {
            snapshot.kept_by = vec!["x/y".to_owned(), "z".to_owned()];
        };
        check(
            &[""],
            kept,
            "Deleting: the pool is being deleted, but finalizers keep it: x/y, z; the controllers that added them must remove them. Its workers finish their tasks and are then removed",
        );
    }

    #[test]
    fn what_a_person_must_mend_comes_before_what_takes_time() {
        let failed = |_: &mut Snapshot, status: &mut ModelPoolStatus| {
            status.models = vec![
                model("AwaitingUpload", "m waits"),
                model("WeightsFailed", "m is wrong"),
            ];
        };
        check(&["", "away"], failed, "WeightsFailed: m is wrong");
        let waits = |_: &mut Snapshot, status: &mut ModelPoolStatus| {
            status.models = vec![model("AwaitingUpload", "m waits")];
        };
        check(&["", "away"], waits, "AwaitingUpload: m waits");
        let refused = |snapshot: &mut Snapshot, _: &mut ModelPoolStatus| {
            snapshot.refused = Some(Refusal::first("exceeded quota", Some(1), NOW));
        };
        check(
            &["away"],
            refused,
            "PodsRefused: the API server refuses the pool's pods: exceeded quota",
        );
        let failing = |snapshot: &mut Snapshot, _: &mut ModelPoolStatus| {
            snapshot.failing.create =
                Some("cannot create pod p-r2-1: connection closed".to_owned());
        };
        check(
            &["away"],
            failing,
            "RequestsFailing: cannot create pod p-r2-1: connection closed; the operator tries again; 0 of 2 workers take tasks",
        );
        let deleted = |snapshot: &mut Snapshot, _: &mut ModelPoolStatus| {
            snapshot.deleted = Some(Refusal::first("pods are deleted", None, NOW));
        };
        check(
            &["", "pending"],
            deleted,
            "PodsEnded: 1 of 2 workers take tasks; pods are deleted",
        );
        let no_device = |snapshot: &mut Snapshot, _: &mut ModelPoolStatus| {
            let stream = snapshot.pods[1].stream.as_mut().expect("it is connected");
            stream.device_error = Some("there is no driver".to_owned());
        };
        check(
            &["away", ""],
            no_device,
            "DeviceMissing: worker p-r2-1: there is no driver",
        );
        let has_problem = |snapshot: &mut Snapshot, _: &mut ModelPoolStatus| {
            snapshot.pods[1].problem = Some(PodProblem {
                reason: pool_reason::IMAGE_PULL_FAILED,
                message: "no such image".to_owned(),
            });
        };
        check(
            &["away", "pending"],
            has_problem,
            "ImagePullFailed: pod p-r2-1: no such image",
        );
        let gated = |snapshot: &mut Snapshot, _: &mut ModelPoolStatus| {
            snapshot.pods[0].waits_for = waiting_for(pool_reason::SCHEDULING_GATED, "has a gate");
        };
        check(
            &["pending", "away"],
            gated,
            "SchedulingGated: 0 of 2 workers take tasks; pod p-r2-0: has a gate",
        );
        let both = |snapshot: &mut Snapshot, status: &mut ModelPoolStatus| {
            gated(snapshot, status);
            has_problem(snapshot, status);
        };
        check(
            &["pending", "pending"],
            both,
            "ImagePullFailed: pod p-r2-1: no such image",
        );
        check(&["", ""], gated, "Ready: 2 of 2 workers take tasks");
        let taken = |snapshot: &mut Snapshot, _: &mut ModelPoolStatus| {
            snapshot.pods[1].waits_for =
                waiting_for(pool_reason::PROGRESSING, "is being deleted: Preempted");
        };
        check(
            &["", "ending"],
            taken,
            "Progressing: 1 of 2 workers take tasks; pod p-r2-1 is being deleted: Preempted; the pool creates another one",
        );
        // One that works is not in problem.
        check(&["", ""], has_problem, "Ready: 2 of 2 workers take tasks");
    }
}
