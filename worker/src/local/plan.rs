//! What a file asks for: which steps, with which models and inputs, on what. Pure. It refuses what the API server would refuse at
//! admission, and what the operator would refuse when it looks for pools.

use framewright_crds::aijob::{AIJob, FromStep, Step, Upload};
use framewright_crds::manifest;
use framewright_crds::modelpool::{Device, Model, ModelFile, ModelPool};
use framewright_crds::pipelines::Pipeline;
use framewright_crds::schema::Breach;
use serde_json::Value;

use super::documents;
use crate::models::network_file;
use crate::pipelines::{PIPELINES, PipelineError};

/// The work, in the order in which it is done.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    /// The job's name.
    pub(super) job: String,
    /// Its steps.
    pub(super) steps: Vec<PlannedStep>,
    /// Names of results, each with the output that it is.
    pub(super) outputs: Vec<(String, OutputOf)>,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PlannedStep {
    /// Its name.
    pub(super) name: String,
    /// The model's name.
    pub(super) model: String,
    /// The model's file that holds the network.
    pub(super) weights: ModelFile,
    /// What its pool computes on.
    pub(super) device: Device,
    /// What to do.
    pub(super) pipeline: Pipeline,
    /// What to.
    pub(super) inputs: Vec<PlannedInput>,
}

/// One input.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PlannedInput {
    /// What the pipeline calls it.
    pub(super) name: String,
    /// Where it comes from.
    pub(super) from: Origin,
}

/// Where an input comes from.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Origin {
    /// An output of an earlier step.
    Step(OutputOf),
    /// A file.
    Upload(Upload),
}

/// An output of a step.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct OutputOf {
    /// The step's position.
    pub(super) step: usize,
    /// The output's name. Without one: the step's only result.
    pub(super) name: Option<String>,
}

/// Why there is no plan. The text names the field and the way out.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error(transparent)]
    Manifest(#[from] manifest::Error),
    #[error("{kind} {name}")]
    Shape {
        kind: &'static str,
        name: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("{kind} {name}")]
    Schema {
        kind: &'static str,
        name: String,
        #[source]
        source: Breach,
    },
    #[error("{kind} {name}: unknown field {field}; kubectl explain {explain} lists what there is")]
    UnknownField {
        kind: &'static str,
        name: String,
        field: String,
        explain: &'static str,
    },
    #[error("{kind} {name}: {message}")]
    Rule {
        kind: &'static str,
        name: String,
        message: String,
    },
    #[error("no AIJob is there; give a file with one AIJob and the ModelPools that it uses")]
    NoJob,
    #[error("{count} AIJobs are there ({names}); give one")]
    ManyJobs { count: usize, names: String },
    #[error("{0}")]
    Refused(String),
}

/// Plans the one job among these objects. Objects of other kinds are passed over.
///
/// # Errors
/// [`PlanError`], one sentence.
pub(super) fn plan(documents: &[Value]) -> Result<Plan, PlanError> {
    let mut jobs: Vec<AIJob> = documents::all(documents, "AIJob", "aijob.spec")?;
    let pools: Vec<ModelPool> = documents::all(documents, "ModelPool", "modelpool.spec")?;
    let job = match (jobs.pop(), jobs.len()) {
        (Some(job), 0) => job,
        (None, _) => return Err(PlanError::NoJob),
        (Some(last), more) => {
            jobs.push(last);
            let names: Vec<&str> = jobs.iter().map(|job| name_of(&job.metadata.name)).collect();
            return Err(PlanError::ManyJobs {
                count: more + 1,
                names: names.join(", "),
            });
        }
    };
    let steps: Vec<PlannedStep> = job
        .spec
        .steps
        .iter()
        .map(|step| planned(step, &job, &pools))
        .collect::<Result<_, _>>()?;
    Ok(Plan {
        job: name_of(&job.metadata.name).to_owned(),
        outputs: outputs(&job)?,
        steps,
    })
}

fn name_of(name: &Option<String>) -> &str {
    name.as_deref().unwrap_or_default()
}

fn planned(step: &Step, job: &AIJob, pools: &[ModelPool]) -> Result<PlannedStep, PlanError> {
    let name = &step.name;
    let Some(pipeline) = step.pipeline() else {
        let message = format!("step {name} must set exactly one pipeline");
        return Err(PlanError::Refused(message));
    };
    let wanted = pipeline.spec().name;
    if !PIPELINES.iter().any(|known| known.name == wanted) {
        let error = PipelineError::Unavailable { pipeline: wanted };
        return Err(PlanError::Refused(format!("step {name}: {error}")));
    }
    let Some(model) = &step.model else {
        let message = format!("step {name}: {wanted} needs a model; set model");
        return Err(PlanError::Refused(message));
    };
    let (pool, model) = pool_for(step, &pipeline, model, job, pools)?;
    let weights = network_file(&model.files, |file| &file.path)
        .map_err(|error| PlanError::Refused(format!("model {}: {error}", model.name)))?;
    let mut inputs = Vec::new();
    for input in &step.inputs {
        let from = match (&input.from_step, &input.upload) {
            (Some(from), _) => {
                let what = || format!("step {name}: input {}", input.name);
                Origin::Step(output_of(from, job, what)?)
            }
            (None, Some(upload)) => Origin::Upload(upload.clone()),
            // The rules leave no input without an origin.
            (None, None) => continue,
        };
        inputs.push(PlannedInput {
            name: input.name.clone(),
            from,
        });
    }
    Ok(PlannedStep {
        name: name.clone(),
        model: model.name.clone(),
        weights: weights.clone(),
        device: pool.spec.device,
        pipeline,
        inputs,
    })
}

/// The output that is meant; `what` takes it, for messages.
fn output_of(
    from: &FromStep,
    job: &AIJob,
    what: impl Fn() -> String,
) -> Result<OutputOf, PlanError> {
    let mut steps = job.spec.steps.iter();
    let Some(position) = steps.position(|step| step.name == from.name) else {
        let message = format!("{} names step {}, which is not there", what(), from.name);
        return Err(PlanError::Refused(message));
    };
    let pipeline = job.spec.steps[position].pipeline();
    let outputs = pipeline.map_or(&[][..], |pipeline| pipeline.spec().outputs);
    if let Some(output) = &from.output
        && !outputs.iter().any(|slot| is_of_slot(output, slot.name))
    {
        let names: Vec<&str> = outputs.iter().map(|slot| slot.name).collect();
        return Err(PlanError::Refused(format!(
            "{} takes output {output} of step {}, which has {} only; correct fromStep.output",
            what(),
            from.name,
            names.join(", ")
        )));
    }
    Ok(OutputOf {
        step: position,
        name: from.output.clone(),
    })
}

/// Of several outputs for one slot, each has a number.
fn is_of_slot(output: &str, slot: &str) -> bool {
    let number = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
    match output.strip_prefix(slot) {
        Some("") => true,
        Some(rest) => rest.strip_prefix('-').is_some_and(number),
        None => false,
    }
}

/// On one machine, access and namespaces of pools say nothing; a named pool still has to be the one.
fn pool_for<'a>(
    step: &Step,
    pipeline: &Pipeline,
    model: &str,
    job: &AIJob,
    pools: &'a [ModelPool],
) -> Result<(&'a ModelPool, &'a Model), PlanError> {
    let pipeline = pipeline.spec().name;
    let is_meant = |pool: &&ModelPool| match &step.pool_ref {
        None => true,
        Some(wanted) => {
            let namespace = wanted
                .namespace
                .as_ref()
                .or(job.metadata.namespace.as_ref());
            name_of(&pool.metadata.name) == wanted.name
                && (pool.metadata.namespace.is_none()
                    || namespace.is_none()
                    || pool.metadata.namespace.as_ref() == namespace)
        }
    };
    let does = |pool: &&&ModelPool| match &pool.spec.pipelines {
        None => true,
        Some(pipelines) => pipelines.iter().any(|name| name == pipeline),
    };
    let meant: Vec<&ModelPool> = pools.iter().filter(is_meant).collect();
    let found = meant.iter().filter(does).find_map(|pool| {
        let mut models = pool.spec.models.iter();
        Some((*pool, models.find(|known| known.name == model)?))
    });
    found.ok_or_else(|| {
        let models: Vec<&str> = meant
            .iter()
            .filter(does)
            .flat_map(|pool| &pool.spec.models)
            .map(|model| model.name.as_str())
            .collect();
        let name = &step.name;
        PlanError::Refused(match (&step.pool_ref, meant.is_empty()) {
            (Some(pool), true) => format!(
                "step {name}: poolRef names pool {}, which is not among the given ModelPools",
                pool.name
            ),
            (None, true) => format!(
                "step {name} wants model {model}, and no ModelPool is there; give its file as well"
            ),
            (_, false) if !meant.iter().any(|pool| does(&pool)) => format!(
                "step {name} wants pipeline {pipeline}, which no pool lists in spec.pipelines"
            ),
            (_, false) => format!(
                "step {name} wants model {model}, which no pool has; there are: {}",
                models.join(", ")
            ),
        })
    })
}

/// What the job publishes.
fn outputs(job: &AIJob) -> Result<Vec<(String, OutputOf)>, PlanError> {
    let published = job.spec.published().into_iter().map(|output| {
        let what = || format!("spec.outputs: output {}", output.name);
        let of = output_of(&output.from_step, job, what)?;
        Ok((output.name, of))
    });
    published.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const POOL: &str = "
apiVersion: framewright.dev/v1alpha1
kind: ModelPool
metadata: {name: cpu}
spec:
  device: cpu
  models:
  - name: twice
    source: {upload: {}}
    files: [{path: x.safetensors, digest: 'sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad', bytes: 5}]
";

    fn job(steps: &str) -> String {
        format!(
            "apiVersion: framewright.dev/v1alpha1\nkind: AIJob\nmetadata: {{name: demo}}\nspec:\n  steps: {steps}\n"
        )
    }

    fn step(name: &str, input: &str) -> String {
        format!("{{name: {name}, model: twice, upscale: {{}}, inputs: [{{name: video, {input}}}]}}")
    }

    fn upload() -> String {
        format!("upload: {{digest: 'sha256:{}', bytes: 3}}", "a".repeat(64))
    }

    fn plan_of(texts: &[String]) -> Result<Plan, PlanError> {
        let documents = texts.iter().map(|text| manifest::read(text.as_bytes()));
        let documents: Vec<Vec<Value>> = documents.collect::<Result<_, _>>()?;
        plan(&documents.concat())
    }

    fn refusal(steps: &str) -> String {
        let refused = plan_of(&[job(steps), POOL.into()]).expect_err("refused");
        crate::error_chain::error_chain(&refused)
    }

    #[test]
    fn steps_and_results_are_found_in_one_text_or_many() {
        let steps = format!(
            "[{}, {}]",
            step("large", &upload()),
            step("larger", "fromStep: {name: large}")
        );
        let apart = plan_of(&[job(&steps), POOL.into()]).expect("a plan");
        assert_eq!(apart.job, "demo");
        let only_result = |step| OutputOf { step, name: None };
        assert_eq!(apart.outputs, [("larger".to_owned(), only_result(1))]);
        assert_eq!(apart.steps[1].inputs[0].from, Origin::Step(only_result(0)));
        let together = plan_of(&[format!("{}---{POOL}", job(&steps))]).expect("a plan");
        assert_eq!(apart, together);
    }

    #[test]
    fn what_the_schema_and_what_a_rule_refuses_is_refused() {
        let forward = format!(
            "[{}, {}]",
            step("a", "fromStep: {name: b}"),
            step("b", &upload())
        );
        assert!(refusal(&forward).starts_with(
            "AIJob demo: spec.steps: step a takes an input from a step that does not come before it"
        ));
        let scale = step("a", &upload()).replace("upscale: {}", "upscale: {scale: 9}");
        assert_eq!(
            refusal(&format!("[{scale}]")),
            "AIJob demo: spec.steps[0].upscale.scale: 9 should be at most 4"
        );
        let pool = POOL.replace("bytes: 5", "bytes: 0");
        let refused = plan_of(&[job(&format!("[{}]", step("a", &upload()))), pool]).expect_err("0");
        assert_eq!(
            crate::error_chain::error_chain(&refused),
            "ModelPool cpu: spec.models[0].files[0].bytes: 0 should be at least 1"
        );
    }

    #[test]
    fn an_output_that_a_step_does_not_have_is_refused_with_those_it_has() {
        let steps = |output: &str| {
            let from = format!("fromStep: {{name: large, output: {output}}}");
            format!("[{}, {}]", step("large", &upload()), step("larger", &from))
        };
        let plan = plan_of(&[job(&steps("video")), POOL.into()]).expect("a plan");
        let video = OutputOf {
            step: 0,
            name: Some("video".to_owned()),
        };
        assert_eq!(plan.steps[1].inputs[0].from, Origin::Step(video));
        assert_eq!(
            refusal(&steps("mask")),
            "step larger: input video takes output mask of step large, which has video, image only; correct fromStep.output"
        );
        assert!(is_of_slot("image-12", "image") && !is_of_slot("image-x", "image"));
        assert!(!is_of_slot("images", "image") && !is_of_slot("image-", "image"));
    }

    #[test]
    fn a_pool_that_does_other_pipelines_is_not_used() {
        let steps = job(&format!("[{}]", step("a", &upload())));
        let pool = POOL.replace("device: cpu", "device: cpu\n  pipelines: [interpolate]");
        let refused = plan_of(&[steps.clone(), pool.clone()]).expect_err("refused");
        assert_eq!(
            refused.to_string(),
            "step a wants pipeline upscale, which no pool lists in spec.pipelines"
        );
        let both = pool.replace("[interpolate]", "[interpolate, upscale]");
        assert!(plan_of(&[steps, both]).is_ok());
    }

    #[test]
    fn a_model_may_list_texts_beside_its_one_file_of_weights() {
        let steps = job(&format!("[{}]", step("a", &upload())));
        let with = |path: &str| {
            let file = format!(
                "{{path: {path}, digest: 'sha256:{}', bytes: 1}}",
                "b".repeat(64)
            );
            POOL.replace("files: [", &format!("files: [{file}, "))
        };
        let plan = plan_of(&[steps.clone(), with("LICENCE.txt")]).expect("a plan");
        assert_eq!(plan.steps[0].weights.path, "x.safetensors");
        let refused = plan_of(&[steps, with("y.safetensors")]).expect_err("refused");
        assert_eq!(
            refused.to_string(),
            "model twice: a model has exactly one .safetensors file, and 2 are listed; correct spec.models[].files"
        );
    }

    #[test]
    fn a_name_that_leads_out_of_the_output_folder_is_refused() {
        for name in ["../x", "/tmp/x", "a/b", "..", "''"] {
            let job = job(&format!("[{}]", step("a", &upload())));
            let job = job.replace("name: demo", &format!("name: {name}"));
            let refused = plan_of(&[job, POOL.into()]).expect_err(name);
            let said = crate::error_chain::error_chain(&refused);
            assert!(said.contains("metadata.name: "), "{said}");
        }
    }

    #[test]
    fn a_misspelt_field_and_an_unknown_model_are_named() {
        let misspelt = step("a", &upload()).replace("upscale: {}", "upscale: {scael: 2}");
        assert!(
            refusal(&format!("[{misspelt}]")).contains("unknown field spec.steps[0].upscale.scael")
        );
        let unknown = step("a", &upload()).replace("model: twice", "model: thrice");
        assert_eq!(
            refusal(&format!("[{unknown}]")),
            "step a wants model thrice, which no pool has; there are: twice"
        );
        let alone = plan_of(&[job(&format!("[{}]", step("a", &upload())))]).expect_err("no pool");
        assert!(
            alone.to_string().contains("no ModelPool is there"),
            "{alone}"
        );
    }
}
