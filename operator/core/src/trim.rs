//! Removes the parts of cached objects that the operator does not use. People may attach 256 KiB of annotations to each object.

use framewright_crds::names::ANNOTATION_RENEW_LINKS;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use kube_core::Resource;

/// Of any object.
pub fn trim<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
}

/// Of a job or a pool, whose labels mean nothing here, and whose annotations but for one.
pub fn trim_own<K: Resource>(object: &mut K) {
    trim(object);
    let metadata = object.meta_mut();
    metadata.labels = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.retain(|name, _| name == ANNOTATION_RENEW_LINKS);
    }
}

/// Of a worker's pod: its metadata, its status, and what of its spec says why it does not run.
pub fn trim_pod(pod: &mut Pod) {
    trim(pod);
    if let Some(spec) = pod.spec.take() {
        let init_containers = spec.init_containers.map(|containers| {
            let trimmed = containers.into_iter().map(|container| Container {
                name: container.name,
                restart_policy: container.restart_policy,
                ..Container::default()
            });
            trimmed.collect()
        });
        pod.spec = Some(PodSpec {
            init_containers,
            node_name: spec.node_name,
            scheduler_name: spec.scheduler_name,
            scheduling_gates: spec.scheduling_gates,
            readiness_gates: spec.readiness_gates,
            ..PodSpec::default()
        });
    }
}

#[cfg(test)]
mod tests {
    use framewright_crds::AIJob;
    use serde_json::json;

    use super::*;

    #[test]
    fn of_a_job_only_the_annotation_that_is_read_is_kept() {
        let mut job: AIJob = serde_json::from_value(json!({
            "metadata": {
                "name": "a", "labels": {"x": "y"}, "managedFields": [{"manager": "kubectl"}],
                "annotations": {ANNOTATION_RENEW_LINKS: "now", "kubectl.kubernetes.io/last-applied-configuration": "{}"},
                "finalizers": ["x/y"],
            },
            "spec": {"steps": []},
        }))
        .expect("is a job");
        trim_own(&mut job);
        let expected = json!({"name": "a", "annotations": {ANNOTATION_RENEW_LINKS: "now"}, "finalizers": ["x/y"]});
        assert_eq!(
            serde_json::to_value(&job.metadata).expect("is JSON"),
            expected
        );
    }

    #[test]
    fn of_a_pod_the_containers_are_not_kept_but_sidecars_are_still_known() {
        let mut pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "w-0", "labels": {"x": "y"}, "managedFields": [{"manager": "kubectl"}]},
            "spec": {
                "nodeName": "n", "schedulerName": "s",
                "schedulingGates": [{"name": "g"}], "readinessGates": [{"conditionType": "c"}],
                "initContainers": [{"name": "mesh", "restartPolicy": "Always", "image": "i", "env": [{"name": "A", "value": "b"}]}],
                "containers": [{"name": "worker", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
                "volumes": [{"name": "v"}],
            },
            "status": {"phase": "Pending"},
        }))
        .expect("is a pod");
        trim_pod(&mut pod);
        let expected = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "w-0", "labels": {"x": "y"}},
            "spec": {
                "nodeName": "n", "schedulerName": "s",
                "schedulingGates": [{"name": "g"}], "readinessGates": [{"conditionType": "c"}],
                "initContainers": [{"name": "mesh", "restartPolicy": "Always"}],
                "containers": [],
            },
            "status": {"phase": "Pending"},
        });
        assert_eq!(serde_json::to_value(&pod).expect("is JSON"), expected);
    }
}
