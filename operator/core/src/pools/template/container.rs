//! The one container of a worker pod: its image, environment, mounts, probes and restrictions.

use std::collections::BTreeMap;

use framewright_crds::ModelPool;
use framewright_crds::modelpool::{Device, WorkerContainer};
use framewright_crds::names::{
    HEALTH_PATH, HEALTH_PORT, READY_PATH, STREAM_PATH, VOLUMES_FOLDER, WORKER_CONTAINER, env,
};
use framewright_crds::quantity;
use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EnvVar, HTTPGetAction, Probe, ResourceRequirements,
    SecurityContext, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::volumes::{cache_limit, claims, scratch_limit};
use super::{CACHE_FOLDER, SCRATCH_FOLDER, Settings, TOKEN_FOLDER, threads};

pub(super) fn worker(pool: &ModelPool, settings: &Settings, given: WorkerContainer) -> Container {
    let folder = |name: &str, path: &str| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        ..VolumeMount::default()
    };
    let read_only = |name: String, path: String| VolumeMount {
        name,
        mount_path: path,
        read_only: Some(true),
        ..VolumeMount::default()
    };
    let mut mounts = vec![
        folder("weights", CACHE_FOLDER),
        folder("scratch", SCRATCH_FOLDER),
        read_only("token".to_owned(), TOKEN_FOLDER.to_owned()),
    ];
    for (index, claim) in claims(pool).iter().enumerate() {
        mounts.push(read_only(
            format!("volume-{index}"),
            format!("{VOLUMES_FOLDER}/{claim}"),
        ));
    }
    let image = match pool.spec.device {
        Device::Cpu => &settings.image,
        Device::Cuda => &settings.image_cuda,
    };
    Container {
        name: WORKER_CONTAINER.to_owned(),
        image: Some(given.image.unwrap_or_else(|| image.clone())),
        image_pull_policy: Some(settings.image_pull_policy.clone()),
        args: Some(vec!["serve".to_owned()]),
        env: Some(environment(pool, settings, given.resources.as_ref())),
        ports: Some(vec![ContainerPort {
            name: Some("health".to_owned()),
            container_port: i32::from(HEALTH_PORT),
            ..ContainerPort::default()
        }]),
        resources: Some(given.resources.unwrap_or_else(default_resources)),
        liveness_probe: Some(probe(HEALTH_PATH, 10, 6)),
        readiness_probe: Some(probe(READY_PATH, 5, 3)),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                add: None,
            }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

fn environment(
    pool: &ModelPool,
    settings: &Settings,
    resources: Option<&ResourceRequirements>,
) -> Vec<EnvVar> {
    let set = |name: &str, value: String| EnvVar {
        name: name.to_owned(),
        value: Some(value),
        value_from: None,
    };
    let mut environment = vec![
        set(
            env::OPERATOR,
            format!("wss://{}{STREAM_PATH}", settings.operator),
        ),
        set(env::CA, settings.authority.clone()),
        set(env::TOKEN_FILE, format!("{TOKEN_FOLDER}/token")),
        set(env::DEVICE, pool.spec.device.to_string()),
        set(env::WEIGHTS, CACHE_FOLDER.to_owned()),
        set(env::WEIGHTS_LIMIT, bytes(&cache_limit(pool))),
        set(env::SCRATCH, SCRATCH_FOLDER.to_owned()),
        set(env::SCRATCH_LIMIT, bytes(&scratch_limit(pool))),
        set(env::LOG, settings.log.clone()),
        // The scratch volume is the one place that can be written to.
        set("TMPDIR", SCRATCH_FOLDER.to_owned()),
    ];
    if pool.spec.device == Device::Cuda {
        // The driver compiles the kernels for its GPU at their first use, and keeps them for the pod's next process. Not beside
        // the weights, which have digests: a volume there is shared by workers, and none may compute with what another compiled.
        environment.push(set("CUDA_CACHE_PATH", format!("{SCRATCH_FOLDER}/cuda")));
    }
    environment.extend(threads::setting(resources));
    environment
}

/// As a worker reads it. What the API admits is a quantity.
fn bytes(limit: &Quantity) -> String {
    quantity::bytes(&limit.0).unwrap_or_default().to_string()
}

fn default_resources() -> ResourceRequirements {
    let requests = [("cpu", "250m"), ("memory", "512Mi")];
    let requests = requests.map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned())));
    ResourceRequirements {
        requests: Some(BTreeMap::from(requests)),
        ..ResourceRequirements::default()
    }
}

fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(i32::from(HEALTH_PORT)),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(5),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}
