//! What a pool's status says.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::aijob::FileStatus;

/// The state of the pool.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ModelPoolStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// Ready: whether spec.replicas workers take tasks for all models; its message says what is missing. In addition, for tools that
    /// follow kstatus, Reconciling and Stalled while they are True.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Worker pods that exist and are not ending.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub replicas: i32,
    /// Workers that take tasks for at least one model.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub ready_replicas: i32,
    /// Selects the pool's pods; for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// The models, in the order of the spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub models: Vec<ModelStatus>,
    /// The files of models whose source is upload, by model and path, with their upload links and states.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub files: Vec<FileStatus>,
    /// The pipelines that the workers of the pool can run, as they report.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub pipelines: Vec<String>,
    /// The value of the `framewright.dev/renew-links` annotation that the links were last renewed for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub links_renewed_for: Option<String>,
}

/// The state of one model.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ModelStatus {
    /// The model's name.
    pub name: String,
    /// Workers that have verified and loaded it.
    #[schemars(range(min = 0))]
    pub ready_workers: i32,
    /// Why not all workers have loaded it: AwaitingUpload, Loading, or WeightsFailed if a file is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The reason as a sentence, which names the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
