//! Which steps have what they need.

use std::collections::BTreeSet;

use framewright_crds::aijob::{
    AIJobSpec, FileStatus, FromStep, OutputRole, Step, StepInput, StepOutput, StepState, StepStatus,
};
use framewright_crds::names::ArtifactRole;
use framewright_crds::pipelines::OutputSlot;

/// What a step lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// A file that nobody has uploaded yet.
    Upload { input: String, digest: String },
    /// An earlier step that is not done.
    Step { name: String },
    /// An earlier step that will never be done.
    FailedStep { name: String },
    /// A source that this version does not know.
    Source { input: String },
    /// An output that an earlier step, which is done, did not make.
    Output { message: String },
}

/// The first thing that the step lacks, or none if it can run.
#[must_use]
pub fn missing(step: &Step, done: &[StepStatus], received: &BTreeSet<String>) -> Option<Missing> {
    step.inputs.iter().find_map(|input| {
        if let Some(upload) = &input.upload {
            return (!received.contains(upload.sha256())).then(|| Missing::Upload {
                input: input.name.clone(),
                digest: upload.digest.clone(),
            });
        }
        let Some(from) = &input.from_step else {
            return Some(Missing::Source {
                input: input.name.clone(),
            });
        };
        let name = &from.name;
        match done
            .iter()
            .find(|status| &status.name == name)
            .map(|status| status.state)
        {
            Some(StepState::Succeeded) => output(from, done).is_none().then(|| Missing::Output {
                message: not_made(from, done, "inputs[].fromStep.output"),
            }),
            Some(StepState::Failed | StepState::Skipped) => {
                Some(Missing::FailedStep { name: name.clone() })
            }
            Some(
                StepState::Blocked
                | StepState::Queued
                | StepState::Starting
                | StepState::Running
                | StepState::Unknown,
            )
            | None => Some(Missing::Step { name: name.clone() }),
        }
    })
}

/// An input that is there: its name and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    pub name: String,
    pub role: ArtifactRole,
    pub digest: String,
    pub bytes: i64,
}

fn not_made(from: &FromStep, done: &[StepStatus], field: &str) -> String {
    let maker = done.iter().find(|status| status.name == from.name);
    let made = maker.into_iter().flat_map(|maker| &maker.outputs);
    let made: Vec<&str> = made.map(|output| output.name.as_str()).collect();
    let made = if made.is_empty() {
        "nothing".to_owned()
    } else {
        made.join(", ")
    };
    let wanted = from.output.as_deref().unwrap_or("with a result");
    format!(
        "step {} made no output {wanted}; it made {made}; delete this job and submit it with another {field}",
        from.name
    )
}

/// Why a step can never give what is asked of it: an output that its pipeline does not make is named by one of its inputs, or by the
/// job for this step.
#[must_use]
pub fn wrong_output(spec: &AIJobSpec, step: &Step) -> Option<String> {
    let of_inputs = step.inputs.iter().filter_map(|input| {
        let from = input.from_step.as_ref()?;
        Some((
            format!("inputs[].fromStep.output of input {}", input.name),
            from,
        ))
    });
    let of_job = spec.outputs.iter().flatten();
    let of_job = of_job
        .filter(|output| output.from_step.name == step.name)
        .map(|output| {
            let field = format!("spec.outputs: fromStep.output of output {}", output.name);
            (field, &output.from_step)
        });
    of_inputs.chain(of_job).find_map(|(field, from)| {
        let wanted = from.output.as_deref()?;
        let maker = spec.steps.iter().find(|step| step.name == from.name)?;
        let pipeline = maker.pipeline()?.spec();
        let is_made = |slot: &OutputSlot| {
            let number = wanted.strip_prefix(slot.name);
            number.is_some_and(|number| number.is_empty() || number.starts_with('-'))
        };
        let made: Vec<&str> = pipeline.outputs.iter().map(|slot| slot.name).collect();
        (!pipeline.outputs.iter().any(is_made)).then(|| {
            format!(
                "{field} is {wanted}, which {} of step {} does not make; it makes {}; delete this job and submit it with one of these",
                pipeline.name,
                from.name,
                made.join(", ")
            )
        })
    })
}

/// Which result the job asks for that no step made, though all are done.
#[must_use]
pub fn missing_result(spec: &AIJobSpec, done: &[StepStatus]) -> Option<String> {
    let wanted = spec.outputs.iter().flatten();
    let mut wanted = wanted.filter(|wanted| output(&wanted.from_step, done).is_none());
    let wanted = wanted.next()?;
    let why = not_made(&wanted.from_step, done, "spec.outputs[].fromStep.output");
    Some(format!("output {}: {why}", wanted.name))
}

/// What the status calls a file that a step names.
#[must_use]
pub fn file_name(step: &Step, input: &StepInput) -> String {
    format!("{}/{}", step.name, input.name)
}

/// The output of a step that another step, or the job, takes: the one that it names, or else the only result.
#[must_use]
pub fn output<'a>(from: &FromStep, done: &'a [StepStatus]) -> Option<&'a StepOutput> {
    let maker = done.iter().find(|status| status.name == from.name)?;
    let mut outputs = maker.outputs.iter();
    match &from.output {
        Some(name) => outputs.find(|output| &output.name == name),
        None => outputs.find(|output| output.role == OutputRole::Result),
    }
}

/// All inputs of a step, if all are there. A file has the size that was verified when it came, whatever the step says of it.
#[must_use]
pub fn present(step: &Step, done: &[StepStatus], files: &[FileStatus]) -> Option<Vec<Present>> {
    step.inputs
        .iter()
        .map(|input| {
            if let Some(upload) = &input.upload {
                let verified = files.iter().find(|known| known.digest == upload.digest);
                return Some(Present {
                    name: input.name.clone(),
                    role: ArtifactRole::Input,
                    digest: upload.digest.clone(),
                    bytes: verified.map_or(upload.bytes, |known| known.bytes),
                });
            }
            let output = output(input.from_step.as_ref()?, done)?;
            Some(Present {
                name: input.name.clone(),
                role: ArtifactRole::Output,
                digest: output.digest.clone(),
                bytes: output.bytes,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_is_read_as_an_input_and_what_a_step_has_made_as_an_output() {
        let digest = "ab".repeat(32);
        let step: Step = serde_json::from_value(serde_json::json!({
            "name": "smooth", "model": "x2", "upscale": {},
            "inputs": [
                {"name": "video", "fromStep": {"name": "large"}},
                {"name": "mask", "upload": {"digest": format!("sha256:{digest}"), "bytes": 7}},
            ],
        }))
        .expect("a step");
        let done: Vec<StepStatus> = serde_json::from_value(serde_json::json!([{
            "name": "large", "state": "Succeeded", "attempts": [],
            "outputs": [
                {"name": "poster", "role": "poster", "digest": format!("sha256:{}", "cd".repeat(32)), "mediaType": "image/png", "bytes": 1},
                {"name": "video", "role": "result", "digest": format!("sha256:{digest}"), "mediaType": "video/mp4", "bytes": 9},
            ],
        }]))
        .expect("a status");
        let present = present(&step, &done, &[]).expect("all inputs");
        let roles: Vec<ArtifactRole> = present.iter().map(|input| input.role).collect();
        assert_eq!(roles, [ArtifactRole::Output, ArtifactRole::Input]);
        assert_eq!((present[0].bytes, present[1].bytes), (9, 7));
    }

    #[test]
    fn an_output_that_no_pipeline_makes_is_named_before_anything_is_computed() {
        let spec: AIJobSpec = serde_json::from_value(serde_json::json!({
            "steps": [
                {"name": "a", "model": "x2", "upscale": {}, "inputs": [{"name": "video", "upload": {"digest": "sha256:1", "bytes": 7}}]},
                {"name": "b", "model": "x2", "upscale": {}, "inputs": [{"name": "video", "fromStep": {"name": "a", "output": "sound"}}]},
                {"name": "c", "model": "x2", "upscale": {}, "inputs": [{"name": "video", "fromStep": {"name": "a", "output": "video"}}]},
            ],
            "outputs": [{"name": "all", "fromStep": {"name": "c", "output": "masks"}}],
        }))
        .expect("a spec");
        let wrong = |step: usize| wrong_output(&spec, &spec.steps[step]);
        assert_eq!(wrong(0), None);
        assert_eq!(
            wrong(1).as_deref(),
            Some(
                "inputs[].fromStep.output of input video is sound, which upscale of step a does not make; it makes video, image; delete this job and submit it with one of these"
            )
        );
        let of_job = wrong(2).unwrap_or_default();
        assert!(
            of_job.starts_with("spec.outputs: fromStep.output of output all is masks"),
            "{of_job}"
        );
    }

    #[test]
    fn a_step_takes_the_output_that_it_names() {
        let done: Vec<StepStatus> = serde_json::from_value(serde_json::json!([{
            "name": "cut", "state": "Succeeded",
            "outputs": [
                {"name": "video", "role": "result", "digest": "sha256:1", "mediaType": "video/mp4", "bytes": 1},
                {"name": "masks", "role": "data", "digest": "sha256:2", "mediaType": "application/x-tar", "bytes": 2},
            ],
        }]))
        .expect("a status");
        for (name, expected) in [
            (None, Some(1)),
            (Some("masks"), Some(2)),
            (Some("sound"), None),
        ] {
            let from = FromStep {
                name: "cut".to_owned(),
                output: name.map(str::to_owned),
            };
            assert_eq!(output(&from, &done).map(|output| output.bytes), expected);
        }
    }
}
