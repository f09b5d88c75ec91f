//! What a pod waits for, if that may end by itself: a scheduling gate, an init container that runs for long, a volume.

use framewright_crds::conditions::pool_reason;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

use super::containers::{Container, Role, in_order};
use super::ended::end_in_words;
use super::{condition, disruption, in_words};
use crate::pools::snapshot::{Phase, PodProblem};

/// The reason of PodScheduled while the pod has scheduling gates.
pub(super) const GATED: &str = "SchedulingGated";
/// How long a pod may take to start before the pool says what it waits for. Most pods are quicker, and each word is a write.
const USUAL_START: SignedDuration = SignedDuration::from_secs(30);

/// What the pod waits for.
pub(super) fn of(pod: &Pod, phase: Phase, now: Timestamp) -> Option<PodProblem> {
    let waits = |message: String| PodProblem {
        reason: pool_reason::PROGRESSING,
        message,
    };
    match phase {
        Phase::Ended { .. } => None,
        Phase::Ending => taken_away(pod).map(waits),
        Phase::Running | Phase::Pending => gated(pod)
            .or_else(|| disruption(pod).map(|who| waits(format!("is about to be deleted: {who}"))))
            .or_else(|| is_late(pod, now).then(|| starting(pod, phase))?.map(waits)),
    }
}

/// Conditions that somebody else must set before the pod counts as ready, and has not.
pub(super) fn unpassed_gates(pod: &Pod) -> impl Iterator<Item = &str> {
    let spec = pod.spec.as_ref();
    let gates = spec.and_then(|spec| spec.readiness_gates.as_ref());
    let gates = gates.into_iter().flatten();
    gates
        .map(|gate| gate.condition_type.as_str())
        .filter(|type_| condition(pod, type_).is_none_or(|it| it.status != "True"))
}

fn gated(pod: &Pod) -> Option<PodProblem> {
    let gates = pod.spec.as_ref()?.scheduling_gates.as_ref()?;
    let names: Vec<&str> = gates.iter().map(|gate| gate.name.as_str()).collect();
    (!names.is_empty()).then(|| PodProblem {
        reason: pool_reason::SCHEDULING_GATED,
        message: format!(
            "is not scheduled while it has scheduling gates: {}; the controller that added a gate removes it, such as a queue when it is the pod's turn",
            names.join(", ")
        ),
    })
}

/// Of a pod that somebody deletes: who takes it from its node, and why.
fn taken_away(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let lost = in_words(status.reason.as_deref(), status.message.as_deref());
    let who = disruption(pod).or(lost)?;
    Some(format!("is being deleted: {who}"))
}

fn is_late(pod: &Pod, now: Timestamp) -> bool {
    let created = pod.metadata.creation_timestamp.as_ref();
    created.is_none_or(|created| now.duration_since(created.0) >= USUAL_START)
}

/// How far the pod has come.
fn starting(pod: &Pod, phase: Phase) -> Option<String> {
    if phase == Phase::Running {
        let gates: Vec<&str> = unpassed_gates(pod).collect();
        let gates = (!gates.is_empty()).then(|| gates.join(", "))?;
        return Some(format!("its readiness gates are not passed: {gates}"));
    }
    let spec = pod.spec.as_ref()?;
    let Some(node) = spec.node_name.as_deref() else {
        let scheduler = spec.scheduler_name.as_deref();
        let scheduler = scheduler.unwrap_or("default-scheduler");
        return Some(format!(
            "scheduler {scheduler} has not reported on it; check whether this scheduler runs"
        ));
    };
    let containers = in_order(pod);
    if let Some(blocking) = containers.iter().find_map(blocking) {
        return Some(blocking);
    }
    if containers.is_empty() {
        return Some(format!(
            "node {node} has not started it; check whether its kubelet runs"
        ));
    }
    let is_prepared = condition(pod, "PodReadyToStartContainers");
    if is_prepared.is_some_and(|it| it.status == "False") {
        return Some(format!(
            "node {node} has not prepared its volumes and its network; kubectl describe pod shows the kubelet's Events (FailedMount, FailedAttachVolume, FailedCreatePodSandBox)"
        ));
    }
    let waiting = containers.iter().find(|it| it.waiting().is_some())?;
    Some(format!(
        "node {node} pulls the image of {}, or creates it",
        waiting.name()
    ))
}

/// An init container that keeps the next containers from starting.
fn blocking(container: &Container<'_>) -> Option<String> {
    let name = container.name();
    container.running()?;
    match container.role {
        Role::Init => {
            let before = container.last_terminated().map(end_in_words);
            let before = before.map_or(String::new(), |end| format!("; before, it ended: {end}"));
            Some(format!("{name} still runs{before}"))
        }
        Role::Sidecar => (container.status.started != Some(true))
            .then(|| format!("{name} runs, but its startup probe has not succeeded")),
        Role::Worker | Role::Other | Role::Ephemeral => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const CREATED: Timestamp = Timestamp::constant(1000, 0);

    fn waits(seconds: i64, phase: Phase, mut spec: Value, status: Value) -> Option<String> {
        spec["containers"] = json!([{"name": "worker"}]);
        let metadata = json!({"name": "w-0", "creationTimestamp": CREATED.to_string()});
        let pod = json!({"metadata": metadata, "spec": spec, "status": status});
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        let now = CREATED + SignedDuration::from_secs(seconds);
        of(&pod, phase, now).map(|waits| format!("{}: {}", waits.reason, waits.message))
    }

    /// Of a pod on node n1 that has been pending for a minute.
    fn check(status: Value, expected: &str) {
        let spec = || {
            json!({
                "nodeName": "n1",
                "initContainers": [{"name": "proxy", "restartPolicy": "Always"}, {"name": "mesh-init"}],
            })
        };
        let found = waits(60, Phase::Pending, spec(), status.clone());
        assert_eq!(found.as_deref(), Some(expected));
        // A start that takes no longer than usual costs no write.
        assert_eq!(waits(29, Phase::Pending, spec(), status), None);
    }

    fn container(name: &str, state: Value) -> Value {
        json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state})
    }

    #[test]
    fn scheduling_gates_are_named_at_once_until_they_are_removed() {
        let gates = |names: &[&str]| {
            let gates = names.iter().map(|name| json!({"name": name}));
            let spec = json!({"schedulingGates": gates.collect::<Vec<_>>()});
            let conditions =
                json!([{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]);
            waits(0, Phase::Pending, spec, json!({"conditions": conditions}))
        };
        let said = gates(&["kueue.x-k8s.io/admission", "example.com/b"]).expect("it waits");
        assert!(
            said.starts_with("SchedulingGated: is not scheduled while it has scheduling gates: kueue.x-k8s.io/admission, example.com/b; "),
            "{said}"
        );
        assert_eq!(gates(&[]), None);
    }

    #[test]
    fn a_pod_that_starts_slowly_says_how_far_it_has_come() {
        let running = || json!({"running": {}});
        let waiting = |reason: &str| json!({"waiting": {"reason": reason}});
        let worker = || container("worker", waiting("PodInitializing"));
        let status = json!({"initContainerStatuses": [container("mesh-init", running())], "containerStatuses": [worker()]});
        check(status, "Progressing: init container mesh-init still runs");
        let mut again = container("mesh-init", running());
        again["lastState"] = json!({"terminated": {"exitCode": 1, "reason": "Error"}});
        check(
            json!({"initContainerStatuses": [again], "containerStatuses": [worker()]}),
            "Progressing: init container mesh-init still runs; before, it ended: Error, exit code 1",
        );
        check(
            json!({"initContainerStatuses": [container("proxy", running())], "containerStatuses": [worker()]}),
            "Progressing: sidecar container proxy runs, but its startup probe has not succeeded",
        );
        check(
            json!({}),
            "Progressing: node n1 has not started it; check whether its kubelet runs",
        );
        let created = container("worker", waiting("ContainerCreating"));
        let unprepared = json!([{"type": "PodReadyToStartContainers", "status": "False"}]);
        check(
            json!({"containerStatuses": [created], "conditions": unprepared}),
            "Progressing: node n1 has not prepared its volumes and its network; kubectl describe pod shows the kubelet's Events (FailedMount, FailedAttachVolume, FailedCreatePodSandBox)",
        );
        check(
            json!({"containerStatuses": [created]}),
            "Progressing: node n1 pulls the image of container worker, or creates it",
        );
    }

    #[test]
    fn a_pod_that_no_scheduler_looks_at_names_the_scheduler() {
        let spec = json!({"schedulerName": "volcano"});
        let said = waits(60, Phase::Pending, spec, json!({})).expect("it waits");
        assert!(
            said.starts_with("Progressing: scheduler volcano "),
            "{said}"
        );
    }

    #[test]
    fn a_pod_that_is_taken_away_says_by_whom() {
        let target = json!([{
            "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "default-scheduler: preempting",
        }]);
        let status = || json!({"conditions": target});
        let words = "deleted: PreemptionByScheduler: default-scheduler: preempting";
        assert_eq!(
            waits(0, Phase::Ending, json!({}), status()),
            Some(format!("Progressing: is being {words}"))
        );
        assert_eq!(
            waits(0, Phase::Running, json!({}), status()),
            Some(format!("Progressing: is about to be {words}"))
        );
        let lost = json!({"reason": "NodeLost", "message": "Node n1 is unresponsive"});
        assert_eq!(
            waits(0, Phase::Ending, json!({}), lost),
            Some("Progressing: is being deleted: NodeLost: Node n1 is unresponsive".to_owned())
        );
        assert_eq!(waits(0, Phase::Ending, json!({}), json!({})), None);
    }

    #[test]
    fn readiness_gates_that_nobody_has_passed_are_named() {
        let spec = || json!({"readinessGates": [{"conditionType": "example.com/up"}]});
        assert_eq!(
            waits(60, Phase::Running, spec(), json!({})).as_deref(),
            Some("Progressing: its readiness gates are not passed: example.com/up")
        );
        let passed = json!({"conditions": [{"type": "example.com/up", "status": "True"}]});
        assert_eq!(waits(60, Phase::Running, spec(), passed), None);
    }
}
