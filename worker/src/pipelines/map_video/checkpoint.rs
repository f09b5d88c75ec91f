//! Which segments of a video are finished: files in a folder, and a manifest, by which another attempt goes on from them.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use framewright_crds::names;
use framewright_crds::pipelines::Pipeline;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::{info, warn};

use super::segments::{SOURCE_FRAMES, Segments};
use crate::digest::digest_of;
use crate::media::MediaError;
use crate::media::encode::Segment;
use crate::pipelines::TaskContext;
use crate::pipelines::video::PROGRAMS_DEADLINE;

/// The manifest's name.
const MANIFEST: &str = "checkpoint.json";
/// A manifest of the longest video is far smaller.
const MANIFEST_LIMIT: u64 = 4 << 20;

/// Where finished segments are kept after the task, and of what they are.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// A folder for this step alone.
    pub folder: PathBuf,
    /// What to do.
    pub pipeline: Pipeline,
    /// The digests of the inputs, in their order.
    pub inputs: Vec<String>,
    /// The digests of the models, in their order.
    pub models: Vec<String>,
    /// What random numbers begin with.
    pub seed: i64,
    /// The device's name.
    pub device: String,
}

impl Checkpoint {
    /// Removes what finished segments there are.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn remove(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name == MANIFEST || name.starts_with("segment-") || name.starts_with("segments.") {
                fs::remove_file(entry.path())?;
            }
        }
        // Somebody else's files keep it.
        match fs::remove_dir(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// All that the bytes of the segments depend on.
    fn identity(&self, context: &TaskContext, computing: &Value) -> Result<Value, MediaError> {
        Ok(json!({
            "pipeline": self.pipeline,
            "inputs": self.inputs,
            "models": self.models,
            "seed": self.seed,
            "device": self.device,
            "worker": env!("CARGO_PKG_VERSION"),
            "ffmpeg": context.programs.version(PROGRAMS_DEADLINE)?,
            "segmentFrames": SOURCE_FRAMES,
            "computing": computing,
        }))
    }
}

/// What is finished, as a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    /// All that the bytes depend on.
    of: Value,
    segments: Vec<Finished>,
    /// Whether the last segment is the video's last one.
    is_complete: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Finished {
    file: String,
    digest: String,
    bytes: u64,
    frames: u64,
}

/// The folder of a video's segments.
#[derive(Debug)]
pub(super) struct SegmentFolder {
    path: PathBuf,
    /// Whether segments are kept for another attempt.
    is_kept: bool,
    manifest: Manifest,
}

impl SegmentFolder {
    /// Opens the task's folder, and finds the segments that are there if they are of the same result. What else is there is ignored.
    pub(super) fn open(
        context: &TaskContext,
        computing: &Value,
        segments: Segments,
    ) -> Result<SegmentFolder, MediaError> {
        let (path, of) = match &context.checkpoint {
            Some(checkpoint) => (
                checkpoint.folder.clone(),
                checkpoint.identity(context, computing)?,
            ),
            None => (context.folder.join("segments"), Value::Null),
        };
        fs::create_dir_all(&path).map_err(|source| MediaError::writing(path.clone(), source))?;
        let is_kept = context.checkpoint.is_some();
        let mut folder = SegmentFolder {
            path,
            is_kept,
            manifest: Manifest {
                of,
                segments: Vec::new(),
                is_complete: false,
            },
        };
        if is_kept {
            match folder.found(segments) {
                Ok(Some(found)) => {
                    let (finished, frames) = (found.segments.len(), frames_of(&found.segments));
                    info!(
                        finished,
                        frames, "goes on after the segments that are finished"
                    );
                    folder.manifest = found;
                }
                Ok(None) => {}
                Err(reason) => {
                    let path = folder.path.display();
                    warn!("begins anew, since the checkpoint in {path} cannot be used: {reason}");
                }
            }
        }
        Ok(folder)
    }

    /// The manifest as far as its segments are there, if there is one; else why it cannot be used.
    fn found(&self, segments: Segments) -> Result<Option<Manifest>, String> {
        let Some(found) = read(&self.path.join(MANIFEST))? else {
            return Ok(None);
        };
        if let Some(difference) = difference(&found.of, &self.manifest.of) {
            return Err(difference);
        }
        let count = found.segments.len();
        let is_there = |(index, segment): &(usize, Finished)| {
            let is_last = found.is_complete && index + 1 == count;
            let number = *index as u64;
            let frames = segments.first_frame(number + 1) - segments.first_frame(number);
            let is_whole = segment.frames == frames || (is_last && segment.frames <= frames);
            is_whole && segment.frames > 0 && segment.is_in(&self.path, *index)
        };
        let finished = found.segments.iter().cloned().enumerate();
        let finished: Vec<Finished> = finished
            .take_while(is_there)
            .map(|(_, segment)| segment)
            .collect();
        if finished.len() < count {
            let name = file_name(finished.len());
            warn!("goes on before {name}, which is not the file that the checkpoint names");
        }
        Ok(Some(Manifest {
            is_complete: found.is_complete && finished.len() == count && count > 0,
            segments: finished,
            of: found.of,
        }))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Frames in finished segments.
    pub(super) fn frames(&self) -> u64 {
        frames_of(&self.manifest.segments)
    }

    /// Bytes of finished segments.
    pub(super) fn bytes(&self) -> u64 {
        let segments = self.manifest.segments.iter();
        segments.map(|segment| segment.bytes).sum()
    }

    /// Whether there is nothing left to make.
    pub(super) fn is_complete(&self) -> bool {
        self.manifest.is_complete
    }

    pub(super) fn finished(&self) -> Vec<Segment> {
        let segments = self.manifest.segments.iter();
        let segments = segments.map(|segment| Segment {
            file: segment.file.clone(),
            frames: segment.frames,
        });
        segments.collect()
    }

    /// Where the next segment is to be written. The ffmpeg of a killed worker still writes for a while, so each worker has a name of its own.
    pub(super) fn next_path(&self) -> PathBuf {
        let name = file_name(self.manifest.segments.len());
        self.path.join(format!("{name}.{}", std::process::id()))
    }

    /// The next segment has been written, with so many frames.
    pub(super) fn add(&mut self, frames: u64) -> Result<(), MediaError> {
        let path = self.path.join(file_name(self.manifest.segments.len()));
        fs::rename(self.next_path(), &path)
            .map_err(|source| MediaError::writing(path.clone(), source))?;
        let (digest, bytes) = if self.is_kept {
            let (digest, bytes) = digest_of(&path).map_err(|error| MediaError::Read {
                path: path.clone(),
                source: io::Error::other(error),
            })?;
            (names::digest(&digest), bytes)
        } else {
            let found = fs::metadata(&path).map_err(|source| MediaError::Read {
                path: path.clone(),
                source,
            })?;
            (String::new(), found.len())
        };
        self.manifest.segments.push(Finished {
            file: file_name(self.manifest.segments.len()),
            digest,
            bytes,
            frames,
        });
        self.write()
    }

    /// There are no more segments.
    pub(super) fn complete(&mut self) -> Result<(), MediaError> {
        self.manifest.is_complete = true;
        self.write()
    }

    /// Makes room, unless another attempt may need the segments.
    pub(super) fn discard_unless_kept(self) {
        if !self.is_kept
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            warn!("cannot remove {}: {error}", self.path.display());
        }
    }

    /// In one step, so that a killed worker leaves the manifest as it was or as it is.
    fn write(&self) -> Result<(), MediaError> {
        if !self.is_kept {
            return Ok(());
        }
        let path = self.path.join(MANIFEST);
        let failed = |source| MediaError::writing(path.clone(), source);
        let mut file = tempfile::Builder::new()
            .prefix("segments.")
            .tempfile_in(&self.path)
            .map_err(failed)?;
        let text = serde_json::to_vec_pretty(&self.manifest).map_err(io::Error::from);
        file.write_all(&text.map_err(failed)?).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        Ok(())
    }
}

impl Finished {
    fn is_in(&self, folder: &Path, index: usize) -> bool {
        self.file == file_name(index)
            && digest_of(&folder.join(&self.file)).is_ok_and(|(digest, bytes)| {
                bytes == self.bytes && names::digest(&digest) == self.digest
            })
    }
}

fn frames_of(segments: &[Finished]) -> u64 {
    segments.iter().map(|segment| segment.frames).sum()
}

fn file_name(index: usize) -> String {
    format!("segment-{index:05}.mp4")
}

fn read(path: &Path) -> Result<Option<Manifest>, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("its manifest cannot be read: {error}")),
    };
    let mut bytes = Vec::new();
    file.take(MANIFEST_LIMIT)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("its manifest cannot be read: {error}"))?;
    let manifest = serde_json::from_slice(&bytes);
    manifest
        .map(Some)
        .map_err(|error| format!("its manifest is not valid: {error}"))
}

/// What two results differ in.
fn difference(found: &Value, wanted: &Value) -> Option<String> {
    let wanted = wanted.as_object()?;
    let differing = wanted
        .iter()
        .find(|(name, value)| found.get(name) != Some(value));
    let (name, value) = differing?;
    let found = found.get(name).unwrap_or(&Value::Null);
    Some(format!("its {name} is {found}, and this step's is {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_of_another_result_is_told_by_what_differs() {
        let of = |seed: i64, input: &str| json!({"seed": seed, "inputs": [input]});
        assert_eq!(difference(&of(1, "a"), &of(1, "a")), None);
        assert_eq!(
            difference(&of(1, "a"), &of(2, "a")),
            Some("its seed is 1, and this step's is 2".to_owned())
        );
        assert_eq!(
            difference(&json!({"seed": 1}), &of(1, "a")),
            Some("its inputs is null, and this step's is [\"a\"]".to_owned())
        );
    }
}
