//! What a pool's worker pods look like. No I/O: the pool and the operator's settings in, a pod and its revision out.

mod container;
pub mod quantities;
mod threads;
mod volumes;

use framewright_crds::ModelPool;
use framewright_crds::modelpool::VolumeSource;
use framewright_crds::names::{LABEL_POOL, LABEL_REVISION, VOLUMES_FOLDER};
use k8s_openapi::api::core::v1::{Pod, PodSecurityContext, PodSpec, SeccompProfile};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube_core::Resource;
use ring::digest;

use container::worker;
use volumes::volumes;

/// User and group of all of Framewright's containers.
const USER: i64 = 65532;
const CACHE_FOLDER: &str = "/var/cache/framewright";
const SCRATCH_FOLDER: &str = "/var/lib/framewright/scratch";
const TOKEN_FOLDER: &str = "/var/run/secrets/framewright.dev";

/// What the operator knows and the pool does not say.
#[derive(Clone, Debug)]
pub struct Settings {
    pub image: String,
    /// Instead of `image`, for pools that compute on GPUs.
    pub image_cuda: String,
    pub image_pull_policy: String,
    /// Host and port of the operator's stream.
    pub operator: String,
    /// PEM of the authority that signed the operator's and the store's certificates.
    pub authority: String,
    pub log: String,
    /// Whether pods say as which user and group they run. Where they do not, the namespace gives them one, as on OpenShift.
    pub fixed_user: bool,
}

/// A pod without a name.
#[derive(Clone, Debug)]
pub struct Template {
    pub pod: Pod,
    /// Ten hexadecimal digits that change whenever the pod would.
    pub revision: String,
}

impl Template {
    /// The pod of that name.
    #[must_use]
    pub fn named(&self, name: &str) -> Pod {
        let mut pod = self.pod.clone();
        pod.metadata.name = Some(name.to_owned());
        pod
    }
}

/// Builds the template of a pool.
#[must_use]
pub fn build(pool: &ModelPool, settings: &Settings) -> Template {
    let mut pod = Pod {
        metadata: metadata(pool),
        spec: Some(spec(pool, settings)),
        status: None,
    };
    let text = serde_json::to_vec(&pod).unwrap_or_default();
    let revision: String = hex::encode(digest::digest(&digest::SHA256, &text))
        .chars()
        .take(10)
        .collect();
    pod.metadata
        .labels
        .get_or_insert_default()
        .insert(LABEL_REVISION.to_owned(), revision.clone());
    Template { pod, revision }
}

/// Where a worker finds a volume source's file.
#[must_use]
pub fn file_on_volume(source: &VolumeSource, path: &str) -> String {
    let folder = format!("{VOLUMES_FOLDER}/{}", source.claim_name);
    match source.path.as_deref() {
        Some(inner) => format!("{folder}/{}/{path}", inner.trim_matches('/')),
        None => format!("{folder}/{path}"),
    }
}

fn metadata(pool: &ModelPool) -> ObjectMeta {
    let given = pool
        .spec
        .template
        .as_ref()
        .and_then(|template| template.metadata.clone())
        .unwrap_or_default();
    let mut labels = given.labels;
    for (key, value) in [
        ("app.kubernetes.io/name", "framewright"),
        ("app.kubernetes.io/component", "worker"),
        ("app.kubernetes.io/managed-by", "framewright-operator"),
        (
            LABEL_POOL,
            pool.metadata.name.as_deref().unwrap_or_default(),
        ),
    ] {
        labels.insert(key.to_owned(), value.to_owned());
    }
    ObjectMeta {
        namespace: pool.metadata.namespace.clone(),
        labels: Some(labels),
        annotations: (!given.annotations.is_empty()).then_some(given.annotations),
        owner_references: pool.controller_owner_ref(&()).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

fn spec(pool: &ModelPool, settings: &Settings) -> PodSpec {
    let given = pool
        .spec
        .template
        .as_ref()
        .and_then(|template| template.spec.clone())
        .unwrap_or_default();
    let container = given
        .containers
        .unwrap_or_default()
        .into_iter()
        .next()
        .unwrap_or_default();
    PodSpec {
        runtime_class_name: given.runtime_class_name,
        node_selector: given.node_selector,
        tolerations: given.tolerations,
        affinity: given.affinity,
        priority_class_name: given.priority_class_name,
        scheduler_name: given.scheduler_name,
        image_pull_secrets: given.image_pull_secrets,
        termination_grace_period_seconds: Some(
            given.termination_grace_period_seconds.unwrap_or(60),
        ),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        restart_policy: Some("Always".to_owned()),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: settings.fixed_user.then_some(USER),
            run_as_group: settings.fixed_user.then_some(USER),
            fs_group: settings.fixed_user.then_some(USER),
            fs_group_change_policy: Some("OnRootMismatch".to_owned()),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        }),
        volumes: Some(volumes(pool)),
        containers: vec![worker(pool, settings, container)],
        ..PodSpec::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use framewright_crds::names::env;
    use k8s_openapi::api::core::v1::Container;

    fn settings() -> Settings {
        Settings {
            image: "worker:1".into(),
            image_cuda: "worker-cuda:1".into(),
            image_pull_policy: "IfNotPresent".into(),
            operator: "operator:9443".into(),
            authority: "PEM".into(),
            log: "info".into(),
            fixed_user: true,
        }
    }

    fn pool(device: &str, container: &str) -> serde_json::Value {
        serde_json::json!({
            "apiVersion": "framewright.dev/v1alpha1",
            "kind": "ModelPool",
            "metadata": {"name": "pool", "namespace": "fleet", "uid": "1"},
            "spec": {
                "device": device,
                "replicas": 1,
                "models": [],
                "template": {"spec": {"containers": [serde_json::from_str::<serde_json::Value>(container).unwrap()]}},
            },
        })
    }

    fn worker_of(device: &str, container: &str) -> Container {
        worker_in(pool(device, container))
    }

    fn worker_in(pool: serde_json::Value) -> Container {
        let pool: ModelPool = serde_json::from_value(pool).unwrap();
        let spec = build(&pool, &settings()).pod.spec.unwrap();
        spec.containers.into_iter().next().unwrap()
    }

    #[test]
    fn a_pool_for_gpus_gets_the_image_for_gpus_unless_it_names_one() {
        for (device, container, image) in [
            ("cpu", r#"{"name": "worker"}"#, "worker:1"),
            ("cuda", r#"{"name": "worker"}"#, "worker-cuda:1"),
            ("cuda", r#"{"name": "worker", "image": "mine:2"}"#, "mine:2"),
        ] {
            assert_eq!(worker_of(device, container).image.as_deref(), Some(image));
        }
    }

    #[test]
    fn without_a_fixed_user_a_pod_names_no_user_and_no_group_and_is_restricted_all_the_same() {
        let pool: ModelPool = serde_json::from_value(pool("cpu", r#"{"name": "worker"}"#)).unwrap();
        let context = |fixed_user| {
            let settings = Settings {
                fixed_user,
                ..settings()
            };
            let Template { pod, revision } = build(&pool, &settings);
            let pod = pod.spec.unwrap().security_context.unwrap();
            (pod, revision)
        };
        let (fixed, revision) = context(true);
        let ids = [fixed.run_as_user, fixed.run_as_group, fixed.fs_group];
        assert_eq!(ids, [Some(USER); 3]);
        let (given, other_revision) = context(false);
        let ids = [given.run_as_user, given.run_as_group, given.fs_group];
        assert_eq!(ids, [None; 3]);
        let rest = PodSecurityContext {
            run_as_user: None,
            run_as_group: None,
            fs_group: None,
            ..fixed
        };
        assert_eq!(given, rest);
        assert_eq!(given.run_as_non_root, Some(true));
        assert_ne!(revision, other_revision);
    }

    #[test]
    fn a_worker_is_told_each_limit_in_bytes_whatever_unit_the_pool_writes() {
        for (given, told) in [
            (serde_json::json!({}), ["21474836480", "10737418240"]),
            (
                serde_json::json!({"weightsCache": {"sizeLimit": "1Pi"}, "scratch": {"sizeLimit": "1E"}}),
                ["1125899906842624", "1000000000000000000"],
            ),
            (
                serde_json::json!({"weightsCache": {"sizeLimit": "5u"}, "scratch": {"sizeLimit": 7}}),
                ["1", "7"],
            ),
        ] {
            let mut pool = pool("cpu", r#"{"name": "worker"}"#);
            for (field, value) in given.as_object().unwrap() {
                pool["spec"][field] = value.clone();
            }
            let set = worker_in(pool).env.unwrap();
            for (name, told) in [env::WEIGHTS_LIMIT, env::SCRATCH_LIMIT]
                .into_iter()
                .zip(told)
            {
                let variable = set.iter().find(|variable| variable.name == name).unwrap();
                assert_eq!(variable.value.as_deref(), Some(told), "{given}");
            }
        }
    }

    #[test]
    fn compiled_kernels_are_kept_where_the_worker_may_write_and_no_other_does() {
        let volume = |device| {
            let container = worker_of(device, r#"{"name": "worker"}"#);
            let variables = container.env.unwrap();
            let kept = variables
                .into_iter()
                .find(|variable| variable.name == "CUDA_CACHE_PATH")?;
            let mounts = container.volume_mounts.unwrap();
            let folder = kept.value.unwrap();
            let mount = mounts
                .iter()
                .find(|mount| folder.starts_with(&mount.mount_path) && mount.read_only.is_none())?;
            Some(mount.name.clone())
        };
        assert_eq!(volume("cpu"), None);
        assert_eq!(volume("cuda").as_deref(), Some("scratch"));
    }
}
