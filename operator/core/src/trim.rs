//! What of an object is kept in memory: not what nobody here reads, of which people may attach 256 KiB to each object.

use framewright_crds::names::ANNOTATION_RENEW_LINKS;
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
}
