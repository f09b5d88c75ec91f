//! A namespace for each test, and what to keep of one that failed.

use std::fs;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::FutureExt;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;

use crate::cluster::{Cluster, Mode};
use crate::eventually;

const PATIENCE: Duration = Duration::from_secs(90);

/// Runs a test in a fresh namespace that enforces the restricted Pod Security standard, and deletes
/// it afterwards. If the test fails or panics, first writes the logs of all pods, all objects and
/// the events into a folder, and names it on stderr. The folder lies in `$FRAMEWRIGHT_FAILURES`, else in
/// the system's folder for temporary files.
///
/// # Errors
/// The test's own; else, if the namespace could not be made or did not go away.
pub async fn with_namespace<T>(
    cluster: &Cluster,
    test: &str,
    body: impl AsyncFnOnce(&str) -> Result<T>,
) -> Result<T> {
    let namespace = create(cluster).await?;
    let result = AssertUnwindSafe(body(&namespace)).catch_unwind().await;
    if !matches!(result, Ok(Ok(_))) {
        match keep(cluster, test, &namespace).await {
            Ok(folder) => eprintln!("{test} failed in {namespace}: see {}", folder.display()),
            Err(error) => eprintln!(
                "{test} failed in {namespace}, and nothing of it could be kept: {error:#}"
            ),
        }
    }
    let deleted = delete(cluster, &namespace).await;
    let value = result.unwrap_or_else(|panic| resume_unwind(panic))?;
    deleted.map(|()| value)
}

async fn create(cluster: &Cluster) -> Result<String> {
    let client = cluster.client().await?;
    let namespace: Namespace = serde_json::from_value(json!({
        "metadata": {"generateName": "test-", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    }))
    .context("write the namespace")?;
    let created = Api::all(client.clone())
        .create(&PostParams::default(), &namespace)
        .await
        .context("create a namespace")?;
    let name = created.metadata.name.context("the namespace has no name")?;
    if cluster.mode() == Mode::Node {
        let accounts = Api::<ServiceAccount>::namespaced(client, &name);
        eventually(
            PATIENCE,
            "the namespace has its service account",
            async || accounts.get("default").await,
        )
        .await?;
    }
    Ok(name)
}

async fn delete(cluster: &Cluster, name: &str) -> Result<()> {
    let namespaces = Api::<Namespace>::all(cluster.client().await?);
    namespaces
        .delete(name, &DeleteParams::default())
        .await
        .with_context(|| format!("delete {name}"))?;
    if cluster.mode() == Mode::ControlPlane {
        return Ok(());
    }
    eventually(
        PATIENCE,
        "the namespace is gone",
        async || match namespaces.get_opt(name).await? {
            None => Ok(()),
            Some(namespace) => {
                let conditions = namespace
                    .status
                    .and_then(|status| status.conditions)
                    .unwrap_or_default();
                let reasons: Vec<String> = conditions
                    .into_iter()
                    .filter(|condition| condition.status == "True")
                    .filter_map(|condition| condition.message)
                    .collect();
                bail!("it is there: {}", reasons.join("; "))
            }
        },
    )
    .await?;
    cluster.recycle_volumes().await
}

/// Writes down what is left in the namespace. Secrets are not.
async fn keep(cluster: &Cluster, test: &str, namespace: &str) -> Result<PathBuf> {
    let parent = std::env::var_os("FRAMEWRIGHT_FAILURES").map_or_else(
        || std::env::temp_dir().join("framewright-failures"),
        PathBuf::from,
    );
    let folder = parent.join(format!("{test}-{namespace}"));
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let ask = async |arguments: &[&str]| {
        let arguments = [&["--namespace", namespace], arguments].concat();
        cluster
            .kubectl(&arguments)
            .await
            .unwrap_or_else(|error| format!("{error:#}\n"))
    };
    let write = |file: &str, text: &str| {
        fs::write(folder.join(file), text).with_context(|| format!("write {file}"))
    };
    let kinds = ask(&[
        "api-resources",
        "--namespaced",
        "--verbs=list",
        "--output=name",
    ])
    .await;
    let kinds: Vec<&str> = kinds
        .lines()
        .filter(|kind| *kind != "secrets" && !kind.starts_with("events"))
        .collect();
    write(
        "objects.yaml",
        &ask(&["get", &kinds.join(","), "--output=yaml"]).await,
    )?;
    write(
        "events.txt",
        &ask(&["get", "events", "--sort-by=.lastTimestamp"]).await,
    )?;
    write("pods.txt", &ask(&["describe", "pods"]).await)?;
    for pod in ask(&["get", "pods", "--output=name"]).await.lines() {
        let name = pod.trim_start_matches("pod/");
        write(
            &format!("{name}.log"),
            &ask(&["logs", name, "--all-containers", "--prefix"]).await,
        )?;
        let previous = ask(&["logs", name, "--all-containers", "--prefix", "--previous"]).await;
        write(&format!("{name}.previous.log"), &previous)?;
    }
    Ok(folder)
}
