//! One node of a job's graph: a pipeline, a model, and what it works on.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Most frames of a video: an hour at 60 a second.
pub const MAX_FRAMES: i32 = 216_000;

/// One node of the job's graph: a pipeline, a model and inputs. Exactly one pipeline member is set.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.upscale)].filter(set, set).size() == 1")
        .message(Message::Expression("'step ' + self.name + ' must set exactly one pipeline; available: upscale'".into())),
    validation = Rule::new("!has(self.upscale) || (self.inputs.size() == 1 && self.inputs[0].name in ['video', 'image'])")
        .message(Message::Expression("'step ' + self.name + ': upscale takes exactly one input, named video or image; correct inputs'".into())),
    validation = Rule::new("!has(self.upscale) || !has(self.upscale.frames) || !self.inputs.exists(i, i.name == 'image')")
        .message(Message::Expression("'step ' + self.name + ': upscale.frames counts the frames of a video, and the input is an image; leave frames out'".into())),
)]
pub struct Step {
    /// The step's name, unique in the job: lower-case letters, digits and '-', at most 40 characters.
    #[schemars(
        length(min = 1, max = 40),
        regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,

    /// The model to use, by the name that a ModelPool gives it.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$")
    )]
    pub model: String,

    /// The pool to use. Default: a pool in the job's own namespace that has the model, then one in the fleet's catalog namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_ref: Option<PoolRef>,

    /// Makes an image or a video larger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upscale: Option<Upscale>,

    /// What the step works on.
    #[schemars(length(min = 1, max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub inputs: Vec<StepInput>,
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

/// Parameters of the upscale pipeline. Its input is one image or one video, its output the same, larger: PNG or H.264 MP4.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Upscale {
    /// How many times larger each side gets, as a whole number. 1 to 4; default: the model's own factor. Below the model's factor the result is
    /// reduced with a bicubic filter; a larger one than the model's is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4))]
    pub scale: Option<i32>,
    /// Only the first so many frames of a video, with the sound that belongs to them. 1 to 216000; default: all, which may be no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MAX_FRAMES))]
    pub frames: Option<i32>,
}

/// One input of a step. Exactly one of fromStep and upload is set.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.fromStep), has(self.upload)].filter(set, set).size() == 1")
    .message(Message::Expression("'input ' + self.name + ' must set exactly one of fromStep and upload'".into())))]
pub struct StepInput {
    /// What the pipeline calls this input: image or video.
    #[schemars(
        length(min = 1, max = 40),
        regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,
    /// The result of an earlier step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_step: Option<FromStep>,
    /// A file that you upload to the link that then stands in status.uploads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<Upload>,
}

/// Names an earlier step, whose result is meant.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FromStep {
    /// The earlier step's name.
    #[schemars(length(min = 1, max = 40))]
    pub name: String,
}

/// A file named by its content. Nothing else is accepted at the upload link.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct Upload {
    /// SHA-256 of the file: 64 lower-case hexadecimal digits.
    #[schemars(length(min = 64, max = 64), regex(pattern = "^[0-9a-f]{64}$"))]
    pub sha256: String,
    /// Size of the file in bytes. 0 to 1099511627776 (1 TiB).
    #[schemars(range(min = 0, max = 1_099_511_627_776_i64))]
    pub bytes: i64,
}
