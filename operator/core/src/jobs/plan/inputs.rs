//! Which steps have what they need.

use std::collections::BTreeSet;

use framewright_crds::aijob::{Step, StepState, StepStatus, UploadStatus};
use framewright_crds::names::ArtifactRole;

/// What a step lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// A file that nobody has uploaded yet.
    Upload { input: String, sha256: String },
    /// An earlier step that is not done.
    Step { name: String },
    /// An earlier step that will never be done.
    FailedStep { name: String },
}

/// The first thing that the step lacks, or none if it can run.
#[must_use]
pub fn missing(step: &Step, done: &[StepStatus], received: &BTreeSet<String>) -> Option<Missing> {
    step.inputs.iter().find_map(|input| {
        if let Some(upload) = &input.upload {
            return (!received.contains(&upload.sha256)).then(|| Missing::Upload {
                input: input.name.clone(),
                sha256: upload.sha256.clone(),
            });
        }
        let name = &input.from_step.as_ref()?.name;
        match done
            .iter()
            .find(|status| &status.name == name)
            .map(|status| status.state)
        {
            Some(StepState::Succeeded) => None,
            Some(StepState::Failed | StepState::Skipped) => {
                Some(Missing::FailedStep { name: name.clone() })
            }
            Some(
                StepState::Blocked | StepState::Queued | StepState::Starting | StepState::Running,
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
    pub sha256: String,
    pub bytes: i64,
}

/// All inputs of a step, if all are there. A file has the size that was verified when it came, whatever the step says of it.
#[must_use]
pub fn present(step: &Step, done: &[StepStatus], uploads: &[UploadStatus]) -> Option<Vec<Present>> {
    step.inputs
        .iter()
        .map(|input| {
            if let Some(upload) = &input.upload {
                let verified = uploads.iter().find(|known| known.sha256 == upload.sha256);
                return Some(Present {
                    name: input.name.clone(),
                    role: ArtifactRole::Input,
                    sha256: upload.sha256.clone(),
                    bytes: verified.map_or(upload.bytes, |known| known.bytes),
                });
            }
            let from = &input.from_step.as_ref()?.name;
            let output = done
                .iter()
                .find(|status| &status.name == from)?
                .output
                .as_ref()?;
            Some(Present {
                name: input.name.clone(),
                role: ArtifactRole::Output,
                sha256: output.sha256().to_owned(),
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
                {"name": "mask", "upload": {"sha256": digest, "bytes": 7}},
            ],
        }))
        .expect("a step");
        let done: Vec<StepStatus> = serde_json::from_value(serde_json::json!([{
            "name": "large", "state": "Succeeded", "attempts": [],
            "output": {"digest": format!("sha256:{digest}"), "mediaType": "video/mp4", "bytes": 9},
        }]))
        .expect("a status");
        let present = present(&step, &done, &[]).expect("all inputs");
        let roles: Vec<ArtifactRole> = present.iter().map(|input| input.role).collect();
        assert_eq!(roles, [ArtifactRole::Output, ArtifactRole::Input]);
    }
}
