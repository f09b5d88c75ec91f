//! A pool in one namespace, jobs in another: only whom the pool lets in gets its work done.

use std::fs;

use anyhow::{Context, Result, ensure};
use framewright_crds::AIJob;
use framewright_crds::conditions::{job, job_reason};
use framewright_e2e::{eventually, with_namespace};
use kube::Api;

use crate::fleet::{PATIENCE, condition, with_fleet};
use crate::installation::{plugin, root};

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
