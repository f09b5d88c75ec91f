//! What this machine lacks for a cluster.

use std::fs;

use crate::tools::cache;

/// One thing that a cluster needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub what: String,
    pub is_fine: bool,
    /// What was found, and the way out if it is not fine.
    pub detail: String,
}

/// Looks without changing anything.
pub fn examine() -> Vec<Finding> {
    let mut findings = vec![root(), cgroups(), overlay(), memory()];
    findings.extend(PROGRAMS.map(|(name, purpose)| program(name, purpose)));
    findings.push(built());
    findings
}

const PROGRAMS: [(&str, &str); 11] = [
    ("unshare", "Debian package util-linux"),
    ("ip", "Debian package iproute2"),
    (
        "go",
        "Go 1.26 or later, which builds Kubernetes; installed from go.dev or Debian",
    ),
    (
        "iptables",
        "Debian package iptables, installed by the first start",
    ),
    (
        "containerd",
        "Debian package containerd, installed by the first start",
    ),
    ("runc", "Debian package runc, installed by the first start"),
    (
        "conntrack",
        "Debian package conntrack, installed by the first start",
    ),
    (
        "buildah",
        "Debian package buildah, installed by the first build of an image",
    ),
    (
        "mmdebstrap",
        "Debian package mmdebstrap, installed by the first build of an image",
    ),
    ("node", "Node.js, which tests use to run a chain"),
    ("python3", "Python 3, which tests use"),
];

fn finding(what: &str, is_fine: bool, detail: impl Into<String>) -> Finding {
    Finding {
        what: what.to_owned(),
        is_fine,
        detail: detail.into(),
    }
}

fn root() -> Finding {
    let is_root = rustix::process::geteuid().is_root();
    finding(
        "root",
        is_root,
        if is_root {
            "yes"
        } else {
            "a cluster needs namespaces, mounts and cgroups: run as root"
        },
    )
}

fn cgroups() -> Finding {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let has = |kind: &str| {
        mounts
            .lines()
            .any(|line| line.split(' ').nth(2) == Some(kind))
    };
    match (has("cgroup"), has("cgroup2")) {
        (true, _) => finding("cgroups", true, "version 1 or hybrid"),
        (false, true) => finding("cgroups", true, "version 2; this was not measured"),
        (false, false) => finding("cgroups", false, "none are mounted at /sys/fs/cgroup"),
    }
}

fn overlay() -> Finding {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let is_known = known
        .lines()
        .any(|line| line.trim_start_matches("nodev").trim() == "overlay");
    finding(
        "overlayfs",
        is_known,
        if is_known {
            "yes"
        } else {
            "the kernel does not know it yet: modprobe overlay"
        },
    )
}

fn memory() -> Finding {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = info.lines().find_map(|line| {
        line.strip_prefix("MemAvailable:")?
            .split_whitespace()
            .next()?
            .parse::<u64>()
            .ok()
    });
    let gigabytes = kilobytes.unwrap_or(0) >> 20;
    finding(
        "memory",
        gigabytes >= 3,
        format!("{gigabytes} GiB available; a cluster wants 1, the first build of Kubernetes 5"),
    )
}

fn program(name: &str, purpose: &str) -> Finding {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders)
        .map(|folder| folder.join(name))
        .find(|path| path.exists());
    match found {
        Some(path) => finding(name, true, path.display().to_string()),
        None => finding(name, false, format!("not on the PATH: {purpose}")),
    }
}

fn built() -> Finding {
    let folder = match cache() {
        Ok(cache) => cache.join("tools"),
        Err(error) => return finding("built tools", false, error.to_string()),
    };
    let names = fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    if names.is_empty() {
        return finding(
            "built tools",
            false,
            "none yet; the first start builds them in about 15 minutes on two cores",
        );
    }
    finding(
        "built tools",
        true,
        format!("{} in {}", names.join(", "), folder.display()),
    )
}
