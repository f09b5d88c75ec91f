//! What admission does to a pool's pods: gates, containers that it adds, refusals. The pool says it in the words of who did it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use framewright_crds::conditions::pool_reason;
use framewright_e2e::eventually;
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::fleet::{Fleet, PATIENCE, sha256, weights, with_fleet};

/// How soon pods are there when nothing refuses them any more.
const AFTER_A_REFUSAL: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_names_the_gate_and_the_container_that_admission_adds_and_goes_on_without_them()
-> Result<()> {
    with_fleet("gated", async |fleet| {
        let policy = policy(fleet.namespace).to_string();
        let apply = ["apply", "-f", "-"];
        fleet.cluster.kubectl_with_input(&apply, &policy).await?;
        let named = named_and_left_behind(fleet).await;
        remove_policy(fleet).await?;
        named?;
        let pod = fleet.only_pod().await?.name_any();
        fleet.kubectl(&["delete", "pod", &pod]).await?;
        fleet
            .pool_until("ready", |condition| condition.status == "True")
            .await
            .map(drop)
    })
    .await
}

async fn named_and_left_behind(fleet: &Fleet<'_>) -> Result<()> {
    eventually(PATIENCE, "the policy is in force", async || {
        ensure!(is_in_force(fleet).await?, "no gate");
        Ok(())
    })
    .await?;
    apply_pool(fleet).await?;
    let gated = fleet
        .pool_until("gated", |condition| {
            condition.reason == pool_reason::SCHEDULING_GATED
        })
        .await?;
    println!("the pool: {}", gated.message);
    ensure!(gated.message.contains(GATE), "{}", gated.message);

    let pod = fleet.only_pod().await?.name_any();
    let open = r#"[{"op": "remove", "path": "/spec/schedulingGates"}]"#;
    let open = ["patch", "pod", &pod, "--type=json", "--patch", open];
    fleet.kubectl(&open).await?;
    let failed = fleet
        .pool_until("without an image", |condition| {
            condition.reason == pool_reason::IMAGE_PULL_FAILED
        })
        .await?;
    println!("the pool: {}", failed.message);
    let words = format!("init container mesh-init: image {IMAGE}: ");
    ensure!(failed.message.contains(&words), "{}", failed.message);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_pool_has_the_api_server_s_words_each_time_and_its_pods_within_a_minute_after()
-> Result<()> {
    with_fleet("refused", async |fleet| {
        let quota = ["create", "quota", "none", "--hard=pods=0"];
        fleet.kubectl(&quota).await?;
        apply_pool(fleet).await?;
        refused(fleet, "exceeded quota: none").await?;

        let limits = json!([{"type": "Container", "max": {"memory": "300Mi"}}]);
        let limits = json!({
            "apiVersion": "v1", "kind": "LimitRange",
            "metadata": {"name": "small"}, "spec": {"limits": limits},
        });
        let apply = ["--namespace", fleet.namespace, "apply", "-f", "-"];
        let text = limits.to_string();
        fleet.cluster.kubectl_with_input(&apply, &text).await?;
        fleet.kubectl(&["delete", "quota", "none"]).await?;
        refused(fleet, "maximum memory usage per Container is 300Mi").await?;
        has_events(fleet).await?;

        fleet.kubectl(&["delete", "limitrange", "small"]).await?;
        let lifted = Instant::now();
        fleet
            .pool_until("ready", |condition| condition.status == "True")
            .await?;
        let took = lifted.elapsed();
        println!("ready {} s after the last refusal", took.as_secs());
        ensure!(took < AFTER_A_REFUSAL, "it took {took:?}");
        Ok(())
    })
    .await
}

async fn refused(fleet: &Fleet<'_>, words: &str) -> Result<()> {
    let said = fleet
        .pool_until(&format!("refused: {words}"), |condition| {
            condition.reason == pool_reason::PODS_REFUSED && condition.message.contains(words)
        })
        .await?;
    println!("the pool: {}", said.message);
    Ok(())
}

/// A job that waits for the pool says so in an Event, though its name leaves no room for that of an Event.
async fn has_events(fleet: &Fleet<'_>) -> Result<()> {
    let name = "j".repeat(250);
    let steps = json!([{
        "name": "a", "model": "nobody-has-it", "upscale": {},
        "inputs": [{"name": "video", "upload": {"sha256": "a".repeat(64), "bytes": 1}}],
    }]);
    let job = json!({
        "apiVersion": "framewright.dev/v1alpha1", "kind": "AIJob",
        "metadata": {"name": name}, "spec": {"steps": steps},
    });
    let apply = ["--namespace", fleet.namespace, "apply", "-f", "-"];
    let text = job.to_string();
    fleet.cluster.kubectl_with_input(&apply, &text).await?;
    eventually(PATIENCE, "the job has an Event", async || {
        let about = format!("--field-selector=involvedObject.name={name}");
        let events = ["get", "events", &about, "--output=json"];
        let events: Value = serde_json::from_str(&fleet.kubectl(&events).await?)?;
        ensure!(events["items"][0]["message"].is_string(), "{events}");
        Ok(())
    })
    .await?;
    fleet.kubectl(&["delete", "aijob", &name]).await.map(drop)
}

/// The pool of one worker, with its weights.
async fn apply_pool(fleet: &Fleet<'_>) -> Result<()> {
    let digest = sha256(&weights())?;
    fleet.apply_pool("cpu", 1, &digest, "{memory: 1Gi}").await?;
    fleet.upload_weights().await
}

async fn remove_policy(fleet: &Fleet<'_>) -> Result<()> {
    let kinds = "mutatingadmissionpolicies,mutatingadmissionpolicybindings";
    let delete = ["delete", kinds, fleet.namespace, "--ignore-not-found"];
    fleet.cluster.kubectl(&delete).await?;
    eventually(PATIENCE, "the policy is gone", async || {
        ensure!(!is_in_force(fleet).await?, "a gate");
        Ok(())
    })
    .await
}

/// Whether a pod that was made now would get the gate. None is made.
async fn is_in_force(fleet: &Fleet<'_>) -> Result<bool> {
    let space = ["--namespace", fleet.namespace];
    let create = ["create", "--dry-run=server", "--output=json", "-f", "-"];
    let arguments = [&space[..], &create].concat();
    let probe = probe().to_string();
    let pod = fleet.cluster.kubectl_with_input(&arguments, &probe).await?;
    let pod: Value = serde_json::from_str(&pod)?;
    Ok(pod["spec"]["schedulingGates"].is_array())
}

/// Puts a gate on each new pod of the namespace, as a queue does, and an init container into it, as a service mesh does.
fn policy(namespace: &str) -> Value {
    let gate = format!(
        r#"[JSONPatch{{op: "add", path: "/spec/schedulingGates", value: [Object.spec.schedulingGates{{name: "{GATE}"}}]}}]"#
    );
    let container = "Object.spec.initContainers";
    // The namespace is a restricted one.
    let container = format!(
        r#"{container}{{name: "mesh-init", image: "{IMAGE}", securityContext: {container}.securityContext{{
            allowPrivilegeEscalation: false, capabilities: {container}.securityContext.capabilities{{drop: ["ALL"]}}}}}}"#
    );
    let container =
        format!(r#"[JSONPatch{{op: "add", path: "/spec/initContainers", value: [{container}]}}]"#);
    let patch = |expression: String| json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}});
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy", "metadata": {"name": namespace},
        "spec": {
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
            },
            "mutations": [patch(gate), patch(container)],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": namespace}, "spec": {"policyName": namespace},
    });
    json!({"apiVersion": "v1", "kind": "List", "items": [policy, binding]})
}

/// A restricted pod.
fn probe() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"},
        "spec": {
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "probe", "image": IMAGE,
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    })
}

const GATE: &str = "kueue.x-k8s.io/admission";
/// An image that nobody has.
const IMAGE: &str = "registry.invalid/mesh:1";
