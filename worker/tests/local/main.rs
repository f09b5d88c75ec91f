//! `run`: one job on this machine, from files.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "what a test does not expect ends it"
)]

mod files;
#[path = "../golden/mod.rs"]
mod golden;
mod jobs;
#[path = "../peer/mod.rs"]
mod peer;
mod results;

use std::process::{Command, Output};

use peer::{digest, weights};
use tempfile::TempDir;

/// Writes a job of these steps, with its pool, as job.yaml.
pub(crate) fn job(folder: &TempDir, steps: &str) {
    let weights = weights();
    let text = format!(
        "
apiVersion: framewright.dev/v1alpha1
kind: AIJob
metadata: {{name: demo}}
spec:
  steps:{steps}---
apiVersion: framewright.dev/v1alpha1
kind: ModelPool
metadata: {{name: cpu}}
spec:
  device: cpu
  models:
  - name: twice
    source: {{upload: {{}}}}
    files: [{{path: x.safetensors, digest: 'sha256:{}', bytes: {}}}]
",
        digest(&weights),
        weights.len()
    );
    write(folder, "job.yaml", text.as_bytes());
}

pub(crate) fn write(folder: &TempDir, name: &str, content: &[u8]) {
    let path = folder.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

/// Runs job.yaml.
pub(crate) fn run(folder: &TempDir, more: &[&str]) -> Output {
    run_file(folder, "job.yaml", more)
}

pub(crate) fn run_file(folder: &TempDir, file: &str, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_framewright-worker"))
        .args(["run", file])
        .args(more)
        .current_dir(folder.path())
        .output()
        .unwrap()
}

pub(crate) fn fails(folder: &TempDir, more: &[&str], words: &str) {
    let done = run(folder, more);
    assert!(!done.status.success(), "{}", text(&done));
    assert!(text(&done).contains(words), "{words}: {}", text(&done));
}

pub(crate) fn text(done: &Output) -> String {
    let (out, error) = (&done.stdout, &done.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(error)
    )
}
