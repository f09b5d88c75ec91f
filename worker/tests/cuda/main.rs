//! The program for GPUs where there is none: it starts, and says in one sentence what is missing. `make worker-cuda` runs this.
//!
//! What is asked here is the driver's answers only, played by `driver.c`. Computing needs a GPU: `make test-gpu`.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is the point"
)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

const WORKER: &str = env!("CARGO_BIN_EXE_framewright-worker");

#[test]
fn without_a_driver_the_worker_starts_and_says_so() {
    let folder = TempDir::new().unwrap();
    // Also where the machine has one: this is found first, and is no library.
    std::fs::write(folder.path().join("libcuda.so.1"), "no library").unwrap();
    says(
        folder.path(),
        &[],
        "there is no NVIDIA driver here (libcuda.so.1)",
    );
}

#[test]
fn what_a_driver_and_its_gpu_lack_is_said_in_one_sentence() {
    let folder = TempDir::new().unwrap();
    pretend(folder.path());
    for (answers, sentence) in [
        (
            &[("DRIVER_INIT", "100")][..],
            "the NVIDIA driver shows this pod no GPU",
        ),
        (
            &[("DRIVER_CUDA", "13000"), ("DRIVER_GPUS", "0")],
            "the NVIDIA driver shows this pod no GPU",
        ),
        (
            &[("DRIVER_INIT", "804")],
            "CUDA says CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE",
        ),
        (
            &[
                ("DRIVER_CUDA", "12080"),
                ("DRIVER_GPUS", "1"),
                ("DRIVER_CAPABILITY", "90"),
            ],
            "the NVIDIA driver knows CUDA up to 12.8 and this worker's kernels need 13.0",
        ),
        (
            &[
                ("DRIVER_CUDA", "13000"),
                ("DRIVER_GPUS", "1"),
                ("DRIVER_CAPABILITY", "75"),
            ],
            "Pretended GPU has compute capability 7.5 and this worker's kernels need 8.0 or more",
        ),
        (
            &FULL,
            "Pretended GPU has 300 MiB of 16384 MiB free and a worker takes at least 512 MiB",
        ),
        (
            &[
                ("DRIVER_CUDA", "13000"),
                ("DRIVER_GPUS", "1"),
                ("DRIVER_CAPABILITY", "80"),
                ("DRIVER_CONTEXT", "2"),
            ],
            "Pretended GPU has no memory free, not even to begin with",
        ),
    ] {
        says(folder.path(), answers, sentence);
    }
}

#[test]
fn a_worker_whose_gpu_is_full_at_first_ends_so_that_another_process_looks_again() {
    let folder = TempDir::new().unwrap();
    pretend(folder.path());
    let token = folder.path().join("token");
    std::fs::write(&token, "token").unwrap();
    let mut worker = Command::new(WORKER);
    worker
        .args(["serve", "--device", "cuda", "--health-port", "0"])
        // Nobody listens there.
        .args(["--operator", "wss://localhost:9/v1/stream"])
        .args(["--token-file".as_ref(), token.as_os_str()])
        .args([
            "--weights-cache".as_ref(),
            folder.path().join("weights").as_os_str(),
        ])
        .args([
            "--scratch".as_ref(),
            folder.path().join("scratch").as_os_str(),
        ])
        .args([
            "--weights-cache-limit",
            "1000000",
            "--scratch-limit",
            "1000000",
        ])
        .env("FRAMEWRIGHT_CA", authority())
        .envs(FULL.iter().copied());
    let done = with_libraries(&mut worker, folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success(), "{said}");
    let last = said.lines().last().unwrap_or_default();
    assert!(
        last.contains("so that a new process opens the device anew: Pretended GPU has 300 MiB"),
        "{said}"
    );
}

#[test]
fn every_kernel_runs_on_ampere_and_all_that_came_after_it() {
    let program = std::fs::read(WORKER).unwrap();
    let targets: Vec<&str> = lines_with(&program, ".target sm_").collect();
    println!("{} modules of kernels", targets.len());
    assert!(targets.len() > 5, "{targets:?}");
    let different: BTreeSet<&str> = targets.into_iter().collect();
    assert_eq!(different, BTreeSet::from([".target sm_80"]));
    let versions: BTreeSet<&str> = lines_with(&program, ".version ").collect();
    assert_eq!(
        versions,
        BTreeSet::from([".version 9.0"]),
        "the PTX that drivers for CUDA 13.0 know"
    );
}

#[test]
fn the_program_needs_no_driver_and_no_library_of_cuda_but_these() {
    let listed = Command::new("readelf")
        .args(["-d", WORKER])
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let needed: BTreeSet<&str> = listed
        .lines()
        .filter(|line| line.contains("(NEEDED)"))
        .filter_map(|line| line.split(['[', ']']).nth(1))
        .filter(|name| name.starts_with("libcu") || name.starts_with("libnv"))
        .collect();
    assert_eq!(
        needed,
        BTreeSet::from(["libcublas.so.13", "libcurand.so.10"])
    );
}

/// The lines of text in a program that begin so.
fn lines_with<'a>(program: &'a [u8], start: &'a str) -> impl Iterator<Item = &'a str> {
    program
        .split(|byte| *byte == b'\n')
        .filter(move |line| line.starts_with(start.as_bytes()) && line.len() < 40)
        .filter_map(|line| std::str::from_utf8(line).ok())
}

/// A driver whose GPU others have filled.
const FULL: [(&str, &str); 4] = [
    ("DRIVER_CUDA", "13000"),
    ("DRIVER_GPUS", "1"),
    ("DRIVER_CAPABILITY", "80"),
    ("DRIVER_FREE_MIB", "300"),
];

/// Builds the driver that pretends.
fn pretend(folder: &Path) {
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(folder.join("libcuda.so.1"))
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cuda/driver.c"))
        .status();
    assert!(built.unwrap().success());
}

fn authority() -> String {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
    made.unwrap().cert.pem()
}

/// What lies in `libraries` comes before all other libraries.
fn with_libraries<'a>(command: &'a mut Command, libraries: &Path) -> &'a mut Command {
    let others = std::env::var("LD_LIBRARY_PATH").unwrap_or_default();
    command.env(
        "LD_LIBRARY_PATH",
        format!("{}:{others}", libraries.display()),
    )
}

/// Asks the worker for a job on a GPU, with what lies in `libraries` before all other libraries.
fn says(libraries: &Path, answers: &[(&str, &str)], sentence: &str) {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut worker = Command::new(WORKER);
    worker
        .args(["run", "--device", "cuda"])
        .args([
            "manifests/examples/job-image.yaml",
            "manifests/examples/pool-cpu.yaml",
        ])
        .current_dir(repository)
        .envs(answers.iter().copied());
    let done = with_libraries(&mut worker, libraries).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success(), "{said}");
    assert!(said.contains(sentence), "{answers:?}: {said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
}
