//! The cgroup under which a cluster's pods live, in every hierarchy of the machine.
//!
//! Measured with version 1 and hybrid; with version 2 it is the one hierarchy at `/sys/fs/cgroup`, which was not measured.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::folder::Folder;
use crate::eventually;

/// Creates it.
pub(crate) fn create(folder: &Folder) -> Result<()> {
    for hierarchy in hierarchies()? {
        delegate(&hierarchy)?;
        let group = hierarchy.join(folder.cgroup());
        fs::create_dir_all(&group).with_context(|| format!("create {}", group.display()))?;
        // A new cpuset of version 1 has no processors and takes no process until it gets some.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let parent = hierarchy.join(file);
            if parent.exists() && !hierarchy.join("cgroup.controllers").exists() {
                let all = fs::read_to_string(&parent)
                    .with_context(|| format!("read {}", parent.display()))?;
                fs::write(group.join(file), all)
                    .with_context(|| format!("write {} of {}", file, group.display()))?;
            }
        }
    }
    Ok(())
}

/// Version 2 gives a group only the controllers that its parent hands down. systemd does so for
/// these already; in version 1 and hybrid there are none to hand down here.
fn delegate(hierarchy: &Path) -> Result<()> {
    let read = |file: &str| fs::read_to_string(hierarchy.join(file)).unwrap_or_default();
    let (offered, handed_down) = (read("cgroup.controllers"), read("cgroup.subtree_control"));
    let has = |list: &str, name: &str| list.split_whitespace().any(|other| other == name);
    for controller in ["cpuset", "cpu", "io", "memory", "pids"] {
        if has(&offered, controller) && !has(&handed_down, controller) {
            let file = hierarchy.join("cgroup.subtree_control");
            fs::write(&file, format!("+{controller}"))
                .with_context(|| format!("add {controller} to {}", file.display()))?;
        }
    }
    Ok(())
}

/// Removes it with all that is below, once the last process has left.
pub(crate) async fn remove(folder: &Folder) -> Result<()> {
    for hierarchy in hierarchies()? {
        let group = hierarchy.join(folder.cgroup());
        eventually(
            Duration::from_secs(10),
            "the cgroups are empty",
            async || remove_below(&group),
        )
        .await?;
    }
    Ok(())
}

fn remove_below(group: &Path) -> Result<()> {
    if !group.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(group)
        .with_context(|| format!("list {}", group.display()))?
        .flatten()
    {
        if entry.path().is_dir() {
            remove_below(&entry.path())?;
        }
    }
    fs::remove_dir(group).with_context(|| format!("remove {}", group.display()))
}

fn hierarchies() -> Result<BTreeSet<PathBuf>> {
    let mounts = fs::read_to_string("/proc/mounts").context("read /proc/mounts")?;
    Ok(mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            let (path, kind) = (words.next()?, words.next()?);
            (kind == "cgroup" || kind == "cgroup2").then(|| PathBuf::from(path))
        })
        .collect())
}
