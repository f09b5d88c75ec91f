//! Who may do what: people by their roles, and jobs of one namespace with a pool of another.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use framewright_crds::AIJob;
use framewright_crds::conditions::{job, job_reason};
use framewright_e2e::{eventually, with_namespace};
use kube::Api;
use serde_json::{Value, json};

use crate::fleet::{Fleet, PATIENCE, condition, with_fleet};
use crate::installation::{measured, plugin, plugin_as, root};

#[tokio::test(flavor = "multi_thread")]
async fn who_may_edit_a_namespace_and_reach_the_store_gets_videos_and_makes_no_pool() -> Result<()>
{
    with_fleet("person", async |fleet| {
        fleet.ready_pool(1).await?;
        let kubeconfig = person(fleet).await?;
        fleet.clip("clip.mp4", 1).await?;
        let manifest = fleet.file("job.yaml");
        fs::write(&manifest, VIDEO)?;
        let (manifest, output) = (manifest.display().to_string(), fleet.file("results"));
        let submit = [
            "submit",
            &manifest,
            "--output",
            &output.display().to_string(),
        ];
        plugin_as(&kubeconfig, fleet.namespace, &submit).await?;
        ensure!(measured(&output.join("job-large.mp4")).await? == (384, 216, 48));

        for (may, what) in [
            (true, &["delete", "aijobs"][..]),
            (true, &["get", "modelpools"]),
            (false, &["create", "modelpools"]),
            (false, &["update", "aijobs", "--subresource=status"]),
        ] {
            let ask = ["auth", "can-i", "--as=system:serviceaccount:default:person"];
            let answer = fleet.kubectl(&[&ask[..], what].concat()).await;
            ensure!(answer.is_ok() == may, "{what:?}: {answer:?}");
        }
        Ok(())
    })
    .await
}

/// A kubeconfig for somebody who has role `edit` in the namespace, and whom the chart lets reach the store.
async fn person(fleet: &Fleet<'_>) -> Result<PathBuf> {
    let account = ["--namespace", "default", "create"];
    fleet
        .cluster
        .kubectl(&[&account[..], &["serviceaccount", "person"]].concat())
        .await?;
    let may_edit = ["create", "rolebinding", "person", "--clusterrole=edit"];
    fleet
        .kubectl(&[&may_edit[..], &["--serviceaccount=default:person"]].concat())
        .await?;
    let token = fleet
        .cluster
        .kubectl(&[&account[..], &["token", "person"]].concat())
        .await?;
    let view = ["config", "view", "--raw", "--minify", "--output=json"];
    let mut kubeconfig: Value = serde_json::from_str(&fleet.kubectl(&view).await?)?;
    kubeconfig["users"][0]["user"] = json!({"token": token.trim()});
    let path = fleet.file("kubeconfig");
    fs::write(&path, kubeconfig.to_string())?;
    Ok(path)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_gets_a_pool_of_another_namespace_once_the_pool_lets_its_namespace_in() -> Result<()>
{
    with_fleet("lender", async |fleet| {
        fleet.ready_pool(1).await?;
        with_namespace(fleet.cluster, "guest", async |guest: &str| {
            let manifest = fleet.file("poster.yaml");
            let image = root().join("manifests/examples/poster.png");
            let text = JOB
                .replace("FLEET", fleet.namespace)
                .replace("IMAGE", &image.display().to_string());
            fs::write(&manifest, text)?;
            let submit = ["submit", &manifest.display().to_string(), "--no-wait"];
            plugin(fleet.cluster, guest, &submit).await?;
            let jobs: Api<AIJob> = Api::namespaced(fleet.cluster.client().await?, guest);
            let state = async |wanted: &str| {
                eventually(PATIENCE, &format!("the job is {wanted}"), async || {
                    let found = jobs.get("poster").await?;
                    let state = condition(&found, job::SUCCEEDED).context("no state")?;
                    let says = format!("{}: {}", state.reason, state.message);
                    ensure!(state.reason == wanted, "{says}");
                    Ok::<_, anyhow::Error>(says)
                })
                .await
            };
            let refused = state(job_reason::NOT_ALLOWED).await?;
            println!("the job: {refused}");
            ensure!(refused.contains("access"), "{refused} tells no way out");

            let access = ACCESS.replace("GUEST", guest);
            fleet
                .kubectl(&[
                    "patch",
                    "modelpool/upscale",
                    "--type=merge",
                    "--patch",
                    &access,
                ])
                .await?;
            state(job_reason::SUCCEEDED).await?;
            Ok(())
        })
        .await
    })
    .await
}

const JOB: &str = r"
apiVersion: framewright.dev/v1alpha1
kind: AIJob
metadata: {name: poster}
spec:
  steps:
  - name: large
    model: framewright-x2
    poolRef: {namespace: FLEET, name: upscale}
    upscale: {}
    inputs: [{name: image, upload: {file: IMAGE}}]
";
const ACCESS: &str = r#"{"spec": {"access": [{"name": "guest", "namespaces": {"selector": {"matchLabels": {"kubernetes.io/metadata.name": "GUEST"}}}}]}}"#;
const VIDEO: &str = r"
apiVersion: framewright.dev/v1alpha1
kind: AIJob
metadata: {name: job}
spec:
  steps:
  - {name: large, model: framewright-x2, upscale: {}, inputs: [{name: video, upload: {file: clip.mp4}}]}
";
