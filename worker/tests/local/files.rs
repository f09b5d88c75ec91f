//! Which files does a job get that are named by path, by content, or on the command line?

use tempfile::TempDir;

use crate::peer::{digest, picture, weights};
use crate::{fails, job, run, run_file, text, write};

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
    inputs: [{{name: image, upload: {{digest: 'sha256:{}', bytes: {}}}}}]
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
fn files_are_named_by_paths_relative_to_the_manifest() {
    let folder = TempDir::new().unwrap();
    write(&folder, "there/weights/any.safetensors", &weights());
    let image = picture(folder.path());
    write(&folder, "there/images/sea.png", &image);
    let step = |upload: &str| {
        let step = format!(
            "
  - name: large
    model: twice
    upscale: {{}}
    inputs: [{{name: image{upload}}}]
"
        );
        job(&folder, &step);
        let text = std::fs::read_to_string(folder.path().join("job.yaml")).unwrap();
        let pinned = text.split_once("x.safetensors, ").unwrap();
        let named = format!(
            "{}x.safetensors, file: weights/any.safetensors}}]\n",
            pinned.0
        );
        write(&folder, "there/job.yaml", named.as_bytes());
    };
    let succeeds = |more: &[&str]| {
        let done = run_file(&folder, "there/job.yaml", more);
        assert!(done.status.success(), "{}", text(&done));
        let result = image::open(folder.path().join("demo-large.png")).unwrap();
        assert_eq!((result.width(), result.height()), (80, 48));
        std::fs::remove_file(folder.path().join("demo-large.png")).unwrap();
    };
    let refused = |words: &str| {
        let done = run_file(&folder, "there/job.yaml", &[]);
        assert!(!done.status.success(), "{}", text(&done));
        assert!(text(&done).contains(words), "{words}: {}", text(&done));
    };

    step(", upload: {file: images/sea.png}");
    succeeds(&[]);
    let sha256 = digest(&image);
    let bytes = image.len();
    step(&format!(
        ", upload: {{file: images/sea.png, digest: 'sha256:{sha256}', bytes: {bytes}}}"
    ));
    succeeds(&[]);
    step("");
    succeeds(&["--input", "large.image=there/images/sea.png"]);

    step(&format!(
        ", upload: {{file: images/sea.png, digest: 'sha256:{}', bytes: {bytes}}}",
        "a".repeat(64)
    ));
    refused("images/sea.png has SHA-256");
    step(", upload: {file: sea.png}");
    refused("input image of step large: cannot read there/sea.png");
    step(", upload: {}");
    refused("upload names no file");
}
