//! Weights from a claim, and verified weights kept on one.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use framewright_crds::conditions::pool_reason;
use framewright_e2e::eventually;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::Api;

use crate::fleet::{Fleet, PATIENCE, digest_of, weights, with_fleet};

#[tokio::test(flavor = "multi_thread")]
async fn weights_are_read_from_a_claim_and_kept_on_another_and_a_missing_file_is_named()
-> Result<()> {
    with_fleet("volumes", async |fleet| {
        let manifest = POOL
            .replace("DIGEST", &digest_of(&weights())?)
            .replace("BYTES", &fs::metadata(weights())?.len().to_string());
        let apply = ["--namespace", fleet.namespace, "apply", "-f", "-"];
        fleet.cluster.kubectl_with_input(&apply, &manifest).await?;
        let missing = fleet
            .pool_until("without its weights", |condition| {
                condition.reason == pool_reason::WEIGHTS_FAILED
            })
            .await?;
        println!("the pool: {}", missing.message);
        ensure!(missing.message.contains("framewright-x2.safetensors"));

        let upscalers = folder(fleet, "weights").await?.join("upscalers");
        fs::create_dir_all(&upscalers)?;
        fs::copy(weights(), upscalers.join("framewright-x2.safetensors"))?;
        // The other model of the same file comes by upload, and is kept on the claim.
        fleet.upload_weights().await?;
        fleet
            .pool_until("ready", |condition| condition.status == "True")
            .await?;
        let kept = fs::read_dir(folder(fleet, "cache").await?)?.count();
        ensure!(kept > 0, "the cache is empty");

        fleet.clip("clip.mp4", 1).await?;
        fleet.submit("job", "clip.mp4", "").await?;
        fleet.succeeded("job").await.map(drop)
    })
    .await
}

/// Where on this machine the files of a claim lie.
async fn folder(fleet: &Fleet<'_>, claim: &str) -> Result<PathBuf> {
    let client = fleet.cluster.client().await?;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), fleet.namespace);
    let volumes: Api<PersistentVolume> = Api::all(client);
    let name = eventually(PATIENCE, &format!("claim {claim} is bound"), async || {
        let spec = claims.get(claim).await?.spec.unwrap_or_default();
        spec.volume_name.context("it is not")
    })
    .await?;
    let spec = volumes.get(&name).await?.spec.context("no spec")?;
    Ok(spec.local.context("no local volume")?.path.into())
}

const POOL: &str = r#"
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: weights}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: cache}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: framewright.dev/v1alpha1
kind: ModelPool
metadata: {name: upscale}
spec:
  device: cpu
  models:
  - name: framewright-x2
    source: {volume: {claimName: weights, path: upscalers}}
    files: [{path: framewright-x2.safetensors, digest: "DIGEST", bytes: BYTES}]
  - name: uploaded
    source: {upload: {}}
    files: [{path: framewright-x2.safetensors, digest: "DIGEST", bytes: BYTES}]
  scratch: {sizeLimit: 1Gi}
  weightsCache: {claimName: cache, sizeLimit: 1Gi}
  template:
    spec:
      terminationGracePeriodSeconds: 5
      containers: [{name: worker, resources: {requests: {cpu: 100m, memory: 64Mi}, limits: {memory: 1Gi}}}]
"#;
