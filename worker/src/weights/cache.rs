//! A folder of files named by their SHA-256, with a limit on its size.
//!
//! *Flow:* [`Cache::receive`] makes room and hands out an [`Incoming`]; what was written to it is
//! verified and renamed into place by [`Incoming::finish`]; [`Cache::get`] finds it again.
//!
//! *Guarantees:* a file is whole and verified, or it is not there. A file that someone holds is not
//! evicted. All of it holds between processes too: what is used is known by locks on the files,
//! which end with their process, so that what a killed one has left is cleared at the next start.
//!
//! *Assumptions:* the file system has `flock`.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use ring::digest::{Context, SHA256};

use super::verify::Sha256;

const LOCK: &str = "lock";
const INCOMING: &str = "incoming";

pub struct Cache {
    folder: PathBuf,
    limit_bytes: u64,
}

/// A file that stays as long as this is held.
#[derive(Debug)]
pub struct Held {
    path: PathBuf,
    _lock: File,
}

/// A file on its way. Dropped before it is finished, it leaves nothing behind.
pub struct Incoming {
    part: Part,
    file: File,
    path: PathBuf,
    sha256: Sha256,
    bytes: u64,
    written: u64,
    context: Context,
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
                file.set_modified(SystemTime::now())
                    .map_err(disk("mark as used", &path))?;
                return Ok(Some(Held { path, _lock: file }));
            }
        }
    }

    /// Makes room for a file, evicting those that were used least recently, and takes it in.
    pub fn receive(&self, sha256: Sha256, bytes: u64) -> Result<Incoming, CacheError> {
        let _guard = lock(&self.folder)?;
        self.make_room(bytes)?;
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let part = Part(self.folder.join(format!(
            "{sha256}.{}-{count}.{INCOMING}",
            std::process::id()
        )));
        let file = File::create_new(&part.0).map_err(disk("create", &part.0))?;
        file.lock().map_err(disk("lock", &part.0))?;
        // The length is the reservation: others count it from now on.
        file.set_len(bytes).map_err(disk("reserve", &part.0))?;
        let path = self.path(sha256);
        Ok(Incoming {
            part,
            file,
            path,
            sha256,
            bytes,
            written: 0,
            context: Context::new(&SHA256),
        })
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
            entries.push(Entry {
                path: entry.path(),
                name,
                bytes: metadata.len(),
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
    /// Verifies what was written, puts it in its place and holds it.
    pub fn finish(self) -> Result<Held, CacheError> {
        let Incoming {
            part,
            file,
            path,
            sha256,
            bytes,
            written,
            context,
        } = self;
        if written != bytes {
            return Err(CacheError::Length {
                sha256,
                expected: bytes,
                found: written,
            });
        }
        let found = Sha256::finished(context);
        if found != sha256 {
            return Err(CacheError::Differs {
                expected: sha256,
                found,
            });
        }
        file.sync_all().map_err(disk("write", &part.0))?;
        // From an exclusive lock to a shared one; between the two it is nobody's for a moment.
        let _guard = lock(path.parent().unwrap_or(Path::new(".")))?;
        file.lock_shared().map_err(disk("lock", &part.0))?;
        fs::rename(&part.0, &path).map_err(disk("rename", &part.0))?;
        Ok(Held { path, _lock: file })
    }
}

impl Write for Incoming {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let room = usize::try_from(self.bytes - self.written).unwrap_or(usize::MAX);
        if buffer.len() > room {
            let message = format!(
                "more than the {} bytes that {} has",
                self.bytes, self.sha256
            );
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        let count = self.file.write(buffer)?;
        self.context.update(&buffer[..count]);
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file that is removed with its owner; renamed, it is out of reach.
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
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_in_is_found_again_also_by_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        let sha256 = insert(&cache(&folder, 100), b"weights").unwrap();
        let held = cache(&folder, 100).get(sha256).unwrap().unwrap();
        assert_eq!(fs::read(held.path()).unwrap(), b"weights");
        assert!(cache(&folder, 100).get(digest(b"other")).unwrap().is_none());
    }

    #[test]
    fn a_wrong_digest_or_length_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(&folder, 100);
        let mut incoming = cache.receive(digest(b"weights"), 7).unwrap();
        incoming.write_all(b"weightz").unwrap();
        assert!(matches!(
            incoming.finish().unwrap_err(),
            CacheError::Differs { .. }
        ));
        let mut incoming = cache.receive(digest(b"weights"), 7).unwrap();
        incoming.write_all(b"weight").unwrap();
        assert!(matches!(
            incoming.finish().unwrap_err(),
            CacheError::Length {
                expected: 7,
                found: 6,
                ..
            }
        ));
        let mut incoming = cache.receive(digest(b"weights"), 7).unwrap();
        assert!(incoming.write_all(b"weights!").is_err());
        drop(incoming);
        assert_eq!(names(&folder), [LOCK]);
    }

    #[test]
    fn a_file_is_not_seen_before_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(&folder, 100);
        let mut incoming = cache.receive(digest(b"weights"), 7).unwrap();
        incoming.write_all(b"weights").unwrap();
        assert!(cache.get(digest(b"weights")).unwrap().is_none());
        incoming.finish().unwrap();
        assert!(cache.get(digest(b"weights")).unwrap().is_some());
    }

    #[test]
    fn the_least_recently_used_file_makes_room() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(&folder, 12);
        let files = [b"old.", b"used", b"new."].map(|bytes| insert(&cache, bytes).unwrap());
        for (index, seconds) in [(0, 10), (1, 5), (2, 20)] {
            let file = File::open(cache.path(files[index])).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds))
                .unwrap();
        }
        drop(cache.get(files[1]).unwrap());
        insert(&cache, b"more").unwrap();
        let there = files.map(|sha256| cache.get(sha256).unwrap().is_some());
        assert_eq!(there, [false, true, true]);
    }

    #[test]
    fn a_file_in_use_is_never_evicted() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(&folder, 12);
        let sha256 = insert(&cache, b"weights").unwrap();
        let readers = [
            cache.get(sha256).unwrap().unwrap(),
            cache.get(sha256).unwrap().unwrap(),
        ];
        let error = insert(&cache, b"sevens!").unwrap_err();
        assert!(
            matches!(
                error,
                CacheError::Full {
                    bytes: 7,
                    in_use: 7,
                    limit_bytes: 12
                }
            ),
            "{error}"
        );
        let [first, second] = readers;
        drop(first);
        insert(&cache, b"sevens!").unwrap_err();
        assert_eq!(fs::read(second.path()).unwrap(), b"weights");
        drop(second);
        insert(&cache, b"sevens!").unwrap();
        assert!(cache.get(sha256).unwrap().is_none());
    }

    #[test]
    fn what_is_on_its_way_has_its_room() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(&folder, 12);
        let incoming = cache.receive(digest(b"weights"), 7).unwrap();
        assert!(matches!(
            cache.receive(digest(b"sevens!"), 7),
            Err(CacheError::Full { .. })
        ));
        drop(incoming);
        insert(&cache, b"sevens!").unwrap();
        assert!(matches!(
            cache.receive(digest(b"x"), 13),
            Err(CacheError::TooLarge {
                bytes: 13,
                limit_bytes: 12
            })
        ));
    }

    #[test]
    fn leftovers_of_a_killed_process_are_cleared_and_those_of_a_living_one_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let living = cache(&folder, 100);
        let mut incoming = living.receive(digest(b"weights"), 7).unwrap();
        let left = format!("{}.1-0.{INCOMING}", digest(b"x"));
        fs::write(folder.path().join(&left), "half of i").unwrap();
        let _next = cache(&folder, 100);
        assert!(!names(&folder).contains(&left));
        incoming.write_all(b"weights").unwrap();
        incoming.finish().unwrap();
    }

    #[test]
    fn readers_and_evictions_at_once_never_see_a_broken_file() {
        let folder = tempfile::tempdir().unwrap();
        let contents: Vec<Vec<u8>> = (0..4u8).map(|byte| vec![byte; 4096]).collect();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (folder, contents) = (&folder, &contents);
                scope.spawn(move || {
                    let cache = cache(folder, 2 * 4096);
                    for round in 0..50 {
                        let bytes = &contents[(thread + round) % contents.len()];
                        match cache.get(digest(bytes)).unwrap() {
                            Some(held) => assert_eq!(&fs::read(held.path()).unwrap(), bytes),
                            None => match insert(&cache, bytes) {
                                Ok(_) | Err(CacheError::Full { .. }) => {}
                                Err(error) => panic!("{error:?}"),
                            },
                        }
                    }
                });
            }
        });
        let size: u64 = cache(&folder, 2 * 4096)
            .entries()
            .unwrap()
            .iter()
            .map(|entry| entry.bytes)
            .sum();
        assert!(size <= 2 * 4096, "{size}");
    }

    fn cache(folder: &tempfile::TempDir, limit_bytes: u64) -> Cache {
        Cache::open(folder.path(), limit_bytes).unwrap()
    }

    fn insert(cache: &Cache, bytes: &[u8]) -> Result<Sha256, CacheError> {
        let mut incoming = cache.receive(digest(bytes), bytes.len() as u64)?;
        incoming.write_all(bytes).unwrap();
        incoming.finish()?;
        Ok(digest(bytes))
    }

    fn digest(bytes: &[u8]) -> Sha256 {
        Sha256::of(bytes).unwrap()
    }

    fn names(folder: &tempfile::TempDir) -> Vec<String> {
        let entries = fs::read_dir(folder.path()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }
}
