//! What a file asks for: which steps, with which weights and inputs, on what. Pure. It says what the API server would say at
//! admission, and what the operator would say when it looks for pools.

use framewright_crds::aijob::{AIJob, Step, Upload, Upscale};
use framewright_crds::manifest;
use framewright_crds::modelpool::{Device, Model, ModelFile, ModelPool};
use framewright_crds::schema::Breach;
use serde_json::Value;

use super::{admission, documents};
use crate::weights::upscaler_file;

/// The work, in the order in which it is done.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    /// The job's name.
    pub(super) job: String,
    /// Its steps.
    pub(super) steps: Vec<PlannedStep>,
    /// Names of results, each with the position of its step.
    pub(super) outputs: Vec<(String, usize)>,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PlannedStep {
    /// Its name.
    pub(super) name: String,
    /// The model's name.
    pub(super) model: String,
    /// The model's one file.
    pub(super) weights: ModelFile,
    /// What its pool computes on.
    pub(super) device: Device,
    /// What to do.
    pub(super) upscale: Upscale,
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
    /// The result of the step at this position.
    Step(usize),
    /// A file.
    Upload(Upload),
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
    for pool in &pools {
        admission::check_pool(pool)?;
    }
    admission::check_job(&job)?;
    let steps: Vec<PlannedStep> = job
        .spec
        .steps
        .iter()
        .map(|step| planned(step, &job, &pools))
        .collect::<Result<_, _>>()?;
    Ok(Plan {
        job: name_of(&job.metadata.name).to_owned(),
        outputs: outputs(&job),
        steps,
    })
}

pub(super) fn name_of(name: &Option<String>) -> &str {
    name.as_deref().unwrap_or_default()
}

fn planned(step: &Step, job: &AIJob, pools: &[ModelPool]) -> Result<PlannedStep, PlanError> {
    let (pool, model) = pool_for(step, job, pools)?;
    let weights = upscaler_file(&model.files)
        .map_err(|error| PlanError::Refused(format!("model {}: {error}", model.name)))?;
    let position = |name: &str| job.spec.steps.iter().position(|step| step.name == name);
    let inputs = step.inputs.iter().filter_map(|input| {
        let from = match (&input.from_step, &input.upload) {
            (Some(from), _) => Origin::Step(position(&from.name)?),
            (None, upload) => Origin::Upload(upload.clone()?),
        };
        Some(PlannedInput {
            name: input.name.clone(),
            from,
        })
    });
    Ok(PlannedStep {
        name: step.name.clone(),
        model: step.model.clone(),
        weights: weights.clone(),
        device: pool.spec.device,
        upscale: step.upscale.clone().unwrap_or_default(),
        inputs: inputs.collect(),
    })
}

/// On one machine, access and namespaces of pools say nothing; a named pool still has to be the one.
fn pool_for<'a>(
    step: &Step,
    job: &AIJob,
    pools: &'a [ModelPool],
) -> Result<(&'a ModelPool, &'a Model), PlanError> {
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
    let meant: Vec<&ModelPool> = pools.iter().filter(is_meant).collect();
    let found = meant.iter().find_map(|pool| {
        let model = pool
            .spec
            .models
            .iter()
            .find(|model| model.name == step.model)?;
        Some((*pool, model))
    });
    found.ok_or_else(|| {
        let models: Vec<&str> = meant
            .iter()
            .flat_map(|pool| &pool.spec.models)
            .map(|model| model.name.as_str())
            .collect();
        let (name, model) = (&step.name, &step.model);
        PlanError::Refused(match (&step.pool_ref, meant.is_empty()) {
            (Some(pool), true) => format!(
                "step {name}: poolRef names pool {}, which is not among the given ModelPools",
                pool.name
            ),
            (None, true) => format!(
                "step {name} wants model {model}, and no ModelPool is there; give its file as well"
            ),
            (_, false) => format!(
                "step {name} wants model {model}, which no pool has; there are: {}",
                models.join(", ")
            ),
        })
    })
}

/// What the job publishes, by the positions of its steps.
fn outputs(job: &AIJob) -> Vec<(String, usize)> {
    let published = job.spec.published().into_iter().filter_map(|output| {
        let is_meant = |step: &Step| step.name == output.from_step.name;
        Some((output.name, job.spec.steps.iter().position(is_meant)?))
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
    files: [{path: x.safetensors, sha256: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad, bytes: 5}]
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
        format!("upload: {{sha256: '{}', bytes: 3}}", "a".repeat(64))
    }

    fn plan_of(texts: &[String]) -> Result<Plan, PlanError> {
        let documents = texts.iter().map(|text| manifest::read(text.as_bytes()));
        let documents: Vec<Vec<Value>> = documents.collect::<Result<_, _>>()?;
        plan(&documents.concat())
    }

    fn refusal(steps: &str) -> String {
        let refused = plan_of(&[job(steps), POOL.into()]).expect_err("refused");
        crate::sentence::sentence(&refused)
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
        assert_eq!(apart.outputs, [("larger".to_owned(), 1)]);
        assert_eq!(apart.steps[1].inputs[0].from, Origin::Step(0));
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
        assert!(
            refusal(&forward)
                .contains("step a takes an input from a step that does not come before it")
        );
        let scale = step("a", &upload()).replace("upscale: {}", "upscale: {scale: 9}");
        assert_eq!(
            refusal(&format!("[{scale}]")),
            "AIJob demo: spec.steps[0].upscale.scale: 9 should be at most 4"
        );
        let pool = POOL.replace("bytes: 5", "bytes: 0");
        let refused = plan_of(&[job(&format!("[{}]", step("a", &upload()))), pool]).expect_err("0");
        assert_eq!(
            crate::sentence::sentence(&refused),
            "ModelPool cpu: spec.models[0].files[0].bytes: 0 should be at least 1"
        );
    }

    #[test]
    fn a_name_that_leads_out_of_the_output_folder_is_refused() {
        for name in ["../x", "/tmp/x", "a/b", "..", "''"] {
            let job = job(&format!("[{}]", step("a", &upload())));
            let job = job.replace("name: demo", &format!("name: {name}"));
            let refused = plan_of(&[job, POOL.into()]).expect_err(name);
            let said = crate::sentence::sentence(&refused);
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
