//! What a file asks for: which steps, with which weights and inputs, on what. Pure. It says what the API server would say at
//! admission, and what the operator would say when it looks for pools.

use std::collections::BTreeSet;

use framewright_crds::aijob::{AIJob, MAX_STEPS, Step, StepInput, Upload, Upscale};
use framewright_crds::modelpool::{Device, Model, ModelFile, ModelPool};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

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
    #[error("this is no YAML")]
    Yaml {
        #[source]
        source: Box<serde_saphyr::Error>,
    },
    #[error("{kind} {name}")]
    Shape {
        kind: &'static str,
        name: String,
        #[source]
        source: serde_json::Error,
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

/// Reads YAML documents and plans the one job in them. Objects of other kinds are passed over.
///
/// # Errors
/// [`PlanError`], one sentence.
pub(super) fn plan(texts: &[String]) -> Result<Plan, PlanError> {
    let mut documents: Vec<Value> = Vec::new();
    for text in texts {
        let read: Vec<Value> =
            serde_saphyr::from_multiple(text).map_err(|source| PlanError::Yaml {
                source: Box::new(source),
            })?;
        documents.extend(read);
    }
    let mut jobs: Vec<AIJob> = all(&documents, "AIJob", "aijob.spec")?;
    let pools: Vec<ModelPool> = all(&documents, "ModelPool", "modelpool.spec")?;
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
        check_pool(pool)?;
    }
    check_job(&job)?;
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

fn all<T: DeserializeOwned + Serialize>(
    documents: &[Value],
    kind: &'static str,
    explain: &'static str,
) -> Result<Vec<T>, PlanError> {
    let of_kind = documents.iter().filter(|document| {
        let version = document["apiVersion"].as_str().unwrap_or_default();
        document["kind"] == kind && version.starts_with("framewright.dev/")
    });
    of_kind
        .map(|document| {
            let name = document["metadata"]["name"]
                .as_str()
                .unwrap_or("without a name");
            let shape = |source| PlanError::Shape {
                kind,
                name: name.to_owned(),
                source,
            };
            let object: T = serde_json::from_value(document.clone()).map_err(shape)?;
            let known = serde_json::to_value(&object).map_err(shape)?;
            match unknown_field("spec", &document["spec"], &known["spec"]) {
                Some(field) => Err(PlanError::UnknownField {
                    kind,
                    name: name.to_owned(),
                    field,
                    explain,
                }),
                None => Ok(object),
            }
        })
        .collect()
}

/// The path of something in `given` that did not survive being read as our type.
fn unknown_field(path: &str, given: &Value, known: &Value) -> Option<String> {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => given.iter().find_map(|(key, value)| {
            let path = format!("{path}.{key}");
            match known.get(key) {
                Some(known) => unknown_field(&path, value, known),
                None if is_empty(value) => None,
                None => Some(path),
            }
        }),
        (Value::Array(given), Value::Array(known)) => {
            given
                .iter()
                .zip(known)
                .enumerate()
                .find_map(|(index, (given, known))| {
                    unknown_field(&format!("{path}[{index}]"), given, known)
                })
        }
        _ => None,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(members) => members.is_empty(),
        Value::Array(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn name_of(name: &Option<String>) -> &str {
    name.as_deref().unwrap_or_default()
}

fn check_pool(pool: &ModelPool) -> Result<(), PlanError> {
    let pool_name = name_of(&pool.metadata.name);
    unique(
        &format!("ModelPool {pool_name}: spec.models"),
        pool.spec.models.iter().map(|model| model.name.as_str()),
    )?;
    for model in &pool.spec.models {
        let at = format!("ModelPool {pool_name}: model {}", model.name);
        let sources = [model.source.upload.is_some(), model.source.volume.is_some()];
        if sources.iter().filter(|is_set| **is_set).count() != 1 {
            return refused(format!(
                "{at}: source must set exactly one of upload and volume"
            ));
        }
        for file in &model.files {
            if !file.path.ends_with(".safetensors") {
                return refused(format!(
                    "{at}: files[].path {} must end in .safetensors; convert another format first (docs/models.md has the command)",
                    file.path
                ));
            }
        }
    }
    Ok(())
}

fn check_job(job: &AIJob) -> Result<(), PlanError> {
    if name_of(&job.metadata.name).is_empty() {
        return refused("metadata.name: the AIJob needs a name".to_owned());
    }
    let steps = &job.spec.steps;
    if steps.is_empty() || steps.len() > MAX_STEPS {
        return refused(format!(
            "spec.steps: {} steps are listed; a job has 1 to {MAX_STEPS}",
            steps.len()
        ));
    }
    for (position, step) in steps.iter().enumerate() {
        check_name("spec.steps[].name", &step.name)?;
        check_step(step, &steps[..position])?;
    }
    unique("spec.steps", steps.iter().map(|step| step.name.as_str()))?;
    let outputs = job.spec.outputs.as_deref().unwrap_or_default();
    unique(
        "spec.outputs",
        outputs.iter().map(|output| output.name.as_str()),
    )?;
    for output in outputs {
        check_name("spec.outputs[].name", &output.name)?;
        if !steps.iter().any(|step| step.name == output.from_step.name) {
            return refused(format!(
                "spec.outputs: output {} names a step that spec.steps does not have; correct outputs[].fromStep.name",
                output.name
            ));
        }
    }
    Ok(())
}

fn check_step(step: &Step, earlier: &[Step]) -> Result<(), PlanError> {
    let name = &step.name;
    let Some(Upscale { scale, frames }) = &step.upscale else {
        return refused(format!(
            "step {name} must set exactly one pipeline; available: upscale"
        ));
    };
    if scale.is_some_and(|scale| !(1..=4).contains(&scale)) {
        return refused(format!("step {name}: upscale.scale must be 1 to 4"));
    }
    if frames.is_some_and(|frames| !(1..=1_000_000).contains(&frames)) {
        return refused(format!("step {name}: upscale.frames must be 1 to 1000000"));
    }
    let is_fine = |input: &StepInput| input.name == "video" || input.name == "image";
    if step.inputs.len() != 1 || !step.inputs.iter().all(is_fine) {
        return refused(format!(
            "step {name}: upscale takes exactly one input, named video or image; correct inputs"
        ));
    }
    for input in &step.inputs {
        match (&input.from_step, &input.upload) {
            (Some(from), None) => {
                if !earlier.iter().any(|step| step.name == from.name) {
                    return refused(format!(
                        "spec.steps: step {name} takes an input from a step that does not come before it in the list; a step may refer to earlier steps only, so move that step up or correct inputs[].fromStep.name"
                    ));
                }
            }
            (None, Some(upload)) => check_upload(name, &input.name, upload)?,
            (None, None) | (Some(_), Some(_)) => {
                return refused(format!(
                    "input {} must set exactly one of fromStep and upload",
                    input.name
                ));
            }
        }
    }
    Ok(())
}

fn check_upload(step: &str, input: &str, upload: &Upload) -> Result<(), PlanError> {
    let is_digest = upload.sha256.len() == 64
        && upload
            .sha256
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !is_digest || upload.bytes < 0 {
        return refused(format!(
            "step {step}: input {input}: upload.sha256 must be 64 lower-case hexadecimal digits (sha256sum prints them), and upload.bytes the file's size"
        ));
    }
    Ok(())
}

fn check_name(field: &str, name: &str) -> Result<(), PlanError> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_fine = !name.is_empty()
        && name.len() <= 40
        && name.chars().all(|c| is_plain(c) || c == '-')
        && name.starts_with(is_plain)
        && name.ends_with(is_plain);
    if is_fine {
        return Ok(());
    }
    let shown: String = name.chars().take(60).collect();
    refused(format!(
        "{field}: {shown:?} must have lower-case letters, digits and '-', at most 40 characters"
    ))
}

fn unique<'a>(field: &str, names: impl Iterator<Item = &'a str>) -> Result<(), PlanError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return refused(format!("{field}: duplicate value {name:?}"));
        }
    }
    Ok(())
}

fn planned(step: &Step, job: &AIJob, pools: &[ModelPool]) -> Result<PlannedStep, PlanError> {
    let (pool, model) = pool_for(step, job, pools)?;
    let [weights] = model.files.as_slice() else {
        return Err(PlanError::Refused(format!(
            "model {}: an upscaling model has exactly one file, and {} are listed; correct spec.models[].files",
            model.name,
            model.files.len()
        )));
    };
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

/// What the job names, or else each step's result that no other step takes.
fn outputs(job: &AIJob) -> Vec<(String, usize)> {
    let steps = &job.spec.steps;
    if let Some(outputs) = &job.spec.outputs {
        let named = outputs.iter().filter_map(|output| {
            let step = steps
                .iter()
                .position(|step| step.name == output.from_step.name)?;
            Some((output.name.clone(), step))
        });
        return named.collect();
    }
    let is_taken = |name: &str| {
        let inputs = steps.iter().flat_map(|step| &step.inputs);
        inputs
            .filter_map(|input| input.from_step.as_ref())
            .any(|from| from.name == name)
    };
    let last = steps
        .iter()
        .enumerate()
        .filter(|(_, step)| !is_taken(&step.name));
    last.map(|(position, step)| (step.name.clone(), position))
        .collect()
}

fn refused(message: String) -> Result<(), PlanError> {
    Err(PlanError::Refused(message))
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
    files: [{path: x.safetensors, sha256: aa, bytes: 5}]
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

    fn refusal(steps: &str) -> String {
        let refused = plan(&[job(steps), POOL.into()]).expect_err("refused");
        crate::sentence::sentence(&refused)
    }

    #[test]
    fn steps_and_results_are_found_in_one_text_or_many() {
        let steps = format!(
            "[{}, {}]",
            step("large", &upload()),
            step("larger", "fromStep: {name: large}")
        );
        let apart = plan(&[job(&steps), POOL.into()]).expect("a plan");
        assert_eq!(apart.job, "demo");
        assert_eq!(apart.outputs, [("larger".to_owned(), 1)]);
        assert_eq!(apart.steps[1].inputs[0].from, Origin::Step(0));
        let together = plan(&[format!("{}---{POOL}", job(&steps))]).expect("a plan");
        assert_eq!(apart, together);
    }

    #[test]
    fn what_admission_refuses_is_refused_in_its_words() {
        let forward = format!(
            "[{}, {}]",
            step("a", "fromStep: {name: b}"),
            step("b", &upload())
        );
        assert!(
            refusal(&forward)
                .contains("step a takes an input from a step that does not come before it")
        );
        let twice = format!("[{}, {}]", step("a", &upload()), step("a", &upload()));
        assert!(refusal(&twice).contains("duplicate value \"a\""));
        let none = "[{name: a, model: twice, inputs: [{name: video, fromStep: {name: b}}]}]";
        assert!(refusal(none).contains("step a must set exactly one pipeline"));
        let scale = step("a", &upload()).replace("upscale: {}", "upscale: {scale: 9}");
        assert!(refusal(&format!("[{scale}]")).contains("upscale.scale must be 1 to 4"));
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
        let alone = plan(&[job(&format!("[{}]", step("a", &upload())))]).expect_err("no pool");
        assert!(
            alone.to_string().contains("no ModelPool is there"),
            "{alone}"
        );
    }
}
