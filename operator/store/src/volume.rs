//! What an object store would do by itself and a folder does not: say when it is full, and clear what killed uploads left.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// Room that is never given to uploads, for folders and for the file system's own books.
const SPARE_BYTES: u64 = 1 << 20;

/// The folder that the artifacts lie in.
#[derive(Clone, Debug)]
pub(crate) struct Volume {
    folder: PathBuf,
    promised: Arc<AtomicU64>,
}

/// Room on the volume that is promised to one upload and not written yet.
#[derive(Debug)]
pub(crate) struct Room {
    promised: Arc<AtomicU64>,
    left: u64,
}

/// There is not enough room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoRoom {
    pub free: u64,
}

impl Volume {
    pub(crate) fn new(folder: PathBuf) -> Volume {
        Volume {
            folder,
            promised: Arc::default(),
        }
    }

    /// Bytes that may still be written. Blocks for as long as the file system takes.
    pub(crate) fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.folder)?;
        Ok(stat
            .f_bavail
            .saturating_mul(stat.f_frsize)
            .saturating_sub(SPARE_BYTES))
    }

    /// Promises room for one upload, so that a transfer that cannot end well does not begin.
    pub(crate) fn promise(&self, bytes: u64, free: u64) -> Result<Room, NoRoom> {
        let promised_before = self.promised.fetch_add(bytes, Ordering::Relaxed);
        let room = Room {
            promised: Arc::clone(&self.promised),
            left: bytes,
        };
        let free = free.saturating_sub(promised_before);
        if bytes > free {
            return Err(NoRoom { free });
        }
        Ok(room)
    }

    /// Syncs the folders on the way to `path`. Two uploads that share a folder are synced by whoever made it, which may be the
    /// one that answers later. Cheap where nothing is unsynced. Blocks.
    pub(crate) fn sync_down_to(&self, path: &str) -> io::Result<()> {
        let mut folder = self.folder.clone();
        still_there(sync_folder(&folder))?;
        for part in path.split('/') {
            folder.push(part);
            still_there(sync_folder(&folder))?;
        }
        Ok(())
    }

    /// Removes what unfinished uploads of one artifact wrote. Blocks.
    pub(crate) fn discard(&self, folder: &str, sha256: &str) -> io::Result<()> {
        let Some(entries) = still_there(fs::read_dir(self.folder.join(folder)))? else {
            return Ok(());
        };
        for entry in entries {
            let path = entry?.path();
            let is_its = path
                .file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with(sha256));
            if is_its && is_unfinished(&path) {
                still_there(fs::remove_file(&path))?;
            }
        }
        Ok(())
    }

    /// Removes files of uploads that were never finished, and empty folders, that nobody has touched for `age`. Blocks.
    pub(crate) fn remove_leftovers(&self, age: Duration, now: SystemTime) -> io::Result<u64> {
        let is_old = |changed: SystemTime| {
            now.duration_since(changed)
                .is_ok_and(|passed| passed >= age)
        };
        remove_below(&self.folder, &is_old)
    }
}

impl Room {
    pub(crate) fn written(&mut self, bytes: u64) {
        let bytes = bytes.min(self.left);
        self.left -= bytes;
        self.promised.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.promised.fetch_sub(self.left, Ordering::Relaxed);
    }
}

/// Syncs the entries of one folder.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

/// Whether an error means that the volume has no room.
pub(crate) fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    kinds(error).any(|kind| {
        matches!(
            kind,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    })
}

/// Whether an error means that a folder went away under the work, as it does when the last artifact in it is deleted.
pub(crate) fn is_gone(error: &(dyn std::error::Error + 'static)) -> bool {
    kinds(error).any(|kind| kind == io::ErrorKind::NotFound)
}

/// What the file system said, wherever in the chain it stands.
fn kinds(error: &(dyn std::error::Error + 'static)) -> impl Iterator<Item = io::ErrorKind> {
    std::iter::successors(Some(error), |error| error.source())
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .map(io::Error::kind)
}

fn remove_below(folder: &Path, is_old: &impl Fn(SystemTime) -> bool) -> io::Result<u64> {
    let mut removed = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let Some(metadata) = still_there(entry.metadata())? else {
            continue;
        };
        if metadata.is_dir() {
            let was_old = is_old(metadata.modified()?);
            removed += remove_below(&path, is_old)?;
            // Refused while anything lies in it, which is what makes this safe beside uploads.
            if was_old {
                let _ = fs::remove_dir(&path);
            }
        } else if is_unfinished(&path) && is_old(metadata.modified()?) {
            still_there(fs::remove_file(&path))?;
            removed += 1;
        }
    }
    Ok(removed)
}

fn still_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// `object_store` writes `NAME#NUMBER` beside `NAME` and renames it when it is complete.
fn is_unfinished(path: &Path) -> bool {
    path.file_name()
        .and_then(|name| name.to_str())
        .and_then(|name| name.rsplit_once('#'))
        .is_some_and(|(_, number)| {
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_promised_once_and_given_back() {
        let volume = Volume::new(PathBuf::from("/"));
        let mut first = volume.promise(60, 100).expect("room");
        assert_eq!(volume.promise(60, 100).err(), Some(NoRoom { free: 40 }));
        first.written(50);
        assert!(volume.promise(60, 70).is_ok(), "10 of 70 are promised");
        drop(first);
        assert_eq!(volume.promised.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn only_unfinished_files_and_empty_folders_are_leftovers() {
        let folder = tempfile::tempdir().expect("a folder");
        let owner = folder.path().join("studio/aijobs/1f2e");
        fs::create_dir_all(&owner).expect("folders");
        fs::create_dir_all(folder.path().join("studio/aijobs/empty")).expect("folders");
        for name in ["whole", "half#1", "half#22", "odd#", "odd#x"] {
            fs::write(owner.join(name), "x").expect("a file");
        }
        let volume = Volume::new(folder.path().to_owned());
        let now = SystemTime::now() + Duration::from_secs(100);

        let removed = volume.remove_leftovers(Duration::from_secs(3600), now);
        assert_eq!(removed.ok(), Some(0), "all of it is young");
        let removed = volume.remove_leftovers(Duration::from_secs(60), now);
        assert_eq!(removed.ok(), Some(2));

        let mut left: Vec<String> = fs::read_dir(&owner)
            .expect("the owner's folder")
            .map(|entry| entry.expect("entry").file_name().display().to_string())
            .collect();
        left.sort();
        assert_eq!(left, ["odd#", "odd#x", "whole"]);
        assert!(!folder.path().join("studio/aijobs/empty").exists());
    }

    #[test]
    fn a_full_volume_is_recognised_through_its_wrappers() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] io::Error);
        assert!(is_full(&Outer(io::ErrorKind::StorageFull.into())));
        assert!(is_full(&Outer(io::ErrorKind::QuotaExceeded.into())));
        assert!(!is_full(&Outer(io::ErrorKind::NotFound.into())));
    }
}
