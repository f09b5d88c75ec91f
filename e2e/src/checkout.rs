//! Which checkout of the repository is meant? The one that somebody works in: a program that was built from another one, in a target
//! folder that both share, must not run that one's files.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

const VARIABLE: &str = "FRAMEWRIGHT_ROOT";
/// What only a checkout has.
const MARK: &str = "e2e/tools/install.sh";

/// The root of the repository: `FRAMEWRIGHT_ROOT`, else the folder that this runs in or one above it.
///
/// # Errors
/// If that is none; says what is missing there.
pub fn root() -> Result<PathBuf> {
    let here = std::env::current_dir().context("no folder to run in")?;
    find(std::env::var_os(VARIABLE), &here)
}

fn find(told: Option<OsString>, here: &Path) -> Result<PathBuf> {
    if let Some(told) = told.filter(|told| !told.is_empty()) {
        let told = here.join(told);
        if !told.join(MARK).is_file() {
            bail!(
                "{VARIABLE} is {}, which has no {MARK}; set it to a checkout of Framewright",
                told.display()
            );
        }
        return Ok(told);
    }
    let mut above = here.ancestors();
    let found = above.find(|folder| folder.join(MARK).is_file());
    found.map(Path::to_owned).with_context(|| {
        format!(
            "neither {} nor a folder above it has {MARK}; go into a checkout of Framewright, or set {VARIABLE} to one",
            here.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_checkout_is_found_from_where_one_is_and_not_from_where_it_was_built() {
        let folder = tempfile::tempdir().expect("a folder");
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        for checkout in [&one, &other] {
            fs::create_dir_all(checkout.join("e2e/tools")).expect("folders");
            fs::write(checkout.join(MARK), "").expect("a script");
        }
        let told = |root: &Path| Some(root.as_os_str().to_owned());
        assert_eq!(find(None, &one.join("e2e/tools")).ok(), Some(one.clone()));
        assert_eq!(find(Some("".into()), &one).ok(), Some(one.clone()));
        assert_eq!(find(told(&other), &one).ok(), Some(other));

        let nowhere = find(None, folder.path()).expect_err("none").to_string();
        assert!(
            nowhere.contains(MARK) && nowhere.contains(VARIABLE),
            "{nowhere}"
        );
        let wrong = find(told(folder.path()), &one)
            .expect_err("none")
            .to_string();
        assert!(wrong.contains(MARK) && wrong.contains(VARIABLE), "{wrong}");
    }
}
