//! A real ModelPool, whose pods the operator makes; no kubelet runs them, so the bench says that they run and dials in for each.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use framewright_crds::ModelPool;
use framewright_crds::conditions::{get, pool};
use framewright_crds::names::{LABEL_POOL, TOKEN_AUDIENCE, digest};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::task::JoinSet;

use super::stage::Stage;
use super::worker::{Begun, Stream, Work, Worker};
use crate::eventually;

/// The namespace of the pool.
pub(super) const FLEET: &str = "bench-fleet";
/// The model of the steps that need one.
pub(super) const MODEL: &str = "instant";
const WORKERS: usize = 16;
/// How many tasks a worker takes at a time.
pub(super) const SLOTS: u32 = 4;
const PATIENCE: Duration = Duration::from_secs(60);
/// Pods that are made ready at one time.
const AT_ONCE: usize = 32;

/// A pod of the pool, as which a worker dials in.
pub(super) struct WorkerPod {
    pub(super) name: String,
    /// The token that a kubelet would mount into it.
    pub(super) token: String,
}

/// Makes the pool and its workers; gives what they begin, and the workers, which stop when they are dropped.
pub(super) async fn gather(stage: &Stage) -> Result<(Begun, JoinSet<()>)> {
    let begun = Begun::default();
    let mut workers = JoinSet::new();
    for WorkerPod { name, token } in pods(stage, WORKERS).await? {
        let node = stage.cluster.node_address();
        // Until the operator leads, and has seen the pod, it asks to be dialled again.
        let stream = eventually(PATIENCE, "the operator lets the worker in", async || {
            Stream::dial(node, &stage.authority, &token)
                .await
                .with_context(|| name.clone())
        })
        .await?;
        let begun = Begun::clone(&begun);
        workers.spawn(async move {
            let mut worker = Worker::new(SLOTS, Work::Finish(begun));
            let Err(error) = worker.serve(stream).await;
            eprintln!("bench: worker {name} ended: {error:#}");
        });
    }
    let pools: Api<ModelPool> = Api::namespaced(stage.client.clone(), FLEET);
    eventually(PATIENCE, "the pool is ready", async || {
        let status = pools.get(MODEL).await?.status.unwrap_or_default();
        let ready = get(&status.conditions, pool::READY).context("no condition Ready")?;
        ensure!(
            ready.status == "True",
            "{}: {}",
            ready.reason,
            ready.message
        );
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    Ok((begun, workers))
}

/// Creates the pool with this many replicas, waits for its pods, and reports them as running.
pub(super) async fn pods(stage: &Stage, replicas: usize) -> Result<Vec<WorkerPod>> {
    stage.namespace(FLEET).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(stage.client.clone(), FLEET);
    eventually(PATIENCE, "the default service account exists", async || {
        accounts.get("default").await
    })
    .await?;
    let pools: Api<ModelPool> = Api::namespaced(stage.client.clone(), FLEET);
    let pods: Api<Pod> = Api::namespaced(stage.client.clone(), FLEET);
    let pool: ModelPool = serde_json::from_value(json!({
        "apiVersion": "framewright.dev/v1alpha1",
        "kind": "ModelPool",
        "metadata": {"name": MODEL},
        "spec": {
            "device": "cpu",
            "replicas": replicas,
            "models": [{
                "name": MODEL,
                "source": {"volume": {"claimName": "weights"}},
                "files": [{"path": "instant.safetensors", "digest": digest(&"0".repeat(64)), "bytes": 1}],
            }],
            "access": [{"name": "all", "namespaces": {"selector": {}}}],
        },
    }))?;
    pools.create(&PostParams::default(), &pool).await?;
    let labelled = ListParams::default().labels(LABEL_POOL);
    let deadline = PATIENCE + Duration::from_millis(200) * u32::try_from(replicas)?;
    let made = eventually(deadline, "the pool has its pods", async || {
        let made = pods.list(&labelled).await?.items;
        ensure!(made.len() == replicas, "there are {} pods", made.len());
        Ok(made)
    })
    .await?;
    let address = stage.cluster.machine_address();
    stream::iter(made)
        .map(async |pod| {
            let name = pod.name_any();
            run(&pods, &name, address).await?;
            let token = token(&accounts, &pod).await?;
            Ok(WorkerPod { name, token })
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// Says what a kubelet would say of a running pod, whose address is the one that the bench dials from.
async fn run(pods: &Api<Pod>, name: &str, address: Ipv4Addr) -> Result<()> {
    let now = k8s_openapi::jiff::Timestamp::now().to_string();
    let status = json!({"status": {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{
            "name": "worker", "image": "bench", "imageID": "", "ready": true, "restartCount": 0,
            "state": {"running": {"startedAt": now}},
        }],
    }});
    pods.patch_status(name, &PatchParams::default(), &Patch::Merge(status))
        .await
        .map(drop)
        .with_context(|| format!("pod {name} runs"))
}

/// The token that a kubelet would mount into the pod.
async fn token(accounts: &Api<ServiceAccount>, pod: &Pod) -> Result<String> {
    let spec = TokenRequestSpec {
        audiences: vec![TOKEN_AUDIENCE.to_owned()],
        bound_object_ref: Some(BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(pod.name_any()),
            uid: pod.uid(),
        }),
        expiration_seconds: None,
    };
    let asked = TokenRequest {
        spec,
        ..TokenRequest::default()
    };
    let answer = accounts
        .create_token_request("default", &PostParams::default(), &asked)
        .await?;
    Ok(answer.status.context("no token came")?.token)
}
