//! The AIJob's CRD as it may be one day: with ten pipelines more than today. They do not exist; they are as large as those that
//! may come. Used here, and in `e2e/tests/api`, where a real API server must accept it.

use framewright_crds::AIJob;
use framewright_crds::aijob::OutputRole;
use framewright_crds::pipelines::{
    BASE_MODEL, InputSlot, Inputs, MediaKind, ModelRole, OutputSlot, PIPELINES, PipelineSpec, Rule,
    rules,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

/// Where a CRD has the schema of a step.
const STEP: &str = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/steps/items";
/// Parameters of each pipeline, beside its prompt.
const PARAMETERS: usize = 12;

const IMAGE: InputSlot = slot("image", MediaKind::Image, 1, 1);
const VIDEO: InputSlot = slot("video", MediaKind::Video, 1, 1);

const DUMMIES: [PipelineSpec; 10] = [
    dummy(
        "generateImage",
        Inputs::Each(&[]),
        &[Rule {
            rule: "!self.generateImage.prompt.matches('^\\\\s*$')",
            message: "generateImage.prompt is empty; say what to draw",
        }],
    ),
    dummy(
        "editImage",
        Inputs::Each(&[IMAGE, slot("mask", MediaKind::Image, 0, 1)]),
        &[Rule {
            rule: "!has(self.editImage.value1) || self.inputs.exists(i, i.name == 'mask')",
            message: "editImage.value1 needs a mask; add the input mask",
        }],
    ),
    dummy(
        "generateVideo",
        Inputs::Each(&[slot("image", MediaKind::Image, 0, 4)]),
        &[Rule {
            rule: "!has(self.generateVideo.value1) || has(self.generateVideo.value2)",
            message: "generateVideo.value1 needs value2; set both",
        }],
    ),
    dummy("animateImage", Inputs::Each(&[IMAGE]), &[]),
    dummy("transcode", Inputs::OneOf(&[VIDEO, IMAGE]), &[]),
    dummy(
        "concatenate",
        Inputs::Each(&[slot("video", MediaKind::Video, 2, 8)]),
        &[],
    ),
    dummy("transcribe", Inputs::OneOf(&[VIDEO]), &[]),
    dummy("segment", Inputs::OneOf(&[VIDEO, IMAGE]), &[]),
    dummy("removeBackground", Inputs::OneOf(&[VIDEO, IMAGE]), &[]),
    dummy(
        "custom",
        Inputs::Each(&[slot("file", MediaKind::Video, 0, 8)]),
        &[],
    ),
];

const fn dummy(name: &'static str, inputs: Inputs, rules: &'static [Rule]) -> PipelineSpec {
    PipelineSpec {
        name,
        inputs,
        outputs: &[OutputSlot {
            name: "video",
            role: OutputRole::Result,
        }],
        models: &[ModelRole {
            name: BASE_MODEL,
            is_required: true,
        }],
        unit: "pixels",
        units: |_, _| None,
        rules,
        is_published: true,
    }
}

const fn slot(name: &'static str, media: MediaKind, minimum: usize, maximum: usize) -> InputSlot {
    InputSlot {
        name,
        media: match media {
            MediaKind::Image => &[MediaKind::Image],
            MediaKind::Video => &[MediaKind::Video],
        },
        minimum,
        maximum,
    }
}

/// The CRD with twelve pipelines.
pub(crate) fn crd() -> CustomResourceDefinition {
    let mut crd = serde_json::to_value(AIJob::crd()).expect("a CRD is JSON");
    let step = crd.pointer_mut(STEP).expect("an AIJob has steps");
    let published = PIPELINES.iter().copied().filter(|spec| spec.is_published);
    let all: Vec<&PipelineSpec> = published.chain(&DUMMIES).collect();
    assert_eq!(all.len(), 12);
    for spec in &DUMMIES {
        rules::add_to_step(step, spec.name, parameters(), &all);
    }
    serde_json::from_value(crd).expect("a CRD")
}

/// A prompt, and numbers with ranges and descriptions.
fn parameters() -> Value {
    let mut properties = Map::new();
    let prompt = json!({
        "type": "string", "maxLength": 4096,
        "description": "What the result shows, in the language that the model was trained with. At most 4096 characters.",
    });
    properties.insert("prompt".to_owned(), prompt);
    for index in 0..PARAMETERS {
        let value = json!({
            "type": "integer", "format": "int32", "minimum": 1, "maximum": 216_000, "nullable": true,
            "description": "How many of them there are, how strongly they count, and what happens if there are more than that. 1 to 216000; default: as many as the model was trained with, or those of the input.",
        });
        properties.insert(format!("value{index}"), value);
    }
    json!({
        "type": "object", "nullable": true, "properties": properties, "required": ["prompt"],
        "description": "Makes something of something else, in the way that this pipeline does it.",
    })
}
