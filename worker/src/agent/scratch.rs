//! Room for the files of tasks: a folder each, gone with its task, and cleared of what a killed run left.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use framewright_crds::names::TaskId;

const PREFIX: &str = "task-";

/// The folder in which tasks have theirs.
#[derive(Clone, Debug)]
pub(super) struct Scratch {
    folder: PathBuf,
    bytes_per_task: u64,
}

/// Why there is no room.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    #[error("cannot make the scratch folder {}", path.display())]
    Make {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot clear {} of what an earlier run left", path.display())]
    Clear {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// A task's own folder, removed with all that is in it when this is dropped.
#[derive(Debug)]
pub(super) struct TaskFolder {
    path: PathBuf,
}

impl Scratch {
    /// Makes the folder, and removes from it what earlier runs left. `limit` bytes are shared by `slots` tasks.
    ///
    /// # Errors
    /// The folder cannot be made or cleared.
    pub(super) fn open(folder: &Path, limit: u64, slots: usize) -> Result<Scratch, ScratchError> {
        let path = folder.to_path_buf();
        let make = |source| ScratchError::Make {
            path: path.clone(),
            source,
        };
        fs::create_dir_all(folder).map_err(make)?;
        for entry in fs::read_dir(folder).map_err(make)? {
            let entry = entry.map_err(make)?;
            if entry.file_name().to_string_lossy().starts_with(PREFIX) {
                let path = entry.path();
                fs::remove_dir_all(&path).map_err(|source| ScratchError::Clear { path, source })?;
            }
        }
        Ok(Scratch {
            folder: folder.to_path_buf(),
            // The kubelet evicts a pod whose volume goes beyond its limit, so a task ends a little below.
            bytes_per_task: limit / 20 * 19 / (slots.max(1) as u64),
        })
    }

    /// The most that one task may use, in bytes.
    #[must_use]
    pub(super) fn bytes_per_task(&self) -> u64 {
        self.bytes_per_task
    }

    /// An empty folder for this task.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn task(&self, task: &TaskId) -> Result<TaskFolder, ScratchError> {
        let digest = ring::digest::digest(&ring::digest::SHA256, task.to_string().as_bytes());
        let name = hex::encode(&digest.as_ref()[..8]);
        let path = self.folder.join(format!("{PREFIX}{name}"));
        fs::create_dir_all(&path).map_err(|source| ScratchError::Make {
            path: path.clone(),
            source,
        })?;
        Ok(TaskFolder { path })
    }
}

impl TaskFolder {
    /// Where it is.
    #[must_use]
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TaskFolder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_run_left_is_removed_and_a_task_cleans_up_after_itself() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(folder.path().join("task-old/deep")).expect("made");
        fs::write(folder.path().join("keep"), "not ours").expect("written");
        let scratch = Scratch::open(folder.path(), 100, 2).expect("opened");
        assert!(!folder.path().join("task-old").exists());
        assert!(folder.path().join("keep").exists());
        assert_eq!(scratch.bytes_per_task(), 47);

        let id: TaskId = "uid/step/0/1".parse().expect("an id");
        let task = scratch.task(&id).expect("a folder");
        fs::write(task.path().join("input"), "x").expect("written");
        let path = task.path().to_path_buf();
        drop(task);
        assert!(!path.exists());
    }
}
