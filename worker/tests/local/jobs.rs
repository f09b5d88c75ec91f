//! Is a whole job done, or refused in words?

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::peer::{clip, digest, picture, size_of, weights};
use crate::{fails, job, run, text, write};

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
    inputs: [{{name: video, upload: {{digest: 'sha256:{}', bytes: {}}}}}]
  - name: larger
    model: twice
    upscale: {{scale: 1}}
    inputs: [{{name: video, fromStep: {{name: large}}}}]
  - name: poster
    model: twice
    upscale: {{}}
    inputs: [{{name: image, upload: {{digest: 'sha256:{}', bytes: {}}}}}]
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
    inputs: [{{name: image, upload: {{digest: 'sha256:{}', bytes: {}}}}}]",
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
    fails(&folder, &[], "it is not YAML");
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
    inputs: [{{name: video, upload: {{digest: 'sha256:{}', bytes: 9}}}}]
",
            digest(b"no video\n")
        ),
    );
    fails(&folder, &[], "the file is text");
}

#[test]
fn a_list_from_kubectl_in_the_encoding_of_powershell_is_done() {
    let folder = TempDir::new().unwrap();
    write(&folder, "x.safetensors", &weights());
    picture(folder.path());
    job(
        &folder,
        "
  - name: large
    model: twice
    upscale: {}
    inputs: [{name: image, upload: {file: picture.png}}]
",
    );
    let text = std::fs::read_to_string(folder.path().join("job.yaml")).unwrap();
    let objects = text.trim().split("---\n");
    let items = objects.map(|object| {
        let printed = object.replace(
            "metadata: {",
            "status: {steps: []}\nmetadata: {uid: u, resourceVersion: '5', creationTimestamp: '2026-01-01T00:00:00Z', ",
        );
        format!("- {}\n", printed.trim().replace('\n', "\n  "))
    });
    let list = format!(
        "apiVersion: v1\nitems:\n{}kind: List\n",
        items.collect::<String>()
    );
    let list = format!("\u{FEFF}{}", list.replace('\n', "\r\n"));
    let units = list.encode_utf16().flat_map(u16::to_le_bytes);
    write(&folder, "job.yaml", &units.collect::<Vec<u8>>());
    let done = run(&folder, &[]);
    assert!(done.status.success(), "{}", crate::text(&done));
    assert!(folder.path().join("demo-large.png").exists());
}
