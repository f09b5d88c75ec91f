//! What the chart makes: a clear sentence where a cluster lacks something, restricted pods.

use anyhow::{Result, ensure};
use framewright_e2e::with_namespace;
use serde_json::{Value, json};

use crate::{cluster, path, refusal};

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_default_class_is_told_so_before_anything_pends() -> Result<()> {
    let cluster = cluster().await?;
    let chart = path("charts/framewright");
    let install = [
        "install",
        "framewright",
        &chart,
        "--dry-run=server",
        "--take-ownership",
        "--namespace",
        "default",
    ];
    let said = refusal(cluster.helm(&install).await)?;
    ensure!(
        said.contains("this cluster has no default StorageClass"),
        "{said}"
    );
    ensure!(
        said.contains("store.persistence.storageClassName"),
        "{said}"
    );

    let other = [
        &install[..],
        &["--set", "store.persistence.existingClaim=missing"],
    ]
    .concat();
    let said = refusal(cluster.helm(&other).await)?;
    ensure!(said.contains("PersistentVolumeClaim \"missing\""), "{said}");

    let named = [
        &install[..],
        &["--set", "store.persistence.storageClassName=fast"],
    ]
    .concat();
    cluster.helm(&named).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_value_is_refused_by_its_name() -> Result<()> {
    let chart = path("charts/framewright");
    let said = refusal(
        cluster()
            .await?
            .helm(&["template", &chart, "--set", "operator.replica=1"])
            .await,
    )?;
    ensure!(said.contains("'replica' not allowed"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pod_of_the_chart_is_restricted_with_a_fixed_user_and_without() -> Result<()> {
    let cluster = cluster().await?;
    let chart = path("charts/framewright");
    let template = ["template", "framewright", &chart];
    let mut pods = Vec::new();
    for (value, ids) in [("fixedUser=true", 9), ("fixedUser=false", 0)] {
        let text = cluster
            .helm(&[&template[..], &["--set", value]].concat())
            .await?;
        let named = ["runAsUser:", "runAsGroup:", "fsGroup:"];
        let named: usize = named.iter().map(|id| text.matches(id).count()).sum();
        ensure!(named == ids, "{value}: {named} users and groups");
        let told = text.contains("--worker-fixed-user=false");
        ensure!(told == (ids == 0), "{value}: the operator is told {told}");
        let objects: Vec<Value> = serde_saphyr::from_multiple(&text)?;
        pods.extend(objects.iter().filter_map(pod));
    }
    ensure!(
        pods.len() == 6,
        "operator, store and test, twice, but there are {}",
        pods.len()
    );
    // The namespace enforces it.
    with_namespace(cluster, "restricted", async |namespace: &str| {
        for mut pod in pods {
            pod["metadata"] = json!({"generateName": "pod-", "namespace": namespace});
            let create = ["create", "--dry-run=server", "--validate=strict", "-f", "-"];
            cluster
                .kubectl_with_input(&create, &pod.to_string())
                .await?;
        }
        Ok(())
    })
    .await
}

/// The pod that a Deployment would make, or the pod itself.
fn pod(object: &Value) -> Option<Value> {
    let spec = match object["kind"].as_str()? {
        "Deployment" => &object["spec"]["template"]["spec"],
        "Pod" => &object["spec"],
        _ => return None,
    };
    Some(json!({"apiVersion": "v1", "kind": "Pod", "spec": spec}))
}
