//! Downloads one result: continues where an earlier try broke off, verifies the digest, then renames the partial file.

use std::path::{Path, PathBuf};

use framewright_crds::aijob::OutputStatus;
use framewright_crds::error_chain::error_chain;
use framewright_crds::file_names;
use tokio::fs;
use tokio::time::sleep;

use crate::digest;
use crate::objects::links::{Found, Wanted};
use crate::objects::owner::{self, Owner};
use crate::screen::Screen;
use crate::transfers::download::get;
use crate::transfers::retry::{Next, Retries};
use crate::transfers::store::{self, Store};

/// Why a result was not downloaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder cannot be made.
    #[error("cannot create the folder {folder}")]
    Folder {
        folder: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// There is no link.
    #[error("cannot download result {output}")]
    Link {
        output: String,
        #[source]
        source: owner::Error,
    },
    /// The transfer failed.
    #[error("cannot download result {output} of {owner}")]
    Store {
        output: String,
        owner: Owner,
        #[source]
        source: store::Error,
    },
    /// Another file has its name.
    #[error(
        "result {output} of {owner} would overwrite {path}, which has other content; move that file away, or choose another folder with --output"
    )]
    Taken {
        output: String,
        owner: Owner,
        path: PathBuf,
    },
    /// A local file cannot be read.
    #[error(transparent)]
    Read(#[from] digest::Error),
    /// Its content is not what the status says.
    #[error(
        "result {output} came twice with another digest than {wanted}, last with {found}; the store's volume may be damaged"
    )]
    Digest {
        output: String,
        wanted: String,
        found: String,
    },
}

/// Downloads a result into `folder`, unless it is there already, and returns its path. It never replaces a file that has another
/// content.
///
/// # Errors
/// If the result cannot be downloaded or written, or another file has its name.
pub async fn fetch(
    store: &Store<'_>,
    screen: &Screen,
    owner: &Owner,
    output: &OutputStatus,
    folder: &Path,
) -> Result<PathBuf, Error> {
    let made = fs::create_dir_all(folder).await;
    made.map_err(|source| Error::Folder {
        folder: folder.to_owned(),
        source,
    })?;
    let name = file_name(&owner.name, output);
    let target = folder.join(&name);
    if is_here(screen, owner, output, &target).await? {
        screen.say(&format!("{}: already downloaded", target.display()));
        return Ok(target);
    }
    let part = folder.join(part_name(&name, output.sha256()));
    let mut is_second = false;
    loop {
        complete(store, screen, owner, output, &part).await?;
        let found = digest::of_file(screen, part.clone()).await?.content.digest;
        if found == output.digest {
            break;
        }
        // The bytes of an earlier run may be the reason, so try once more from the start.
        let _ = fs::remove_file(&part).await;
        if is_second {
            return Err(Error::Digest {
                output: output.name.clone(),
                wanted: output.digest.clone(),
                found,
            });
        }
        screen.say(&format!(
            "{}: what came is damaged; once more from the start",
            output.name
        ));
        is_second = true;
    }
    // Check again: the download may have taken hours.
    is_here(screen, owner, output, &target).await?;
    let renamed = fs::rename(&part, &target).await;
    renamed.map_err(|source| Error::Store {
        output: output.name.clone(),
        owner: owner.clone(),
        source: store::Error::WriteFile {
            path: target.clone(),
            source,
        },
    })?;
    Ok(target)
}

/// Whether the result is at `target`. Another file there is an error.
async fn is_here(
    screen: &Screen,
    owner: &Owner,
    output: &OutputStatus,
    target: &Path,
) -> Result<bool, Error> {
    // A dangling symlink is a file, too.
    if fs::symlink_metadata(target).await.is_err() {
        return Ok(false);
    }
    let is_as_long = fs::metadata(target)
        .await
        .is_ok_and(|found| found.is_file() && i64::try_from(found.len()) == Ok(output.bytes));
    if is_as_long {
        let found = digest::of_file(screen, target.to_owned()).await?;
        if found.content.digest == output.digest {
            return Ok(true);
        }
    }
    Err(Error::Taken {
        output: output.name.clone(),
        owner: owner.clone(),
        path: target.to_owned(),
    })
}

/// Downloads until the partial file is as long as the result.
async fn complete(
    store: &Store<'_>,
    screen: &Screen,
    owner: &Owner,
    output: &OutputStatus,
    part: &Path,
) -> Result<(), Error> {
    let wanted = Wanted::Output(output.name.clone());
    let bytes = u64::try_from(output.bytes).unwrap_or(0);
    let mut retries = Retries::default();
    let mut is_new = false;
    loop {
        let begun = length(part)
            .await
            .filter(|length| *length <= bytes)
            .unwrap_or(0);
        if begun == bytes && bytes > 0 {
            return Ok(());
        }
        let found = owner.link(store.cluster, &wanted, is_new).await;
        let found = found.map_err(|source| Error::Link {
            output: output.name.clone(),
            source,
        })?;
        let Found::Link(address) = found else {
            return Ok(());
        };
        let meter = screen.transfer(format!("downloads {}", output.name), bytes, begun);
        let Err(error) = get(store, &address, part, begun, bytes, &meter).await else {
            return Ok(());
        };
        drop(meter);
        let has_moved = length(part).await.is_some_and(|length| length > begun);
        match retries.after(&error, has_moved) {
            Next::AgainAfter(pause) => {
                screen.say(&format!(
                    "{}: {}; continues in {} s",
                    output.name,
                    error_chain(&error),
                    pause.as_secs()
                ));
                sleep(pause).await;
                is_new = false;
            }
            Next::NewLink => is_new = true,
            Next::Stop => {
                return Err(Error::Store {
                    output: output.name.clone(),
                    owner: owner.clone(),
                    source: error,
                });
            }
        }
    }
}

async fn length(path: &Path) -> Option<u64> {
    Some(fs::metadata(path).await.ok()?.len())
}

fn file_name(job: &str, output: &OutputStatus) -> String {
    let extension = file_names::extension(&output.media_type);
    file_names::result(job, &output.name, extension)
}

/// The partial file. Its digest keeps it apart from that of another job of this name.
fn part_name(file_name: &str, sha256: &str) -> String {
    let start = sha256.get(..12).unwrap_or(sha256);
    format!(".{file_name}.{start}.part")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_names_of_a_job_and_its_result_fit_into_the_file_system() {
        let output = output(&"r".repeat(40), "video/x-matroska");
        let name = file_name(&"j".repeat(253), &output);
        let folder = tempfile::tempdir().expect("a folder");
        for name in [part_name(&name, output.sha256()), name] {
            assert!(name.len() < 143, "{name}");
            std::fs::write(folder.path().join(name), "").expect("is written");
        }
    }

    #[tokio::test]
    async fn a_result_never_replaces_another_file_of_its_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let output = output("c", "video/mp4");
        let target = folder.path().join(file_name("a-b", &output));
        let other = file_name("a", &self::output("b-c", "video/mp4"));
        assert_eq!(target, folder.path().join(other));
        let owner = Owner::job("studio", "a-b");
        let screen = Screen::new();
        let check = || is_here(&screen, &owner, &output, &target);

        assert!(matches!(check().await, Ok(false)));
        std::fs::write(&target, "test").expect("a file");
        assert!(
            matches!(check().await, Ok(true)),
            "the same content is fine"
        );
        for content in ["tesx", "longer", ""] {
            std::fs::write(&target, content).expect("a file");
            let refused = check().await.expect_err("something else").to_string();
            assert!(refused.contains("a-b-c.mp4"), "{refused}");
            assert!(refused.contains("--output"), "{refused}");
        }
    }

    /// A result with the content "test".
    fn output(name: &str, media_type: &str) -> OutputStatus {
        let sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        serde_json::from_value(serde_json::json!({
            "name": name, "step": name, "output": "video", "digest": format!("sha256:{sha256}"), "bytes": 4, "mediaType": media_type,
        }))
        .expect("an output")
    }
}
