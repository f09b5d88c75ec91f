//! `run`: one job on this machine, from files.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "what a test does not expect ends it"
)]

mod golden;
mod peer;

use std::path::Path;
use std::process::{Command, Output};

use peer::{clip, digest, picture, size_of, weights};
use tempfile::TempDir;

#[test]
fn a_job_of_three_steps_is_done_from_files_beside_it() {
    let folder = TempDir::new().unwrap();
    write(&folder, "some.bin", &weights());
    let (video, image) = (clip(folder.path(), 10), picture(folder.path()));
    job(
        &folder,
        &format!(
            "
  - name: large
    model: twice
    upscale: {{frames: 4}}
    inputs: [{{name: video, upload: {{sha256: {}, bytes: {}}}}}]
  - name: larger
    model: twice
    upscale: {{scale: 1}}
    inputs: [{{name: video, fromStep: {{name: large}}}}]
  - name: poster
    model: twice
    upscale: {{}}
    inputs: [{{name: image, upload: {{sha256: {}, bytes: {}}}}}]
",
            digest(&video),
            video.len(),
            digest(&image),
            image.len()
        ),
    );
    let done = run(&folder, &["--output", "results"]);
    assert!(done.status.success(), "{}", text(&done));
    let results = folder.path().join("results");
    assert_eq!(size_of(&results.join("demo-larger.mp4")), "128,72,4");
    let poster = image::open(results.join("demo-poster.png")).unwrap();
    assert_eq!((poster.width(), poster.height()), (80, 48));
    assert_eq!(
        std::fs::read_dir(&results).unwrap().count(),
        2,
        "intermediate results are gone"
    );
    let said = text(&done);
    assert!(said.contains("STEP"), "{said}");
    assert!(said.contains("demo-larger.mp4"), "{said}");
}

#[test]
fn the_example_with_the_upscaler_that_ships_is_done() {
    let folder = TempDir::new().unwrap();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let path = |path: &str| repository.join(path).to_str().unwrap().to_owned();
    let done = Command::new(env!("CARGO_BIN_EXE_framewright-worker"))
        .args([
            "run",
            &path("manifests/examples/job-image.yaml"),
            &path("manifests/examples/pool-cpu.yaml"),
        ])
        .args(["--weights", &path("models/framewright-x2")])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", text(&done));
    assert!(
        folder.path().join("poster-large.png").exists(),
        "{}",
        text(&done)
    );
}

#[test]
fn files_that_are_named_must_be_the_ones_that_are_pinned() {
    let folder = TempDir::new().unwrap();
    let image = picture(folder.path());
    job(
        &folder,
        &format!(
            "
  - name: large
    model: twice
    upscale: {{}}
    inputs: [{{name: image, upload: {{sha256: {}, bytes: {}}}}}]
",
            digest(&image),
            image.len()
        ),
    );
    write(&folder, "other.png", b"another file");
    fails(
        &folder,
        &[],
        "model twice: x.safetensors: no file with SHA-256",
    );
    write(&folder, "weights/x.safetensors", &weights());
    fails(
        &folder,
        &["--weights", "weights", "--input", "image=other.png"],
        "other.png has SHA-256",
    );
    fails(
        &folder,
        &["--weights", "weights", "--input", "sound=other.png"],
        "there are: large.image",
    );
    fails(&folder, &["--weights", "other.png"], "is pinned");
    let done = run(
        &folder,
        &["--weights", "weights", "--input", "large.image=picture.png"],
    );
    assert!(done.status.success(), "{}", text(&done));
}

#[test]
fn an_input_name_that_two_steps_share_is_refused() {
    let folder = TempDir::new().unwrap();
    write(&folder, "x.safetensors", &weights());
    let image = picture(folder.path());
    let step = |name: &str| {
        format!(
            "
  - name: {name}
    model: twice
    upscale: {{}}
    inputs: [{{name: image, upload: {{sha256: {}, bytes: {}}}}}]",
            digest(&image),
            image.len()
        )
    };
    job(&folder, &format!("{}{}\n", step("a"), step("b")));
    fails(
        &folder,
        &["--input", "image=picture.png"],
        "--input image: more than one input is called so; write one of: a.image, b.image",
    );
    let one = run(&folder, &["--input", "b.image=picture.png"]);
    assert!(one.status.success(), "{}", text(&one));
}

#[test]
fn a_broken_job_is_refused_before_anything_is_done() {
    let folder = TempDir::new().unwrap();
    write(&folder, "job.yaml", b"kind: [");
    fails(&folder, &[], "this is no YAML");
    write(&folder, "job.yaml", b"kind: ConfigMap\napiVersion: v1\n");
    fails(&folder, &[], "no AIJob is there");
    job(
        &folder,
        "
  - name: a
    model: twice
    upscale: {}
    inputs: [{name: video, fromStep: {name: b}}]
",
    );
    fails(&folder, &[], "does not come before it");
}

#[test]
fn a_bad_input_fails_its_step_with_a_sentence() {
    let folder = TempDir::new().unwrap();
    write(&folder, "x.safetensors", &weights());
    write(&folder, "clip.mp4", b"no video\n");
    job(
        &folder,
        &format!(
            "
  - name: large
    model: twice
    upscale: {{}}
    inputs: [{{name: video, upload: {{sha256: {}, bytes: 9}}}}]
",
            digest(b"no video\n")
        ),
    );
    fails(&folder, &[], "the file is text");
}

fn job(folder: &TempDir, steps: &str) {
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
    files: [{{path: x.safetensors, sha256: {}, bytes: {}}}]
",
        digest(&weights),
        weights.len()
    );
    write(folder, "job.yaml", text.as_bytes());
}

fn write(folder: &TempDir, name: &str, content: &[u8]) {
    let path = folder.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

fn run(folder: &TempDir, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_framewright-worker"))
        .args(["run", "job.yaml"])
        .args(more)
        .current_dir(folder.path())
        .output()
        .unwrap()
}

fn fails(folder: &TempDir, more: &[&str], words: &str) {
    let done = run(folder, more);
    assert!(!done.status.success(), "{}", text(&done));
    assert!(text(&done).contains(words), "{words}: {}", text(&done));
}

fn text(done: &Output) -> String {
    let (out, error) = (&done.stdout, &done.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(error)
    )
}
