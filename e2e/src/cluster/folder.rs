//! Where a cluster keeps its files, and what it is called everywhere.

use std::fs::{self, File, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::tools::user_folder;

/// A cluster's name and its folder, `$XDG_STATE_HOME/framewright/NAME`, else under `~/.local/state`.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

impl Folder {
    /// # Errors
    /// If the name is not 1 to 30 of `a-z`, `0-9` and `-`, beginning with a letter.
    pub(crate) fn of(name: &str) -> Result<Folder> {
        let allowed =
            |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
        if name.len() > 30
            || !name.starts_with(|first: char| first.is_ascii_lowercase())
            || !name.chars().all(allowed)
        {
            bail!(
                "a cluster's name is 1 to 30 of a-z, 0-9 and -, beginning with a letter; this one is {name:?}"
            );
        }
        Ok(Folder {
            name: name.to_owned(),
            path: state()?.join(name),
        })
    }

    /// Every cluster that has a folder.
    pub(crate) fn all() -> Result<Vec<Folder>> {
        let state = state()?;
        let Ok(entries) = fs::read_dir(&state) else {
            return Ok(Vec::new());
        };
        let folders = entries.flatten().filter(|entry| entry.path().is_dir());
        Ok(folders
            .filter_map(|entry| Folder::of(entry.file_name().to_str()?).ok())
            .collect())
    }

    pub(crate) fn file(&self, path: &str) -> PathBuf {
        self.path.join(path)
    }

    pub(crate) fn log(&self, component: &str) -> PathBuf {
        self.path.join("logs").join(format!("{component}.log"))
    }

    pub(crate) fn pki(&self, file: &str) -> PathBuf {
        self.path.join("pki").join(file)
    }

    pub(crate) fn kubeconfig(&self, user: &str) -> PathBuf {
        if user == "admin" {
            self.file("kubeconfig")
        } else {
            self.pki(&format!("{user}.kubeconfig"))
        }
    }

    /// The cgroup that is the parent of all pods.
    pub(crate) fn cgroup(&self) -> String {
        format!("framewright-{}", self.name)
    }

    /// The argument by which the cluster's first process is known from all others on the machine.
    pub(crate) fn marker(&self) -> String {
        format!("framewright-cluster:{}", self.path.display())
    }

    pub(crate) fn write(&self, path: &Path, text: &str) -> Result<()> {
        let path = self.path.join(path);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }

    /// Only one process at a time starts, uses up or stops the cluster of a name.
    ///
    /// # Errors
    /// If another process holds the name; says which.
    pub(crate) fn lock(&self) -> Result<File> {
        let path = self.path.with_extension("lock");
        fs::create_dir_all(state()?)
            .with_context(|| format!("create the folder of {}", path.display()))?;
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0)
                    .with_context(|| format!("write {}", path.display()))?;
                write!(file, "{}", std::process::id())
                    .with_context(|| format!("write {}", path.display()))?;
                Ok(file)
            }
            Err(TryLockError::WouldBlock) => {
                let holder = fs::read_to_string(&path).unwrap_or_default();
                bail!(
                    "the cluster {} belongs to process {holder}: wait until that ends, or use another name",
                    self.name
                )
            }
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("lock {}", path.display()))
            }
        }
    }
}

/// The folder of all clusters.
pub(crate) fn state() -> Result<PathBuf> {
    user_folder("XDG_STATE_HOME", ".local/state")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_leave_its_folder_is_refused() {
        for name in ["", "../up", "Demo", "9lives", "a name", &"long".repeat(9)] {
            assert!(Folder::of(name).is_err(), "{name:?}");
        }
        assert!(Folder::of("fw-demo2").is_ok());
    }
}
