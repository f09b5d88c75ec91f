//! The configuration files that containerd, its network, the kubelet, the proxy and the audit log read. Pure but for the writing.

use anyhow::Result;
use serde_json::{Value, json};

use super::components::{NODE, PODS};
use super::folder::Folder;
use super::network::Network;
use crate::images::PAUSE;

/// Where containerd listens, inside the cluster.
pub(crate) const CONTAINERD: &str = "/run/containerd/containerd.sock";

pub(crate) fn write(folder: &Folder, network: Network) -> Result<()> {
    folder.write("containerd.toml".as_ref(), &containerd(folder))?;
    folder.write("cni/10-pods.conflist".as_ref(), &pretty(&pod_network()))?;
    folder.write("kubelet.json".as_ref(), &pretty(&kubelet(folder, network)))?;
    folder.write("proxy.json".as_ref(), &pretty(&proxy(folder)))?;
    Ok(())
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// Version 2 is what containerd 1.6 reads and what 2.x still accepts.
fn containerd(folder: &Folder) -> String {
    format!(
        r#"version = 2
root = "{root}"
state = "/run/containerd"
oom_score = 0
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "{CONTAINERD}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  enable_tls_streaming = false
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{cni}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"#,
        root = folder.file("containerd").display(),
        cni = folder.file("cni").display(),
    )
}

/// Each pod on a link of its own: traffic between two pods passes the node's rules, so that
/// Services work whether or not the kernel filters bridges.
fn pod_network() -> Value {
    json!({
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [{
            "type": "ptp",
            "ipMasq": true,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": "10.244.0.0/24"}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }],
    })
}

fn kubelet(folder: &Folder, network: Network) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": network.node(),
        "readOnlyPort": 0,
        "healthzBindAddress": "127.0.0.1",
        "containerRuntimeEndpoint": format!("unix://{CONTAINERD}"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", folder.cgroup()),
        "failCgroupV1": false,
        "failSwapOn": false,
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": folder.pki("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": folder.pki("kubelet.crt"),
        "tlsPrivateKeyFile": folder.pki("kubelet.key"),
        "clusterDomain": "cluster.local",
        "clusterDNS": ["10.96.0.10"],
        "resolvConf": "",
        "makeIPTablesUtilChains": false,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "volumePluginDir": folder.file("volume-plugins"),
        "nodeStatusUpdateFrequency": "2s",
        "nodeLeaseDurationSeconds": 4,
        "serializeImagePulls": false,
        "kubeAPIQPS": 200,
        "kubeAPIBurst": 400,
    })
}

fn proxy(folder: &Folder) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clientConnection": {"kubeconfig": folder.kubeconfig("proxy")},
        "hostnameOverride": NODE,
        "clusterCIDR": PODS,
        // Zeros: leave the machine's settings of connection tracking alone.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
    })
}

/// Every write is recorded, with its body unless that could hold a secret; of the reads, who and what.
pub(crate) fn write_audit_policy(folder: &Folder) -> Result<()> {
    let writes = ["create", "update", "patch", "delete", "deletecollection"];
    let policy = json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "RequestResponse", "verbs": writes, "resources": [
                {"group": "framewright.dev"},
                {"group": "bench.framewright.dev"},
                {"group": "", "resources": ["pods", "pods/status", "services", "persistentvolumeclaims"]},
                {"group": "apps"},
                {"group": "batch"},
                {"group": "coordination.k8s.io"},
            ]},
            {"level": "Metadata", "verbs": writes},
            {"level": "None", "users": ["system:apiserver", "system:kube-scheduler", "system:kube-proxy", "system:kube-controller-manager"]},
            {"level": "None", "userGroups": ["system:nodes"]},
            {"level": "Metadata"},
        ],
    });
    folder.write("audit-policy.json".as_ref(), &pretty(&policy))
}
