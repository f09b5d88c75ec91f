//! One node of a job's graph: a pipeline, a model, and what it works on.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::bare;
use crate::pipelines::{BASE_MODEL, Pipeline, PipelineMembers, rules};

/// One node of the job's graph: a pipeline, a model and inputs. Exactly one pipeline member is set.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = rules::complete_step)]
pub struct Step {
    /// The step's name, unique in the job: lower-case letters, digits and '-', at most 40 characters.
    #[schemars(
        length(min = 1, max = 40),
        regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,

    /// The model to use, by the name that a ModelPool gives it. Required if the pipeline needs a model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$")
    )]
    pub model: Option<String>,

    /// The pool to use. Default: a pool in the job's own namespace that has the pipeline and the model, then one in the fleet's catalog namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_ref: Option<PoolRef>,

    /// The pipeline.
    #[serde(flatten)]
    pub pipeline: PipelineMembers,

    /// The inputs of the step. Their names depend on the pipeline.
    #[serde(default)]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub inputs: Vec<StepInput>,
}

impl Step {
    /// The pipeline, if exactly one is set.
    #[must_use]
    pub fn pipeline(&self) -> Option<Pipeline> {
        self.pipeline.only()
    }

    /// The models that the step names, each with its role.
    #[must_use]
    pub fn models(&self) -> Vec<(&'static str, &str)> {
        let base = self.model.as_deref().map(|model| (BASE_MODEL, model));
        base.into_iter().collect()
    }
}

/// Names a ModelPool.
#[derive(
    KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
#[serde(rename_all = "camelCase")]
pub struct PoolRef {
    /// The pool's namespace. Default: the job's. The pool's spec.access must allow any other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// The pool's name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
}

/// One input of a step. Exactly one of fromStep and upload is set.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.fromStep), has(self.upload)].filter(set, set).size() == 1")
    .message(Message::Expression("'input ' + self.name + ' must set exactly one of fromStep and upload'".into())))]
pub struct StepInput {
    /// The pipeline's name for this input, such as image or video. If it takes several files, they are video-0, video-1 and so on.
    #[schemars(
        length(min = 1, max = 40),
        regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,
    /// The result of an earlier step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_step: Option<FromStep>,
    /// A file that you upload to the link in status.files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<Upload>,
}

/// Names the result of an earlier step.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FromStep {
    /// The earlier step's name.
    #[schemars(length(min = 1, max = 40))]
    pub name: String,
    /// Which of its outputs. Default: its only result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40))]
    pub output: Option<String>,
}

/// A file named by its content. Nothing else is accepted at the upload link.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct Upload {
    /// `sha256:` and the file's SHA-256: 64 lower-case hexadecimal digits.
    #[schemars(length(min = 71, max = 71), regex(pattern = "^sha256:[0-9a-f]{64}$"))]
    pub digest: String,
    /// Size of the file in bytes. 0 to 1099511627776 (1 TiB).
    #[schemars(range(min = 0, max = 1_099_511_627_776_i64))]
    pub bytes: i64,
}

impl Upload {
    /// The digest's hexadecimal digits.
    #[must_use]
    pub fn sha256(&self) -> &str {
        bare(&self.digest)
    }
}
