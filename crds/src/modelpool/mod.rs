//! The `ModelPool` kind: which models, on what, for whom; its pods' `template`, and its `status`.

mod status;
mod template;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

pub use status::{ModelPoolStatus, ModelStatus};
pub use template::{TemplateMetadata, TemplateSpec, WorkerContainer, WorkerTemplate};

/// A set of equal workers that hold the same models.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "framewright.dev",
    version = "v1alpha1",
    kind = "ModelPool",
    plural = "modelpools",
    namespaced,
    status = "ModelPoolStatus",
    derive = "PartialEq",
    doc = "A set of equal worker pods that hold the same models and work on AIJobs.",
    validation = Rule::new("self.metadata.name.size() <= 63")
        .message("metadata.name: at most 63 characters, since the pool's pods carry it as a label"),
    shortname = "mpool",
    category = "framewright",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "State",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "The reason of the pool's Ready condition."
    ),
    printcolumn(
        name = "Ready",
        type_ = "integer",
        json_path = ".status.readyReplicas",
        description = "Workers that take tasks."
    ),
    printcolumn(
        name = "Replicas",
        type_ = "integer",
        json_path = ".spec.replicas",
        description = "Workers asked for."
    ),
    printcolumn(name = "Device", type_ = "string", json_path = ".spec.device"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.models.map(m, m.files.size()).sum() <= 512")
    .message("spec.models: at most 512 files in all; use another pool for the other models").field_path(".models"))]
pub struct ModelPoolSpec {
    /// The device of the workers. A worker that does not find it takes no tasks, and the pool's condition says so.
    pub device: Device,

    /// How many workers. 0 to 1000, default 1. `kubectl scale` changes it.
    #[serde(default = "replicas_default")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: i32,

    /// The models that each worker has, by name. At most 128, with at most 512 files in all.
    #[serde(default)]
    #[schemars(length(max = 128), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub models: Vec<Model>,

    /// The pipelines whose steps the workers run. Default: all that they can run. A pool that has never had a worker and has no list
    /// counts as one that can run every pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), extend("x-kubernetes-list-type" = "set"))]
    pub pipelines: Option<Vec<String>>,

    /// The cache of verified weights. Default: an emptyDir of 20Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights_cache: Option<WeightsCache>,

    /// Space for the files of a running task. Default: an emptyDir of 10Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scratch: Option<Scratch>,

    /// Some fields of the worker pods, at the paths of a pod template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<WorkerTemplate>,

    /// Which other namespaces may use the pool. Default: none, only the pool's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub access: Option<Vec<Access>>,
}

fn replicas_default() -> i32 {
    1
}

/// What a worker computes on.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// The CPU, in 32-bit floating point.
    Cpu,
    /// An NVIDIA GPU; ask for it in template.spec.containers[0].resources.
    Cuda,
}

impl Device {
    /// As it stands in a pool's spec and on a command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Device::Cpu => "cpu",
            Device::Cuda => "cuda",
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// A text that names no device.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownDevice(String);

impl fmt::Display for UnknownDevice {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "unknown device {:?}: give cpu or cuda", self.0)
    }
}

impl std::error::Error for UnknownDevice {}

impl FromStr for Device {
    type Err = UnknownDevice;

    fn from_str(name: &str) -> Result<Self, UnknownDevice> {
        [Device::Cpu, Device::Cuda]
            .into_iter()
            .find(|device| device.as_str() == name)
            .ok_or_else(|| UnknownDevice(name.to_owned()))
    }
}

/// A model: a name, its files, and where they come from.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Model {
    /// The name that steps use.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,
    /// Where the files come from.
    pub source: Source,
    /// The files, each pinned by its digest. An upscaling model has one. At most 128.
    #[schemars(length(min = 1, max = 128), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["path"]))]
    pub files: Vec<ModelFile>,
}

/// Where files come from. Exactly one member is set.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.upload), has(self.volume)].filter(set, set).size() == 1")
    .message("source must set exactly one of upload and volume"))]
pub struct Source {
    /// Uploaded to the links in status.files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<UploadSource>,
    /// Read from a volume that each worker mounts read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeSource>,
}

/// No parameters.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
pub struct UploadSource {}

/// A folder on a volume.
#[derive(
    KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
#[serde(rename_all = "camelCase")]
pub struct VolumeSource {
    /// A PersistentVolumeClaim in the pool's namespace.
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: String,
    /// The folder on it that contains the files. Default: the root of the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("!self.startsWith('/') && !self.split('/').exists(p, p == '..')")
        .message("source.volume.path must be relative to the volume and must not contain '..'"))]
    pub path: Option<String>,
}

/// One file of a model, pinned by its digest: weights as safetensors, or a text file.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ModelFile {
    /// The file's path in the model. Pickle files (.pth, .pt, .ckpt, .bin, .pkl) are refused: they can run code.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = "^[A-Za-z0-9_][-A-Za-z0-9_./]*$")
    )]
    #[x_kube(
        validation = Rule::new("!self.contains('/.') && !self.contains('//')")
            .message("files[].path must not contain '..', empty parts or parts that begin with '.'"),
        validation = Rule::new("['.safetensors', '.json', '.txt', '.model'].exists(end, self.endsWith(end))")
            .message(Message::Expression("'files[].path ' + self + ' must end in .safetensors, .json, .txt or .model; convert other weights first, in a checkout of Framewright: python3 worker/tools/convert.py ' + self + ' ' + self + '.safetensors'".into())),
    )]
    pub path: String,
    /// `sha256:` and the file's SHA-256: 64 lower-case hexadecimal digits.
    #[schemars(length(min = 71, max = 71), regex(pattern = "^sha256:[0-9a-f]{64}$"))]
    pub digest: String,
    /// Size of the file in bytes. 1 to 1099511627776 (1 TiB).
    #[schemars(range(min = 1, max = 1_099_511_627_776_i64))]
    pub bytes: i64,
}

impl ModelFile {
    /// The digest's hexadecimal digits.
    #[must_use]
    pub fn sha256(&self) -> &str {
        crate::names::bare(&self.digest)
    }
}

/// Where a worker keeps verified weights, by digest.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct WeightsCache {
    /// Its maximum size; the least recently used files are removed first. Default 20Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("isQuantity(string(self))").message("sizeLimit must be a quantity, such as 20Gi"))]
    pub size_limit: Option<Quantity>,
    /// A PersistentVolumeClaim (ReadWriteMany for several workers) that outlives the pods. Default: an emptyDir.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: Option<String>,
}

/// Room for the files of a running task.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Scratch {
    /// The size of the emptyDir. A task that needs more fails with the cause ScratchFull. Default 10Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("isQuantity(string(self))").message("sizeLimit must be a quantity, such as 20Gi"))]
    pub size_limit: Option<Quantity>,
}

/// Namespaces that may use the pool.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Access {
    /// The name of this entry.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Which namespaces.
    pub namespaces: NamespaceAccess,
}

/// Which namespaces.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceAccess {
    /// Selects namespaces by their labels; an empty selector means all. One by name: matchLabels: {kubernetes.io/metadata.name: NAME}.
    pub selector: LabelSelector,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_called_the_same_in_a_spec_and_on_a_command_line() {
        for device in [Device::Cpu, Device::Cuda] {
            assert_eq!(serde_json::to_value(device).expect("JSON"), device.as_str());
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        let error = "gpu".parse::<Device>().expect_err("unknown").to_string();
        assert_eq!(error, "unknown device \"gpu\": give cpu or cuda");
    }
}
