//! What pods get on the node: a network with names, volumes, GPUs.

use anyhow::{Result, ensure};
use framewright_e2e::images::pack;
use framewright_e2e::tools::{Part, Tools};
use framewright_e2e::{Cluster, Options, with_namespace};

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_runs_on_the_node_and_finds_services_by_name() -> Result<()> {
    let tools = Tools::install(&[Part::Node]).await?;
    let image = pack::program(tools.path("kubectl")?, "framewright.local/kubectl:1").await?;
    let cluster = Cluster::start(
        "fw-harness-node",
        Options {
            images: vec![image],
            ..Options::default()
        },
    )
    .await?;
    with_namespace(&cluster, "pod", async |namespace: &str| {
        let pod = POD.replace("ARGUMENTS", r#"["version"]"#);
        cluster
            .kubectl_with_input(&["--namespace", namespace, "apply", "-f", "-"], &pod)
            .await?;
        cluster
            .kubectl(&[
                "--namespace",
                namespace,
                "wait",
                "--for=jsonpath={.status.phase}=Succeeded",
                "pod/probe",
                "--timeout=60s",
            ])
            .await?;
        let said = cluster
            .kubectl(&["--namespace", namespace, "logs", "probe"])
            .await?;
        ensure!(said.contains("Server Version"), "it said {said}");
        Ok(())
    })
    .await?;
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_gets_a_folder_that_a_pod_without_root_can_write_to_twice_over() -> Result<()> {
    let tools = Tools::install(&[Part::Node]).await?;
    let image = pack::program(tools.path("kubectl")?, "framewright.local/kubectl:1").await?;
    let cluster = Cluster::start(
        "fw-harness-claim",
        Options {
            images: vec![image],
            ..Options::default()
        },
    )
    .await?;
    // More claims than there are volumes: those of the first round must come back.
    for _ in 0..2 {
        with_namespace(&cluster, "claim", async |namespace: &str| {
            for number in 0..6 {
                let pod = POD
                    .replace("ARGUMENTS", r#"["--kubeconfig=/data/config", "config", "set-cluster", "proof", "--server=https://a"]"#)
                    .replace("emptyDir: {}", &format!("persistentVolumeClaim: {{claimName: claim-{number}}}"))
                    .replace("name: probe", &format!("name: probe-{number}"));
                let claim = CLAIM.replace("name: claim", &format!("name: claim-{number}"));
                cluster.kubectl_with_input(&["--namespace", namespace, "apply", "-f", "-"], &format!("{claim}---{pod}")).await?;
            }
            cluster.kubectl(&["--namespace", namespace, "wait", "--for=jsonpath={.status.phase}=Succeeded", "pod", "--all", "--timeout=90s"]).await.map(drop)
        })
        .await?;
    }
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn gpus_are_offered_as_many_as_are_asked_for_and_the_number_can_change() -> Result<()> {
    let cluster = Cluster::start("fw-harness-gpu", Options::default()).await?;
    for count in [2, 1] {
        cluster.offer_gpus(count).await?;
    }
    cluster.stop().await
}

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: probe}
spec:
  restartPolicy: Never
  securityContext: {runAsNonRoot: true, runAsUser: 65532, runAsGroup: 65532, fsGroup: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: probe
    image: framewright.local/kubectl:1
    imagePullPolicy: Never
    args: ARGUMENTS
    # The server by its name instead of its address.
    env: [{name: KUBERNETES_SERVICE_HOST, value: kubernetes.default.svc.cluster.local}]
    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, emptyDir: {}}]
"#;

const CLAIM: &str = r"
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: claim}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
";
