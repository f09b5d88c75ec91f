//! What becomes of files that are called as results are?

use tempfile::TempDir;

use crate::peer::{picture, weights};
use crate::{fails, job, run, text, write};

#[test]
fn a_result_never_replaces_a_file_that_was_there_unless_that_is_asked_for() {
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
  - name: same
    model: twice
    upscale: {scale: 1}
    inputs: [{name: image, fromStep: {name: large}}]
",
    );
    write(&folder, "demo-same.png", b"of an earlier job");
    let there = || std::fs::read(folder.path().join("demo-same.png")).unwrap();

    let done = run(&folder, &[]);
    assert!(!done.status.success());
    let said = text(&done);
    assert!(
        said.contains("result same would replace ./demo-same.png"),
        "{said}"
    );
    assert!(
        said.contains("--output") && said.contains("--overwrite"),
        "{said}"
    );
    assert!(!said.contains("upscales"), "nothing is computed: {said}");
    assert_eq!(there(), b"of an earlier job");

    let done = run(&folder, &["--output", "elsewhere"]);
    assert!(done.status.success(), "{}", text(&done));
    assert_eq!(there(), b"of an earlier job");
    let done = run(&folder, &["--overwrite"]);
    assert!(done.status.success(), "{}", text(&done));
    let made = std::fs::read(folder.path().join("elsewhere/demo-same.png")).unwrap();
    assert_eq!(there(), made);
}

#[test]
fn a_folder_is_no_file_to_overwrite() {
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
    write(&folder, "demo-large.png/file", b"");
    fails(&folder, &["--overwrite"], "cannot write ./demo-large.png");
}

#[test]
fn a_result_that_cannot_be_written_is_kept_where_it_was_computed() {
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
    // What is written first cannot be.
    write(&folder, ".demo-large.png.partial/file", b"");
    let done = run(&folder, &[]);
    let said = text(&done);
    assert!(!done.status.success(), "{said}");
    let kept = said
        .split_once("all is computed and stays in ")
        .and_then(|(_, rest)| rest.split_once(','))
        .map(|(kept, _)| std::path::Path::new(kept));
    let kept = kept.unwrap_or_else(|| panic!("{said}"));
    let made = std::fs::read_dir(kept.join("large")).unwrap().count();
    std::fs::remove_dir_all(kept).unwrap();
    assert_eq!(made, 1);
}

#[test]
fn a_job_with_the_longest_name_gets_its_result() {
    let folder = TempDir::new().unwrap();
    write(&folder, "x.safetensors", &weights());
    picture(folder.path());
    let step = "r".repeat(40);
    job(
        &folder,
        &format!(
            "
  - name: {step}
    model: twice
    upscale: {{}}
    inputs: [{{name: image, upload: {{file: picture.png}}}}]
"
        ),
    );
    let manifest = std::fs::read_to_string(folder.path().join("job.yaml")).unwrap();
    let named = manifest.replace("name: demo", &format!("name: {}", "j".repeat(253)));
    write(&folder, "job.yaml", named.as_bytes());
    let done = run(&folder, &["--output", "results"]);
    assert!(done.status.success(), "{}", text(&done));
    let results = folder.path().join("results");
    let mut names = std::fs::read_dir(results).unwrap();
    let name = names.next().unwrap().unwrap().file_name();
    let name = name.to_str().unwrap();
    assert!(name.ends_with(&format!("-{step}.png")), "{name}");
    assert!(text(&done).contains(name), "it says where the result is");
}
