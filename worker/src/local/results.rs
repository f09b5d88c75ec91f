//! What the results are called, whether these names are free, and how a result gets there.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use framewright_crds::file_names;

use super::RunError;
use super::plan::{Origin, Plan};
use super::ready::Ready;
use crate::digest::digest_of;
use crate::media::sniff::sniff;
use crate::pipelines::upscale;

/// Where results go.
pub(super) struct Results<'a> {
    pub(super) folder: &'a Path,
    pub(super) job: &'a str,
    pub(super) may_overwrite: bool,
}

impl Results<'_> {
    /// Makes the folder, and looks before anything is computed whether a result would replace a file.
    ///
    /// # Errors
    /// It would, or nothing can be written there.
    pub(super) fn prepare(&self, plan: &Plan, steps: &[Ready]) -> Result<(), RunError> {
        fs::create_dir_all(self.folder).map_err(failed(self.folder))?;
        for (name, of) in &plan.outputs {
            // A file that is neither image nor video has no result: its step says so.
            let kind = source(steps, of.step).and_then(|path| sniff(path).ok());
            if let Some(kind) = kind {
                self.check(name, &self.path(name, upscale::extension(kind)))?;
            }
        }
        Ok(())
    }

    fn check(&self, name: &str, path: &Path) -> Result<(), RunError> {
        match fs::symlink_metadata(path) {
            Ok(found) if found.is_dir() => Err(failed(path)(io::ErrorKind::IsADirectory.into())),
            Ok(_) if !self.may_overwrite => Err(taken(name, path)),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Puts a result into the folder, whole or not at all.
    ///
    /// # Errors
    /// It cannot be written, or another file has taken its name meanwhile.
    pub(super) fn publish(&self, name: &str, made: &Path) -> Result<PathBuf, RunError> {
        let extension = made.extension().unwrap_or_default().to_string_lossy();
        let path = self.path(name, &extension);
        let file_name = file_names::result(self.job, name, &extension);
        let partial = self.folder.join(format!(".{file_name}.partial"));
        let copied = fs::copy(made, &partial).inspect_err(|_| {
            // Half a result is of no use, and may be what fills the disk.
            let _ = fs::remove_file(&partial);
        });
        copied.map_err(failed(&path))?;
        if !self.may_overwrite {
            // Whoever creates it owns the name.
            match File::create_new(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    return meanwhile(name, path, partial);
                }
                created => created.map(drop).map_err(failed(&path))?,
            }
        }
        fs::rename(&partial, &path).map_err(failed(&path))?;
        Ok(path)
    }

    fn path(&self, name: &str, extension: &str) -> PathBuf {
        self.folder
            .join(file_names::result(self.job, name, extension))
    }
}

/// A file of the result's name has come while the job ran: the same one is fine, and for another one the result is not thrown away.
fn meanwhile(name: &str, path: PathBuf, partial: PathBuf) -> Result<PathBuf, RunError> {
    let is_same =
        matches!((digest_of(&path), digest_of(&partial)), (Ok(there), Ok(made)) if there == made);
    if !is_same {
        return Err(RunError::TakenMeanwhile {
            name: name.to_owned(),
            path,
            kept: partial,
        });
    }
    fs::remove_file(&partial).map_err(failed(&partial))?;
    Ok(path)
}

/// The file that a step's result is made from, after all steps before it.
fn source(steps: &[Ready], step: usize) -> Option<&Path> {
    let ready = steps.get(step)?;
    let input = ready.step.inputs.first()?;
    match &input.from {
        Origin::Step(earlier) => source(steps, earlier.step),
        Origin::Upload(_) => ready.uploads.first()?.as_deref(),
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> RunError {
    move |source| RunError::Write {
        path: path.to_owned(),
        source,
    }
}

fn taken(name: &str, path: &Path) -> RunError {
    RunError::Taken {
        name: name.to_owned(),
        path: path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_came_meanwhile_stays_and_so_does_the_result() {
        let folder = tempfile::tempdir().expect("a folder");
        let made = folder.path().join("output.mp4");
        let there = folder.path().join("demo-large.mp4");
        let mut results = Results {
            folder: folder.path(),
            job: "demo",
            may_overwrite: false,
        };
        let content = |path: &Path| fs::read_to_string(path).expect("a file");
        fs::write(&made, "new").expect("written");

        assert_eq!(results.publish("large", &made).expect("is free"), there);
        assert_eq!(content(&there), "new");
        results.publish("large", &made).expect("the same content");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 2);

        fs::write(&there, "other").expect("written");
        let error = results.publish("large", &made).expect_err("is taken");
        assert!(
            error.to_string().contains(".demo-large.mp4.partial"),
            "{error}"
        );
        assert_eq!(content(&there), "other");

        results.may_overwrite = true;
        results.publish("large", &made).expect("may replace it");
        assert_eq!(content(&there), "new");
    }

    #[test]
    fn the_longest_names_of_a_job_and_its_result_can_be_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let made = folder.path().join("output.mp4");
        fs::write(&made, "new").expect("written");
        let results = Results {
            folder: folder.path(),
            job: &"j".repeat(253),
            may_overwrite: false,
        };
        let mut there = Vec::new();
        for last in ["a", "b"] {
            let name = format!("{}{last}", "r".repeat(39));
            there.push(results.publish(&name, &made).expect("is written"));
        }
        assert!(there[0] != there[1] && there.iter().all(|path| path.exists()));
    }
}
