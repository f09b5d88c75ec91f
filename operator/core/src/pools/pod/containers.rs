//! The containers of a pod in the order in which they start, with the kubelet's status of each.

use framewright_crds::names::WORKER_CONTAINER;
use k8s_openapi::api::core::v1::{
    ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, Pod,
};

/// What a container is for. All but the worker were added by admission, such as a service mesh's injector, or by a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Runs to its end before the next container starts.
    Init,
    /// An init container with restartPolicy Always: runs as long as the pod does.
    Sidecar,
    /// Framewright's own.
    Worker,
    /// Runs beside the worker.
    Other,
    /// Added to a running pod, as `kubectl debug` does.
    Ephemeral,
}

/// One container.
#[derive(Clone, Copy, Debug)]
pub(super) struct Container<'a> {
    pub(super) role: Role,
    pub(super) status: &'a ContainerStatus,
}

/// All containers that the kubelet has a status of: first those that hold the others back, the worker before those beside it.
pub(super) fn in_order(pod: &Pod) -> Vec<Container<'_>> {
    let Some(status) = &pod.status else {
        return Vec::new();
    };
    let init = status.init_container_statuses.iter().flatten();
    let init = init.map(|status| Container {
        role: if is_sidecar(pod, &status.name) {
            Role::Sidecar
        } else {
            Role::Init
        },
        status,
    });
    let beside = status.container_statuses.iter().flatten();
    let (worker, others): (Vec<&ContainerStatus>, Vec<&ContainerStatus>) =
        beside.partition(|status| status.name == WORKER_CONTAINER);
    let of = |role: Role| move |status| Container { role, status };
    let ephemeral = status.ephemeral_container_statuses.iter().flatten();
    init.chain(worker.into_iter().map(of(Role::Worker)))
        .chain(others.into_iter().map(of(Role::Other)))
        .chain(ephemeral.map(of(Role::Ephemeral)))
        .collect()
}

/// The worker's container.
pub(super) fn worker(pod: &Pod) -> Option<&ContainerStatus> {
    let mut statuses = pod.status.as_ref()?.container_statuses.iter().flatten();
    statuses.find(|status| status.name == WORKER_CONTAINER)
}

fn is_sidecar(pod: &Pod, name: &str) -> bool {
    let spec = pod.spec.as_ref();
    let init = spec.and_then(|spec| spec.init_containers.as_ref());
    let mut init = init.into_iter().flatten();
    init.any(|container| {
        container.name == name && container.restart_policy.as_deref() == Some("Always")
    })
}

impl<'a> Container<'a> {
    /// `init container mesh-init`; the worker's is the one that needs no name.
    pub(super) fn name(&self) -> String {
        let name = &self.status.name;
        match self.role {
            Role::Init => format!("init container {name}"),
            Role::Sidecar => format!("sidecar container {name}"),
            Role::Worker | Role::Other => format!("container {name}"),
            Role::Ephemeral => format!("ephemeral container {name}"),
        }
    }

    pub(super) fn waiting(&self) -> Option<&'a ContainerStateWaiting> {
        self.status.state.as_ref()?.waiting.as_ref()
    }

    pub(super) fn running(&self) -> Option<&'a ContainerStateRunning> {
        self.status.state.as_ref()?.running.as_ref()
    }

    pub(super) fn terminated(&self) -> Option<&'a ContainerStateTerminated> {
        self.status.state.as_ref()?.terminated.as_ref()
    }

    /// How its process ended before the present one.
    pub(super) fn last_terminated(&self) -> Option<&'a ContainerStateTerminated> {
        self.status.last_state.as_ref()?.terminated.as_ref()
    }
}
