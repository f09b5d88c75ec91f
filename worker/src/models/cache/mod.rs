//! A folder of files named by their SHA-256, with a limit on its size.
//!
//! *Flow:* [`Cache::receive`] makes room and hands out an [`Incoming`]; what was written to its path
//! is verified and renamed into place by [`Incoming::finish`]; [`Cache::get`] finds it again.
//!
//! *Guarantees:* a file is whole and verified, or it is not there; one that was damaged later goes
//! when it is found out ([`Cache::discard_if_damaged`]). A file that someone holds is not evicted. All of it holds between processes too: what is used is known by locks on the files,
//! which end with their process, so that what a killed one has left is cleared at the next start.
//!
//! *Assumptions:* the file system has `flock`.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::verify::{self, Sha256};

const LOCK: &str = "lock";
const INCOMING: &str = "incoming";

#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
    limit_bytes: u64,
}

/// A file that stays as long as this is held.
#[derive(Debug)]
pub struct Held {
    path: PathBuf,
    /// With its lock.
    file: File,
}

/// A file on its way. Dropped before it is finished, it leaves nothing behind.
#[derive(Debug)]
pub struct Incoming {
    part: Part,
    lock: File,
    path: PathBuf,
    sha256: Sha256,
    bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error("cannot {what} {path}")]
    Disk {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "a file of {bytes} bytes is larger than the whole cache of weights ({limit_bytes} bytes): raise its limit"
    )]
    TooLarge { bytes: u64, limit_bytes: u64 },
    #[error(
        "no room for {bytes} bytes: {in_use} of the {limit_bytes} that the cache of weights may take are in use; raise its limit, or give the pool fewer models"
    )]
    Full {
        bytes: u64,
        in_use: u64,
        limit_bytes: u64,
    },
    #[error("{found} bytes came of the {expected} that {sha256} has")]
    Length {
        sha256: Sha256,
        expected: u64,
        found: u64,
    },
    #[error("the bytes that came have SHA-256 {found}, not {expected}")]
    Differs { expected: Sha256, found: Sha256 },
}

impl Cache {
    /// Opens or makes the folder, and clears what killed processes left in it.
    pub fn open(folder: &Path, limit_bytes: u64) -> Result<Cache, CacheError> {
        fs::create_dir_all(folder).map_err(disk("make", folder))?;
        let cache = Cache {
            folder: folder.to_owned(),
            limit_bytes,
        };
        let _guard = lock(folder)?;
        for entry in cache.entries()? {
            if entry.name.ends_with(INCOMING) {
                remove_unused(&entry.path)?;
            }
        }
        Ok(cache)
    }

    /// A file that is there, held.
    pub fn get(&self, sha256: Sha256) -> Result<Option<Held>, CacheError> {
        let path = self.path(sha256);
        loop {
            let Some(file) = open(&path)? else {
                return Ok(None);
            };
            file.lock_shared().map_err(disk("lock", &path))?;
            // It may have been evicted after it was opened and before it was locked.
            if is_at(&file, &path)? {
                verify::known(&file)
                    .and_then(|content| verify::touch(&file, content))
                    .map_err(disk("mark as used", &path))?;
                return Ok(Some(Held { path, file }));
            }
        }
    }

    /// Removes a file that no longer is what its name says, or that the disk does not give any more; whether it was one. Who else
    /// holds it keeps what it has.
    pub fn discard_if_damaged(&self, held: &Held, sha256: Sha256) -> Result<bool, CacheError> {
        let read = File::open(&held.path).and_then(Sha256::of);
        if read.is_ok_and(|found| found == sha256) {
            return Ok(false);
        }
        let _guard = lock(&self.folder)?;
        // In its place there may be a good one already, which another process has fetched.
        if is_at(&held.file, &held.path)? {
            fs::remove_file(&held.path).map_err(disk("remove", &held.path))?;
        }
        Ok(true)
    }

    /// Makes room for a file, evicting those that were used least recently, and takes it in.
    pub fn receive(&self, sha256: Sha256, bytes: u64) -> Result<Incoming, CacheError> {
        let _guard = lock(&self.folder)?;
        self.make_room(bytes)?;
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{sha256}.{bytes}.{}-{count}.{INCOMING}", std::process::id());
        let part = Part(self.folder.join(name));
        let lock = File::create_new(&part.0).map_err(disk("create", &part.0))?;
        lock.lock().map_err(disk("lock", &part.0))?;
        let path = self.path(sha256);
        Ok(Incoming {
            part,
            lock,
            path,
            sha256,
            bytes,
        })
    }

    /// Takes in a copy of a file that lies elsewhere.
    pub fn copy(&self, sha256: Sha256, bytes: u64, from: &Path) -> Result<Held, CacheError> {
        let found = fs::metadata(from).map_err(disk("look at", from))?.len();
        if found != bytes {
            return Err(CacheError::Length {
                sha256,
                expected: bytes,
                found,
            });
        }
        let incoming = self.receive(sha256, bytes)?;
        fs::copy(from, incoming.path()).map_err(disk("copy", from))?;
        incoming.finish()
    }

    fn make_room(&self, bytes: u64) -> Result<(), CacheError> {
        let limit_bytes = self.limit_bytes;
        if bytes > limit_bytes {
            return Err(CacheError::TooLarge { bytes, limit_bytes });
        }
        let mut entries = self.entries()?;
        entries.sort_by_key(|entry| entry.used);
        let mut in_use: u64 = entries.iter().map(|entry| entry.bytes).sum();
        for entry in entries {
            if in_use + bytes <= limit_bytes {
                return Ok(());
            }
            let is_ours = entry.name.ends_with(INCOMING) || entry.name.parse::<Sha256>().is_ok();
            if is_ours && remove_unused(&entry.path)? {
                in_use -= entry.bytes;
            }
        }
        if in_use + bytes <= limit_bytes {
            return Ok(());
        }
        Err(CacheError::Full {
            bytes,
            in_use,
            limit_bytes,
        })
    }

    /// Every file but the lock; one that vanishes meanwhile is left out.
    fn entries(&self) -> Result<Vec<Entry>, CacheError> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(disk("list", &self.folder))? {
            let entry = entry.map_err(disk("list", &self.folder))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if name == LOCK || !metadata.is_file() {
                continue;
            }
            let used = metadata
                .modified()
                .map_err(disk("read the time of", &entry.path()))?;
            let bytes = metadata.len().max(reserved(&name));
            entries.push(Entry {
                path: entry.path(),
                name,
                bytes,
                used,
            });
        }
        Ok(entries)
    }

    fn path(&self, sha256: Sha256) -> PathBuf {
        self.folder.join(sha256.to_string())
    }
}

struct Entry {
    path: PathBuf,
    name: String,
    bytes: u64,
    used: SystemTime,
}

impl Held {
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Incoming {
    /// Where the bytes are to be written: into the file that is there, not in its stead.
    pub fn path(&self) -> &Path {
        &self.part.0
    }

    /// Verifies what was written, puts it in its place and holds it.
    pub fn finish(self) -> Result<Held, CacheError> {
        let found = File::open(self.path()).and_then(Sha256::of);
        let found = found.map_err(disk("read", self.path()))?;
        self.finish_with(found)
    }

    /// The same for who has computed the digest of the bytes while writing them.
    pub fn finish_with(self, found: Sha256) -> Result<Held, CacheError> {
        let Incoming {
            part,
            lock: written,
            path,
            sha256,
            bytes,
        } = self;
        let file = File::open(&part.0).map_err(disk("open", &part.0))?;
        let length = file.metadata().map_err(disk("look at", &part.0))?.len();
        if length != bytes {
            return Err(CacheError::Length {
                sha256,
                expected: bytes,
                found: length,
            });
        }
        if found != sha256 {
            return Err(CacheError::Differs {
                expected: sha256,
                found,
            });
        }
        written.sync_all().map_err(disk("write", &part.0))?;
        verify::touch(&written, Some(sha256)).map_err(disk("mark as used", &part.0))?;
        // From an exclusive lock to a shared one; between the two it is nobody's for a moment.
        let _guard = lock(path.parent().unwrap_or(Path::new(".")))?;
        drop(written);
        file.lock_shared().map_err(disk("lock", &part.0))?;
        fs::rename(&part.0, &path).map_err(disk("rename", &part.0))?;
        Ok(Held { path, file })
    }
}

/// What a file on its way will have in the end, as its name says.
fn reserved(name: &str) -> u64 {
    let Some(name) = name.strip_suffix(INCOMING) else {
        return 0;
    };
    name.split('.')
        .nth(1)
        .and_then(|bytes| bytes.parse().ok())
        .unwrap_or(0)
}

/// A file that is removed with its owner; renamed, it is out of reach.
#[derive(Debug)]
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        let _gone_or_cleared_at_the_next_start = fs::remove_file(&self.0);
    }
}

/// One process at a time changes what is in the folder; until this is dropped.
fn lock(folder: &Path) -> Result<File, CacheError> {
    let path = folder.join(LOCK);
    let file = File::create(&path).map_err(disk("create", &path))?;
    file.lock().map_err(disk("lock", &path))?;
    Ok(file)
}

/// Removes a file unless someone holds it; true when it is gone.
fn remove_unused(path: &Path) -> Result<bool, CacheError> {
    let Some(file) = open(path)? else {
        return Ok(true);
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(false),
        Err(TryLockError::Error(source)) => return Err(disk("lock", path)(source)),
    }
    // Still locked: nobody can come to hold it in between.
    fs::remove_file(path).map_err(disk("remove", path))?;
    Ok(true)
}

fn open(path: &Path) -> Result<Option<File>, CacheError> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(disk("open", path)(source)),
    }
}

/// Whether this file is the one at this path.
fn is_at(file: &File, path: &Path) -> Result<bool, CacheError> {
    let opened = file.metadata().map_err(disk("look at", path))?;
    match fs::metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (opened.dev(), opened.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(disk("look at", path)(source)),
    }
}

fn disk(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CacheError {
    let path = path.to_owned();
    move |source| CacheError::Disk { what, path, source }
}

#[cfg(test)]
mod tests;
