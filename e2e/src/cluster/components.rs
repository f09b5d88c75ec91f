//! The command line of each part of Kubernetes. Pure.

use super::folder::Folder;
use super::network::Network;
use super::{Component, Mode};

pub(crate) const NODE: &str = "node1";
pub(crate) const PODS: &str = "10.244.0.0/16";
pub(crate) const SERVICES: &str = "10.96.0.0/16";

/// The arguments of a component.
pub(crate) fn arguments(
    component: Component,
    folder: &Folder,
    network: Network,
    mode: Mode,
) -> Vec<String> {
    let pki = |file: &str| folder.pki(file).display().to_string();
    let file = |path: &str| folder.file(path).display().to_string();
    let kubeconfig = |user: &str| folder.kubeconfig(user).display().to_string();
    let node = network.node();
    match component {
        Component::Etcd => flags(&[
            ("data-dir", file("etcd")),
            ("listen-client-urls", "http://127.0.0.1:2379".into()),
            ("advertise-client-urls", "http://127.0.0.1:2379".into()),
            ("listen-peer-urls", "http://127.0.0.1:2380".into()),
            (
                "initial-advertise-peer-urls",
                "http://127.0.0.1:2380".into(),
            ),
            ("initial-cluster", "default=http://127.0.0.1:2380".into()),
            ("unsafe-no-fsync", "true".into()),
        ]),
        Component::ApiServer => {
            let mut arguments = flags(&[
                ("etcd-servers", "http://127.0.0.1:2379".into()),
                ("bind-address", "0.0.0.0".into()),
                ("advertise-address", node.to_string()),
                ("secure-port", "6443".into()),
                ("tls-cert-file", pki("apiserver.crt")),
                ("tls-private-key-file", pki("apiserver.key")),
                ("client-ca-file", pki("ca.crt")),
                (
                    "service-account-issuer",
                    "https://kubernetes.default.svc".into(),
                ),
                ("service-account-key-file", pki("service-accounts.pub")),
                (
                    "service-account-signing-key-file",
                    pki("service-accounts.key"),
                ),
                ("service-cluster-ip-range", SERVICES.into()),
                ("authorization-mode", "Node,RBAC".into()),
                ("enable-admission-plugins", "NodeRestriction".into()),
                ("allow-privileged", "true".into()),
                (
                    "kubelet-client-certificate",
                    pki("apiserver-to-kubelet.crt"),
                ),
                ("kubelet-client-key", pki("apiserver-to-kubelet.key")),
                ("kubelet-certificate-authority", pki("ca.crt")),
                ("kubelet-preferred-address-types", "InternalIP".into()),
                ("requestheader-client-ca-file", pki("front-proxy-ca.crt")),
                ("requestheader-allowed-names", "front-proxy-client".into()),
                ("requestheader-username-headers", "X-Remote-User".into()),
                ("requestheader-group-headers", "X-Remote-Group".into()),
                (
                    "requestheader-extra-headers-prefix",
                    "X-Remote-Extra-".into(),
                ),
                ("proxy-client-cert-file", pki("front-proxy.crt")),
                ("proxy-client-key-file", pki("front-proxy.key")),
                ("audit-policy-file", file("audit-policy.json")),
                ("audit-log-path", file("audit.log")),
                ("max-requests-inflight", "800".into()),
                ("max-mutating-requests-inflight", "400".into()),
            ]);
            if mode == Mode::ControlPlane {
                // Without a controller-manager no namespace ever gets its default service account.
                arguments.push("--disable-admission-plugins=ServiceAccount".into());
            }
            arguments
        }
        Component::ControllerManager => {
            let mut arguments = flags(&[
                ("kubeconfig", kubeconfig("controller-manager")),
                (
                    "authentication-kubeconfig",
                    kubeconfig("controller-manager"),
                ),
                ("authorization-kubeconfig", kubeconfig("controller-manager")),
                ("bind-address", "127.0.0.1".into()),
                ("use-service-account-credentials", "true".into()),
                (
                    "service-account-private-key-file",
                    pki("service-accounts.key"),
                ),
                ("root-ca-file", pki("ca.crt")),
                ("client-ca-file", pki("ca.crt")),
                ("cluster-signing-cert-file", pki("ca.crt")),
                ("cluster-signing-key-file", pki("ca.key")),
                ("service-cluster-ip-range", SERVICES.into()),
                ("leader-elect", "false".into()),
                ("node-monitor-period", "1s".into()),
                ("node-monitor-grace-period", "8s".into()),
                ("kube-api-qps", "200".into()),
                ("kube-api-burst", "400".into()),
            ]);
            if mode == Mode::Controllers {
                arguments.extend(flags(&[
                    ("kube-api-qps", "1000".into()),
                    ("kube-api-burst", "2000".into()),
                    ("concurrent-job-syncs", "32".into()),
                ]));
            }
            arguments
        }
        Component::Scheduler => flags(&[
            ("kubeconfig", kubeconfig("scheduler")),
            ("authentication-kubeconfig", kubeconfig("scheduler")),
            ("authorization-kubeconfig", kubeconfig("scheduler")),
            ("bind-address", "127.0.0.1".into()),
            ("leader-elect", "false".into()),
            ("kube-api-qps", "200".into()),
            ("kube-api-burst", "400".into()),
        ]),
        Component::Containerd => vec!["--config".into(), file("containerd.toml")],
        Component::Kubelet => flags(&[
            ("kubeconfig", kubeconfig(NODE)),
            ("config", file("kubelet.json")),
            ("hostname-override", NODE.into()),
            ("node-ip", node.to_string()),
        ]),
        Component::Proxy => flags(&[("config", file("proxy.json"))]),
    }
}

fn flags(pairs: &[(&str, String)]) -> Vec<String> {
    pairs
        .iter()
        .map(|(name, value)| format!("--{name}={value}"))
        .collect()
}
