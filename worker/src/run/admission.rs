//! What would the API server refuse at admission? The same, in its words. Pure.

use std::collections::BTreeSet;

use framewright_crds::aijob::{AIJob, MAX_FRAMES, MAX_STEPS, Step, StepInput, Upload, Upscale};
use framewright_crds::modelpool::ModelPool;

use super::plan::{PlanError, name_of};

/// # Errors
/// The first rule that the pool breaks.
pub(super) fn check_pool(pool: &ModelPool) -> Result<(), PlanError> {
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

/// # Errors
/// The first rule that the job breaks.
pub(super) fn check_job(job: &AIJob) -> Result<(), PlanError> {
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
    if frames.is_some_and(|frames| !(1..=MAX_FRAMES).contains(&frames)) {
        return refused(format!(
            "step {name}: upscale.frames must be 1 to {MAX_FRAMES}"
        ));
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

fn refused(message: String) -> Result<(), PlanError> {
    Err(PlanError::Refused(message))
}
