//! What does the program do where no cluster is needed? It takes down what it can and says what it could not, and it works on the
//! checkout that it is run in.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Result, ensure};
use framewright_e2e::checkout::root;

#[test]
fn a_cluster_in_use_stays_and_all_others_go() -> Result<()> {
    let home = tempfile::tempdir()?;
    let state = home.path().join("framewright");
    let names = ["fw-down-a", "fw-down-b", "fw-down-c"];
    for name in names {
        fs::create_dir_all(state.join(name))?;
    }
    let used = fs::File::create(state.join("fw-down-b.lock"))?;
    used.lock()?;
    let down = Command::new(env!("CARGO_BIN_EXE_framewright-e2e"))
        .args(["down", "--all"])
        .env("XDG_STATE_HOME", home.path())
        .output()?;
    let said = String::from_utf8(down.stderr)?;
    ensure!(!down.status.success(), "it calls this done: {said}");
    ensure!(said.contains("not all is gone: fw-down-b: "), "{said}");
    let left: Vec<&str> = names
        .into_iter()
        .filter(|name| state.join(name).exists())
        .collect();
    ensure!(left == ["fw-down-b"], "{left:?} are left");
    Ok(())
}

#[test]
fn what_is_needed_to_take_clusters_down_is_built() -> Result<()> {
    let home = tempfile::tempdir()?;
    let cargo = home.path().join("cargo");
    // The program that it builds says what it is told, and fails.
    write_script(
        &cargo,
        r#"program=$CARGO_TARGET_DIR/release/framewright-e2e
mkdir -p "$CARGO_TARGET_DIR/release"
printf '#!/bin/sh\necho "told: $*"; exit 3\n' >"$program"
chmod +x "$program""#,
    )?;
    let down = make_down(home.path(), &cargo)?;
    ensure!(down.status.success(), "nothing is there to take down");
    ensure!(!home.path().join("target").exists(), "it built for nothing");

    fs::create_dir_all(home.path().join("framewright/fw-demo"))?;
    let down = make_down(home.path(), &cargo)?;
    let said = String::from_utf8(down.stdout)?;
    ensure!(said.contains("told: down --all"), "{said}");
    ensure!(!down.status.success(), "it calls this done: {said}");
    Ok(())
}

#[test]
fn the_checkout_that_it_runs_in_is_used_whichever_it_was_built_from() -> Result<()> {
    let checkout = tempfile::tempdir()?;
    let images = || {
        Command::new(env!("CARGO_BIN_EXE_framewright-e2e"))
            .args(["images", "dist"])
            .current_dir(checkout.path())
            .env_remove("FRAMEWRIGHT_ROOT")
            .output()
    };
    fs::create_dir(checkout.path().join("dist"))?;
    for program in [
        "framewright-operator",
        "framewright-worker",
        "ffmpeg",
        "ffprobe",
    ] {
        fs::write(checkout.path().join("dist").join(program), "")?;
    }
    let lost = String::from_utf8(images()?.stderr)?;
    ensure!(lost.contains("set FRAMEWRIGHT_ROOT to one"), "{lost}");

    let tools = checkout.path().join("e2e/tools");
    fs::create_dir_all(&tools)?;
    write_script(&tools.join("install.sh"), "exit 3")?;
    let said = String::from_utf8(images()?.stderr)?;
    let sentence = format!("{}/install.sh ended with exit status: 3", tools.display());
    ensure!(said.contains(&sentence), "{said}");
    Ok(())
}

fn make_down(home: &Path, cargo: &Path) -> Result<Output> {
    let mut make = Command::new("make");
    make.arg("--directory").arg(root()?).arg("down");
    make.arg(format!("CARGO={}", cargo.display()))
        .env("CARGO_TARGET_DIR", home.join("target"))
        .env("XDG_STATE_HOME", home);
    // What `make test` was told is not meant for this one.
    for variable in ["MAKEFLAGS", "MAKEOVERRIDES", "MAKELEVEL"] {
        make.env_remove(variable);
    }
    Ok(make.output()?)
}

fn write_script(path: &Path, text: &str) -> Result<()> {
    fs::write(path, format!("#!/bin/sh\n{text}\n"))?;
    Ok(fs::set_permissions(
        path,
        fs::Permissions::from_mode(0o755),
    )?)
}
